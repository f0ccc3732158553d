//! Members, and what levels give.

use serde_json::{Value, json};

use super::{account, assert_error, delete, get, id, owned};

#[test]
fn direct_and_inherited_membership_are_two_questions() {
    let (gitlab, owner) = owned();
    let olga = id(&gitlab, "users", "olga");
    let path = |kind: &str| format!("/groups/acme%2Fteam/members/{kind}{olga}");
    assert_error(&get(&gitlab, &path(""), &owner), 404, "404 Not found");
    let member = get(&gitlab, &path("all/"), &owner);
    assert_eq!(member.status, 200);
    assert_eq!((&member.json()["access_level"], &member.json()["id"]), (&json!(50), &json!(olga)));
    let stranger = gitlab.token("nemo", &["api"]);
    assert_error(&get(&gitlab, &path("all/"), &stranger), 404, "404 Group Not Found");
    assert_eq!(get(&gitlab, "/groups/acme/members/all", &owner).json().as_array().unwrap().len(), 3);
}

#[test]
fn members_are_added_changed_and_removed_by_whoever_is_above_them() {
    let (gitlab, owner) = owned();
    let maintainer = gitlab.token("max", &["api"]);
    let nemo = id(&gitlab, "users", "nemo");
    let add = |token: &str, path: &str, level: u64| {
        gitlab.api("POST", path, Some(token), &json!({"user_id": nemo, "access_level": level}))
    };
    assert_error(&add(&maintainer, "/groups/acme/members", 30), 403, "403 Forbidden");
    assert_error(&add(&maintainer, "/projects/acme%2Fapp/members", 50), 403, "403 Forbidden");
    assert_error(&add(&owner, "/groups/acme/members", 33), 400, "access_level does not have a valid value");
    let added = add(&owner, "/groups/acme/members", 30);
    assert_eq!((added.status, &added.json()["access_level"]), (201, &json!(30)));
    assert_error(&add(&owner, "/groups/acme/members", 30), 409, "Member already exists");
    let lower = add(&owner, "/projects/acme%2Fapp/members", 20);
    assert_eq!(lower.status, 400);
    assert!(lower.json()["message"]["access_level"][0].is_string(), "{lower:?}");
    let path = format!("/groups/acme/members/{nemo}");
    let changed = gitlab.api("PUT", &path, Some(&owner), &json!({"access_level": 20}));
    assert_eq!((changed.status, &changed.json()["access_level"]), (200, &json!(20)));
    assert_eq!(delete(&gitlab, &path, &owner).status, 204);
    assert_error(&delete(&gitlab, &path, &owner), 404, "404 Not found");
    let unknown = json!({"user_id": 99_999, "access_level": 30});
    let answer = gitlab.api("POST", "/groups/acme/members", Some(&owner), &unknown);
    assert_error(&answer, 404, "404 User Not Found");
}

#[test]
fn removal_reaches_everything_below_unless_told_otherwise() {
    let (gitlab, owner) = owned();
    let nemo = id(&gitlab, "users", "nemo");
    let places = ["/groups/acme", "/groups/acme%2Fteam", "/projects/acme%2Fapp"];
    let join = |place: &str| {
        let body = json!({"user_id": nemo, "access_level": 30});
        gitlab.api("POST", &format!("{place}/members"), Some(&owner), &body).status
    };
    let is_member = |place: &&str| get(&gitlab, &format!("{place}/members/{nemo}"), &owner).status == 200;
    assert_eq!(places.map(join), [201; 3]);
    let path = format!("/groups/acme/members/{nemo}");
    assert_eq!(delete(&gitlab, &format!("{path}?skip_subresources=true"), &owner).status, 204);
    assert_eq!(places.iter().filter(|place| is_member(place)).count(), 2);
    assert_eq!(join(places[0]), 201);
    assert_eq!(delete(&gitlab, &path, &owner).status, 204);
    assert_eq!(places.iter().filter(|place| is_member(place)).count(), 0);
}

