//! Answers, and GitLab's four shapes of an error.

use std::fmt::Display;

use serde_json::{Value, json};

/// An answer before it is written.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// What handlers give: both are answers, and `?` ends with the second.
pub(super) type Reply = Result<Answer, Answer>;

impl Answer {
    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self { body: body.to_string().into_bytes(), ..Self::empty(status) }
            .header("Content-Type", "application/json")
    }

    pub(super) fn text(status: u16, body: &str) -> Self {
        Self { body: body.as_bytes().to_vec(), ..Self::empty(status) }.header("Content-Type", "text/plain")
    }

    pub(super) fn html(status: u16, body: &str) -> Self {
        Self { body: body.as_bytes().to_vec(), ..Self::empty(status) }
            .header("Content-Type", "text/html; charset=utf-8")
    }

    /// Family A: `{"message": …}`.
    pub(super) fn message(status: u16, message: impl Display) -> Self {
        Self::json(status, &json!({"message": message.to_string()}))
    }

    /// Family A with an object: problems of a record, by attribute.
    pub(super) fn invalid(attribute: &str, problem: &str) -> Self {
        Self::json(400, &json!({"message": {attribute: [problem]}}))
    }

    /// Family B, of a token that is known.
    pub(super) fn invalid_token(description: &str) -> Self {
        let challenge = format!(
            r#"Bearer realm="Protected by OAuth 2.0", error="invalid_token", error_description="{description}""#
        );
        Self::json(401, &json!({"error": "invalid_token", "error_description": description}))
            .header("WWW-Authenticate", &challenge)
    }

    /// Family B, of a token that may not do this.
    pub(super) fn insufficient_scope(scope: &str) -> Self {
        let description = "The request requires higher privileges than provided by the access token.";
        Self::json(
            403,
            &json!({"error": "insufficient_scope", "error_description": description, "scope": scope}),
        )
    }

    /// Family C: a parameter that is missing or malformed.
    pub(super) fn parameter(error: impl Display) -> Self {
        Self::json(400, &json!({"error": error.to_string()}))
    }

    /// What the router itself says.
    pub(super) fn unrouted(status: u16, error: &str) -> Self {
        Self::json(status, &json!({"error": error}))
    }

    pub(super) fn bad_request(reason: impl Display) -> Self {
        Self::message(400, format!("400 Bad request - {reason}"))
    }

    pub(super) fn unauthorized() -> Self {
        Self::message(401, "401 Unauthorized")
    }

    pub(super) fn forbidden() -> Self {
        Self::message(403, "403 Forbidden")
    }

    /// `404 Group Not Found`; without a name `404 Not Found`.
    pub(super) fn not_found(what: &str) -> Self {
        let space = if what.is_empty() { "" } else { " " };
        Self::message(404, format!("404 {what}{space}Not Found"))
    }

    /// What a missing record gives where nobody looked for it with care: a small f.
    pub(super) fn record_not_found() -> Self {
        Self::message(404, "404 Not found")
    }

    #[must_use]
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The words that go with a status.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        412 => "Precondition Failed",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Unnamed",
    }
}
