//! The GitLab simulator answers as GitLab's documentation, source and request specs say.

use dvx_tests::{GitLab, Response};
use serde_json::{Value, json};

mod accounts;
mod auth;
mod expiry;
mod faults;
mod git;
mod infra;
mod members;
mod resource;
mod rotation;

/// Noon of the day on which most of these tests play.
const NOON: &str = "2026-11-20T12:00:00Z";

const REVOKED: &str = "Token was revoked. You have to re-authorize from the user.";
const EXPIRED: &str = "Token is expired. You can either do re-authorization or token refresh.";

/// An instance with a private group `acme` (and below it `acme/team`), a public group, projects, an
/// administrator, and somebody of each level. The clock stands at noon.
fn instance() -> GitLab {
    let gitlab = GitLab::start(&json!({
        "groups": [
            {"path": "acme", "id": 345}, {"path": "acme/team"},
            {"path": "other"}, {"path": "open", "visibility": "public"},
        ],
        "projects": [
            {"path": "acme/app"}, {"path": "acme/lib", "visibility": "internal"},
            {"path": "open/site", "visibility": "public", "moved_from": ["open/old"]},
        ],
        "users": [
            {"username": "root", "admin": true}, {"username": "olga", "name": "Olga Owner"},
            {"username": "max"}, {"username": "dana"}, {"username": "nemo"},
        ],
        "members": [
            {"of": "acme", "user": "olga", "access_level": 50}, {"of": "other", "user": "olga", "access_level": 50},
            {"of": "acme", "user": "max", "access_level": 40}, {"of": "acme", "user": "dana", "access_level": 30},
        ],
    }));
    gitlab.set_time(NOON);
    gitlab
}

/// An instance with an `api` token of the owner.
fn owned() -> (GitLab, String) {
    let gitlab = instance();
    let token = gitlab.token("olga", &["api"]);
    (gitlab, token)
}

/// The number that something seeded has.
fn id(gitlab: &GitLab, kind: &str, name: &str) -> u64 {
    gitlab.seeded[kind][name].as_u64().unwrap_or_else(|| panic!("{kind} {name}"))
}

/// A new service account of `acme`.
#[track_caller]
fn account(gitlab: &GitLab, owner: &str, username: &str) -> u64 {
    let response =
        gitlab.api("POST", "/groups/acme/service_accounts", Some(owner), &json!({"username": username}));
    assert_eq!(response.status, 201, "{response:?}");
    response.json()["id"].as_u64().unwrap()
}

/// Where the tokens of a service account of `acme` are.
fn tokens_path(user: u64) -> String {
    format!("/groups/acme/service_accounts/{user}/personal_access_tokens")
}

/// A new token of a service account of `acme`.
#[track_caller]
fn mint(gitlab: &GitLab, owner: &str, user: u64, scopes: &[&str]) -> Value {
    let body = json!({"name": "agent", "scopes": scopes, "expires_at": "2026-12-20"});
    let response = gitlab.api("POST", &tokens_path(user), Some(owner), &body);
    assert_eq!(response.status, 201, "{response:?}");
    response.json()
}

#[track_caller]
fn get(gitlab: &GitLab, path: &str, token: &str) -> Response {
    gitlab.api("GET", path, Some(token), &Value::Null)
}

#[track_caller]
fn post(gitlab: &GitLab, path: &str, token: &str) -> Response {
    gitlab.api("POST", path, Some(token), &Value::Null)
}

#[track_caller]
fn delete(gitlab: &GitLab, path: &str, token: &str) -> Response {
    gitlab.api("DELETE", path, Some(token), &Value::Null)
}

/// The status with the one text that the body has, whichever shape it is of.
#[track_caller]
fn error(response: &Response) -> (u16, String) {
    let json = response.json();
    let text = ["message", "error_description", "error"].into_iter().find_map(|name| json[name].as_str());
    (response.status, text.map_or_else(|| json["message"].to_string(), String::from))
}

#[track_caller]
fn assert_error(response: &Response, status: u16, text: &str) {
    assert_eq!(error(response), (status, text.to_owned()), "{response:?}");
}

/// The token that a creation or a rotation answered with.
fn value(response: &Value) -> &str {
    response["token"].as_str().unwrap()
}
