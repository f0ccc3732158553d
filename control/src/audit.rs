//! What is remembered: the chains of brokers' logs as they come in, and events for other systems.

mod chain;
pub(crate) mod ingest;
pub(crate) mod ocsf;

pub(crate) use chain::{Known, Stored, follow};
