//! Operations: what takes several calls to a provider, each of which can be the last before a crash.

use dvx_proto::{AgentName, EnclaveName, Problem, ProviderName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AgentId, MintedId, OperationId, OrgId, ProviderId, Revision};

/// What an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// A first identity for an agent.
    Link,
    /// Another token for an identity.
    Rotate,
    /// Another token for a credential provider itself.
    ProviderRotate,
}

impl OperationKind {
    /// All.
    pub const ALL: [Self; 3] = [Self::Link, Self::Rotate, Self::ProviderRotate];

    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Rotate => "rotate",
            Self::ProviderRotate => "provider-rotate",
        }
    }
}

/// What is to be done next. Each step can be done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Make a service account, or find the one that was made.
    Account,
    /// Make it a member of the group.
    Member,
    /// Make a token.
    Token,
    /// Call with the token.
    Prove,
    /// Store the token for the agent.
    Publish,
    /// Wait until every broker has it.
    Deliver,
    /// Let go of what the token replaces.
    Retire,
    /// Have a credential provider's token replace itself.
    RotateSelf,
}

impl Step {
    /// All, in their order.
    pub const ALL: [Self; 8] = [
        Self::Account,
        Self::Member,
        Self::Token,
        Self::Prove,
        Self::Publish,
        Self::Deliver,
        Self::Retire,
        Self::RotateSelf,
    ];

    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Member => "member",
            Self::Token => "token",
            Self::Prove => "prove",
            Self::Publish => "publish",
            Self::Deliver => "deliver",
            Self::Retire => "retire",
            Self::RotateSelf => "rotate-self",
        }
    }

    /// For whoever waits.
    pub const fn doing(self) -> &'static str {
        match self {
            Self::Account => "making a service account",
            Self::Member => "making it a member of the group",
            Self::Token => "making a token",
            Self::Prove => "trying the token",
            Self::Publish => "storing the token",
            Self::Deliver => "waiting for the brokers",
            Self::Retire => "letting go of the token before",
            Self::RotateSelf => "replacing the provider's token",
        }
    }
}

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperationState {
    /// Under way.
    Running,
    /// At its end.
    Done,
    /// Given up; what it had made is being removed.
    Failed,
}

impl OperationState {
    /// All.
    pub const ALL: [Self; 3] = [Self::Running, Self::Done, Self::Failed];

    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// What an operation knows beyond its columns. No value of a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notes {
    /// The project that a token is to be for.
    pub project: Option<u64>,
    /// The role that the identity is to have.
    pub access_level: Option<u8>,
    /// The service account that is used.
    pub account: Option<MintedId>,
    /// The token that is being made.
    pub token: Option<MintedId>,
    /// On whose behalf it is.
    pub actor: String,
    /// Why, where it is not an operator's wish.
    pub cause: Option<String>,
}

/// An operation as it is stored.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Its id.
    pub id: OperationId,
    /// Its organisation.
    pub org: OrgId,
    /// What it is for.
    pub kind: OperationKind,
    /// The agent; none for that of a credential provider.
    pub agent: Option<(AgentId, AgentName)>,
    /// Which provider.
    pub provider: ProviderName,
    /// Who makes the identity.
    pub credential_provider: ProviderId,
    /// How far it is.
    pub state: OperationState,
    /// What is to be done next.
    pub step: Step,
    /// What else it knows.
    pub notes: Notes,
    /// How often the step failed.
    pub attempts: u32,
    /// When to go on.
    pub next_at: Timestamp,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Why it was given up.
    pub problem: Option<Problem>,
    /// The revision that has its token.
    pub revision: Option<Revision>,
    /// When it began.
    pub created_at: Timestamp,
}

impl Operation {
    /// Whether it is under way.
    pub fn is_running(&self) -> bool {
        self.state == OperationState::Running
    }
}

/// What whoever asked for an operation is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationStatus {
    /// Its id.
    pub id: OperationId,
    /// What it is for.
    pub kind: OperationKind,
    /// The agent that it is about.
    pub agent: Option<AgentName>,
    /// How far it is.
    pub state: OperationState,
    /// What is being done, or waited for, in words.
    pub progress: String,
    /// Why it was given up.
    pub problem: Option<Problem>,
    /// The revision that has its token, as soon as there is one.
    pub revision: Option<Revision>,
    /// When it began.
    pub created_at: Timestamp,
}

/// What came of undoing a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlinkOutcome {
    /// The first revision without it.
    pub revision: Revision,
    /// What is left to do, by us or by the operator; none where all is done.
    pub warning: Option<String>,
    /// The enclaves whose brokers may still have it.
    pub missing: Vec<EnclaveName>,
}

/// An identity or token that is still to be removed at a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debt {
    /// Its id.
    pub id: MintedId,
    /// The agent that it was made for.
    pub agent: String,
    /// The name of the credential provider that made it.
    pub credential_provider: String,
    /// A service account or a token.
    pub kind: &'static str,
    /// Its name there.
    pub name: String,
    /// Since when it is to go.
    pub since: Timestamp,
    /// How often that was tried.
    pub attempts: u32,
    /// When it is tried again.
    pub next_at: Timestamp,
    /// What it waits for.
    pub why: String,
}
