//! What takes several calls of a provider, and what is left of it there.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AgentName, Problem};

/// Something that takes several calls of a provider: answer of `GET /api/v1/operations/{id}`, and of what begins
/// one. With `wait_seconds=N` it comes when the operation has ended, at the latest after that time. Once there is
/// a revision that has the token, the answer names it in its header.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Operation {
    /// Unlike that of every operation there ever was.
    pub id: String,
    /// `link`, `rotate` or `provider-rotate`.
    pub kind: String,
    /// The agent that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// How far it is.
    pub state: OperationState,
    /// What is being done, or waited for, in words.
    pub progress: String,
    /// Why it failed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why it failed: what the request would have been answered that asked for it, had it waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// When it began.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// It goes on.
    Running,
    /// It is done.
    Done,
    /// It failed; what it had made is removed again.
    Failed,
}

/// One element of `GET /api/v1/credential-providers/debts`: what is still to be removed at a provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Debt {
    /// Unlike that of every other.
    pub id: String,
    /// The agent that it was made for.
    pub agent: String,
    /// The name of the credential provider that made it.
    pub credential_provider: String,
    /// A service account, or a token of some kind.
    pub kind: String,
    /// Its name at the provider.
    pub name: String,
    /// Since when it is to go.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub since: Timestamp,
    /// How often that was tried.
    pub attempts: u64,
    /// When it is tried again.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub next_at: Timestamp,
    /// Why it has not gone, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
