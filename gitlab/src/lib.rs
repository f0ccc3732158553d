//! A client of GitLab with only the calls that dvx needs to link, provision, rotate, repair and unlink, and of
//! GitHub with the one that it needs to check a token.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod access;
mod guard;
mod kind;
mod lifetime;
mod scope;

pub use access::AccessLevel;
pub use guard::{AddressKind, Guard, InvalidNetwork, Network, Refusal};
pub use kind::TokenKind;
pub use lifetime::{Jitter, ends_at, expiry_date, rotate_at};
pub use scope::{Need, Scopes};
