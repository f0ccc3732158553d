//! An agent is linked to GitLab by a token of somebody: every way of giving it, and every refusal.

use std::process::Command;
use std::time::Duration;

use dvx_tests::{
    ControlPlane, Lab, Outcome, Request, Stub, StubAnswer, World, answer_on_terminal, now, own_uid, run,
    run_with_input,
};
use serde_json::{Value, json};

/// Nothing is stored for `alpha`, and GitLab was asked for nothing but reading.
#[track_caller]
fn assert_untouched(lab: &Lab) {
    assert_eq!(lab.integrations("alpha"), Vec::<Value>::new());
    assert_eq!(lab.json(&["agent", "secret", "list", "alpha"]), json!([]));
    assert_eq!(lab.served("alpha"), None);
    let wrote: Vec<Value> =
        lab.gitlab.requests().into_iter().filter(|request| request["method"] != "GET").collect();
    assert!(wrote.is_empty(), "linking by a token changes nothing at GitLab: {wrote:?}");
}

/// The refusal has this exit status and names each of these.
#[track_caller]
fn assert_refused(lab: &Lab, outcome: &Outcome, status: i32, says: &[&str]) {
    let text = outcome.failure(status).to_lowercase();
    for word in says {
        assert!(text.contains(&word.to_lowercase()), "expected {word:?} in: {text}");
    }
    assert_untouched(lab);
}

#[test]
fn a_token_is_taken_from_the_command_line_and_shown_with_its_name_scopes_and_end() {
    let lab = Lab::start();
    let token = lab.gitlab.token_with(&json!({
        "user": "dana", "scopes": ["api", "write_repository"], "expires_at": "2027-02-01",
    }));
    lab.link_pat("alpha", &token).success();
    assert_eq!(lab.served("alpha"), Some(token), "in force when the command returns");
    let listed = lab.integrations("alpha");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["display_name"], "dana");
    assert_eq!(listed[0]["provider"], "gitlab");
    assert_eq!(listed[0]["auth_type"], "pat");
    assert_eq!(listed[0]["status"], "active");
    assert_eq!(listed[0]["instance_url"], lab.gitlab.url());
    assert_eq!(listed[0]["expires_at"], "2027-02-01T00:00:00Z", "GitLab ends it when that day begins");
    assert_eq!(listed[0]["scopes"], json!(["api", "write_repository"]));
    let table = lab.dvx(&["agent", "integration", "list", "alpha"]).success();
    assert!(["dana", "api", "2027-02-01"].iter().all(|word| table.contains(word)), "{table}");
    let audit = lab.control.admin().audit("agent=alpha");
    assert!(audit.iter().any(|event| event["action"] == "integration.link"), "{audit:#?}");
}

#[test]
fn a_token_is_taken_from_a_pipe_without_its_newline() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    let outcome = run_with_input(&mut lab.link_command("alpha", &[]), format!("{token}\n").as_bytes());
    lab.checked(outcome).success();
    assert_eq!(lab.served("alpha"), Some(token));
}

#[test]
fn a_token_is_typed_at_a_prompt_that_does_not_show_it() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["read_api"]);
    let outcome = answer_on_terminal(&lab.link_command("alpha", &[]), "hidden", &token);
    lab.checked(outcome).success();
    assert_eq!(lab.served("alpha"), Some(token));
}

#[test]
fn what_is_no_token_is_refused_before_anything_is_asked() {
    let lab = Lab::start();
    for input in ["", "\n", "glpat-with a-space\n", "glpat-two\nlines\n"] {
        let outcome = run_with_input(&mut lab.link_command("alpha", &[]), input.as_bytes());
        assert_refused(&lab, &outcome, 2, &["token"]);
    }
    assert_eq!(lab.gitlab.requests(), Vec::<Value>::new());
}

#[test]
fn the_environment_gives_no_token() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    let mut command = lab.link_command("alpha", &[]);
    let outcome = run(command.env("GITLAB_TOKEN", &token));
    assert_refused(&lab, &outcome, 2, &["token"]);
    assert_eq!(lab.gitlab.requests(), Vec::<Value>::new());
}

