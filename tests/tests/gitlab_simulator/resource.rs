//! Access tokens of projects and groups.

use serde_json::{Value, json};

use super::{REVOKED, assert_error, delete, get, id, owned, post, value};

const TOKENS: &str = "/projects/acme%2Fapp/access_tokens";

fn body() -> Value {
    json!({"name": "agent", "scopes": ["api"], "access_level": 30, "expires_at": "2026-12-20"})
}

#[test]
fn every_creation_makes_a_bot_and_rotation_keeps_it() {
    let (gitlab, owner) = owned();
    let create = || gitlab.api("POST", TOKENS, Some(&owner), &body());
    let (one, other) = (create(), create());
    assert_eq!((one.status, other.status), (201, 201));
    let (one, other) = (one.json(), other.json());
    assert_ne!(one["user_id"], other["user_id"]);
    assert_eq!(one["access_level"], 30);
    let bot = get(&gitlab, "/user", value(&one)).json();
    let prefix = format!("project_{}_bot_", id(&gitlab, "projects", "acme/app"));
    assert!(bot["username"].as_str().unwrap().starts_with(&prefix), "{bot}");
    assert_eq!((&bot["name"], &bot["bot"]), (&json!("agent"), &json!(true)));
    let project = get(&gitlab, "/projects/acme%2Fapp", value(&one)).json();
    assert_eq!(project["permissions"]["project_access"]["access_level"], 30);
    let rotated = post(&gitlab, &format!("{TOKENS}/{}/rotate", one["id"]), &owner);
    assert_eq!(rotated.status, 200);
    assert_eq!(rotated.json()["user_id"], one["user_id"]);
    assert_ne!(rotated.json()["id"], one["id"]);
}

#[test]
fn the_bot_of_a_revoked_token_lingers_for_thirty_days() {
    let (gitlab, owner) = owned();
    let token = gitlab.api("POST", TOKENS, Some(&owner), &body()).json();
    assert_eq!(gitlab.live()["identities"].as_array().unwrap().len(), 1);
    assert_eq!(delete(&gitlab, &format!("{TOKENS}/{}", token["id"]), &owner).status, 204);
    assert_eq!(gitlab.live(), json!({"identities": [], "tokens": []}));
    let lingers = || {
        let state = gitlab.sim("GET", "/state", &Value::Null);
        state["users"].as_array().unwrap().iter().any(|user| user["id"] == token["user_id"])
    };
    gitlab.set_time("2026-12-20T11:59:59Z");
    assert!(lingers());
    assert_error(&get(&gitlab, "/user", value(&token)), 401, super::EXPIRED);
    gitlab.set_time("2026-12-20T12:00:00Z");
    assert!(!lingers());
    assert_error(&get(&gitlab, "/user", value(&token)), 401, "401 Unauthorized");
}

#[test]
fn denials_are_400_on_creation_and_deletion_and_401_on_listing_and_rotation() {
    let (gitlab, owner) = owned();
    let developer = gitlab.token("dana", &["api"]);
    let token = gitlab.api("POST", TOKENS, Some(&owner), &body()).json();
    let path = format!("{TOKENS}/{}", token["id"]);
    let text = "400 Bad request - User does not have permission to create project access token";
    assert_error(&gitlab.api("POST", TOKENS, Some(&developer), &body()), 400, text);
    assert_error(&get(&gitlab, TOKENS, &developer), 401, "401 Unauthorized");
    assert_error(&get(&gitlab, &path, &developer), 401, "401 Unauthorized");
    assert_error(&post(&gitlab, &format!("{path}/rotate"), &developer), 401, "401 Unauthorized");
    assert_error(&delete(&gitlab, &path, &developer), 400, "400 Bad request - dana cannot delete agent");
    let missing = "404 project Access Token Not Found";
    assert_error(&delete(&gitlab, &format!("{TOKENS}/99999"), &developer), 404, missing);
    assert_error(&get(&gitlab, &format!("{TOKENS}/99999"), &owner), 404, missing);
    assert_error(&post(&gitlab, &format!("{TOKENS}/99999/rotate"), &owner), 401, "401 Unauthorized");
    let admin = gitlab.token("root", &["api"]);
    assert_eq!(post(&gitlab, &format!("{TOKENS}/99999/rotate"), &admin).status, 404);
    let stranger = gitlab.token("nemo", &["api"]);
    assert_error(&get(&gitlab, TOKENS, &stranger), 404, "404 Project Not Found");
    gitlab.set(&json!({"resource_tokens": false}));
    assert_error(&gitlab.api("POST", TOKENS, Some(&owner), &body()), 400, text);
}

