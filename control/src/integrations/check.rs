//! Why a token is not taken, in words for whoever gave it.

use std::borrow::Cow;
use std::time::Duration;

use dvx_gitlab::{Error, TokenKind};
use dvx_proto::{Code, ProviderName, RemoteUrl, Token};
use jiff::Timestamp;
use thiserror::Error as ThisError;

use crate::causes::causes;

/// How long asking a provider about a token may take, all calls together.
pub(crate) const CHECK_LIMIT: Duration = Duration::from_secs(30);

/// What GitLab's own clients say in this case, so that people find it.
pub(crate) const NOT_OWNER: &str = "Token does not have Owner access to the specified group";

/// Why a token is not taken.
#[derive(Debug, ThisError)]
#[error("{detail}")]
pub struct CheckError {
    /// What kind of problem it is.
    pub code: Code,
    /// What is wrong. Never a token.
    pub detail: Cow<'static, str>,
    /// What can be done about it.
    pub hint: Option<Cow<'static, str>>,
    /// How long to wait, where the provider says it.
    pub retry_after: Option<Duration>,
}

/// A token and where it was presented: what messages are made of.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) instance: &'a RemoteUrl,
    pub(crate) token: &'a Token,
    /// Where a person makes another one.
    pub(crate) page: &'a str,
    /// The scopes of which one is needed.
    pub(crate) scopes: &'a [&'a str],
}

/// The page of an instance on which people make and revoke their tokens.
pub(crate) fn token_page(provider: &ProviderName, instance: &RemoteUrl) -> String {
    match provider.as_str() {
        "github" => format!("{instance}/settings/tokens"),
        _ => format!("{instance}/-/user_settings/personal_access_tokens"),
    }
}

impl CheckError {
    pub(super) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), hint: None, retry_after: None }
    }

    fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl Asked<'_> {
    /// Passes a token that has not come to its end.
    pub(crate) fn unexpired(&self, ends: Option<Timestamp>, now: Timestamp) -> Result<(), CheckError> {
        match ends {
            Some(ends) if ends <= now => Err(self.refused(&Error::Expired)),
            _ => Ok(()),
        }
    }

    /// The token works, and may do too little.
    pub(crate) fn too_few_scopes(&self, has: &[String]) -> CheckError {
        let has = if has.is_empty() { "none".to_owned() } else { has.join(" ") };
        let needed = self.scopes.join(" or ");
        CheckError::new(
            Code::ProviderRefused,
            format!("the token lacks a scope: it needs {needed}, and has {has}"),
        )
        .with_hint(format!("make one with the scope {needed} at {}", self.page))
    }

    /// What an answer of the provider means for whoever gave the token.
    pub(crate) fn refused(&self, error: &Error) -> CheckError {
        let (instance, page) = (self.instance, self.page);
        let another = format!("make another one at {page}");
        match error {
            Error::InvalidToken => {
                CheckError::new(Code::ProviderRefused, format!("{instance} does not know the token"))
                    .with_hint(self.unknown_hint())
            }
            Error::Revoked => CheckError::new(Code::ProviderRefused, "the token was revoked").with_hint(another),
            Error::Expired => CheckError::new(Code::CredentialExpired, "the token has expired").with_hint(another),
            Error::Unusable { .. } | Error::NotPermitted { .. } => {
                CheckError::new(Code::ProviderRefused, error.to_string()).with_hint(another)
            }
            Error::Blocked { message } => {
                CheckError::new(Code::ProviderRefused, format!("the token's user is blocked: {message}"))
                    .with_hint(format!("an administrator of {instance} can say why, and unblock it"))
            }
            Error::InsufficientScope { .. } => {
                let needed = self.scopes.join(" or ");
                CheckError::new(Code::ProviderRefused, format!("the token lacks a scope: it needs {needed}"))
                    .with_hint(format!("make one with the scope {needed} at {page}"))
            }
            Error::NotOwner => CheckError::new(Code::ProviderRefused, NOT_OWNER)
                .with_hint("use the token of somebody who owns the group, and check the group's number"),
            Error::Forbidden => CheckError::new(Code::ProviderRefused, format!("{instance}: {error}"))
                .with_hint("it may have banned the control plane's address for a while, or have a firewall before it"),
            Error::RateLimited { retry_after } => rate_limited(instance, *retry_after),
            Error::AddressRefused(refusal) => {
                CheckError::new(Code::BadRequest, format!("no connection is made to {instance}: {refusal}")).with_hint(
                    "allow_private in the section [gitlab] of control.toml lists the networks that are allowed",
                )
            }
            Error::NotGitLab { .. } | Error::NotGitHub { .. } | Error::NotFound { .. } | Error::TooLarge { .. }
            | Error::EndlessList { .. } => {
                CheckError::new(Code::NotTheProvider, format!("what is at {instance} does not answer as it should: {error}"))
                    .with_hint("check --instance-url: it is the address at which people open it in a browser")
            }
            Error::Redirected { to } => {
                let hint = match to {
                    Some(to) => format!("if that is where it is, use --instance-url {to}"),
                    None => "check --instance-url".to_owned(),
                };
                let detail = format!("{instance} redirects, which is not followed with a token");
                CheckError::new(Code::NotTheProvider, detail).with_hint(hint)
            }
            Error::TimedOut => CheckError::new(
                Code::ProviderUnavailable,
                format!("no answer from {instance} within {} s", CHECK_LIMIT.as_secs()),
            )
            .with_hint("nothing was stored; try again when it answers"),
            Error::Tls { .. } => CheckError::new(Code::ProviderUnavailable, causes(error))
                .with_hint("its certificate has to be one that the control plane's machine trusts"),
            Error::Unreachable { .. } => CheckError::new(Code::ProviderUnavailable, causes(error))
                .with_hint("check the address, and the network between the control plane and it"),
            Error::Server { .. } | Error::ResponseLost { .. } => {
                CheckError::new(Code::ProviderUnavailable, format!("{instance}: {error}"))
                    .with_hint("nothing was stored; try again when it works")
            }
            Error::CapReached { .. } | Error::ExpiryTooFar { .. } | Error::Conflict { .. } | Error::Rejected { .. } => {
                CheckError::new(Code::Conflict, error.to_string())
            }
        }
    }

    fn unknown_hint(&self) -> String {
        match TokenKind::of(self.token) {
            TokenKind::GitLabOther(kind) | TokenKind::GitHubOther(kind) => {
                format!("it looks like a token of another kind ({kind}); make an access token at {}", self.page)
            }
            TokenKind::GitLabAccess | TokenKind::GitHubPersonal | TokenKind::Unknown => {
                "check that it was copied whole, and that it is of this instance (--instance-url names another)".to_owned()
            }
        }
    }
}

fn rate_limited(instance: &RemoteUrl, retry_after: Option<Duration>) -> CheckError {
    let detail = match retry_after {
        Some(wait) => {
            format!("{instance} has had too many requests; try again in {} s", wait.as_secs().max(1))
        }
        None => format!("{instance} has had too many requests; try again in a minute"),
    };
    let hint = "nothing was stored, and nothing is tried again by itself";
    CheckError { retry_after, ..CheckError::new(Code::RateLimited, detail).with_hint(hint) }
}