#[test]
fn a_token_that_does_not_work_says_why() {
    let lab = Lab::start();
    let make = |more: Value| {
        let mut token = json!({"user": "dana", "scopes": ["api"]});
        token.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        lab.gitlab.token_with(&token)
    };
    let unknown = lab.control.planted.token("a token of another instance");
    let refused = |token: &str, status: i32, says: &[&str]| {
        assert_refused(&lab, &lab.link_pat("alpha", token), status, says);
    };
    refused(&unknown, 4, &["token", "dvx:"]);
    refused(&make(json!({"revoked": true})), 4, &["revoked"]);
    refused(&make(json!({"expires_at": "2026-01-01"})), 6, &["expired"]);
    refused(&make(json!({"expires_at": "2026-01-01", "revoked": true})), 6, &["expired"]);
    refused(&make(json!({"scopes": ["read_user"]})), 4, &["read_api", "api"]);
    refused(&make(json!({"scopes": ["read_repository", "write_repository"]})), 4, &["read_api", "api"]);
    let blocked = make(json!({}));
    lab.gitlab.sim("PATCH", "/users/dana", &json!({"state": "blocked"}));
    refused(&blocked, 4, &["blocked"]);
}

#[test]
fn read_api_suffices() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["read_api"]);
    lab.link_pat("alpha", &token).success();
    assert_eq!(lab.integrations("alpha")[0]["scopes"], json!(["read_api"]));
}

#[test]
fn a_token_that_may_not_read_about_itself_is_taken_with_scopes_and_end_unknown() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    let forbidden = json!({"kind": "status", "status": 403, "body": "{\"message\":\"403 Forbidden\"}",
        "headers": {"Content-Type": "application/json"}});
    lab.gitlab.fail("GET", "/api/v4/personal_access_tokens/self", &forbidden);
    lab.link_pat("alpha", &token).success();
    let listed = lab.integrations("alpha");
    assert_eq!((&listed[0]["scopes"], &listed[0]["expires_at"]), (&Value::Null, &Value::Null), "{listed:?}");
}

#[test]
fn an_instance_that_has_too_much_to_do_names_the_wait_and_is_not_asked_again() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    lab.gitlab.fail("GET", "/api/v4/user", &json!({"kind": "throttled", "retry_after": 37}));
    assert_refused(&lab, &lab.link_pat("alpha", &token), 7, &["37"]);
    assert_eq!(lab.gitlab.requests().len(), 1, "not repeated silently");
    lab.gitlab.fail("GET", "/api/v4/user", &json!({"kind": "limit_reached", "retry_after": 41}));
    assert_refused(&lab, &lab.link_pat("alpha", &token), 7, &["41"]);
    lab.link_pat("alpha", &token).success();
}

#[test]
fn an_instance_that_fails_or_is_not_there_is_unavailable() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    let broken = json!({"method": "GET", "path": "/api/v4/user", "times": null,
        "action": {"kind": "status", "status": 500, "body": "{\"message\":\"500 Internal Server Error\"}",
                   "headers": {"Content-Type": "application/json"}}});
    lab.gitlab.sim("POST", "/faults", &broken);
    assert_refused(&lab, &lab.link_pat("alpha", &token), 5, &["500"]);
    lab.gitlab.come_back();
    lab.gitlab.go_down();
    assert_refused(&lab, &lab.link_pat("alpha", &token), 5, &["127.0.0.1"]);
    lab.gitlab.come_back();
    let nobody = "http://127.0.0.1:1";
    let outcome =
        lab.checked(run(&mut lab.link_command("alpha", &["--pat", &token, "--instance-url", nobody])));
    assert_refused(&lab, &outcome, 5, &["127.0.0.1"]);
}

#[test]
fn an_instance_that_never_answers_is_given_up() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    let always = json!({"path": "/**", "times": null, "action": {"kind": "hang"}});
    lab.gitlab.sim("POST", "/faults", &always);
    let start = now();
    let outcome = lab.link_pat("alpha", &token);
    assert!(start.elapsed() < Duration::from_secs(40), "bounded: {:?}", start.elapsed());
    assert_refused(&lab, &outcome, 5, &[]);
}

#[test]
fn what_is_not_a_gitlab_is_named_so() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    let link = |url: &str| {
        lab.checked(run(&mut lab.link_command("alpha", &["--pat", &token, "--instance-url", url])))
    };
    for (status, body) in [("404 Not Found", "<h1>nginx</h1>"), ("200 OK", "<h1>Welcome</h1>")] {
        let stub = Stub::start(move |_, _, _| StubAnswer::html(status, body));
        assert_refused(&lab, &link(&stub.url()), 1, &["not a gitlab"]);
    }
    let other = Stub::start(|_, _, _| StubAnswer::json("200 OK", &json!({"hello": "world"})));
    assert_refused(&lab, &link(&other.url()), 1, &["not a gitlab"]);
    lab.gitlab.fail("GET", "/api/v4/user", &json!({"kind": "garbage"}));
    let garbage = link(&lab.gitlab.url());
    assert!([1, 5].contains(&garbage.status), "{}", garbage.stderr);
    assert_untouched(&lab);
}

