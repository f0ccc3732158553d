//! Why a call failed.

use std::io;
use std::time::Duration;

use dvx_proto::{Origin, Token};
use jiff::civil::Date;
use thiserror::Error;

use crate::guard::Refusal;
use crate::text::{ServerText, recognisable};

/// Why a call failed, by cause. The messages are for whoever runs the call; none contains a token.
#[derive(Debug, Error)]
pub enum Error {
    /// The provider does not know the token: mistyped, deleted, or of another instance.
    #[error("the token is not known there")]
    InvalidToken,
    /// The token was good until its end. A token that is expired and revoked is reported as expired.
    #[error("the token has expired")]
    Expired,
    /// The token was revoked, or replaced by rotating it.
    #[error("the token was revoked")]
    Revoked,
    /// The provider knows the token and does not take it here, such as one that needs a proof of possession.
    #[error("the token is not taken: {message}")]
    Unusable {
        /// What the provider says.
        message: ServerText,
    },
    /// The token's user may not use the API: blocked, deactivated, waiting for approval.
    #[error("the token's user is blocked: {message}")]
    Blocked {
        /// What the provider says.
        message: ServerText,
    },
    /// The token is good and lacks a scope. Of `needed`, one suffices, but GitLab also lists scopes that suffice
    /// only for reading.
    #[error("the token lacks a scope; the call needs one of: {}", needed.join(" "))]
    InsufficientScope {
        /// What the provider asks for.
        needed: Vec<String>,
    },
    /// The token's user sees the group and is not its Owner.
    #[error("the token's user is not an Owner of the group")]
    NotOwner,
    /// The token's user may not do this, by role, setting or plan.
    #[error("not permitted: {message}")]
    NotPermitted {
        /// What the provider says.
        message: ServerText,
    },
    /// Refused with 403 and without words that the provider is known to use: an address that is banned for a
    /// while, or something that stands before the provider.
    #[error("refused with status 403, without a reason that is known")]
    Forbidden,
    /// There is no such thing, or the token's user may not see it.
    #[error("not found: {what}")]
    NotFound {
        /// What there is not.
        what: Missing,
    },
    /// There may not be more of it: service accounts of a group, tokens of a project.
    #[error("a limit of the instance is reached: {message}")]
    CapReached {
        /// What the provider says.
        message: ServerText,
    },
    /// The end that was asked for lies further ahead than the instance allows.
    #[error("the instance allows no token that ends so late{}", latest.map(|date| format!("; at the latest {date}")).unwrap_or_default())]
    ExpiryTooFar {
        /// The latest date that it allows.
        latest: Option<Date>,
    },
    /// Too many requests. Never repeated here.
    #[error("too many requests{}", retry_after.map(|wait| format!("; try again in {} s", wait.as_secs())).unwrap_or_default())]
    RateLimited {
        /// How long to wait, where the provider says it.
        retry_after: Option<Duration>,
    },
    /// It is there already, or its name is taken.
    #[error("conflict: {message}")]
    Conflict {
        /// What the provider says.
        message: ServerText,
    },
    /// The provider did not accept the request, for a reason that has no variant of its own.
    #[error("not accepted (status {status}): {message}")]
    Rejected {
        /// The status of the answer.
        status: u16,
        /// What the provider says.
        message: ServerText,
    },
    /// What answers there is not a GitLab.
    #[error("not a GitLab: {found}")]
    NotGitLab {
        /// What was answered instead.
        found: &'static str,
    },
    /// What answers there is not a GitHub.
    #[error("not a GitHub: {found}")]
    NotGitHub {
        /// What was answered instead.
        found: &'static str,
    },
    /// The instance is where no connection may go, or its host is not a plain one.
    #[error("refused to connect")]
    AddressRefused(#[from] Refusal),
    /// The host has no address, or nothing answers at it, or the connection broke.
    #[error("cannot reach {host}")]
    Unreachable {
        /// The host.
        host: String,
        /// What happened.
        source: io::Error,
    },
    /// No answer in the time that a call may take.
    #[error("no answer in time")]
    TimedOut,
    /// No secure connection: a certificate that does not verify, or something that does not speak TLS.
    #[error("no secure connection to {host}")]
    Tls {
        /// The host.
        host: String,
        /// What happened.
        source: io::Error,
    },
    /// The instance redirects, which is not followed with a credential.
    #[error("redirected{}", to.as_ref().map(|origin| format!(" to {origin}")).unwrap_or_default())]
    Redirected {
        /// Where to, if that is a place to which a credential may go.
        to: Option<Origin>,
    },
    /// The provider failed. A call that changes something may have had its effect.
    #[error("the instance failed with status {status}")]
    Server {
        /// The status of the answer.
        status: u16,
    },
    /// A call that changes something was sent and brought no readable answer: it may have had its effect.
    #[error("the answer was lost ({loss}); the call may have had its effect")]
    ResponseLost {
        /// In which way.
        loss: Loss,
    },
    /// The answer is larger than any that is expected.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The most that is read.
        limit: usize,
    },
    /// A list does not come to its end.
    #[error("the list has more than {pages} pages, or its pages repeat")]
    EndlessList {
        /// The most that are read.
        pages: u32,
    },
}

/// What was not found, as far as the provider says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missing {
    /// The group, or it cannot be seen.
    Group,
    /// The project, or it cannot be seen.
    Project,
    /// The user or service account.
    User,
    /// The token.
    Token,
    /// Something else; an old GitLab also says this of calls that it does not have.
    Other,
}

/// How an answer got lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// The connection ended.
    Closed,
    /// No answer in time.
    TimedOut,
    /// It came and says nothing that can be read.
    Unreadable,
}

impl Error {
    /// Whether the call, if it was one that changes something, may have had its effect all the same: whoever
    /// made it has to look, or to be able to make it again.
    pub fn outcome_is_unknown(&self) -> bool {
        matches!(self, Self::ResponseLost { .. } | Self::Server { .. })
    }

    /// Without what an instance may have put together out of the token that it was sent: the name of a host.
    pub(crate) fn without(self, token: &Token) -> Self {
        let shows = |origin: &Origin| {
            let token = recognisable(token).map(str::to_ascii_lowercase);
            token.is_some_and(|token| origin.to_string().contains(&token))
        };
        match self {
            Self::Redirected { to: Some(origin) } if shows(&origin) => Self::Redirected { to: None },
            error => error,
        }
    }

    /// Whether the token is dead at the provider: it will not come back.
    pub fn token_is_dead(&self) -> bool {
        matches!(self, Self::InvalidToken | Self::Expired | Self::Revoked)
    }

    /// Whether the same call may succeed later with nobody doing anything.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::RateLimited { .. }
                | Self::Unreachable { .. }
                | Self::TimedOut
                | Self::Server { .. }
                | Self::ResponseLost { .. }
        )
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Group => "the group (or the token's user may not see it)",
            Self::Project => "the project (or the token's user may not see it)",
            Self::User => "the user",
            Self::Token => "the token",
            Self::Other => "what was asked for",
        })
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Closed => "the connection ended",
            Self::TimedOut => "no answer in time",
            Self::Unreadable => "it cannot be read",
        })
    }
}
