use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::testing::{answer, token};

const JSON: &str = "application/json";

/// The variant's name and what matters of its members.
fn cause(status: u16, kind: &'static str, body: &str) -> String {
    let answer = answer(status, &[("content-type", kind)], body);
    match check(answer, Some(&token("glpat-presented-value"))) {
        Ok(_) => "Ok".to_owned(),
        Err(error) => {
            assert!(!format!("{error:?} {error}").contains("presented-value"));
            let debug = format!("{error:?}");
            let name = debug.split([' ', '(']).next().unwrap().to_owned();
            match error {
                Error::NotFound { what } => format!("{name} {what:?}"),
                Error::InsufficientScope { needed } => format!("{name} {}", needed.join(" ")),
                Error::ExpiryTooFar { latest } => format!("{name} {latest:?}"),
                _ => name,
            }
        }
    }
}

#[test]
fn every_refusal_of_gitlab_has_its_cause() {
    for (status, body, expected) in [
        // Fixtures of GitLab's own shape.
        (401, r#"{"message":"401 Unauthorized"}"#, "InvalidToken"),
        (401, r#"{"message":"401 Unauthorized - reason"}"#, "InvalidToken"),
        (
            401,
            r#"{"error":"invalid_token","error_description":"Token was revoked. You have to re-authorize from the user."}"#,
            "Revoked",
        ),
        (
            401,
            r#"{"error":"invalid_token","error_description":"Token is expired. You can either do re-authorization or token refresh."}"#,
            "Expired",
        ),
        (
            401,
            r#"{"error":"invalid_token","error_description":"Token is an impersonation token but impersonation was disabled."}"#,
            "Unusable",
        ),
        (401, r#"{"error":"dpop_error","error_description":"DPoP validation error"}"#, "Unusable"),
        (
            403,
            r#"{"error":"insufficient_scope","error_description":"The request requires higher privileges than provided by the access token.","scope":"api read_api"}"#,
            "InsufficientScope api read_api",
        ),
        (403, r#"{"error":"insufficient_scope","error_description":"More."}"#, "NotPermitted"),
        (403, r#"{"message":"403 Forbidden - Your account has been blocked."}"#, "Blocked"),
        (403, r#"{"message":"403 Forbidden - Your account is pending approval."}"#, "Blocked"),
        (403, r#"{"message":"403 Forbidden"}"#, "NotPermitted"),
        (403, "{}", "Forbidden"),
        (404, r#"{"message":"404 Group Not Found"}"#, "NotFound Group"),
        (404, r#"{"message":"404 Project Not Found"}"#, "NotFound Project"),
        (404, r#"{"message":"404 User Not Found"}"#, "NotFound User"),
        (404, r#"{"message":"404 Personal Access Token Not Found"}"#, "NotFound Token"),
        (404, r#"{"message":"404 project Access Token Not Found"}"#, "NotFound Token"),
        (404, r#"{"message":"404 Not found"}"#, "NotFound Other"),
        (404, r#"{"message":"404 Not Found"}"#, "NotFound Other"),
        (404, r#"{"error":"404 Not Found"}"#, "NotFound Other"),
        (409, r#"{"message":"Member already exists"}"#, "Conflict"),
        (409, r#"{"message":"User cannot be removed while is the sole-owner of a group"}"#, "Conflict"),
        (
            400,
            r#"{"message":"400 Bad request - Email has already been taken and Username has already been taken"}"#,
            "Conflict",
        ),
        (
            400,
            r#"{"message":"400 Bad request - User does not have permission to create a service account in this group."}"#,
            "NotPermitted",
        ),
        (
            400,
            r#"{"message":"400 Bad request - This namespace either does not have an active subscription that can create service accounts, or the subscription has reached its service account creation limit."}"#,
            "CapReached",
        ),
        (400, r#"{"message":"400 Bad request - Access token limit reached"}"#, "CapReached"),
        (
            400,
            r#"{"message":"400 Bad request - User does not have permission to create project access token"}"#,
            "NotPermitted",
        ),
        (
            400,
            r#"{"message":"400 Bad request - Access level of the token contains permissions not held by the creating user"}"#,
            "NotPermitted",
        ),
        (400, r#"{"message":"400 Bad request - Not permitted to revoke"}"#, "NotPermitted"),
        (400, r#"{"message":"400 Bad request - A cannot delete B"}"#, "NotPermitted"),
        (400, r#"{"message":"400 Bad request - Token already revoked"}"#, "Revoked"),
        (400, r#"{"message":"400 Bad request - Failed to revoke token"}"#, "Rejected"),
        (
            400,
            r#"{"message":"400 Bad request - Rotation of legacy personal access tokens is disabled. Use a fine-grained token instead."}"#,
            "NotPermitted",
        ),
        (
            400,
            r#"{"message":"400 Bad request - Expires at must be before 2027-11-20"}"#,
            "ExpiryTooFar Some(2027-11-20)",
        ),
        (422, r#"{"message":"Expiration date must be before 2027-11-20"}"#, "ExpiryTooFar Some(2027-11-20)"),
        (400, r#"{"message":{"expires_at":["must be before soon"]}}"#, "ExpiryTooFar None"),
        (422, r#"{"message":"Not permitted to create"}"#, "NotPermitted"),
        (400, r#"{"message":{"access_level":["should be greater than or equal to Developer"]}}"#, "Rejected"),
        (400, r#"{"error":"name is missing, scopes is missing"}"#, "Rejected"),
        (400, r#"{"error":"scopes does not have a valid value"}"#, "Rejected"),
        (400, r#"{"message":"glpat-presented-value is bad"}"#, "Rejected"),
        (405, r#"{"message":"405 Method Not Allowed"}"#, "Rejected"),
        (412, r#"{"message":"412 Precondition Failed"}"#, "Rejected"),
        (
            429,
            r#"{"message":{"error":"This endpoint has been requested too many times. Try again later."}}"#,
            "RateLimited",
        ),
        (500, r#"{"message":"500 Internal Server Error"}"#, "Server"),
        (503, "", "Server"),
        (200, "", "Ok"),
        (204, "", "Ok"),
    ] {
        assert_eq!(cause(status, JSON, body), expected, "{status} {body}");
    }
}

#[test]
fn refusals_of_others_are_not_taken_for_gitlabs() {
    for (status, kind, body, expected) in [
        (
            401,
            JSON,
            r#"{"message":"Bad credentials","documentation_url":"https://docs.github.com/rest"}"#,
            "NotGitLab",
        ),
        (401, "text/html", "<h1>Log in</h1>", "NotGitLab"),
        (401, JSON, "[]", "NotGitLab"),
        (404, JSON, r#"{"message":"Not Found","documentation_url":"x"}"#, "NotGitLab"),
        (404, "text/html", "<h1>404</h1>", "NotGitLab"),
        (404, JSON, "", "NotGitLab"),
        (400, "text/html", "<h1>Bad Request</h1>", "NotGitLab"),
        (418, "text/plain", "teapot", "NotGitLab"),
        (403, "text/html", "Forbidden", "Forbidden"),
        (403, "text/plain", "", "Forbidden"),
        (429, "text/plain", "Retry later\n", "RateLimited"),
        (502, "text/html", "<h1>Bad Gateway</h1>", "Server"),
    ] {
        assert_eq!(cause(status, kind, body), expected, "{status} {body}");
    }
}

#[test]
fn both_forms_of_too_many_requests_tell_the_wait() {
    let plain = answer(429, &[("content-type", "text/plain"), ("retry-after", "42")], "Retry later\n");
    let wait = Some(Duration::from_secs(42));
    assert!(matches!(check(plain, None), Err(Error::RateLimited { retry_after }) if retry_after == wait));
    let body = r#"{"message":{"error":"This endpoint has been requested too many times. Try again later."}}"#;
    let json = answer(429, &[("content-type", JSON)], body);
    assert!(matches!(check(json, None), Err(Error::RateLimited { retry_after: None })));
}

proptest! {
    /// Whatever is answered, it is an error by some cause, and shows nothing of the token.
    #[test]
    fn no_answer_is_beyond_understanding(status in 300u16..600, json: bool, text in ".{0,200}", wrap in 0usize..4) {
        let quoted = serde_json::to_string(&format!("{text} glpat-presented-value")).unwrap();
        let body = match wrap {
            0 => text,
            1 => format!(r#"{{"message":{quoted}}}"#),
            2 => format!(r#"{{"message":{{"a":[{quoted}]}}}}"#),
            _ => format!(r#"{{"error":"insufficient_scope","error_description":{quoted},"scope":{quoted}}}"#),
        };
        let kind = if json { JSON } else { "text/plain" };
        let shown = cause(status, kind, &body);
        prop_assert!(shown != "Ok");
    }
}
