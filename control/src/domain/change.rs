//! What changed for brokers.

use dvx_proto::{AgentName, SecretName};

use super::{AgentId, EnclaveId, Revision};

/// One revision of an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub revision: Revision,
    /// When it was made, in microseconds: no other one of that number was, also where a backup was put back.
    pub mark: u64,
    /// What has changed.
    pub object: ChangedObject,
}

/// What a revision is about. It says what to look at: how that is now may come of a later revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedObject {
    /// An agent was made, or its state is another one. Its secrets are to be sent with it.
    Agent { enclave: EnclaveId, id: AgentId, agent: AgentName },
    /// An agent was deleted, and its secrets with it.
    AgentGone { enclave: EnclaveId, id: AgentId, agent: AgentName },
    /// A secret was set or deleted: of an agent, or of the organisation.
    Secret { agent: Option<(EnclaveId, AgentId, AgentName)>, name: SecretName },
    /// An enclave was deleted, and its agents with it.
    EnclaveGone { enclave: EnclaveId },
}

impl ChangedObject {
    /// The only enclave that it concerns; `None` where it concerns all.
    pub fn enclave(&self) -> Option<&EnclaveId> {
        match self {
            Self::Agent { enclave, .. } | Self::AgentGone { enclave, .. } | Self::EnclaveGone { enclave } => {
                Some(enclave)
            }
            Self::Secret { agent, .. } => agent.as_ref().map(|(enclave, _, _)| enclave),
        }
    }
}

/// What has changed since a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// The next ones, oldest first and without a gap; none where that revision is the newest.
    Since(Vec<Change>),
    /// Some are not kept any more, or the revision is newer than ours: only a snapshot helps.
    Unknown,
}
