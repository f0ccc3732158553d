//! A token that died behind our back: found out once, however many ask, and replaced where we made it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use dvx_proto::Fingerprint;
use dvx_proto::enclave::{RejectionAnswer, Verdict};
use dvx_tests::{
    ControlPlane, EnclaveClient, Endpoint, Lab, Mode, Postgres, Request, State, World, eventually,
    eventually_some, now, within,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
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

/// So many report at once.
const MANY: usize = 1_000;

/// Two labs in which many can report, the first with a token that was revoked, the second with a good one. The
/// control plane's clock stands still, so that what holds for a while holds until the test is over.
fn labs_for_many(test: &str) -> Option<[(Lab, String); 2]> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(65_536), hard).unwrap();
    let lab = |dead: bool| {
        let world =
            World::single().set("limits", "connections", "1100").set("limits", "total_connections", "1100");
        let lab = Lab::movable(test, world.set("limits", "requests_per_second", "0"))?;
        let provider = lab.provider("main", Mode::ServiceAccount, &[]);
        lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
        let token = lab.served("alpha").unwrap();
        lab.gitlab.sim("DELETE", "/requests", &Value::Null);
        if dead {
            lab.gitlab.revoke(&token);
        }
        // The answer takes longer than all reports do to come.
        lab.gitlab.fail("GET", SELF, &json!({"kind": "delay", "ms": 1_500}));
        lab.control.stop_clock();
        Some((lab, token))
    };
    Some([lab(true)?, lab(false)?])
}

/// How many reports came to the control plane. The broker's own lines say something else.
fn reported(lab: &Lab) -> usize {
    let audit = lab.control.admin().audit("agent=alpha");
    audit.iter().filter(|event| event.to_string().contains("the provider refused the token")).count()
}

/// What was asked and made is what one report leads to, whoever else reports.
#[track_caller]
fn assert_one_report_did_it(lab: &Lab, token: &str, dead: bool) {
    if dead {
        let new = eventually_some("another token came", || lab.served("alpha").filter(|new| new != token));
        assert!(lab.works(&new));
    }
    assert_eq!(asked(lab, token, SELF), 1, "one probe");
    assert_eq!(minted(lab), usize::from(dead), "one token where it is dead, and none where it is good");
    lab.control.shift_clock(0);
    lab.settle(&["alpha"]);
}

/// The broker takes each and tells the control plane once: a token that is held is reported once in a second.
#[test]
fn a_thousand_reports_to_a_broker_at_once_lead_to_one_probe_and_one_token() {
    const NAME: &str = "a_thousand_reports_to_a_broker_at_once_lead_to_one_probe_and_one_token";
    for ((lab, token), dead) in labs_for_many(NAME).into_iter().flatten().zip([true, false]) {
        let caller = lab.world.caller("alpha");
        let mut connections: Vec<_> = (0..MANY).map(|_| caller.unix()).collect();
        let request = Request::post(REPORT).json(&report(&token));
        let start = now();
        for connection in &mut connections {
            connection.send(&request.bytes(connection.host())).unwrap();
        }
        for mut connection in connections {
            let response = connection.response().unwrap();
            assert_eq!(response.status, 202, "{response:?}");
        }
        let took = start.elapsed().as_secs();
        eventually("it was probed", || asked(&lab, &token, SELF) > 0);
        assert_one_report_did_it(&lab, &token, dead);
        let came = reported(&lab) as u64;
        assert!((1..=took + 1).contains(&came), "{came} came to the control plane in {took} s");
    }
}

/// The control plane asks once however many wait for the answer, which then holds for three seconds; among replicas
/// the date of the last question in the integration's row does the same. A credential gets at most one token in
/// three seconds, and none while another is being made.
#[test]
fn a_thousand_reports_to_the_control_plane_at_once_lead_to_one_probe_and_one_token() {
    const NAME: &str = "a_thousand_reports_to_the_control_plane_at_once_lead_to_one_probe_and_one_token";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for ((mut lab, token), dead) in labs_for_many(NAME).into_iter().flatten().zip([true, false]) {
        let endpoint = Endpoint::Unix(lab.control.replica().socket.clone());
        let key = fs::read_to_string(lab.world.ground.path("keys/enclave-key")).unwrap();
        let client = EnclaveClient::new(endpoint.clone(), key.trim_end());
        let verdicts = runtime.block_on(async {
            let mut state = State::default();
            let watch = client.connected(&mut state).await;
            drop(watch);
            let held = &state.secrets[&(Some("alpha".parse().unwrap()), "gitlab:token".parse().unwrap())].1;
            let path = format!("/v1/enclave/credentials/{}/rejected", held.credential.as_ref().unwrap());
            let bearer = format!("Bearer {}", client.api_key);
            let mut tasks = tokio::task::JoinSet::new();
            let ready = Arc::new(tokio::sync::Barrier::new(MANY));
            for _ in 0..MANY {
                let (endpoint, ready) = (endpoint.clone(), ready.clone());
                let (path, bearer, body) = (path.clone(), bearer.clone(), report(&token));
                tasks.spawn(async move {
                    let mut connection = endpoint.connect().await.unwrap();
                    ready.wait().await;
                    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
                    loop {
                        let answer = connection.exchange("POST", &path, &headers, body.clone()).await;
                        let (status, answer) = answer.unwrap();
                        // All write into the audit log: on a busy machine some are told to try again.
                        if status != 503 {
                            assert_eq!(status, 200, "{answer:?}");
                            return serde_json::from_slice::<RejectionAnswer>(&answer).unwrap().verdict;
                        }
                    }
                });
            }
            tasks.join_all().await
        });
        let expected = if dead { Verdict::Dead } else { Verdict::Good };
        let told = verdicts.iter().filter(|verdict| **verdict == expected).count();
        let unknown = verdicts.iter().filter(|verdict| **verdict == Verdict::Unknown).count();
        assert!(
            told + unknown == MANY && told > MANY / 2,
            "{told} are told what was found out, {unknown} nothing"
        );
        // All have been answered; what was put off by a busy database begins now.
        lab.control.shift_clock(0);
        assert_one_report_did_it(&lab, &token, dead);
        assert_eq!(reported(&lab), MANY, "each report is in the audit log");
    }
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
