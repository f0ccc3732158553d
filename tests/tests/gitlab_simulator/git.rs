//! git over HTTP with the instance's tokens.

use std::path::Path;
use std::process::Command;

use dvx_tests::{GitLab, Outcome, Request, Response, run};
use serde_json::{Value, json};

use super::{account, instance, mint, owned, post, value};

fn git(gitlab: &GitLab, directory: &str, arguments: &[&str]) -> Outcome {
    let directory = gitlab.directory().join(directory);
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", gitlab.directory())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_SSL_CAINFO", gitlab.ca_path());
    let identity = ["-c", "user.name=A Tester", "-c", "user.email=tester@example.org"];
    run(command.args(identity).args(arguments))
}

/// The address of a project with a token in it.
fn url(gitlab: &GitLab, token: &str, project: &str) -> String {
    format!("{}/{project}.git", gitlab.https_url()).replace("https://", &format!("https://oauth2:{token}@"))
}

/// What git's first request is answered with.
fn advertised(gitlab: &GitLab, project: &str, service: &str, token: Option<&str>) -> Response {
    let request = Request::get(&format!("/{project}.git/info/refs?service={service}"));
    let basic = |token: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(format!("oauth2:{token}"))
    };
    gitlab.send(&match token {
        Some(token) => request.header("Authorization", &format!("Basic {}", basic(token))),
        None => request,
    })
}

#[test]
fn git_clones_and_pushes_with_a_minted_token_until_it_is_revoked() {
    let (gitlab, owner) = owned();
    let user = account(&gitlab, &owner, "agent-1");
    let token = mint(&gitlab, &owner, user, &["api", "write_repository"]);
    let url = url(&gitlab, value(&token), "acme/app");
    let denied = git(&gitlab, "", &["clone", "--quiet", &url, "early"]);
    assert!(denied.status != 0 && denied.stderr.contains("Authentication failed"), "{}", denied.stderr);
    let member = json!({"user_id": user, "access_level": 30});
    assert_eq!(gitlab.api("POST", "/groups/acme/members", Some(&owner), &member).status, 201);
    git(&gitlab, "", &["clone", "--quiet", &url, "work"]).success();
    assert!(Path::new(&gitlab.directory().join("work/.git")).exists());
    git(&gitlab, "work", &["checkout", "--quiet", "-B", "main"]).success();
    git(&gitlab, "work", &["commit", "--quiet", "--allow-empty", "-m", "first"]).success();
    git(&gitlab, "work", &["push", "--quiet", "origin", "main"]).success();
    git(&gitlab, "", &["clone", "--quiet", &url, "again"]).success();
    assert!(git(&gitlab, "again", &["log", "--oneline"]).success().contains("first"));
    gitlab.revoke(value(&token));
    assert_ne!(git(&gitlab, "work", &["fetch"]).status, 0);
}

#[test]
fn whatever_is_wrong_with_a_token_the_answer_is_the_same_401() {
    let gitlab = instance();
    let make = |more: Value| {
        let mut token = json!({"user": "dana", "scopes": ["api"]});
        token.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        gitlab.token_with(&token)
    };
    let blocked = gitlab.token("max", &["api"]);
    gitlab.sim("PATCH", "/users/max", &json!({"state": "blocked"}));
    let tokens = [
        "glpat-unknown".to_owned(),
        make(json!({"revoked": true})),
        make(json!({"expires_at": "2026-11-20"})),
        blocked,
    ];
    for token in &tokens {
        let answer = advertised(&gitlab, "acme/app", "git-upload-pack", Some(token));
        assert_eq!(answer.status, 401);
        assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"GitLab\""));
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert!(answer.text().starts_with("HTTP Basic: Access denied. If a password was provided"));
    }
    assert_eq!(advertised(&gitlab, "acme/app", "git-upload-pack", None).status, 401);
    assert_eq!(advertised(&gitlab, "acme/app", "git-upload-pack", Some(&make(json!({})))).status, 200);
    assert_eq!(gitlab.requests().last().unwrap()["place"], "basic");
}

