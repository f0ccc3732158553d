//! Linking agents with tokens of people, through the real programs.

use dvx_tests::{Lab, Outcome, Stub, StubAnswer, run, run_with_input};
use serde_json::{Value, json};

/// The last decisions of this kind about the agent.
fn audited(lab: &Lab, action: &str) -> Vec<String> {
    let events = lab.control.admin().audit("agent=alpha");
    let text = |event: &Value, member: &str| event.get(member).and_then(Value::as_str).map(str::to_owned);
    let of_action = events.iter().filter(|event| text(event, "action").as_deref() == Some(action));
    of_action.filter_map(|event| text(event, "decision")).collect()
}

#[test]
fn a_token_is_linked_shown_served_and_unlinked() {
    let lab = Lab::start();
    let end = "2036-01-01";
    let token =
        json!({"user": "dana", "name": "t", "scopes": ["read_api", "write_repository"], "expires_at": end});
    let token = lab.gitlab.token_with(&token);
    let outcome =
        lab.checked(run_with_input(&mut lab.link_command("alpha", &[]), format!("{token}\n").as_bytes()));
    let table = outcome.success();
    for shown in ["dana", "pat", "read_api write_repository", "2036-01-01T00:00:00Z", "active"] {
        assert!(table.contains(shown), "{shown}: {table}");
    }
    assert_eq!(lab.served("alpha"), Some(token.clone()));
    let listed = &lab.integrations("alpha")[0];
    assert_eq!(
        (&listed["origin"], &listed["scopes"]),
        (&json!("pat"), &json!(["read_api", "write_repository"]))
    );

    let before = lab.gitlab.requests().len();
    let again = lab.link_pat("alpha", &token);
    assert!(again.failure(1).contains("already linked; unlink it first"), "{}", again.stderr);
    assert_eq!(lab.gitlab.requests().len(), before, "nobody asks GitLab about an agent that is linked");

    let unlinked = lab.unlink("alpha");
    assert_eq!(unlinked.success(), "");
    let page = format!("{}/-/user_settings/personal_access_tokens", lab.gitlab.url());
    assert!(unlinked.stderr.contains(&page), "{}", unlinked.stderr);
    assert_eq!(lab.served("alpha"), None);
    assert!(lab.works(&token));
    assert!(lab.unlink("alpha").failure(3).contains("not linked"));
    assert_eq!(audited(&lab, "integration.link"), ["allowed"]);
    assert_eq!(audited(&lab, "integration.unlink"), ["allowed"]);
}

#[test]
fn what_was_set_by_hand_is_replaced_by_a_link() {
    let lab = Lab::start();
    lab.control.admin().plant("alpha", "gitlab");
    let token = lab.gitlab.token("dana", &["api"]);
    lab.link_pat("alpha", &token).success();
    assert_eq!(lab.served("alpha"), Some(token));
    assert_eq!(lab.integrations("alpha").len(), 1);
}

#[test]
fn each_refusal_says_what_to_do_and_stores_nothing() {
    let lab = Lab::start();
    let with = |scopes: &[&str]| lab.gitlab.token("dana", scopes);
    let expired = json!({"user": "dana", "scopes": ["api"], "expires_at": "2020-01-01"});
    let revoked = json!({"user": "dana", "scopes": ["api"], "revoked": true});
    let good = with(&["api"]);
    let failing = |action: serde_json::Value| {
        lab.gitlab.come_back();
        let fault = json!({"path": "/api/v4/**", "times": null, "action": action});
        lab.gitlab.sim("POST", "/faults", &fault);
    };
    let refused = |outcome: Outcome, status: i32, texts: &[&str]| {
        let stderr = outcome.failure(status).to_owned();
        assert!(
            texts.iter().all(|text| stderr.contains(text)) && stderr.contains("\nhint: "),
            "{texts:?}: {stderr}"
        );
    };
    refused(
        lab.link_pat("alpha", "glpat-of-nobody-at-all"),
        4,
        &["does not know the token", "--instance-url"],
    );
    refused(lab.link_pat("alpha", "gldt-of-a-deployment"), 4, &["deploy token"]);
    refused(lab.link_pat("alpha", &lab.gitlab.token_with(&expired)), 6, &["expired"]);
    refused(lab.link_pat("alpha", &lab.gitlab.token_with(&revoked)), 4, &["revoked"]);
    refused(lab.link_pat("alpha", &with(&["read_user"])), 4, &["needs read_api or api, and has read_user"]);
    refused(lab.link_pat("alpha", &with(&["write_repository"])), 4, &["needs read_api or api"]);
    failing(json!({"kind": "throttled", "retry_after": 42}));
    refused(lab.link_pat("alpha", &good), 7, &["try again in 42 s"]);
    failing(json!({"kind": "limit_reached", "retry_after": null}));
    refused(lab.link_pat("alpha", &good), 7, &["try again in a minute"]);
    failing(json!({"kind": "status", "status": 500, "body": "oops"}));
    refused(lab.link_pat("alpha", &good), 5, &["failed with status 500"]);
    failing(json!({"kind": "status", "status": 200, "body": "<html>"}));
    refused(lab.link_pat("alpha", &good), 1, &["not a GitLab"]);
    failing(json!({"kind": "redirect", "location": "https://gitlab.example/", "status": null}));
    refused(lab.link_pat("alpha", &good), 1, &["redirects", "--instance-url https://gitlab.example"]);
    lab.gitlab.come_back();
    lab.gitlab.sim("PATCH", "/users/dana", &json!({"state": "blocked"}));
    refused(lab.link_pat("alpha", &good), 4, &["blocked"]);
    lab.gitlab.sim("PATCH", "/users/dana", &json!({"state": "active"}));
    let at = |url: &str| {
        lab.checked(run(&mut lab.link_command("alpha", &["--pat", &good, "--instance-url", url])))
    };
    refused(at("http://127.0.0.1:1"), 5, &["cannot reach 127.0.0.1: "]);
    refused(at("http://[::1]:1"), 2, &["a loopback address", "allow_private"]);
    refused(at("https://169.254.169.254"), 2, &["the address of a metadata service"]);
    refused(at("https://2130706433"), 2, &["unusual form"]);
    assert_eq!(at("http://gitlab.example").status, 2);
    assert_eq!(lab.integrations("alpha"), Vec::<serde_json::Value>::new());
    let decisions = audited(&lab, "integration.link");
    assert!(decisions.len() > 12 && decisions.iter().all(|decision| decision == "denied"), "{decisions:?}");
    lab.link_pat("alpha", &good).success();
}

