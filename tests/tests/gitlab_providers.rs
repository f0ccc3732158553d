//! Credential providers: made, replaced and deleted, with every check.

use dvx_tests::{Lab, Mode, Outcome, Stub, StubAnswer, eventually};
use serde_json::{Value, json};

const NOT_OWNER: &str = "Token does not have Owner access to the specified group";

#[track_caller]
fn assert_none(lab: &Lab) {
    assert_eq!(lab.json(&["credential-provider", "list"]), json!([]));
    let wrote: Vec<Value> =
        lab.gitlab.requests().into_iter().filter(|request| request["method"] != "GET").collect();
    assert!(wrote.is_empty(), "a refused provider changes nothing at GitLab: {wrote:?}");
}

#[track_caller]
fn assert_refused(lab: &Lab, outcome: &Outcome, status: i32, says: &str) {
    assert!(outcome.failure(status).contains(says), "expected {says:?} in: {}", outcome.stderr);
    assert_none(lab);
}

/// The tokens of a person that work.
fn tokens_of(lab: &Lab, user: &str) -> Vec<Value> {
    let state = lab.gitlab.sim("GET", "/state", &Value::Null);
    let tokens = state["tokens"].as_array().unwrap();
    tokens.iter().filter(|token| token["username"] == user && token["active"] == true).cloned().collect()
}

#[test]
fn a_provider_replaces_its_token_at_once_so_that_nobody_else_has_it() {
    let lab = Lab::start();
    let given = lab.gitlab.token("olga", &["api"]);
    lab.create_provider("main", &given, Mode::ServiceAccount, &[]).success();
    let listed = lab.json(&["credential-provider", "list"]);
    let provider = &listed.as_array().unwrap()[0];
    assert_eq!((&provider["name"], &provider["status"]), (&json!("main"), &json!("active")), "{provider}");
    assert_eq!((&provider["group_id"], &provider["agents"]), (&json!(345), &json!(0)));
    eventually("the token was replaced", || !lab.works(&given));
    assert_eq!(tokens_of(&lab, "olga").len(), 1, "by exactly one other");
    let table = lab.dvx(&["credential-provider", "list"]).success();
    assert!(table.contains("main") && table.contains("active"), "{table}");
}

#[test]
fn a_provider_that_is_not_to_rotate_keeps_its_token() {
    let lab = Lab::start();
    let given = lab.gitlab.token("olga", &["api"]);
    lab.create_provider("main", &given, Mode::ServiceAccount, &["--rotate-every", "off"]).success();
    assert!(lab.works(&given));
    let rotated =
        lab.gitlab.requests().iter().any(|request| request["path"].as_str().unwrap().contains("rotate"));
    assert!(!rotated);
}

#[test]
fn a_provider_needs_a_token_of_an_owner() {
    let lab = Lab::start();
    let create = |user: &str, scopes: &[&str], more: &[&str]| {
        let token = lab.gitlab.token(user, scopes);
        lab.create_provider("main", &token, Mode::ServiceAccount, more)
    };
    for user in ["max", "dana", "nemo"] {
        assert_refused(&lab, &create(user, &["api"], &[]), 4, NOT_OWNER);
    }
    assert_refused(&lab, &create("olga", &["api"], &["--group-id", "999"]), 4, NOT_OWNER);
    assert_refused(&lab, &create("olga", &["read_api"], &[]), 4, "api");
    assert_refused(&lab, &create("olga", &["read_user"], &[]), 4, "api");
    let unknown = lab.control.planted.token("a token of another instance");
    let outcome = lab.create_provider("main", &unknown, Mode::ServiceAccount, &[]);
    assert_refused(&lab, &outcome, 4, "token");
    let make = |more: Value| {
        let mut token = json!({"user": "olga", "scopes": ["api"]});
        token.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        lab.gitlab.token_with(&token)
    };
    let expired = make(json!({"expires_at": "2026-01-01"}));
    assert_refused(&lab, &lab.create_provider("main", &expired, Mode::ServiceAccount, &[]), 6, "expired");
    let revoked = make(json!({"revoked": true}));
    assert_refused(&lab, &lab.create_provider("main", &revoked, Mode::ServiceAccount, &[]), 4, "revoked");
}

#[test]
fn an_administrator_needs_no_membership() {
    let lab = Lab::start();
    let token = lab.gitlab.token("root", &["api"]);
    lab.create_provider("main", &token, Mode::ServiceAccount, &[]).success();
}

#[test]
fn an_instance_that_is_none_or_busy_or_broken_makes_no_provider() {
    let lab = Lab::start();
    let token = lab.gitlab.token("olga", &["api"]);
    let create = |more: &[&str]| lab.create_provider("main", &token, Mode::ServiceAccount, more);
    let stub = Stub::start(|_, _, _| StubAnswer::html("404 Not Found", "<h1>nginx</h1>"));
    let outcome = create(&["--instance-url", &stub.url()]);
    assert_eq!(outcome.status, 1, "{}", outcome.stderr);
    assert_none(&lab);
    assert_eq!(create(&["--instance-url", "http://gitlab.example.com"]).status, 2);
    lab.gitlab.sim(
        "POST",
        "/faults",
        &json!({"path": "/**", "times": null,
        "action": {"kind": "throttled", "retry_after": 23}}),
    );
    assert_refused(&lab, &create(&[]), 7, "23");
    lab.gitlab.come_back();
    lab.gitlab.go_down();
    let outcome = create(&[]);
    lab.gitlab.come_back();
    assert_refused(&lab, &outcome, 5, "127.0.0.1");
}

