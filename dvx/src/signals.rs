//! Signals as things to read, and children that do not inherit that.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command};
use std::thread;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a person or a terminal ends or stops a program with, and what tells about children.
const WATCHED: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCONT, Signal::SIGCHLD];

/// The `si_code` of a signal that a terminal sent (signal(7): `SI_KERNEL`).
const FROM_KERNEL: i32 = 0x80;

/// The signals of this process. Blocked, so that none of them ends it.
pub(crate) struct Signals {
    arrivals: SignalFd,
    /// What was blocked before.
    before: SigSet,
}

/// A signal that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) signal: Signal,
    /// A terminal sends a signal to all of its foreground processes; a process sends it to one.
    pub(crate) from_terminal: bool,
}

impl Signals {
    /// Call it before anything that has to be cleaned up exists, and before any other thread does.
    pub(crate) fn take_over() -> io::Result<Self> {
        let watched = SigSet::from_iter(WATCHED);
        let mut blocked = watched;
        // A background process that sets or writes to its terminal is stopped, unless it blocks this.
        blocked.add(Signal::SIGTTOU);
        let before = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let arrivals = SignalFd::with_flags(&watched, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { arrivals, before })
    }

    /// Lets them act as usual again.
    pub(crate) fn release(self) -> io::Result<()> {
        Ok(self.before.thread_set_mask()?)
    }

    /// The next signal that has arrived, if any has.
    pub(crate) fn next(&self) -> Option<Arrival> {
        let info = self.arrivals.read_signal().ok().flatten()?;
        let signal = i32::try_from(info.ssi_signo).ok()?.try_into().ok()?;
        Some(Arrival { signal, from_terminal: info.ssi_code == FROM_KERNEL })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrivals.as_fd()
    }
}

/// Starts a program with no signal blocked. The mask belongs to the thread that starts it, hence a thread
/// of its own. A SIGCHLD that arrives meanwhile may go to that thread, which ignores it: look for children
/// that have ended afterwards.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let spawned = thread::scope(|scope| {
        let spawner = scope.spawn(|| {
            SigSet::empty().thread_set_mask()?;
            command.spawn()
        });
        spawner.join()
    });
    spawned.unwrap_or_else(|_| Err(io::Error::other("the thread that starts it panicked")))
}
