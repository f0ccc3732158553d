//! The contract between dvx's programs: names, wire types, problems, addresses and limits.
//!
//! Nothing here does I/O. Text from a wire, a command line or a configuration file becomes one of these
//! types in a single step, and what has such a type is valid.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod address;
mod fingerprint;
mod ids;
mod origin;
mod problem;
mod quote;
#[cfg(feature = "openapi")]
mod schema;
mod secret;
mod trace;

pub mod agent;
pub mod enclave;
pub mod limits;
pub mod operator;

pub use address::{BrokerAddress, ControlAddress, InvalidAddress, InvalidControlAddress};
pub use fingerprint::{Fingerprint, InvalidFingerprint};
pub use ids::{AgentName, EnclaveName, InvalidName, OperatorName, ProviderName, SecretName, UnixUser};
pub use origin::{InvalidUrl, Origin, RemoteUrl};
pub use problem::{Code, MEDIA_TYPE as PROBLEM_MEDIA_TYPE, Problem};
pub use quote::{quoted, quoted_unless_plain};
pub use secret::{InvalidToken, Secret, Token};
pub use trace::{wipe_stack, without_trace};
