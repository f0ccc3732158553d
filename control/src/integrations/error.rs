//! Why an agent has no other identity than before.

use std::time::Duration;

use dvx_proto::Problem;
use thiserror::Error;

use super::check::CheckError;
use crate::domain::OperationId;
use crate::store::StoreError;

/// Why something was not done.
#[derive(Debug, Error)]
pub enum IntegrationError {
    /// The database, or what the caller named in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provider.
    #[error("the provider")]
    Provider(#[from] dvx_gitlab::Error),
    /// The provider does not take a token, or could not be asked about it.
    #[error(transparent)]
    Check(#[from] Box<CheckError>),
    /// There is nobody to ask about tokens of this provider.
    #[error("there is no such provider; agents are linked to gitlab and github")]
    UnknownProvider,
    /// All of it took longer than the calls of one step may.
    #[error("no answer from the provider in {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The agent has a token that was linked.
    #[error("the agent is already linked; unlink it first")]
    AlreadyLinked,
    /// There is nothing to undo or to replace.
    #[error("the agent is not linked")]
    NotLinked,
    /// Only what we made can be replaced by us.
    #[error("the token was not made by a credential provider, so it cannot be replaced by one")]
    NotMinted,
    /// The agent is not active: nothing is made for it.
    #[error("the agent is not active")]
    NotActive,
    /// Something about the same agent is under way.
    #[error("operation {0} on the same agent is under way")]
    Busy(OperationId),
    /// There is no such operation.
    #[error("there is no such operation")]
    NoOperation,
    /// There is no such credential provider.
    #[error("there is no such credential provider")]
    NoProvider,
    /// The name is another one's.
    #[error("there is another credential provider of this name")]
    NameTaken,
    /// It makes nothing at the moment.
    #[error("the credential provider is inactive: {0}")]
    Inactive(String),
    /// A project access token is for a project.
    #[error("this credential provider makes project access tokens: name the project")]
    ProjectNeeded,
    /// A service account is for a group.
    #[error("this credential provider makes service accounts, which are not for one project")]
    ProjectRefused,
    /// A stored token does not open.
    #[error("the stored token does not open; replace it")]
    Unreadable,
    /// A new token does not do what it was made for.
    #[error("the new token is not as it was asked for: {0}")]
    NotProved(&'static str),
    /// It was given up in the background.
    #[error("{}", .0.detail)]
    Failed(Box<Problem>),
    /// The process ends here.
    #[error("stopped")]
    Stopped,
    /// Somebody else does it now.
    #[error("another replica has taken over")]
    Lost,
}

impl From<CheckError> for IntegrationError {
    fn from(error: CheckError) -> Self {
        Self::Check(Box::new(error))
    }
}
