//! A token that died behind our back: found out once, however many ask, and replaced where we made it.

use std::thread;
use std::time::Duration;

use dvx_proto::Fingerprint;
use dvx_tests::{ControlPlane, Lab, Mode, Postgres, Request, World, eventually, eventually_some, within};
use serde_json::{Value, json};

/// How often something was asked with a token.
fn asked(lab: &Lab, token: &str, path: &str) -> usize {
    let fingerprint = Fingerprint::of(token.as_bytes()).to_string();
    let requests = lab.gitlab.requests();
    let fits = |request: &&Value| request["token"] == fingerprint.as_str() && request["path"] == path;
    requests.iter().filter(fits).count()
}

/// How often tokens of service accounts were made.
fn minted(lab: &Lab) -> usize {
    let requests = lab.gitlab.requests();
    let fits = |request: &&Value| {
        let path = request["path"].as_str().unwrap();
        request["method"] == "POST" && path.ends_with("/personal_access_tokens")
    };
    requests.iter().filter(fits).count()
}

const SELF: &str = "/api/v4/personal_access_tokens/self";
const REPORT: &str = "/v1/agent/credentials/gitlab/rejected";

fn report(token: &str) -> String {
    json!({"fingerprint": Fingerprint::of(token.as_bytes()).to_string()}).to_string()
}

fn minted_lab() -> (Lab, String) {
    let lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    let token = lab.served("alpha").unwrap();
    lab.gitlab.sim("DELETE", "/requests", &Value::Null);
    (lab, token)
}

#[test]
fn a_thousand_reports_at_once_lead_to_one_probe_and_one_token() {
    let (lab, token) = minted_lab();
    lab.gitlab.revoke(&token);
    let callers: Vec<_> = (0..20).map(|_| lab.world.caller("alpha")).collect();
    let body = report(&token);
    thread::scope(|scope| {
        for caller in &callers {
            let body = &body;
            scope.spawn(move || {
                for _ in 0..50 {
                    let response = caller.send(&Request::post(REPORT).json(body));
                    assert!(response.status < 500 || response.status == 503, "{response:?}");
                }
            });
        }
    });
    let new = eventually_some("another token came", || lab.served("alpha").filter(|new| *new != token));
    assert!(lab.works(&new));
    assert_eq!(asked(&lab, &token, SELF), 1, "one probe");
    assert_eq!(minted(&lab), 1, "one token");
    lab.settle(&["alpha"]);
}

#[test]
fn a_good_token_is_probed_and_kept() {
    let (lab, token) = minted_lab();
    let caller = lab.world.caller("alpha");
    caller.send(&Request::post(REPORT).json(&report(&token)));
    eventually("it was probed", || asked(&lab, &token, SELF) == 1);
    assert_eq!(lab.served("alpha"), Some(token.clone()));
    assert_eq!(minted(&lab), 0);
    // Somebody who reports it again and again causes no storm.
    for _ in 0..50 {
        caller.send(&Request::post(REPORT).json(&report(&token)));
    }
    assert!(asked(&lab, &token, SELF) <= 10, "at most ten a minute");
    let foreign = lab.control.planted.token("a token of nobody");
    caller.send(&Request::post(REPORT).json(&report(&foreign)));
    assert_eq!(lab.served("alpha"), Some(token));
}

#[test]
fn whatever_killed_it_a_minted_token_is_replaced() {
    for (cause, kill) in
        [("revoked", json!({"revoked": true})), ("expired", json!({"expires_at": "2026-01-01"}))]
    {
        let (lab, token) = minted_lab();
        let fingerprint = Fingerprint::of(token.as_bytes()).to_string();
        lab.gitlab.sim("PATCH", &format!("/tokens/{fingerprint}"), &kill);
        lab.world.caller("alpha").send(&Request::post(REPORT).json(&report(&token)));
        eventually("another token came", || {
            lab.served("alpha").is_some_and(|new| new != token && lab.works(&new))
        });
        let audit = lab.control.admin().audit("agent=alpha");
        assert!(audit.iter().any(|event| event.to_string().contains(cause)), "{cause}: {audit:#?}");
    }
}

#[test]
fn an_agent_that_rotates_its_own_token_is_repaired() {
    let (lab, token) = minted_lab();
    let path = "/personal_access_tokens/self/rotate";
    let rotated = lab.gitlab.api("POST", path, Some(&token), &json!({"expires_at": "2026-12-20"}));
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let theirs = rotated.json()["token"].as_str().unwrap().to_owned();
    lab.world.caller("alpha").send(&Request::post(REPORT).json(&report(&token)));
    eventually("another token came", || {
        lab.served("alpha").is_some_and(|new| new != token && lab.works(&new))
    });
    assert_ne!(lab.served("alpha"), Some(theirs));
    lab.unlink("alpha").success();
    lab.eventually_bare();
}

#[test]
fn a_dead_token_of_a_person_turns_the_link_invalid_and_says_what_to_do() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    lab.link_pat("alpha", &token).success();
    lab.gitlab.revoke(&token);
    lab.world.caller("alpha").send(&Request::post(REPORT).json(&report(&token)));
    eventually("it is invalid", || lab.integrations("alpha")[0]["status"] == "invalid");
    assert_eq!(lab.integrations("alpha")[0]["cause"], "revoked");
    let audit = lab.control.admin().audit("agent=alpha");
    assert!(audit.iter().any(|event| event["action"] == "integration.invalid"), "{audit:#?}");
    let status = lab.dvx(&["status"]).success();
    assert!(status.contains("alpha"), "{status}");
}

#[test]
fn a_gitlab_that_is_down_decides_nothing() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    lab.link_pat("alpha", &token).success();
    lab.gitlab.go_down();
    let before = asked(&lab, &token, SELF);
    lab.world.caller("alpha").send(&Request::post(REPORT).json(&report(&token)));
    eventually("it was tried", || asked(&lab, &token, SELF) > before);
    lab.gitlab.come_back();
    assert_eq!(lab.integrations("alpha")[0]["status"], "active");
    assert_eq!(lab.served("alpha"), Some(token));
}

/// The control plane ends in the middle of a repair, and another process comes.
fn repaired_after_a_crash(mut lab: Lab) {
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    let token = lab.served("alpha").unwrap();
    lab.control.stop();
    lab.control.set_environment(&[("DVX_TEST_FAIL_POINT", "token:after")]);
    lab.control.start_all();
    lab.gitlab.revoke(&token);
    let caller = lab.world.caller("alpha");
    eventually("the control plane has ended", || {
        caller.send(&Request::post(REPORT).json(&report(&token)));
        lab.control.replica().daemon().ended().is_some()
    });
    assert_eq!(lab.served("alpha").as_ref(), Some(&token));
    lab.control.set_environment(&[]);
    lab.control.start_all();
    // The lease itself would last for half a minute.
    let new = within(Duration::from_secs(15), || lab.served("alpha").filter(|new| *new != token));
    assert!(lab.works(&new.expect("another token")));
    lab.settle(&["alpha"]);
}

#[test]
fn a_crash_in_the_middle_of_a_repair_leaves_no_agent_with_a_dead_token() {
    repaired_after_a_crash(Lab::start());
}

#[test]
fn nor_does_a_crash_of_one_among_replicas() {
    let Some(postgres) = Postgres::start("nor_does_a_crash_of_one_among_replicas") else { return };
    repaired_after_a_crash(Lab::with(ControlPlane::builder().postgres(postgres), World::single()));
}
