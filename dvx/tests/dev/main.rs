//! `dvx dev` with the real programs, which must have been built (`cargo test --workspace` builds them).
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes helpers of tests in a folder of their own for production code"
)]

mod end;
mod session;
mod support;
mod terminal;