#[test]
fn a_name_is_taken_once() {
    let lab = Lab::start();
    lab.provider("main", Mode::ServiceAccount, &[]);
    let token = lab.gitlab.token("olga", &["api"]);
    let refused = lab.create_provider("main", &token, Mode::ServiceAccount, &[]);
    assert!(refused.failure(1).contains("main"), "{}", refused.stderr);
    assert!(lab.works(&token), "a refused provider's token is left alone");
}

#[test]
fn rotating_checks_the_new_token_first_and_leaves_agents_alone() {
    let lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &["--rotate-every", "off"]);
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    let minted = lab.served("alpha");
    let rotate = |token: &str| lab.dvx(&["credential-provider", "rotate", &provider, "--token", token]);
    for (user, scopes, status, says) in [
        ("max", &["api"][..], 4, NOT_OWNER),
        ("nemo", &["api"], 4, NOT_OWNER),
        ("olga", &["read_api"], 4, "api"),
    ] {
        let refused = rotate(&lab.gitlab.token(user, scopes));
        assert_eq!(refused.status, status, "{}", refused.stderr);
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
    assert_eq!(lab.listed_provider(&provider)["status"], "active");
    let new = lab.gitlab.token("olga", &["api"]);
    rotate(&new).success();
    assert_eq!(lab.served("alpha"), minted, "agents' tokens stay");
    assert!(lab.works(minted.as_ref().unwrap()));
    lab.unlink("alpha").success();
    lab.eventually_bare();
    lab.dvx(&["credential-provider", "rotate", "no-such-provider", "--token", &new]).failure(3);
}

#[test]
fn a_provider_is_not_deleted_while_agents_use_it() {
    let lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    let delete = || lab.dvx(&["credential-provider", "delete", &provider, "--yes"]);
    let refused = delete();
    assert!(refused.failure(1).contains("alpha"), "the agents are named: {}", refused.stderr);
    assert_eq!(lab.listed_provider(&provider)["agents"], 1);
    lab.unlink("alpha").success();
    eventually("nothing of it is left at GitLab", || delete().status == 0);
    assert_eq!(lab.json(&["credential-provider", "list"]), json!([]));
    delete().failure(3);
}

#[test]
fn a_provider_whose_token_was_revoked_turns_inactive_and_links_nobody_until_it_gets_another() {
    let lab = Lab::start();
    let token = lab.gitlab.token("olga", &["api"]);
    let made = lab.create_provider("main", &token, Mode::ServiceAccount, &["--rotate-every", "off"]);
    let made: Value = serde_json::from_str(&made.success()).unwrap();
    let provider = made["id"].as_str().unwrap();
    lab.gitlab.revoke(&token);
    assert_ne!(lab.link_minted("alpha", provider, Mode::ServiceAccount).status, 0);
    eventually("it is inactive", || lab.listed_provider(provider)["status"] == "inactive");
    assert!(lab.listed_provider(provider)["reason"].as_str().unwrap().contains("revoked"));
    let refused = lab.link_minted("alpha", provider, Mode::ServiceAccount);
    assert!(refused.status != 0 && refused.stderr.contains("inactive"), "{}", refused.stderr);
    let new = lab.gitlab.token("olga", &["api"]);
    lab.dvx(&["credential-provider", "rotate", provider, "--token", &new]).success();
    assert_eq!(lab.listed_provider(provider)["status"], "active");
    lab.link_minted("alpha", provider, Mode::ServiceAccount).success();
    lab.settle(&["alpha"]);
}

#[test]
fn a_provider_that_lost_the_answer_to_its_rotation_turns_inactive_and_never_shows_the_old_token_again() {
    let lab = Lab::start();
    let token = lab.gitlab.token("olga", &["api"]);
    lab.gitlab.fail("POST", "/api/v4/personal_access_tokens/*/rotate", &json!({"kind": "lose_answer"}));
    lab.create_provider("main", &token, Mode::ServiceAccount, &[]);
    let inactive = || {
        let listed = lab.json(&["credential-provider", "list"]);
        listed[0]["status"] == "inactive"
    };
    eventually("it is inactive", inactive);
    let listed = lab.json(&["credential-provider", "list"]);
    let reason = listed[0]["reason"].as_str().unwrap();
    assert!(reason.contains("lost"), "{reason}");
    let fingerprint = dvx_proto::Fingerprint::of(token.as_bytes()).to_string();
    let requests = lab.gitlab.requests();
    let rotation = requests.iter().position(|request| request["path"].as_str().unwrap().ends_with("/rotate"));
    let later = &requests[rotation.expect("it was rotated") + 1..];
    assert!(later.iter().all(|request| request["token"] != fingerprint.as_str()), "{later:?}");
    let id = listed[0]["id"].as_str().unwrap();
    let refused = lab.link_minted("alpha", id, Mode::ServiceAccount);
    assert!(refused.status != 0 && refused.stderr.contains("inactive"), "{}", refused.stderr);
    assert_eq!(tokens_of(&lab, "olga").len(), 1, "and nothing killed the successor");
}
