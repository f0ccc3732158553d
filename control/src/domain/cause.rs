//! Who brings a change about.

use dvx_proto::operator::Role;
use jiff::Timestamp;

use super::{OrgId, Revision};

/// Somebody whose identity is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The organisation that it acts in.
    pub org: OrgId,
    /// That organisation's name.
    pub organisation: String,
    /// An operator's name, `uid:0`, `enclave:lab-1`, `system`.
    pub name: String,
    /// Operators have one.
    pub role: Option<Role>,
}

/// What a change is put down to in the audit log.
#[derive(Debug, Clone)]
pub struct Cause {
    /// Who asked for it.
    pub actor: Actor,
    /// The request's id.
    pub request_id: Option<String>,
    /// When.
    pub time: Timestamp,
    /// How the same request is known when it comes again, where it is to be carried out once.
    pub repeatable: Option<Repeatable>,
}

/// The mark of a request that is carried out once, however often it comes.
#[derive(Debug, Clone)]
pub struct Repeatable {
    /// What its sender knows it by.
    pub key: String,
    /// SHA-256 of method, path and body: the same key with another request is refused.
    pub request: [u8; 32],
}

impl Cause {
    /// What the control plane does by itself.
    pub fn system(org: OrgId, organisation: String, time: Timestamp) -> Self {
        let actor = Actor { org, organisation, name: "system".into(), role: None };
        Self { actor, request_id: None, time, repeatable: None }
    }
}

/// What came of a change, and the revision of the organisation that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed<T> {
    /// The first revision with the change; the newest one where nothing had to change for brokers.
    pub revision: Revision,
    /// What came of it.
    pub value: T,
}
