//! A client of GitLab with only the calls that dvx needs to link, provision, rotate, repair and unlink, and of
//! GitHub with the one that it needs to check a token.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod guard;

pub use guard::{AddressKind, Guard, InvalidNetwork, Network, Refusal};
