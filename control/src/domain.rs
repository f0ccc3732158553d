//! What the control plane is about. No SQL, no HTTP.
//!
//! What travels to `dvx` and to brokers has its types in [`dvx_proto`]; here is the rest.

mod cause;
mod change;
mod delivery;
mod enclave;
mod event;
mod ids;
mod page;
mod rules;
mod secret;

pub use cause::{Actor, Cause, Changed};
pub use change::{Change, ChangedObject, Changes};
pub use delivery::{AckRecord, EnclaveDelivery, SessionRecord};
pub use enclave::{AgentRecord, EnclaveIdentity, Organisation};
pub use event::{AuditQuery, BrokerLine, ChainHead, Decision, Event, Ingested, StoredEvent};
pub use ids::{AgentId, EnclaveId, OrgId, ReplicaId, Revision, SecretId, SessionId};
pub use page::{AgentFilter, Once, Outcome, PageRequest, StoredAnswer};
pub use rules::{InvalidSelector, Rule};
pub use secret::{Metadata, NewSecret, Place, SecretSet, StoredSecret};

pub(crate) use secret::Head;
