//! How far changes have come.

use std::time::Duration;

use dvx_proto::EnclaveName;
use dvx_proto::enclave::Degraded;
use jiff::Timestamp;

use super::{EnclaveId, Revision, SessionId};

/// A broker that is connected.
#[derive(Debug, Clone)]
pub struct SessionRecord {
    /// Its enclave.
    pub enclave: EnclaveId,
    /// The connection.
    pub session: SessionId,
    /// How long it serves without word from us.
    pub max_stale: Duration,
}

/// What a broker has confirmed.
#[derive(Debug, Clone)]
pub struct AckRecord {
    /// Its enclave.
    pub enclave: EnclaveId,
    /// The connection.
    pub session: SessionId,
    /// What it has in force.
    pub revision: Revision,
    /// What it could not take over.
    pub degraded: Vec<Degraded>,
    /// When it said so.
    pub time: Timestamp,
}

/// How far an enclave's brokers are.
#[derive(Debug, Clone)]
pub struct EnclaveDelivery {
    /// The enclave.
    pub id: EnclaveId,
    /// Its name.
    pub name: EnclaveName,
    /// Whether a broker is connected.
    pub connected: bool,
    /// The lowest revision that a connected broker has confirmed, or that the last one had; `None` where one has
    /// confirmed nothing.
    pub acked: Option<Revision>,
    /// When a broker was last heard of.
    pub seen_at: Option<Timestamp>,
    /// How long it serves without word from us.
    pub max_stale: Duration,
}

impl EnclaveDelivery {
    /// Whether a broker of the enclave may still serve something older than this revision.
    pub fn missing(&self, revision: Revision, now: Timestamp) -> bool {
        let serves = self.connected
            || self.seen_at.is_some_and(|seen| crate::clock::since(now, seen) < self.max_stale);
        serves && self.acked.is_none_or(|acked| acked < revision)
    }
}
