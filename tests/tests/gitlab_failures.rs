//! How an operation ends that fails is told in the same words, whether it failed at once or later.

use std::thread;

use dvx_proto::Fingerprint;
use dvx_tests::{Lab, Mode, Outcome, eventually};
use serde_json::{Value, json};

const ACCOUNTS: &str = "/api/v4/groups/*/service_accounts";

/// What goes wrong at GitLab.
type Trouble = fn(&Lab, &str);

fn status(lab: &Lab, status: u16, message: &str) {
    let body = json!({ "message": message }).to_string();
    let headers = json!({"Content-Type": "application/json"});
    let action = json!({"kind": "status", "status": status, "body": body, "headers": headers});
    let fault = json!({"method": "POST", "path": ACCOUNTS, "times": null, "action": action});
    lab.gitlab.sim("POST", "/faults", &fault);
}

const TROUBLES: [(i32, Trouble); 4] = [
    (3, |lab, _| status(lab, 404, "404 Group Not Found")),
    (4, |lab, _| status(lab, 403, "403 Forbidden")),
    (5, |lab, _| lab.gitlab.go_down()),
    (6, |lab, token| {
        let fingerprint = Fingerprint::of(token.as_bytes());
        lab.gitlab.sim("PATCH", &format!("/tokens/{fingerprint}"), &json!({"expires_at": "2026-01-01"}));
    }),
];

fn lab() -> (Lab, String, String) {
    let lab = Lab::start();
    let token = lab.gitlab.token("olga", &["api"]);
    let made =
        lab.create_provider("main", &token, Mode::ServiceAccount, &["--rotate-every", "off"]).success();
    let provider = serde_json::from_str::<Value>(&made).unwrap()["id"].as_str().unwrap().to_owned();
    (lab, provider, token)
}

fn at_once(trouble: Trouble) -> Outcome {
    let (lab, provider, token) = lab();
    trouble(&lab, &token);
    lab.link_minted("alpha", &provider, Mode::ServiceAccount)
}

/// GitLab has so much to do first that nobody is kept waiting for the answer.
fn busy(lab: &Lab) {
    lab.gitlab.fail("POST", ACCOUNTS, &json!({"kind": "throttled", "retry_after": 11}));
}

fn later(trouble: Trouble) -> Outcome {
    let (lab, provider, token) = lab();
    busy(&lab);
    thread::scope(|scope| {
        let link = scope.spawn(|| lab.link_minted("alpha", &provider, Mode::ServiceAccount));
        eventually("GitLab was asked", || {
            lab.gitlab.requests().iter().any(|request| request["status"] == 429)
        });
        trouble(&lab, &token);
        link.join().unwrap()
    })
}

#[test]
fn a_failure_has_its_exit_and_its_words_at_once_and_later() {
    thread::scope(|scope| {
        for (exit, trouble) in TROUBLES {
            scope.spawn(move || {
                let (first, second) = (at_once(trouble), later(trouble));
                assert_eq!(first.failure(exit), second.failure(exit));
            });
        }
    });
}

#[test]
fn an_operation_that_failed_has_the_problem_that_the_request_would_have_had() {
    let (lab, provider, token) = lab();
    let path = "/agents/alpha/integrations/gitlab";
    let body = json!({ "credential_provider": provider });
    let (_, trouble) = TROUBLES[0];
    busy(&lab);
    let begun = lab.control.admin().call("POST", path, &body);
    assert_eq!(begun.status, 202, "{begun:?}");
    trouble(&lab, &token);
    let id = begun.json()["id"].as_str().unwrap().to_owned();
    let ended = lab.control.admin().get(&format!("/operations/{id}?wait_seconds=30"));
    assert_eq!(ended["state"], "failed", "{ended}");
    let refused = lab.control.admin().call("POST", path, &body);
    assert_eq!((refused.status, &ended["problem"]), (404, &refused.json()));
    assert_eq!(ended["problem"]["type"], "urn:dvx:problem:not-found");
    assert_eq!(ended["error"], ended["problem"]["detail"], "in words for those who know no problems");
}

#[test]
fn a_rotation_that_gitlab_does_not_answer_is_given_up_and_the_token_stays() {
    let (lab, provider, _) = lab();
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    let before = lab.served("alpha");
    lab.gitlab.fail("POST", "/api/v4/groups/**", &json!({"kind": "hang"}));
    let outcome = lab.dvx(&["agent", "integration", "gitlab", "rotate", "alpha"]);
    assert!(outcome.failure(5).contains("no answer"), "{outcome:?}");
    assert!(before.is_some());
    assert_eq!(lab.served("alpha"), before);
    lab.dvx(&["agent", "integration", "gitlab", "rotate", "alpha"]).success();
    assert_ne!(lab.served("alpha"), before);
}
