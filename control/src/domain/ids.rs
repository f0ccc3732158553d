//! Ids, which are never reused, and revisions.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::{NoContext, Uuid};

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Box<str>);

        impl $name {
            /// A new one. They sort by when they were made.
            pub fn generate(now: Timestamp) -> Self {
                Self(uuid(now).into())
            }

            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

id!(
    /// An organisation's.
    OrgId,
    /// An enclave's.
    EnclaveId,
    /// An agent's.
    AgentId,
    /// A secret's, from when it is first set until it is deleted; that of a credential is told to brokers.
    SecretId,
    /// A process's of the control plane.
    ReplicaId,
    /// A connection's of a broker: made of the public key that the broker made for it.
    SessionId,
    /// A credential provider's.
    ProviderId,
    /// An operation's: of something that takes several calls to a provider.
    OperationId,
    /// That of something that was made at a provider, or may have been.
    MintedId,
    /// That of somebody's turn at a piece of work.
    LeaseId,
);

/// Counts the changes of an organisation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn uuid(now: Timestamp) -> String {
    let seconds = u64::try_from(now.as_second()).unwrap_or(0);
    let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
    Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds)).to_string()
}
