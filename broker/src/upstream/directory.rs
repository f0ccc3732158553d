//! Secrets from files: `<path>/<agent>/<provider>.token`, `<provider>.json` and `secrets/<name>`, as Kubernetes,
//! systemd and Docker provide them.
//!
//! A look costs a listing and one stat(2) a file, and only a file that has changed is read. Looks follow one
//! another twice a second, and at once when inotify(7) says so. A file that is bad freezes what it last gave; a
//! root that cannot be read freezes everything, since nothing is confirmed then.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dvx_memory::Arena;
use dvx_proto::AgentName;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tracing::{debug, warn};

use self::watch::Watcher;
use self::worker::Worker;
use super::{Health, Mailbox, Request, Upstream};
use crate::clock::{self, Monotonic};
use crate::keyring::Keyring;

mod facts;
mod merge;
mod read;
mod scan;
#[cfg(test)]
mod simulation;
mod source;
#[cfg(test)]
mod tests;
mod watch;
mod worker;

/// What the configuration says about the upstream.
#[derive(Debug, Clone)]
pub(crate) struct DirectorySettings {
    /// The root.
    pub(crate) path: PathBuf,
    /// A mode whose permissions of others are accepted besides those of owner and group.
    pub(crate) allow_mode: Option<u32>,
    /// The agents of this enclave. Other directories are nobody's.
    pub(crate) agents: Vec<AgentName>,
}

/// The name in configuration and status.
const KIND: &str = "directory";

/// How long between two looks. With the time that a change needs to settle it stays well below a second.
const INTERVAL: Duration = Duration::from_millis(500);

/// Looks that were asked for do not follow each other faster than this, however often files change.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks once, so that the keyring is filled when this returns, and goes on on a thread of its own.
pub(crate) fn start(
    settings: DirectorySettings,
    keyring: Arc<Keyring>,
    arena: Arena,
) -> io::Result<Upstream> {
    let mut worker = Worker::new(settings, keyring, arena);
    worker.look(clock::now());
    let health = Health { kind: KIND, connected: None, degraded: worker.degraded().to_vec() };
    Mailbox::start(health, move |mailbox| run(worker, &mailbox))
}

fn run(mut worker: Worker, mailbox: &Mailbox) {
    let mut last = clock::monotonic();
    let mut asked = false;
    loop {
        let now = clock::monotonic();
        let due = next_look(last, worker.due(), asked);
        if due <= now {
            last = now;
            asked = false;
            worker.look(clock::now());
            mailbox.report(worker.degraded());
            continue;
        }
        wait(worker.watcher(), mailbox, due.since(now));
        asked |= worker.watcher().is_some_and(Watcher::drain);
        for request in mailbox.take() {
            asked = true;
            match request {
                Request::Stop => return,
                Request::SetAgents(agents) => worker.set_agents(agents),
                // All that can be done about a refused token is to look whether there is another.
                Request::Recheck { agent, provider, fingerprint } => {
                    debug!(%agent, %provider, %fingerprint, "token was refused; looking for a newer one");
                }
            }
        }
    }
}

/// When to look next: as always, or sooner when a change has to settle or when a look was asked for.
fn next_look(last: Monotonic, settled: Option<Monotonic>, asked: bool) -> Monotonic {
    let regular = last + INTERVAL;
    let early = if asked { Some(last) } else { settled };
    early.map_or(regular, |early| early.clamp(last + PAUSE, regular))
}

fn wait(watcher: Option<&Watcher>, mailbox: &Mailbox, time: Duration) {
    let bell = mailbox.bell();
    let fds = [bell, watcher.map_or(bell, Watcher::fd)];
    // Not a moment too early, since a change would not have settled then.
    let time = time + Duration::from_millis(1);
    let timeout = Timespec::try_from(time).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    match poll(&mut fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)), Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => {
            warn!(%error, "cannot wait for changes");
            std::thread::sleep(PAUSE);
        }
    }
}