#[test]
fn what_cannot_be_meant_is_refused_before_anybody_is_asked() {
    let lab = Lab::start();
    for (arguments, stdin) in [
        (&["--pat", "x", "--credential-provider", "p"][..], ""),
        (&["--pat", "x", "--project-id", "7"], ""),
        (&[], ""),
        (&[], "\n"),
        (&[], "glpat-two words\n"),
        (&[], "glpat-two-lines\n\n"),
    ] {
        let outcome =
            lab.checked(run_with_input(&mut lab.link_command("alpha", arguments), stdin.as_bytes()));
        assert!(!outcome.failure(2).contains("glpat"), "{arguments:?}: {}", outcome.stderr);
    }
    let mut command = lab.link_command("alpha", &[]);
    command.env("GITLAB_TOKEN", lab.gitlab.token("dana", &["api"]));
    lab.checked(run(&mut command)).failure(2);
    assert!(lab.gitlab.requests().is_empty());
    let nobody = lab.checked(run(&mut lab.link_command("nobody", &["--pat", "x"])));
    nobody.failure(3);
    assert!(lab.gitlab.requests().is_empty());
}

#[test]
fn github_is_linked_as_well() {
    let lab = Lab::start();
    let token = lab.control.planted.token("a token of GitHub");
    let expected = format!("Bearer {token}");
    let github = Stub::start(move |_, path, authorization| match (path, authorization == expected) {
        ("/api/v3/user", true) => StubAnswer::json("200 OK", &json!({"id": 7, "login": "octo"}))
            .header("X-OAuth-Scopes", "repo, read:user")
            .header("GitHub-Authentication-Token-Expiration", "2036-01-01 07:00:00 UTC"),
        ("/api/v3/user", false) => {
            StubAnswer::json("401 Unauthorized", &json!({"message": "Bad credentials"}))
        }
        _ => StubAnswer::html("404 Not Found", "no"),
    });
    let url = github.url();
    let github = |words: &[&str], stdin: &str| {
        let mut command = lab.control.dvx_command();
        command.args(["agent", "integration", "github"]).args(words);
        lab.checked(run_with_input(&mut command, stdin.as_bytes()))
    };
    let link = ["link", "alpha", "--instance-url", &url];
    assert!(github(&link, "ghp_unknown").failure(4).contains("does not know the token"));
    let table = github(&link, &token).success();
    assert!(
        table.contains("octo") && table.contains("repo read:user") && table.contains("2036-01-01T07:00:00Z"),
        "{table}"
    );
    let response = lab.world.caller("alpha").get("/v1/agent/credentials/github");
    assert_eq!(response.json()["token"], token.as_str());
    assert!(github(&link, &token).failure(1).contains("unlink it first"));
    let unlinked = github(&["unlink", "alpha", "--yes"], "");
    unlinked.success();
    assert!(unlinked.stderr.contains(&format!("{url}/settings/tokens")), "{}", unlinked.stderr);
    assert_eq!(lab.world.caller("alpha").get("/v1/agent/credentials/github").status, 404);
}