#[test]
fn a_redirect_is_told_and_not_followed() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    let elsewhere = Stub::start(|_, _, _| StubAnswer::json("200 OK", &json!({"id": 1, "username": "thief"})));
    let action = json!({"kind": "redirect", "location": format!("{}/api/v4/user", elsewhere.url())});
    lab.gitlab.fail("GET", "/api/v4/user", &action);
    assert_refused(&lab, &lab.link_pat("alpha", &token), 1, &["redirect"]);
    assert_eq!(elsewhere.asked(), Vec::<String>::new(), "the token went nowhere else");
}

#[test]
fn a_bad_url_is_an_error_of_usage() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    for url in [
        "gitlab.example.com",
        "ftp://gitlab.example.com",
        "http://gitlab.example.com",
        "https://",
        "https://a b",
        "https://user:secret@gitlab.example.com",
        "https://gitlab.example.com?x=y",
        "https://gitlab.example.com#x",
        "https://2130706433/",
    ] {
        let outcome = run(&mut lab.link_command("alpha", &["--pat", &token, "--instance-url", url]));
        assert_eq!(outcome.status, 2, "{url}: {}", outcome.stderr);
    }
    assert_untouched(&lab);
}

#[test]
fn addresses_of_neighbours_and_metadata_services_are_refused() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    for host in [
        "10.0.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "[::ffff:10.0.0.1]",
    ] {
        let url = format!("https://{host}");
        let start = now();
        let outcome =
            lab.checked(run(&mut lab.link_command("alpha", &["--pat", &token, "--instance-url", &url])));
        assert!([1, 2].contains(&outcome.status), "{url}: {} {}", outcome.status, outcome.stderr);
        assert!(start.elapsed() < Duration::from_secs(5), "{url}: nothing is tried");
    }
    assert_untouched(&lab);
}

#[test]
fn loopback_is_refused_unless_it_is_listed() {
    let control = ControlPlane::start();
    let world = World::single().control(&control).build();
    let gitlab = dvx_tests::GitLab::start(&json!({"users": [{"username": "dana"}]}));
    let token = gitlab.token("dana", &["api"]);
    gitlab.plant(&control.planted);
    let outcome = control.dvx(&[
        "agent",
        "integration",
        "gitlab",
        "link",
        "alpha",
        "--pat",
        &token,
        "--instance-url",
        &gitlab.url(),
    ]);
    assert!([1, 2].contains(&outcome.status), "{} {}", outcome.status, outcome.stderr);
    assert!(outcome.stderr.contains("loopback"), "{}", outcome.stderr);
    assert_eq!(gitlab.requests(), Vec::<Value>::new());
    drop(world);
}

#[test]
fn a_linked_agent_is_unlinked_first() {
    let lab = Lab::start();
    let (first, second) = (lab.gitlab.token("dana", &["api"]), lab.gitlab.token("max", &["api"]));
    lab.link_pat("alpha", &first).success();
    let refused = lab.link_pat("alpha", &second);
    assert!(refused.failure(1).contains("unlink"), "{}", refused.stderr);
    assert_eq!(lab.served("alpha"), Some(first.clone()));
    let unlinked = lab.unlink("alpha");
    let said = format!("{}{}", unlinked.success(), unlinked.stderr);
    assert!(
        said.contains("revoke") && said.contains(&lab.gitlab.url()),
        "it says what is left to do: {said}"
    );
    assert_eq!(lab.served("alpha"), None, "in force when the command returns");
    assert!(lab.works(&first), "the person's token is the person's");
    assert_eq!(lab.integrations("alpha"), Vec::<Value>::new());
    lab.link_pat("alpha", &second).success();
    assert_eq!(lab.served("alpha"), Some(second));
}

#[test]
fn a_token_that_was_set_by_hand_is_replaced() {
    let lab = Lab::start();
    lab.control.admin().plant("alpha", "gitlab");
    let token = lab.gitlab.token("dana", &["api"]);
    lab.link_pat("alpha", &token).success();
    assert_eq!(lab.served("alpha"), Some(token));
    assert_eq!(lab.integrations("alpha")[0]["display_name"], "dana");
}

#[test]
fn who_is_not_there_is_not_found() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    lab.link_pat("nobody", &token).failure(3);
    lab.unlink("nobody").failure(3);
    let nothing = lab.unlink("alpha");
    assert!([1, 3].contains(&nothing.status), "nothing is linked: {}", nothing.stderr);
    assert_untouched(&lab);
}

