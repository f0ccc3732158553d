//! Refusals, and the problem documents that they become.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use dvx_proto::{Code, PROBLEM_MEDIA_TYPE, Problem};
use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use crate::api::answer::{self, Answer};
use crate::audit::Verdict;

/// Why a request is not served.
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// For the caller.
    detail: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    /// For the audit log, where it may know more than the caller.
    reason: Option<Cow<'static, str>>,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    /// Whether the connection must end because the rest of the request was not read.
    pub(crate) closes: bool,
}

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            hint: None,
            reason: None,
            retry_after: None,
            allow: None,
            closes: false,
        }
    }

    /// The one body for whatever the caller has not got: not there, not linked, or somebody else's.
    pub(crate) fn not_found() -> Self {
        Self::new(Code::NotFound, "there is no such thing for this agent")
    }

    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::BadRequest, detail)
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    pub(crate) fn with_retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub(crate) fn with_allow(mut self, method: &'static str) -> Self {
        self.allow = Some(method);
        self
    }

    pub(crate) fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// What the audit log says of it.
    pub(crate) fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or(self.code.as_str())
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match self.code {
            Code::CredentialExpired => Verdict::Expired,
            Code::RateLimited | Code::TooManyConnections => Verdict::Limited,
            Code::UpstreamUnavailable | Code::AuditUnavailable | Code::StoreUnavailable | Code::Internal => {
                Verdict::Unavailable
            }
            Code::TokenMissing
            | Code::TokenInvalid
            | Code::PeerUnknown
            | Code::PeerMismatch
            | Code::AgentIsolated
            | Code::AgentRevoked
            | Code::NotFound
            | Code::MethodNotAllowed
            | Code::BodyTooLarge
            | Code::HeadersTooLarge
            | Code::BadRequest
            | Code::ForbiddenTransport
            | Code::ForbiddenOrigin
            | Code::RoleForbidden
            | Code::Conflict
            | Code::IdempotencyMismatch
            | Code::ProviderRefused
            | Code::ProviderUnavailable
            | Code::NotTheProvider => Verdict::Denied,
        }
    }

    pub(crate) fn into_answer(self) -> Answer {
        let mut problem = Problem::new(self.code, self.detail);
        if let Some(hint) = self.hint {
            problem = problem.with_hint(hint);
        }
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut answer = answer::with_body(status, PROBLEM_MEDIA_TYPE, render(&problem).into());
        let headers = answer.headers_mut();
        if let Some(wait) = self.retry_after {
            // Rounded up: a client that comes back on time must not be early.
            headers
                .insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
        }
        if let Some(method) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(method));
        }
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 11.6.1: a 401 names the scheme that would do.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
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