#[test]
fn without_access_a_person_gets_404_and_accounts_and_bots_401() {
    let (gitlab, owner) = owned();
    let stranger = gitlab.token("nemo", &["api"]);
    let answer = advertised(&gitlab, "acme/app", "git-upload-pack", Some(&stranger));
    assert_eq!(answer.status, 404);
    assert!(answer.text().starts_with("The project you were looking for could not be found"));
    let user = account(&gitlab, &owner, "agent-1");
    let token = mint(&gitlab, &owner, user, &["api"]);
    for project in ["acme/app", "acme/lib", "no/such"] {
        let answer = advertised(&gitlab, project, "git-upload-pack", Some(value(&token)));
        assert_eq!(answer.status, 401, "{project}");
    }
    let body = json!({"name": "bot", "scopes": ["api"], "expires_at": "2026-12-20"});
    let bot = gitlab.api("POST", "/groups/other/access_tokens", Some(&owner), &body).json();
    assert_eq!(advertised(&gitlab, "acme/app", "git-upload-pack", Some(value(&bot))).status, 401);
}

#[test]
fn scopes_and_levels_decide_about_pull_and_push() {
    let gitlab = instance();
    gitlab.seed(&json!({"members": [{"of": "acme", "user": "nemo", "access_level": 20}]}));
    for (user, scope, pull, push) in [
        ("dana", "api", 200, 200),
        ("dana", "write_repository", 200, 200),
        ("dana", "read_repository", 200, 403),
        ("dana", "read_api", 200, 403),
        ("dana", "read_user", 403, 403),
        ("dana", "self_rotate", 403, 403),
        ("nemo", "api", 200, 403),
    ] {
        let token = gitlab.token(user, &[scope]);
        let ask = |service| advertised(&gitlab, "acme/app", service, Some(&token));
        let (pulled, pushed) = (ask("git-upload-pack"), ask("git-receive-pack"));
        assert_eq!((pulled.status, pushed.status), (pull, push), "{user} {scope}");
        if push == 403 {
            assert!(pushed.text().starts_with("You are not allowed to "), "{pushed:?}");
        }
    }
}

#[test]
fn a_public_project_is_cloned_by_anybody_and_pushed_to_by_nobody() {
    let gitlab = instance();
    assert_eq!(advertised(&gitlab, "open/site", "git-upload-pack", None).status, 200);
    assert_eq!(advertised(&gitlab, "open/site", "git-receive-pack", None).status, 401);
    let bad = advertised(&gitlab, "open/site", "git-upload-pack", Some("glpat-unknown"));
    assert_eq!(bad.status, 401, "a bad token is not downgraded");
}

#[test]
fn a_rotated_token_works_at_once_and_the_old_one_no_longer() {
    let gitlab = instance();
    let old = gitlab.token("dana", &["api"]);
    let new = post(&gitlab, "/personal_access_tokens/self/rotate", &old).json();
    assert_eq!(advertised(&gitlab, "acme/app", "git-upload-pack", Some(&old)).status, 401);
    assert_eq!(advertised(&gitlab, "acme/app", "git-upload-pack", Some(value(&new))).status, 200);
}

#[test]
fn many_refusals_ban_the_address_for_a_quarter_of_an_hour() {
    let gitlab = instance();
    gitlab.set(&json!({"git_ban_after": 3}));
    let good = gitlab.token("dana", &["api"]);
    let ask = |token: &str| advertised(&gitlab, "acme/app", "git-upload-pack", Some(token)).status;
    assert_eq!(["bad", "bad", good.as_str(), "bad", "bad"].map(ask), [401, 401, 200, 401, 401]);
    assert_eq!(["bad", "bad", good.as_str()].map(ask), [401, 403, 403]);
    let banned = advertised(&gitlab, "acme/app", "git-upload-pack", Some(&good));
    assert_eq!((banned.header("retry-after"), banned.body.len()), (None, 0));
    gitlab.set_time("2026-11-20T12:15:00Z");
    assert_eq!(ask(&good), 200);
}

#[test]
fn a_deploy_token_needs_its_own_login() {
    let gitlab = instance();
    let token = json!({"user": "dana", "kind": "deploy", "name": "oauth2", "scopes": ["read_repository"]});
    let right = gitlab.token_with(&token);
    let mut token = token;
    token["name"] = json!("another-login");
    let wrong = gitlab.token_with(&token);
    assert_eq!(advertised(&gitlab, "acme/app", "git-upload-pack", Some(&right)).status, 200);
    assert_eq!(advertised(&gitlab, "acme/app", "git-upload-pack", Some(&wrong)).status, 401);
}

#[test]
fn faults_strike_git_too() {
    let gitlab = instance();
    let token = gitlab.token("dana", &["api"]);
    gitlab.fail("GET", "/acme/app.git/info/refs", &json!({"kind": "status", "status": 503}));
    assert_eq!(advertised(&gitlab, "acme/app", "git-upload-pack", Some(&token)).status, 503);
    assert_eq!(advertised(&gitlab, "acme/app", "git-upload-pack", Some(&token)).status, 200);
}
