//! Limits, pages, moved projects, prefixes, and everything around the endpoints.

use std::collections::BTreeSet;
use std::process::Command;

use dvx_tests::{Request, run};
use serde_json::{Value, json};

use super::{account, assert_error, get, owned, post};

#[test]
fn the_middlewares_429_is_plain_text_with_all_its_fields() {
    let (gitlab, owner) = owned();
    gitlab.set(&json!({"api_per_minute": 2}));
    assert_eq!([(); 2].map(|()| get(&gitlab, "/user", &owner).status), [200; 2]);
    let limited = get(&gitlab, "/user", &owner);
    assert_eq!(limited.status, 429);
    assert_eq!(limited.header("content-type"), Some("text/plain"));
    assert_eq!(limited.text(), "Retry later\n");
    for (name, value) in [
        ("retry-after", "60"),
        ("ratelimit-limit", "2"),
        ("ratelimit-observed", "3"),
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", "1795176060"),
        ("ratelimit-resettime", "Fri, 20 Nov 2026 12:01:00 GMT"),
    ] {
        assert_eq!(limited.header(name), Some(value), "{name}");
    }
    gitlab.set_time("2026-11-20T12:01:00Z");
    assert_eq!(get(&gitlab, "/user", &owner).status, 200);
}

#[test]
fn pages_are_followed_by_their_links() {
    let (gitlab, owner) = owned();
    gitlab.sim("POST", "/service_accounts", &json!({"group": "acme", "count": 45}));
    let mut path = "/api/v4/groups/acme/service_accounts?order_by=username".to_owned();
    let mut names = BTreeSet::new();
    let mut pages = Vec::new();
    loop {
        let page = gitlab.send(&Request::get(&path).header("PRIVATE-TOKEN", &owner));
        let rows = page.json().as_array().unwrap().clone();
        pages.push(rows.len());
        names.extend(rows.iter().map(|row| row["username"].as_str().unwrap().to_owned()));
        assert_eq!((page.header("x-total"), page.header("x-per-page")), (Some("45"), Some("20")));
        let Some(next) = link(page.header("link").unwrap(), "next") else {
            assert_eq!(page.header("x-next-page"), Some(""));
            break;
        };
        assert!(next.contains("order_by=username"), "the query is kept: {next}");
        path = next.split_once("/api/").map(|(_, rest)| format!("/api/{rest}")).unwrap();
    }
    assert_eq!((pages, names.len()), (vec![20, 20, 5], 45));
    let most = get(&gitlab, "/groups/acme/service_accounts?per_page=1000", &owner);
    assert_eq!(most.header("x-per-page"), Some("100"), "capped without a word");
    let beyond = get(&gitlab, "/groups/acme/service_accounts?page=9", &owner);
    assert_eq!((beyond.status, beyond.json()), (200, json!([])));
}

#[test]
fn above_ten_thousand_rows_nothing_is_counted() {
    let (gitlab, owner) = owned();
    gitlab.sim("POST", "/service_accounts", &json!({"group": "acme", "count": 10_000}));
    let counted = get(&gitlab, "/groups/acme/service_accounts", &owner);
    assert_eq!(counted.header("x-total"), Some("10000"));
    account(&gitlab, &owner, "one-more");
    let page = get(&gitlab, "/groups/acme/service_accounts", &owner);
    assert_eq!((page.header("x-total"), page.header("x-total-pages")), (None, None));
    let links = page.header("link").unwrap();
    assert!(link(links, "last").is_none() && link(links, "next").is_some(), "{links}");
}

#[test]
fn by_key_there_is_a_link_to_the_next_page_or_none() {
    let (gitlab, owner) = owned();
    let mut path = "/projects?pagination=keyset&order_by=id&per_page=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = get(&gitlab, &path, &owner);
        seen.extend(page.json().as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()));
        assert_eq!(page.header("x-total"), None);
        let Some(links) = page.header("link") else { break };
        path = link(links, "next").unwrap().split_once("/api/v4").unwrap().1.to_owned();
    }
    assert_eq!(seen.len(), 3);
    assert!(seen.is_sorted_by(|one, other| one > other), "{seen:?}");
}

#[test]
fn no_link_repeats_a_token_from_the_query() {
    let (gitlab, owner) = owned();
    let path = format!("/api/v4/groups?private_token={owner}&per_page=1");
    let page = gitlab.send(&Request::get(&path));
    assert_eq!(page.status, 200);
    assert!(!page.header("link").unwrap().contains(&owner));
}

#[test]
fn the_use_of_a_token_is_noted_every_ten_minutes() {
    let (gitlab, owner) = owned();
    let last = || get(&gitlab, "/personal_access_tokens/self", &owner).json()["last_used_at"].clone();
    assert_eq!(last(), "2026-11-20T12:00:00.000Z");
    gitlab.set_time("2026-11-20T12:09:59Z");
    assert_eq!(last(), "2026-11-20T12:00:00.000Z");
    gitlab.set_time("2026-11-20T12:10:00Z");
    assert_eq!(last(), "2026-11-20T12:10:00.000Z");
}

#[test]
fn an_instance_may_lie_below_a_path_and_have_other_tokens() {
    let (gitlab, _) = owned();
    gitlab.set(&json!({"path_prefix": "/git/lab", "token_prefix": "corp_"}));
    let token = gitlab.token("olga", &["api"]);
    assert!(token.starts_with("corp_"), "{}", token.len());
    let ask = |path: &str| gitlab.send(&Request::get(path).header("PRIVATE-TOKEN", &token));
    assert_eq!(ask("/git/lab/api/v4/user").status, 200);
    let outside = ask("/api/v4/user");
    assert_eq!((outside.status, outside.header("content-type")), (404, Some("text/html; charset=utf-8")));
    let page = ask("/git/lab/api/v4/groups?per_page=1");
    assert!(page.header("link").unwrap().contains("/git/lab/api/v4/groups?"));
}

