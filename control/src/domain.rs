//! What the control plane is about. No SQL, no HTTP.
//!
//! What travels to `dvx` and to brokers has its types in [`dvx_proto`]; here is the rest.

mod cause;
mod change;
mod delivery;
mod enclave;
mod event;
mod ids;
mod integration;
mod minted;
mod operation;
mod page;
mod provider;
mod rules;
mod secret;

pub use cause::{Actor, Cause, Changed, Repeatable};
pub use change::{Change, ChangedObject, Changes};
pub use delivery::{AckRecord, EnclaveDelivery, SessionRecord};
pub use enclave::{AgentRecord, EnclaveIdentity, Organisation};
pub use event::{AuditQuery, BrokerLine, ChainHead, Decision, Event, Ingested};
pub use ids::{
    AgentId, EnclaveId, LeaseId, MintedId, OperationId, OrgId, ProviderId, ReplicaId, Revision, SecretId,
    SessionId,
};
pub use integration::{Ailment, Identity, IntegrationRecord, Origin};
pub use minted::{Minted, MintedKind, MintedState};
pub use operation::{
    Debt, Notes, Operation, OperationKind, OperationState, OperationStatus, Step, UnlinkOutcome,
};
pub use page::{AgentFilter, Once, Outcome, PageRequest, StoredAnswer};
pub use provider::{CredentialProvider, Mode, NewProvider, ProviderToken};
pub use rules::{InvalidSelector, Rule};
pub use secret::{Metadata, NewSecret, Place, SecretSet, StoredSecret};

pub(crate) use secret::Head;
