//! What whoever asked for something is told when it failed, at once or later.

use std::time::Duration;

use dvx_gitlab::Error;
use dvx_proto::{Code, Problem};

use super::{CheckError, IntegrationError};
use crate::causes::causes;
use crate::store::{Conflict, StoreError};

const LATER: &str =
    "try again when it answers; dvx credential-provider debts lists what is left of this until then";
const ANOTHER: &str = "dvx credential-provider rotate gives it another token";

impl IntegrationError {
    /// It as a problem document. Of failures of ours it says only that there was one.
    pub(crate) fn problem(&self) -> Problem {
        let problem = |code| Problem::new(code, causes(self).to_string());
        match self {
            Self::AlreadyLinked => Conflict::Linked.problem(),
            Self::Store(error) => store(error),
            Self::Check(error) => checked(error),
            Self::Failed(problem) => (**problem).clone(),
            Self::Provider(error) => match (code(error), error) {
                (code @ Code::ProviderUnavailable, _) => problem(code).with_hint(LATER),
                (
                    code,
                    Error::InvalidToken
                    | Error::Expired
                    | Error::Revoked
                    | Error::InsufficientScope { .. }
                    | Error::NotOwner,
                ) => problem(code).with_hint(ANOTHER),
                (code, _) => problem(code),
            },
            Self::TimedOut(_) | Self::Stopped | Self::Lost => {
                problem(Code::ProviderUnavailable).with_hint(LATER)
            }
            Self::NotLinked | Self::NoOperation | Self::NoProvider | Self::UnknownProvider => {
                problem(Code::NotFound)
            }
            Self::ProjectNeeded => problem(Code::BadRequest).with_hint("--project-id names it by its number"),
            Self::ProjectRefused => problem(Code::BadRequest).with_hint("leave --project-id out"),
            Self::NotMinted | Self::NotActive | Self::Busy(_) | Self::NameTaken | Self::NotProved(_) => {
                problem(Code::Conflict)
            }
            Self::Inactive(_) | Self::Unreadable => problem(Code::Conflict).with_hint(ANOTHER),
        }
    }

    /// How long to wait, where the provider says it.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Check(error) => error.retry_after,
            Self::Provider(Error::RateLimited { retry_after }) => *retry_after,
            _ => None,
        }
    }
}

fn store(error: &StoreError) -> Problem {
    match error {
        StoreError::NotFound(_) => Problem::new(Code::NotFound, error.to_string()),
        StoreError::Conflict(conflict) => conflict.problem(),
        _ => Problem::new(Code::Internal, "it failed on the control plane's side; its log says why"),
    }
}

fn checked(error: &CheckError) -> Problem {
    let problem = Problem::new(error.code, error.detail.clone());
    match &error.hint {
        Some(hint) => problem.with_hint(hint.clone()),
        None => problem,
    }
}

fn code(error: &Error) -> Code {
    match error {
        Error::RateLimited { .. } => Code::RateLimited,
        Error::NotGitLab { .. } | Error::NotGitHub { .. } => Code::NotTheProvider,
        Error::Expired => Code::CredentialExpired,
        Error::NotFound { .. } => Code::NotFound,
        error if error.is_temporary() => Code::ProviderUnavailable,
        _ => Code::ProviderRefused,
    }
}
