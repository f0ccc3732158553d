//! Harness for tests that drive the programs from outside.
//!
//! A [`World`] is one broker with everything around it: directories, an upstream, agents under users of their
//! own, a log at trace level. Each test builds its own, so tests run in parallel. When a world ends, everything
//! that its programs wrote is searched for every secret that was planted in it.

mod audit;
mod binaries;
mod caller;
mod cgroup;
mod clock;
mod command;
mod config;
mod control;
mod daemon;
mod enclave_client;
mod faketime;
mod filters;
mod gitlab;
mod ground;
mod http;
mod jwt;
mod lab;
mod leak;
mod malformed;
mod memory;
mod metrics;
mod postgres;
mod proxy;
mod stub;
mod terminal;
mod tls;
mod upstream;
mod users;
mod world;

pub mod bench;
pub mod git;

use std::io::Write;

pub use audit::{AuditLine, assert_chain, audit_lines};
pub(crate) use binaries::directory_of_programs;
pub use binaries::{binary, programs_elsewhere};
pub use caller::{Caller, CallerSpec};
pub use cgroup::{Cgroup, cgroup2_mount};
pub use clock::{eventually, eventually_some, now, within};
pub use command::{Outcome, run, run_with_input};
pub use config::{Agent, Config};
pub use control::{ControlBuilder, ControlPlane, Operator, Replica};
pub use daemon::Daemon;
pub use enclave_client::{Connection as EnclaveConnection, EnclaveClient, Endpoint, State, Watch};
pub use faketime::library as faketime_library;
pub use filters::{Filters, Verdict};
pub use gitlab::{GitLab, serve_gitlab};
pub use ground::Ground;
pub use http::{Connection, Request, Response};
pub use jwt::{ForgedToken, Forger, recover_public_keys, unverified_claims};
pub use lab::{Lab, Mode};
pub use leak::{Planted, random_alphanumeric};
pub use malformed::MALFORMED;
pub use memory::{
    Findings, Hit, Marker, Needles, Place, at_rest, count_fragments, look_at_its_end, search_memory,
};
pub use metrics::Metrics;
pub use postgres::Postgres;
pub use proxy::Proxy;
pub use stub::{Stub, StubAnswer};
pub use terminal::{answer_on_terminal, on_terminal};
pub use tls::{Authority, Identity};
pub use upstream::UpstreamDirectory;
pub use users::{fresh_uid, is_root, own_uid, skip_without_root};
pub use world::{Builder, World};

/// Says why a test does not run on this machine. Written straight to the stream, since the test harness shows
/// what is printed only of tests that fail.
pub fn skip(test: &str, why: &str) {
    writeln!(std::io::stderr(), "SKIPPED {test}: {why}").unwrap_or_default();
}
