//! Tokens, scopes, and the shapes of errors.

use dvx_tests::Request;
use serde_json::{Value, json};

use super::{EXPIRED, REVOKED, assert_error, delete, get, instance, owned, post};

#[test]
fn an_unknown_token_has_a_message_and_a_dead_one_an_error_with_a_description() {
    let gitlab = instance();
    let unknown = get(&gitlab, "/user", "glpat-unknown");
    assert_eq!(unknown.status, 401);
    assert_eq!(unknown.json(), json!({"message": "401 Unauthorized"}));
    assert_eq!(unknown.header("www-authenticate"), None);
    let revoked = gitlab.token_with(&json!({"user": "olga", "scopes": ["api"], "revoked": true}));
    let dead = get(&gitlab, "/user", &revoked);
    assert_eq!(dead.status, 401);
    assert_eq!(dead.json(), json!({"error": "invalid_token", "error_description": REVOKED}));
    let challenge = dead.header("www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer realm=\"Protected by OAuth 2.0\", error=\"invalid_token\""));
    let nobody = gitlab.api("GET", "/user", None, &Value::Null);
    assert_eq!(nobody.json(), json!({"message": "401 Unauthorized"}));
}

#[test]
fn expired_comes_before_revoked_and_revoked_before_the_scope() {
    let gitlab = instance();
    let token = |expires_at: &str, revoked: bool| {
        let token =
            json!({"user": "olga", "scopes": ["read_api"], "expires_at": expires_at, "revoked": revoked});
        gitlab.token_with(&token)
    };
    for (expires_at, revoked, status, text) in [
        ("2026-11-20", true, 401, EXPIRED),
        ("2026-11-20", false, 401, EXPIRED),
        ("2026-11-21", true, 401, REVOKED),
    ] {
        let answer = post(&gitlab, "/groups/acme/service_accounts", &token(expires_at, revoked));
        assert_error(&answer, status, text);
    }
    let answer = post(&gitlab, "/groups/acme/service_accounts", &token("2026-11-21", false));
    assert_eq!((answer.status, answer.json()["error"].as_str()), (403, Some("insufficient_scope")));
}

#[test]
fn a_missing_scope_is_403_and_lists_the_scopes_of_the_endpoint_whatever_the_method() {
    let gitlab = instance();
    let token = gitlab.token("olga", &["read_api"]);
    let answer = post(&gitlab, "/groups/acme/service_accounts", &token);
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.json(),
        json!({
            "error": "insufficient_scope",
            "error_description": "The request requires higher privileges than provided by the access token.",
            "scope": "api read_api",
        })
    );
    assert_eq!(answer.header("www-authenticate"), None);
}

#[test]
fn any_scope_may_ask_about_its_own_token_but_not_about_its_user() {
    let gitlab = instance();
    for scope in ["read_repository", "write_repository", "self_rotate", "read_registry"] {
        let token = gitlab.token("olga", &[scope]);
        let user = get(&gitlab, "/user", &token);
        assert_eq!(user.status, 403, "{scope}");
        assert_eq!(user.json()["scope"], "read_user api read_api");
        let own = get(&gitlab, "/personal_access_tokens/self", &token);
        assert_eq!(own.status, 200, "{scope}");
        assert_eq!(own.json()["scopes"], json!([scope]));
        assert!(own.json().get("token").is_none(), "the value is shown once");
        assert!(own.json()["last_used_ips"].is_array());
        let revoked = delete(&gitlab, "/personal_access_tokens/self", &token);
        assert_eq!((revoked.status, revoked.body.len()), (204, 0));
        assert_error(&get(&gitlab, "/personal_access_tokens/self", &token), 401, REVOKED);
    }
}

#[test]
fn read_user_is_enough_for_the_user_and_for_nothing_else() {
    let gitlab = instance();
    let token = gitlab.token("olga", &["read_user"]);
    let user = get(&gitlab, "/user", &token);
    assert_eq!(user.status, 200);
    assert_eq!(user.json()["username"], "olga");
    assert_eq!(user.json()["bot"], false);
    for path in ["/groups/acme", "/projects/acme%2Fapp", "/personal_access_tokens"] {
        let answer = get(&gitlab, path, &token);
        assert_eq!((answer.status, answer.json()["error"].as_str()), (403, Some("insufficient_scope")));
    }
}

#[test]
fn every_scope_is_judged_at_every_kind_of_endpoint() {
    let gitlab = instance();
    // Reading, changing, the user, the token itself, rotating oneself.
    for (scope, expected) in [
        ("api", [200, 201, 200, 200, 200]),
        ("read_api", [200, 403, 200, 200, 403]),
        ("read_user", [403, 403, 200, 200, 403]),
        ("read_repository", [403, 403, 403, 200, 403]),
        ("write_repository", [403, 403, 403, 200, 403]),
        ("self_rotate", [403, 403, 403, 200, 200]),
    ] {
        let token = gitlab.token("olga", &[scope]);
        let statuses = [
            get(&gitlab, "/groups/acme/members", &token).status,
            post(&gitlab, "/groups/acme/service_accounts", &token).status,
            get(&gitlab, "/user", &token).status,
            get(&gitlab, "/personal_access_tokens/self", &token).status,
            post(&gitlab, "/personal_access_tokens/self/rotate", &token).status,
        ];
        assert_eq!(statuses, expected, "{scope}");
    }
}

