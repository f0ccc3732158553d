//! The broker: holds its enclave's credentials in protected memory and serves each to the agent it belongs
//! to, over a socket whose peer the kernel names.
//!
//! *Peer* says who is at the other end, *identity* proves it with tokens, *policy* decides, *keyring* holds,
//! *upstream* fills it, *audit* remembers.
#![deny(unsafe_code)]

/// Says why a test does not run on this machine. Written straight to the stream, since the test harness shows
/// what is printed only of tests that fail.
#[cfg(test)]
macro_rules! skipped {
    ($($why:tt)*) => {
        std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("SKIPPED {}\n", format_args!($($why)*)))
            .unwrap_or_default()
    };
}

mod admin;
mod api;
mod audit;
mod causes;
mod cli;
mod clock;
mod config;
mod descriptor;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod hex;
mod identity;
mod keyring;
mod listener;
mod metrics;
mod peer;
mod policy;
mod sandbox;
mod server;
#[cfg(test)]
mod simulation;
mod systemd;
mod ticks;
mod trace;
mod upstream;

pub use cli::main;
