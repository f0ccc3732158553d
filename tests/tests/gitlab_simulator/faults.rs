//! Failures on demand.

use std::time::Duration;

use dvx_tests::{Connection, GitLab, Request, Response, now};
use serde_json::{Value, json};

use super::{get, owned, post};

const ACCOUNTS: &str = "/groups/acme/service_accounts";
const PATTERN: &str = "/api/v4/groups/*/service_accounts";

/// Sends a creation; the connection with it.
fn create(gitlab: &GitLab, owner: &str) -> (Connection, std::io::Result<Response>) {
    let mut connection = gitlab.connect();
    let request = Request::post(&format!("/api/v4{ACCOUNTS}")).header("PRIVATE-TOKEN", owner);
    connection.send(&request.bytes(connection.host())).unwrap();
    connection.set_timeout(Duration::from_millis(500));
    let response = connection.response();
    (connection, response)
}

fn made(gitlab: &GitLab) -> usize {
    gitlab.live()["identities"].as_array().unwrap().len()
}

#[test]
fn a_lost_request_has_no_effect_and_a_lost_answer_has_one() {
    let (gitlab, owner) = owned();
    for (kind, effect) in [("lose_request", 0), ("lose_answer", 1)] {
        gitlab.fail("POST", PATTERN, &json!({"kind": kind}));
        let (_connection, response) = create(&gitlab, &owner);
        assert_eq!(response.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof, "{kind}");
        assert_eq!(made(&gitlab), effect, "{kind}");
    }
    assert_eq!(post(&gitlab, ACCOUNTS, &owner).status, 201, "once is once");
    let seen = gitlab.requests();
    assert_eq!((&seen[0]["status"], &seen[1]["status"]), (&Value::Null, &json!(201)));
    assert_eq!(seen[0]["fault"]["kind"], "lose_request");
}

#[test]
fn a_hanging_request_gets_no_answer_before_or_after_its_effect() {
    let (gitlab, owner) = owned();
    for (after_effect, effect) in [(false, 0), (true, 1)] {
        gitlab.fail("POST", PATTERN, &json!({"kind": "hang", "after_effect": after_effect}));
        let (_connection, response) = create(&gitlab, &owner);
        let error = response.unwrap_err().kind();
        assert!(matches!(error, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{error}");
        assert_eq!(made(&gitlab), effect);
    }
}

#[test]
fn a_truncated_answer_breaks_off_after_the_effect() {
    let (gitlab, owner) = owned();
    gitlab.fail("POST", PATTERN, &json!({"kind": "truncate"}));
    let (_connection, response) = create(&gitlab, &owner);
    assert_eq!(response.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert_eq!(made(&gitlab), 1);
}

#[test]
fn other_answers_come_without_an_effect() {
    let (gitlab, owner) = owned();
    let status = json!({"kind": "status", "status": 502, "body": "<html>bad gateway</html>",
                        "headers": {"Content-Type": "text/html"}});
    gitlab.fail("POST", PATTERN, &status);
    let answer = post(&gitlab, ACCOUNTS, &owner);
    assert_eq!((answer.status, answer.text()), (502, "<html>bad gateway</html>"));
    assert_eq!(answer.header("content-type"), Some("text/html"));
    gitlab.fail("POST", PATTERN, &json!({"kind": "redirect", "location": "https://elsewhere.example/"}));
    let answer = post(&gitlab, ACCOUNTS, &owner);
    assert_eq!((answer.status, answer.header("location")), (302, Some("https://elsewhere.example/")));
    gitlab.fail("POST", PATTERN, &json!({"kind": "throttled", "retry_after": 7}));
    let answer = post(&gitlab, ACCOUNTS, &owner);
    assert_eq!((answer.status, answer.text()), (429, "Retry later\n"));
    assert_eq!(answer.header("retry-after"), Some("7"));
    gitlab.fail("POST", PATTERN, &json!({"kind": "limit_reached", "retry_after": 9}));
    let answer = post(&gitlab, ACCOUNTS, &owner);
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("9")));
    assert!(answer.json()["message"]["error"].is_string());
    gitlab.fail("POST", PATTERN, &json!({"kind": "garbage"}));
    let (_connection, response) = create(&gitlab, &owner);
    assert!(response.is_err(), "{response:?}");
    assert_eq!(made(&gitlab), 0);
}

#[test]
fn a_delay_ends_with_the_right_answer() {
    let (gitlab, owner) = owned();
    gitlab.fail("GET", "/api/v4/user", &json!({"kind": "delay", "ms": 300}));
    let start = now();
    assert_eq!(get(&gitlab, "/user", &owner).status, 200);
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_fault_strikes_its_token_its_method_and_its_turn_alone() {
    let (gitlab, owner) = owned();
    let other = gitlab.token("dana", &["api"]);
    let fingerprint = dvx_proto::Fingerprint::of(owner.as_bytes()).to_string();
    gitlab.sim(
        "POST",
        "/faults",
        &json!({"method": "GET", "path": "/api/v4/**", "token": fingerprint, "skip": 1, "times": null,
                "action": {"kind": "status", "status": 500}}),
    );
    assert_eq!(get(&gitlab, "/user", &other).status, 200);
    assert_eq!(post(&gitlab, ACCOUNTS, &owner).status, 201);
    assert_eq!([(); 3].map(|()| get(&gitlab, "/user", &owner).status), [200, 500, 500]);
    assert_eq!(gitlab.sim("GET", "/faults", &Value::Null)[0]["seen"], 3);
    gitlab.sim("DELETE", "/faults", &Value::Null);
    assert_eq!(get(&gitlab, "/user", &owner).status, 200);
}

#[test]
fn an_instance_that_is_down_loses_every_connection_until_it_is_back() {
    let (gitlab, owner) = owned();
    gitlab.go_down();
    for _ in 0..3 {
        let (_connection, response) = create(&gitlab, &owner);
        assert!(response.is_err());
    }
    gitlab.come_back();
    assert_eq!(made(&gitlab), 0);
    assert_eq!(post(&gitlab, ACCOUNTS, &owner).status, 201);
}