#[test]
fn several_users_at_once_are_another_answer() {
    let (gitlab, owner) = owned();
    let users = ["nemo", "root"].map(|name| id(&gitlab, "users", name).to_string()).join(",");
    let body = json!({"user_id": users, "access_level": 30});
    let answer = gitlab.api("POST", "/groups/acme/members", Some(&owner), &body);
    assert_eq!((answer.status, answer.json()), (201, json!({"status": "success"})));
}

#[test]
fn a_membership_ends_on_its_day() {
    let (gitlab, _) = owned();
    let member = json!({"of": "acme", "user": "nemo", "access_level": 50, "expires_at": "2026-12-01"});
    gitlab.seed(&json!({"members": [member]}));
    let token = gitlab.token("nemo", &["api"]);
    assert_eq!(get(&gitlab, "/groups/acme", &token).status, 200);
    gitlab.set_time("2026-12-01T00:00:00Z");
    assert_eq!(get(&gitlab, "/groups/acme", &token).status, 404);
}

#[test]
fn an_account_joins_its_own_group_and_what_lies_below_alone() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    for (place, status) in [
        ("groups/acme", 201),
        ("groups/acme%2Fteam", 201),
        ("projects/acme%2Fapp", 201),
        ("groups/other", 400),
    ] {
        let body = json!({"user_id": user, "access_level": 30});
        let answer = gitlab.api("POST", &format!("/{place}/members"), Some(&owner), &body);
        assert_eq!(answer.status, status, "{place}: {answer:?}");
    }
}

#[test]
fn a_group_tells_its_parent_and_owners_more() {
    let (gitlab, owner) = owned();
    assert_eq!(get(&gitlab, "/groups/345", &owner).json()["parent_id"], Value::Null);
    let team = get(&gitlab, "/groups/acme%2Fteam", &owner).json();
    assert_eq!((&team["parent_id"], &team["full_path"]), (&json!(345), &json!("acme/team")));
    assert!(team.get("shared_with_groups").is_some());
    let developer = gitlab.token("dana", &["api"]);
    assert!(get(&gitlab, "/groups/acme", &developer).json().get("shared_with_groups").is_none());
}

#[test]
fn whoever_is_in_a_project_may_know_its_group_and_not_its_service_accounts() {
    let (gitlab, _) = owned();
    gitlab.seed(&json!({"members": [{"of": "acme/app", "user": "nemo", "access_level": 40}]}));
    let token = gitlab.token("nemo", &["api"]);
    assert_eq!(get(&gitlab, "/groups/acme", &token).status, 200);
    assert_error(&get(&gitlab, "/groups/acme/service_accounts", &token), 403, "403 Forbidden");
    assert_error(&get(&gitlab, "/groups/acme%2Fteam", &token), 404, "404 Group Not Found");
}

#[test]
fn visibility_decides_for_those_without_membership() {
    let (gitlab, owner) = owned();
    let member = gitlab.token("nemo", &["api"]);
    let user = account(&gitlab, &owner, "agent-1");
    let external = super::mint(&gitlab, &owner, user, &["api"]);
    let status = |token: Option<&str>, path: &str| gitlab.api("GET", path, token, &Value::Null).status;
    for (path, expected) in [
        ("/projects/acme%2Fapp", [404, 404, 404]),
        ("/projects/acme%2Flib", [404, 404, 200]),
        ("/projects/open%2Fsite", [200, 200, 200]),
    ] {
        let asked = [None, Some(super::value(&external)), Some(member.as_str())];
        assert_eq!(asked.map(|token| status(token, path)), expected, "{path}");
    }
    let anonymous = gitlab.api("GET", "/projects/open%2Fsite", None, &Value::Null).json();
    assert!(anonymous.get("permissions").is_none());
    let mine = get(&gitlab, "/projects/open%2Fsite", &member).json();
    assert_eq!(mine["permissions"], json!({"project_access": null, "group_access": null}));
}
