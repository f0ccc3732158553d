//! The control plane: identities, encrypted secrets, audit.
//!
//! *Domain* says what things are, *crypto* keeps values from whoever reads the database, *store* keeps all of it
//! in SQLite or PostgreSQL.
#![forbid(unsafe_code)]

pub mod clock;
pub mod crypto;
pub mod domain;
pub mod store;