#[test]
fn a_bad_token_is_refused_where_none_is_needed() {
    let gitlab = instance();
    assert_eq!(gitlab.api("GET", "/groups/open", None, &Value::Null).status, 200);
    assert_error(&get(&gitlab, "/groups/open", "glpat-unknown"), 401, "401 Unauthorized");
}

#[test]
fn what_cannot_be_read_is_404_and_what_can_be_read_but_not_done_is_403() {
    let gitlab = instance();
    let stranger = gitlab.token("nemo", &["api"]);
    let maintainer = gitlab.token("max", &["api"]);
    assert_error(&get(&gitlab, "/groups/acme", &stranger), 404, "404 Group Not Found");
    assert_error(&get(&gitlab, "/projects/acme%2Fapp", &stranger), 404, "404 Project Not Found");
    assert_error(&get(&gitlab, "/groups/acme/service_accounts", &stranger), 404, "404 Group Not Found");
    assert_error(&get(&gitlab, "/groups/open/service_accounts", &stranger), 403, "403 Forbidden");
    assert_error(&get(&gitlab, "/groups/acme/service_accounts", &maintainer), 403, "403 Forbidden");
    assert_error(&get(&gitlab, "/groups/99999/service_accounts", &stranger), 404, "404 Group Not Found");
}

#[test]
fn tokens_by_number_are_hidden_by_401_and_from_administrators_by_404() {
    let (gitlab, owner) = owned();
    let other = gitlab.token("nemo", &["api"]);
    let number = get(&gitlab, "/personal_access_tokens/self", &other).json()["id"].clone();
    let admin = gitlab.token("root", &["api"]);
    for (method, path) in [("GET", ""), ("POST", "/rotate")] {
        for id in [number.to_string(), "99999".into()] {
            let path = format!("/personal_access_tokens/{id}{path}");
            assert_error(&gitlab.api(method, &path, Some(&owner), &Value::Null), 401, "401 Unauthorized");
        }
        let path = format!("/personal_access_tokens/99999{path}");
        assert_eq!(gitlab.api(method, &path, Some(&admin), &Value::Null).status, 404);
    }
    assert_eq!(get(&gitlab, &format!("/personal_access_tokens/{number}"), &admin).status, 200);
    let path = format!("/personal_access_tokens/{number}");
    assert_error(&delete(&gitlab, &path, &owner), 400, "400 Bad request - Not permitted to revoke");
    assert_eq!(delete(&gitlab, &path, &other).status, 204);
    assert_error(&delete(&gitlab, "/personal_access_tokens/99999", &owner), 404, "404 Not found");
}

#[test]
fn on_service_accounts_access_is_judged_before_parameters_and_on_access_tokens_after_them() {
    let (gitlab, owner) = owned();
    let stranger = gitlab.token("nemo", &["api"]);
    let accounts = "/groups/acme/service_accounts/1/personal_access_tokens";
    assert_error(&post(&gitlab, accounts, "glpat-unknown"), 401, "401 Unauthorized");
    assert_error(&post(&gitlab, accounts, &stranger), 404, "404 Group Not Found");
    assert_error(&post(&gitlab, accounts, &owner), 400, "name is missing, scopes is missing");
    let resource = "/projects/acme%2Fapp/access_tokens";
    assert_error(&post(&gitlab, resource, "glpat-unknown"), 401, "401 Unauthorized");
    let missing = "name is missing, scopes is missing, expires_at is missing";
    assert_error(&post(&gitlab, resource, &stranger), 400, missing);
}

#[test]
fn malformed_parameters_are_named() {
    let (gitlab, owner) = owned();
    let user = super::account(&gitlab, &owner, "agent-1");
    for (body, text) in [
        (json!({"scopes": ["api"]}), "name is missing"),
        (json!({"name": "n", "scopes": ["everything"]}), "scopes does not have a valid value"),
        (json!({"name": "n", "scopes": ["api"], "expires_at": "soon"}), "expires_at is invalid"),
    ] {
        let answer = gitlab.api("POST", &super::tokens_path(user), Some(&owner), &body);
        assert_eq!((answer.status, answer.json()), (400, json!({"error": text})));
    }
    assert_error(&get(&gitlab, "/groups/acme/members/ASDF", &owner), 400, "user_id is invalid");
    let order = get(&gitlab, "/groups/acme/service_accounts?order_by=age", &owner);
    assert_error(&order, 400, "order_by does not have a valid value");
}