#[test]
fn tokens_are_routable_with_dots_or_classic() {
    let (gitlab, _) = owned();
    let routable = gitlab.token("olga", &["api"]);
    let parts: Vec<&str> = routable.strip_prefix("glpat-").unwrap().split('.').collect();
    assert_eq!((parts.len(), parts[1], parts[2].len()), (3, "01", 9));
    gitlab.set(&json!({"token_format": "classic"}));
    let classic = gitlab.token("olga", &["api"]);
    assert_eq!(classic.len(), 26);
    for token in [routable, classic] {
        assert_eq!(get(&gitlab, "/user", &token).status, 200);
    }
}

#[test]
fn a_moved_project_redirects_reading_and_refuses_writing() {
    let (gitlab, owner) = owned();
    let site = super::id(&gitlab, "projects", "open/site");
    let moved = get(&gitlab, "/projects/open%2Fold/members/all/1?a=b", &owner);
    assert_eq!(moved.status, 301);
    let place = format!("{}/api/v4/projects/{site}/members/all/1?a=b", gitlab.url());
    assert_eq!(moved.header("location"), Some(place.as_str()));
    let written = post(&gitlab, "/projects/open%2Fold/service_accounts", &owner);
    assert_error(&written, 405, "Non GET methods are not allowed for moved projects");
}

#[test]
fn answers_have_request_ids_that_the_log_knows() {
    let (gitlab, owner) = owned();
    let ids: Vec<String> =
        [(); 2].map(|()| get(&gitlab, "/user", &owner).header("x-request-id").unwrap().to_owned()).to_vec();
    assert_ne!(ids[0], ids[1]);
    let seen = gitlab.requests();
    let known: Vec<&str> = seen.iter().map(|entry| entry["request_id"].as_str().unwrap()).collect();
    assert_eq!(known, ids);
    assert_eq!((&seen[0]["method"], &seen[0]["status"]), (&json!("GET"), &json!(200)));
    gitlab.sim("DELETE", "/requests", &Value::Null);
    assert_eq!(gitlab.requests(), Vec::<Value>::new());
}

#[test]
fn what_is_no_route_says_so() {
    let (gitlab, owner) = owned();
    let nothing = get(&gitlab, "/nothing/here", &owner);
    assert_eq!((nothing.status, nothing.json()), (404, json!({"error": "404 Not Found"})));
    let method = gitlab.api("PATCH", "/user", Some(&owner), &Value::Null);
    assert_eq!((method.status, method.json()), (405, json!({"error": "405 Not Allowed"})));
    let page = gitlab.send(&Request::get("/"));
    assert_eq!((page.status, page.header("location").is_some()), (302, true));
}

#[test]
fn a_connection_serves_several_requests_and_forms_are_bodies_too() {
    let (gitlab, owner) = owned();
    let mut connection = gitlab.connect();
    for name in ["a", "b"] {
        let request = Request::post("/api/v4/groups/acme/service_accounts")
            .header("PRIVATE-TOKEN", &owner)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(format!("username=agent-{name}&name=An+agent").as_bytes());
        let answer = connection.exchange(&request);
        assert_eq!((answer.status, &answer.json()["name"]), (201, &json!("An agent")));
    }
    let head = Request::new("HEAD", "/api/v4/user").header("PRIVATE-TOKEN", &owner);
    let head = head.header("Connection", "close").bytes(connection.host());
    connection.send(&head).unwrap();
    let answer = String::from_utf8(connection.read_to_end()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn curl_reads_it_over_tls_with_the_authority_alone() {
    let (gitlab, owner) = owned();
    let curl = |with_authority: bool| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--header", &format!("PRIVATE-TOKEN: {owner}")]);
        if with_authority {
            command.arg("--cacert").arg(gitlab.ca_path());
        }
        run(command.arg(format!("{}/api/v4/user", gitlab.https_url())))
    };
    let user: Value = serde_json::from_str(&curl(true).success()).unwrap();
    assert_eq!(user["username"], "olga");
    assert!(user["web_url"].as_str().unwrap().starts_with("https://"));
    assert_ne!(curl(false).status, 0);
}

#[test]
fn the_state_names_everything_and_shows_no_value() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let token = super::mint(&gitlab, &owner, user, &["api"]);
    let live = gitlab.live();
    assert_eq!(live["identities"][0]["username"], "agent-1");
    assert_eq!(live["tokens"].as_array().unwrap().len(), 1, "people's tokens are not meant: {live}");
    let fingerprint = dvx_proto::Fingerprint::of(super::value(&token).as_bytes()).to_string();
    assert_eq!(live["tokens"][0]["fingerprint"], fingerprint);
    let state = gitlab.sim("GET", "/state", &Value::Null).to_string();
    for secret in [owner.as_str(), super::value(&token)] {
        assert!(!state.contains(secret) && !gitlab.log().contains(secret));
    }
    let planted = dvx_tests::Planted::default();
    gitlab.plant(&planted);
    assert!(!planted.found_in(owner.as_bytes()).is_empty());
}

/// The address with this relation in a `Link` field.
fn link(field: &str, rel: &str) -> Option<String> {
    let link = field.split(", ").find(|link| link.ends_with(&format!("rel=\"{rel}\"")))?;
    Some(link.split_once('<')?.1.split_once('>')?.0.to_owned())
}
