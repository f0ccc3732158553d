//! Refusals, and the problem documents that they become.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use axum::body::{Body, Bytes};
use dvx_proto::{Code, PROBLEM_MEDIA_TYPE, Problem};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use crate::causes::causes;

/// Why a request is not served.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// For the caller.
    pub(crate) detail: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    allow: Option<String>,
    /// When the same request may do better.
    retry_after: Option<Duration>,
    /// Whether the connection must end because the rest of the request was not read.
    closes: bool,
}

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), hint: None, allow: None, retry_after: None, closes: false }
    }

    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::BadRequest, detail)
    }

    /// The one body for whatever is not there, or is another organisation's.
    pub(crate) fn not_found(what: &'static str) -> Self {
        Self::new(Code::NotFound, format!("there is no such {what}"))
    }

    /// Our own failure. The caller learns that there was one, the log what it was.
    pub(crate) fn internal(error: &dyn Error) -> Self {
        tracing::error!(error = causes(error), "a request failed");
        Self::new(Code::Internal, "the request failed on the control plane's side; its log says why")
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_allow(mut self, methods: String) -> Self {
        self.allow = Some(methods);
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    pub(crate) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    pub(crate) fn into_answer(self) -> Response<Body> {
        let mut problem = Problem::new(self.code, self.detail);
        if let Some(hint) = self.hint {
            problem = problem.with_hint(hint);
        }
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = Response::new(Body::from(render(&problem)));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
        if let Some(methods) = self.allow.and_then(|methods| HeaderValue::from_str(&methods).ok()) {
            headers.insert(ALLOW, methods);
        }
        match status {
            // RFC 9110 section 11.6.1: a 401 names the scheme that would do.
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        // One that this version does not know was made by a newer one.
        let code = problem.code().unwrap_or(Code::Internal);
        Self { hint: problem.hint, ..Self::new(code, problem.detail) }
    }
}

/// The complete answer to a request that hyper's parser refused.
pub(crate) fn parser_error(code: Code) -> Bytes {
    let detail = match code {
        Code::HeadersTooLarge => "the request's head is above 16 KiB or has more than 64 fields",
        _ => "the request is not well-formed HTTP/1.1",
    };
    raw(&Problem::new(code, detail), "")
}

/// The complete answer to a connection that is not let in.
pub(crate) fn too_many_connections(detail: &'static str) -> Bytes {
    let problem = Problem::new(Code::TooManyConnections, detail)
        .with_hint("close connections that are not in use, or wait for others to close theirs");
    raw(&problem, "retry-after: 1\r\n")
}

fn raw(problem: &Problem, extra: &str) -> Bytes {
    let body = render(problem);
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut text = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {PROBLEM_MEDIA_TYPE}\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\nconnection: close\r\n{extra}content-length: {}\r\n\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
        body.len()
    )
    .into_bytes();
    text.extend_from_slice(&body);
    text.into()
}

/// A problem is made of strings and a number, so this cannot fail; an empty body is the honest rest.
fn render(problem: &Problem) -> Vec<u8> {
    serde_json::to_vec(problem).unwrap_or_default()
}
