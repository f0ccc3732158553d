//! What the control plane denies itself: being looked into, being more than it is, and every system call and file
//! that it has no use for.

mod calls;
mod files;

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use thiserror::Error;

use crate::config::Config;

/// Why the process cannot be confined.
#[derive(Debug, Error)]
pub(crate) enum SandboxError {
    #[error("cannot {action}")]
    Process { action: &'static str, source: io::Error },
    #[error("cannot restrict system calls; hardening.seccomp = \"off\" does without")]
    Seccomp(#[source] seccompiler::Error),
}

/// What must be so before the first secret and the first file: no core dump, no debugger of the same user
/// (prctl(2), `PR_SET_DUMPABLE`), no privileges by executing something, files for the owner alone.
pub(crate) fn early() -> Result<(), SandboxError> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(failed("turn off dumps"))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).map_err(failed("turn off core dumps"))?;
    rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    Ok(())
}

/// Gives up all that serving does not need. Must be called after the sockets are bound and before threads are
/// started; they inherit it.
pub(crate) fn confine(config: &Config) -> Result<(), SandboxError> {
    let landlock = files::restrict(config).map_or_else(
        |error| {
            tracing::warn!(%error, "access to files cannot be restricted");
            "failed".to_owned()
        },
        |status| files::describe(&status),
    );
    drop_capabilities().map_err(failed("give up capabilities"))?;
    let seccomp = config.seccomp.as_str();
    if landlock == files::UNAVAILABLE {
        tracing::warn!(landlock, seccomp, "the control plane is confined, but only modes keep it from files");
    } else {
        tracing::info!(landlock, seccomp, "the control plane is confined");
    }
    calls::restrict(config.seccomp)
}

/// Only a control plane that root started has any, and from here on it needs none: its ports are bound, and its
/// files are its own or root's.
fn drop_capabilities() -> rustix::io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_capabilities(None, sets)
}

fn failed(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> SandboxError {
    move |source| SandboxError::Process { action, source: source.into() }
}

#[cfg(test)]
mod tests;
