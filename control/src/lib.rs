//! The control plane: identities, encrypted secrets, audit.
//!
//! *Domain* says what things are, *crypto* keeps values from whoever reads the database, *store* keeps all of it
//! in SQLite or PostgreSQL. *Listener* lets connections in, *http* finds out who asks and whether they may, *api*
//! answers; *hub* tells brokers what has changed.
#![forbid(unsafe_code)]

/// Says why a test does not run on this machine. Written straight to the stream, since the test harness shows
/// what is printed only of tests that fail.
#[cfg(test)]
macro_rules! skipped {
    ($($why:tt)*) => {
        std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("SKIPPED {}\n", format_args!($($why)*)))
            .unwrap_or_default()
    };
}

pub mod clock;
pub mod crypto;
pub mod domain;
pub mod integrations;
pub mod store;

mod admin;
mod api;
mod app;
mod audit;
mod causes;
mod cli;
mod config;
mod http;
mod hub;
mod jobs;
mod listener;
mod metrics;
mod openapi;
mod sandbox;
mod server;
mod systemd;

pub use cli::main;
