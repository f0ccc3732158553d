//! Organisations, enclaves and agents, as other parts of the control plane see them.

use dvx_proto::EnclaveName;
use dvx_proto::enclave::AgentDocument;

use super::{AgentId, EnclaveId, OrgId, Revision};

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organisation {
    /// Its id.
    pub id: OrgId,
    /// Its name.
    pub name: String,
    /// Its newest revision.
    pub revision: Revision,
}

/// The enclave that an API key belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnclaveIdentity {
    /// Its id.
    pub id: EnclaveId,
    /// Its name.
    pub name: EnclaveName,
    /// Its organisation.
    pub org: OrgId,
    /// That organisation's name.
    pub organisation: String,
}

/// An agent as its broker is to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRecord {
    /// Its id.
    pub id: AgentId,
    /// Its enclave.
    pub enclave: EnclaveId,
    /// What goes to the broker.
    pub document: AgentDocument,
}
