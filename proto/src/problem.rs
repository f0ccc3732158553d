//! Errors as they travel: problem documents (RFC 9457).

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";

const URN: &str = "urn:dvx:problem:";

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong, as a name that programs can act on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $variant,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &[Code] = &[$(Code::$variant),*];

            /// The name, as it stands at the end of a problem's `type`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code,)* }
            }

            /// The HTTP status that goes with it.
            pub const fn status(self) -> u16 {
                match self { $(Code::$variant => $status,)* }
            }

            /// A short summary, the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }
        }
    };
}

codes! {
    /// No token where one is needed.
    TokenMissing = "token-missing", 401, "A token is required";
    /// A token that is malformed, expired, deleted, or of another key or enclave.
    TokenInvalid = "token-invalid", 401, "The token is not valid";
    /// The kernel names a peer that is nobody's agent.
    PeerUnknown = "peer-unknown", 403, "The caller is not a known agent";
    /// The connection and the token name different agents.
    PeerMismatch = "peer-mismatch", 403, "The token belongs to another caller";
    /// An operator has isolated the agent.
    AgentIsolated = "agent-isolated", 403, "The agent is isolated";
    /// An operator has revoked the agent.
    AgentRevoked = "agent-revoked", 403, "The agent is revoked";
    /// Not there, or not for this caller to know about.
    NotFound = "not-found", 404, "Not found";
    /// The path exists, with another method.
    MethodNotAllowed = "method-not-allowed", 405, "Method not allowed";
    /// The credential's own end has come.
    CredentialExpired = "credential-expired", 410, "The credential has expired";
    /// A body above [`MAX_BODY_BYTES`](crate::limits::MAX_BODY_BYTES).
    BodyTooLarge = "body-too-large", 413, "The request body is too large";
    /// A head above [`MAX_HEAD_BYTES`](crate::limits::MAX_HEAD_BYTES) or [`MAX_HEADERS`](crate::limits::MAX_HEADERS).
    HeadersTooLarge = "headers-too-large", 431, "The request head is too large";
    /// Not a request that this API takes.
    BadRequest = "bad-request", 400, "Bad request";
    /// Available on another transport only.
    ForbiddenTransport = "forbidden-transport", 403, "Not available on this transport";
    /// The caller's user or the broker has no connection left.
    TooManyConnections = "too-many-connections", 503, "Too many connections";
    /// The request came by way of a browser or a proxy.
    ForbiddenOrigin = "forbidden-origin", 403, "The request did not come straight from an agent";
    /// The agent's request rate is used up.
    RateLimited = "rate-limited", 429, "Too many requests";
    /// Never synchronised with the upstream, or too long ago.
    UpstreamUnavailable = "upstream-unavailable", 503, "The upstream is not available";
    /// The operator's role does not allow it.
    RoleForbidden = "role-forbidden", 403, "The role does not allow this";
    /// It does not go with what is there: such a name is taken, or a state does not allow it.
    Conflict = "conflict", 409, "Not possible in this state";
    /// An idempotency key was used before for another request.
    IdempotencyMismatch = "idempotency-mismatch", 422, "The idempotency key belongs to another request";
    /// The provider refuses the token, or what was asked for with it.
    ProviderRefused = "provider-refused", 403, "The provider refuses this";
    /// The provider cannot be reached, fails, or takes too long.
    ProviderUnavailable = "provider-unavailable", 503, "The provider is not available";
    /// Another program than the provider's answers at the instance's address.
    NotTheProvider = "not-the-provider", 422, "This is not such a provider";
    /// The control plane's own failure.
    Internal = "internal", 500, "Internal error";
    /// The control plane cannot reach its database.
    StoreUnavailable = "store-unavailable", 503, "The database is not available";
    /// The audit log cannot be written, so nothing is served.
    AuditUnavailable = "audit-unavailable", 503, "The audit log is not available";
}

impl Code {
    /// Finds the code in a problem's `type`.
    pub fn from_urn(urn: &str) -> Option<Self> {
        let name = urn.strip_prefix(URN)?;
        Self::ALL.iter().copied().find(|code| code.as_str() == name)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A problem document. Unknown members are ignored when it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `urn:dvx:problem:<code>`.
    #[serde(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub urn: Cow<'static, str>,
    /// The same for every occurrence of a code.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub title: Cow<'static, str>,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence, for the person who reads it.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub detail: Cow<'static, str>,
    /// What that person can do, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub hint: Option<Cow<'static, str>>,
}

impl Problem {
    /// A problem of this code.
    pub fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            urn: format!("{URN}{code}").into(),
            title: code.title().into(),
            status: code.status(),
            detail: detail.into(),
            hint: None,
        }
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The code, if it is one that this version knows.
    pub fn code(&self) -> Option<Code> {
        Code::from_urn(&self.urn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_members_of_rfc_9457_in_order() {
        let problem = Problem::new(Code::NotFound, "no such thing").with_hint("look elsewhere");
        let json = serde_json::to_string(&problem).unwrap();
        assert_eq!(
            json,
            r#"{"type":"urn:dvx:problem:not-found","title":"Not found","status":404,"detail":"no such thing","hint":"look elsewhere"}"#
        );
        assert_eq!(serde_json::from_str::<Problem>(&json).unwrap().code(), Some(Code::NotFound));
    }

    #[test]
    fn codes_of_a_newer_broker_are_not_an_error() {
        assert_eq!(Code::from_urn("urn:dvx:problem:tea-time"), None);
        assert_eq!(Code::from_urn("about:blank"), None);
    }
}