#[test]
fn nobody_gives_more_than_he_has_and_the_default_is_maintainer() {
    let (gitlab, _) = owned();
    let maintainer = gitlab.token("max", &["api"]);
    let with_level = |level: Value| {
        let mut body = body();
        body["access_level"] = level;
        gitlab.api("POST", TOKENS, Some(&maintainer), &body)
    };
    let text =
        "400 Bad request - Access level of the token contains permissions not held by the creating user";
    assert_error(&with_level(json!(50)), 400, text);
    assert_error(&with_level(json!(35)), 400, "access_level does not have a valid value");
    let token = with_level(Value::Null);
    assert_eq!((token.status, &token.json()["access_level"]), (201, &json!(40)));
}

#[test]
fn a_project_token_rotates_itself_by_self_and_not_by_number() {
    let (gitlab, owner) = owned();
    let mut strong = body();
    strong["access_level"] = json!(40);
    let token = gitlab.api("POST", TOKENS, Some(&owner), &strong).json();
    for path in [
        format!("{TOKENS}/{}/rotate", token["id"]),
        format!("/personal_access_tokens/{}/rotate", token["id"]),
    ] {
        assert_error(&post(&gitlab, &path, value(&token)), 401, "401 Unauthorized");
    }
    let elsewhere = post(&gitlab, "/projects/open%2Fsite/access_tokens/self/rotate", value(&token));
    assert_error(&elsewhere, 401, "401 Unauthorized");
    let own = format!("{TOKENS}/self/rotate");
    assert_error(&post(&gitlab, &own, &owner), 405, "405 Method Not Allowed");
    let oauth = gitlab.token_with(&json!({"user": "olga", "kind": "oauth", "scopes": ["api"]}));
    assert_error(&post(&gitlab, &own, &oauth), 405, "405 Method Not Allowed");
    let rotated = post(&gitlab, &own, value(&token));
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let again = post(&gitlab, "/personal_access_tokens/self/rotate", value(&rotated.json()));
    assert_eq!(again.status, 200, "the other path takes it too");
    assert_error(&post(&gitlab, &own, value(&token)), 401, REVOKED);
    assert_error(&get(&gitlab, "/user", value(&again.json())), 401, REVOKED);
}

#[test]
fn a_project_token_makes_no_project_tokens() {
    let (gitlab, owner) = owned();
    let mut strong = body();
    strong["access_level"] = json!(50);
    let token = gitlab.api("POST", TOKENS, Some(&owner), &strong).json();
    let text = "400 Bad request - User does not have permission to create project access token";
    assert_error(&gitlab.api("POST", TOKENS, Some(value(&token)), &body()), 400, text);
}

#[test]
fn a_group_has_tokens_too_and_read_user_is_no_scope_of_them() {
    let (gitlab, owner) = owned();
    let maintainer = gitlab.token("max", &["api"]);
    let path = "/groups/acme/access_tokens";
    let token = gitlab.api("POST", path, Some(&owner), &body());
    assert_eq!(token.status, 201);
    let user = get(&gitlab, "/user", value(&token.json())).json();
    assert!(user["username"].as_str().unwrap().starts_with("group_345_bot_"));
    let text = "400 Bad request - User does not have permission to create group access token";
    assert_error(&gitlab.api("POST", path, Some(&maintainer), &body()), 400, text);
    let mut wrong = body();
    wrong["scopes"] = json!(["read_user"]);
    let answer = gitlab.api("POST", path, Some(&owner), &wrong);
    assert_error(&answer, 400, "scopes does not have a valid value");
    let list = get(&gitlab, path, &owner).json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert!(list[0].get("token").is_none());
}
