//! `dvx` against a control plane that says what the test wants.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes helpers of tests in a folder of their own for production code"
)]

mod agents;
mod audit;
mod hostile;
mod integrations;
mod login;
mod overview;
mod secrets;
mod stub;
mod support;
mod terminal;
mod tls;
mod trust;
