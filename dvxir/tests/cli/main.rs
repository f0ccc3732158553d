//! Drives the real `dvxir` against a stub of the broker, from outside.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test's helpers fail like the test"
)]

mod credentials;
mod exec;
mod git_credential;
mod git_itself;
mod hostile;
mod init;
mod seldom;
mod streams;
mod stub;
mod token;
mod trust;
