//! Why an identity is not linked, made or replaced, as a problem.

use dvx_gitlab::Error;
use dvx_proto::Code;

use crate::causes::causes;
use crate::http::error::Refusal;
use crate::integrations::{CheckError, IntegrationError};
use crate::store::{Conflict, StoreError};

impl From<IntegrationError> for Refusal {
    fn from(error: IntegrationError) -> Self {
        let text = causes(&error);
        match error {
            IntegrationError::Store(StoreError::Conflict(Conflict::Linked))
            | IntegrationError::AlreadyLinked => Self::new(Code::Conflict, text)
                .with_hint("dvx agent integration PROVIDER unlink AGENT does that"),
            IntegrationError::Store(error) => error.into(),
            IntegrationError::Check(error) => checked(*error),
            IntegrationError::Provider(error) => provider(&error, text),
            IntegrationError::TimedOut(_) | IntegrationError::Stopped | IntegrationError::Lost => {
                Self::new(Code::ProviderUnavailable, text)
            }
            IntegrationError::NotLinked
            | IntegrationError::NoOperation
            | IntegrationError::NoProvider
            | IntegrationError::UnknownProvider => Self::new(Code::NotFound, text),
            IntegrationError::ProjectNeeded => {
                Self::bad_request(text).with_hint("--project-id names it by its number")
            }
            IntegrationError::ProjectRefused => Self::bad_request(text).with_hint("leave --project-id out"),
            IntegrationError::NotMinted
            | IntegrationError::NotActive
            | IntegrationError::Busy(_)
            | IntegrationError::NameTaken
            | IntegrationError::Debts(_)
            | IntegrationError::NotProved(_) => Self::new(Code::Conflict, text),
            IntegrationError::Inactive(_) | IntegrationError::Unreadable => Self::new(Code::Conflict, text)
                .with_hint("dvx credential-provider rotate gives it another token"),
            IntegrationError::InUse(_) => {
                Self::new(Code::Conflict, text).with_hint("unlink these agents first")
            }
        }
    }
}

fn checked(error: CheckError) -> Refusal {
    let CheckError { code, detail, hint, retry_after } = error;
    let refusal = Refusal::new(code, detail).with_retry_after(retry_after);
    match hint {
        Some(hint) => refusal.with_hint(hint),
        None => refusal,
    }
}

fn provider(error: &Error, text: String) -> Refusal {
    match error {
        Error::RateLimited { retry_after } => {
            Refusal::new(Code::RateLimited, text).with_retry_after(*retry_after)
        }
        Error::NotGitLab { .. } | Error::NotGitHub { .. } => Refusal::new(Code::NotTheProvider, text),
        error if error.is_temporary() => Refusal::new(Code::ProviderUnavailable, text),
        _ => Refusal::new(Code::ProviderRefused, text),
    }
}