#[test]
fn a_token_and_a_credential_provider_exclude_each_other() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    let both = run(&mut lab.link_command("alpha", &["--pat", &token, "--credential-provider", "any"]));
    assert_refused(&lab, &both, 2, &[]);
    let project = run(&mut lab.link_command("alpha", &["--pat", &token, "--project-id", "7"]));
    assert_refused(&lab, &project, 2, &[]);
    assert_eq!(lab.gitlab.requests(), Vec::<Value>::new(), "refused before any request");
}

#[test]
fn an_auditor_links_nothing() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    let auditor = lab.control.admin().create_operator("aude", "auditor");
    let mut command = lab.link_command("alpha", &["--pat", &token]);
    let outcome = lab.checked(run(command.env("DVX_OPERATOR_TOKEN", &auditor)));
    assert_refused(&lab, &outcome, 4, &[]);
    assert_eq!(lab.gitlab.requests(), Vec::<Value>::new());
}

#[test]
fn a_linked_token_serves_git() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    lab.link_pat("alpha", &token).success();
    let git = dvx_tests::git::GitClient::new(&lab.world, "alpha");
    let url = format!("{}/acme/app.git", lab.gitlab.url());
    git.git("", &["clone", "--quiet", &url, "work"]).success();
    git.commit("work", "first", b"1\n");
    git.git("work", &["push", "--quiet", "origin", "HEAD:main"]).success();
    git.git("work", &["fetch", "--quiet"]).success();
}

/// A GitHub Enterprise Server that knows one token.
fn github(token: &str) -> Stub {
    let good = format!("Bearer {token}");
    Stub::start(move |method, path, authorization| {
        if (method, path) != ("GET", "/api/v3/user") {
            return StubAnswer::json("404 Not Found", &json!({"message": "Not Found"}));
        }
        if authorization != good {
            return StubAnswer::json("401 Unauthorized", &json!({"message": "Bad credentials"}));
        }
        StubAnswer::json("200 OK", &json!({"id": 7, "login": "octo"}))
            .header("X-OAuth-Scopes", "repo, workflow")
    })
}

fn github_command(lab: &Lab, words: &[&str]) -> Command {
    let mut command = lab.control.dvx_command();
    command.args(["agent", "integration", "github"]).args(words);
    command
}

#[test]
fn github_is_linked_alike() {
    let lab = Lab::start();
    let good = lab.control.planted.token("a token of GitHub").replace("glpat-", "ghp_");
    let bad = lab.control.planted.token("a wrong token of GitHub").replace("glpat-", "ghp_");
    let stub = github(&good);
    let url = stub.url();
    let link = |token: &str| {
        run(&mut github_command(&lab, &["link", "alpha", "--pat", token, "--instance-url", &url]))
    };
    let refused = link(&bad);
    refused.failure(4);
    lab.control.assert_clean("dvx's stderr", refused.stderr.as_bytes());
    assert_untouched(&lab);
    link(&good).success();
    let caller = lab.world.caller("alpha");
    assert_eq!(caller.get("/v1/agent/credentials/github").json()["token"], good.as_str());
    let listed = lab.integrations("alpha");
    assert_eq!((&listed[0]["provider"], &listed[0]["display_name"]), (&json!("github"), &json!("octo")));
    let (protocol, host) = url.split_once("://").unwrap();
    let input = format!("protocol={protocol}\nhost={host}\n\n");
    let mut helper = lab.world.command("alpha", lab.world.program("dvxir"));
    let answer = run_with_input(helper.args(["git-credential", "get"]), input.as_bytes()).success();
    assert!(answer.contains(&format!("password={good}\n")), "git gets it for that host");
    link(&good).failure(1);
    let unlinked = run(&mut github_command(&lab, &["unlink", "alpha", "--yes"]));
    unlinked.success();
    assert_eq!(caller.get("/v1/agent/credentials/github").status, 404);
}

#[test]
fn the_token_of_a_link_stands_in_no_file_of_the_caller_and_not_in_the_audit_log() {
    let lab = Lab::start();
    let token = lab.gitlab.token("dana", &["api"]);
    lab.link_pat("alpha", &token).success();
    let planted = dvx_tests::Planted::default();
    lab.gitlab.plant(&planted);
    let found = planted.found_below(&lab.control.ground.home(own_uid()));
    assert!(found.is_empty(), "{found:?}");
    let audit = lab.control.admin().send(&Request::get("/api/v1/audit?limit=1000"));
    assert!(planted.found_in(&audit.body).is_empty(), "the audit log has no token");
}
