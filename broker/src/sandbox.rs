//! What the broker denies itself: being looked into, being more than it is, and every system call and file
//! that it has no use for.

mod calls;
mod files;

use std::io;
use std::path::Path;

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use thiserror::Error;

use dvx_proto::ControlAddress;

use crate::config::{Config, ControlConfig, UpstreamConfig};

/// Descriptors for everything but clients' connections: files, sockets, inotify, and room to look at peers.
const RESERVED_DESCRIPTORS: u32 = 128;

/// Why the process cannot be confined.
#[derive(Debug, Error)]
pub(crate) enum SandboxError {
    #[error("cannot {action}")]
    Process { action: &'static str, source: io::Error },
    #[error("cannot restrict system calls; hardening.seccomp = \"off\" does without")]
    Seccomp(#[source] seccompiler::Error),
}

/// What must be so before the first secret, the first file and the first thread: no core dump, no debugger of
/// the same user (prctl(2), `PR_SET_DUMPABLE`), files for the owner alone, no privileges by executing
/// something. A file size limit is an error of the write that meets it instead of the process's end.
pub(crate) fn early() -> Result<(), SandboxError> {
    let failed =
        |action| move |source: rustix::io::Errno| SandboxError::Process { action, source: source.into() };
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("turn off dumps"))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).map_err(failed("turn off core dumps"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    SigSet::from(Signal::SIGXFSZ)
        .thread_block()
        .map_err(|error| SandboxError::Process { action: "block a signal", source: error.into() })
}

/// Raises the limit on descriptors as far as these connections need it and the hard limit lets it, and
/// returns how many connections there is room for.
pub(crate) fn raise_descriptor_limit(connections: u32) -> u32 {
    let wanted = u64::from(connections) + u64::from(RESERVED_DESCRIPTORS);
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let possible = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let mut limit = current.unwrap_or(u64::MAX);
    if limit < possible {
        let raised = Rlimit { current: Some(possible), maximum };
        match rustix::process::setrlimit(Resource::Nofile, raised) {
            Ok(()) => limit = possible,
            Err(error) => tracing::warn!(%error, "the limit on descriptors cannot be raised"),
        }
    }
    let room = limit.saturating_sub(u64::from(RESERVED_DESCRIPTORS)).clamp(1, u64::from(connections.max(1)));
    u32::try_from(room).unwrap_or(connections)
}

/// Gives up all that serving does not need. Must be called after the sockets are bound and before threads are
/// started; they inherit it.
pub(crate) fn confine(config: &Config, config_path: &Path) -> Result<(), SandboxError> {
    let landlock = if looks_at_processes_of_root(config) {
        "off, to tell root on loopback from a container's".to_owned()
    } else {
        files::restrict(config, config_path).map_or_else(
            |error| {
                tracing::warn!(%error, "access to files cannot be restricted");
                "failed".to_owned()
            },
            |status| files::describe(&status),
        )
    };
    let seccomp = config.hardening.seccomp.as_str();
    if landlock == files::UNAVAILABLE {
        tracing::warn!(landlock, seccomp, "the broker is confined, but only modes keep it from files");
    } else {
        tracing::info!(landlock, seccomp, "the broker is confined");
    }
    let reach = match &config.upstream {
        UpstreamConfig::Control(ControlConfig { url: ControlAddress::Https { .. }, .. }) => Reach::Network,
        UpstreamConfig::Control(_) | UpstreamConfig::Directory { .. } => Reach::Machine,
    };
    calls::restrict(config.hardening.seccomp, reach)
}

/// How far the broker has to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// To Unix sockets.
    Machine,
    /// To a host by its name.
    Network,
}

/// Whether this broker is root's own with root as an agent on loopback, or with agents that are not known yet. To know that such a caller is not a
/// container's root it has to see which process holds the socket, and a Landlock domain lets nobody look at
/// processes outside of it, not even root (landlock(7), "Ptrace restrictions"). Where the broker is not root it
/// cannot look anyway.
fn looks_at_processes_of_root(config: &Config) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let may_be_agent = match &config.upstream {
        UpstreamConfig::Control(_) => true,
        UpstreamConfig::Directory { .. } => config.agents.iter().any(|rule| rule.uid == 0),
    };
    is_root && config.listen.tcp.is_some() && may_be_agent
}

#[cfg(test)]
mod tests;
