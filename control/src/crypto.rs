//! What keeps values from whoever reads or edits the database, and tokens from whoever reads it.

mod envelope;
mod kek;
pub(crate) mod seal;
mod token;

pub use envelope::{Envelope, Unreadable};
pub use kek::{Kek, KekError, KekId};
pub use token::{HashedToken, PlainToken};

pub(crate) use envelope::{Aad, DataKey, KeptKey};
pub(crate) use kek::derive;