#[test]
fn blocked_and_pending_users_are_403_with_the_reason() {
    let (gitlab, owner) = owned();
    gitlab.sim("PATCH", "/users/olga", &json!({"state": "blocked"}));
    let blocked = get(&gitlab, "/user", &owner);
    assert_error(&blocked, 403, "403 Forbidden - Your account has been blocked.");
    gitlab.sim("PATCH", "/users/olga", &json!({"state": "pending"}));
    let (status, text) = super::error(&get(&gitlab, "/user", &owner));
    assert!(status == 403 && text.contains("pending approval"), "{text}");
    gitlab.sim("PATCH", "/users/olga", &json!({"state": "active"}));
    assert_eq!(get(&gitlab, "/user", &owner).status, 200);
}

#[test]
fn a_token_is_taken_from_either_header_and_from_the_query() {
    let (gitlab, token) = owned();
    for (request, place) in [
        (Request::get("/api/v4/user").header("PRIVATE-TOKEN", &token), "private-token"),
        (Request::get("/api/v4/user").bearer(&token), "bearer"),
        (Request::get(&format!("/api/v4/user?private_token={token}")), "query"),
    ] {
        assert_eq!(gitlab.send(&request).status, 200, "{place}");
        let seen = gitlab.requests().pop().unwrap();
        assert_eq!((seen["place"].as_str(), seen["path"].as_str()), (Some(place), Some("/api/v4/user")));
        assert_eq!(seen["user"], "olga");
        assert!(!seen.to_string().contains(&token), "only its fingerprint is kept");
    }
    let job = Request::get("/api/v4/user").header("PRIVATE-TOKEN", "glcbt-64_abc");
    assert_eq!(gitlab.send(&job).json(), json!({"message": "401 Unauthorized"}));
}

#[test]
fn tokens_of_other_kinds_are_refused_in_their_own_ways() {
    let gitlab = instance();
    let token = |kind: &str, scopes: Value| {
        gitlab.token_with(&json!({"user": "olga", "kind": kind, "name": "login", "scopes": scopes}))
    };
    let deploy = token("deploy", json!(["read_repository"]));
    assert_error(&get(&gitlab, "/user", &deploy), 401, "401 Unauthorized");
    let oauth = token("oauth", json!(["api"]));
    assert_eq!(get(&gitlab, "/personal_access_tokens", &oauth).json(), json!([]), "these are not personal");
    assert_eq!(get(&gitlab, "/user", &oauth).status, 200);
    let own = get(&gitlab, "/personal_access_tokens/self", &oauth);
    let text = "400 Bad request - This endpoint requires token type to be a personal access token";
    assert_error(&own, 400, text);
    let rotated = post(&gitlab, "/personal_access_tokens/self/rotate", &oauth);
    assert_error(&rotated, 405, "405 Method Not Allowed");
    let impersonation = token("impersonation", json!(["api"]));
    assert_eq!(get(&gitlab, "/user", &impersonation).status, 200);
    gitlab.set(&json!({"impersonation": false}));
    let text = "Token is an impersonation token but impersonation was disabled.";
    assert_error(&get(&gitlab, "/user", &impersonation), 401, text);
}

#[test]
fn administrators_need_no_membership_and_say_so() {
    let gitlab = instance();
    let admin = gitlab.token("root", &["api"]);
    let user = get(&gitlab, "/user", &admin).json();
    assert_eq!(user["is_admin"], true);
    let id = user["id"].as_u64().unwrap();
    assert_error(&get(&gitlab, &format!("/groups/345/members/all/{id}"), &admin), 404, "404 Not found");
    assert_eq!(post(&gitlab, "/groups/345/service_accounts", &admin).status, 201);
    gitlab.set(&json!({"admin_mode": true}));
    assert_error(&post(&gitlab, "/groups/345/service_accounts", &admin), 404, "404 Group Not Found");
    let strong = gitlab.token("root", &["api", "admin_mode"]);
    assert_eq!(post(&gitlab, "/groups/345/service_accounts", &strong).status, 201);
}

#[test]
fn minting_for_any_user_is_for_administrators() {
    let (gitlab, owner) = owned();
    let user = super::account(&gitlab, &owner, "agent-1");
    let path = format!("/users/{user}/personal_access_tokens");
    let body = json!({"name": "n", "scopes": ["api"]});
    assert_error(&gitlab.api("POST", &path, Some(&owner), &body), 403, "403 Forbidden");
    let admin = gitlab.token("root", &["api"]);
    assert_eq!(gitlab.api("POST", &path, Some(&admin), &body).status, 201);
    assert_error(&post(&gitlab, "/service_accounts", &owner), 403, "403 Forbidden");
    assert_eq!(post(&gitlab, "/service_accounts", &admin).status, 201);
}
