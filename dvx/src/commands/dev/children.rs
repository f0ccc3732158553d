//! Ending every process that descends from this one.
//!
//! Both processes of `dvx dev` are subreapers (prctl(2)): whoever loses its parent below them becomes their
//! child. So to end one's children again and again, until there are none, is to end all descendants, whatever
//! they do to their session, their environment or their parents. A child's pid is not reused before it has
//! been waited for, so a signal cannot hit a stranger.

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid};

use crate::clock::Deadline;

/// How the pressure on those that do not end by themselves grows. Shells ignore SIGTERM, but not SIGHUP.
const STEPS: [(Duration, Signal); 3] = [
    (Duration::ZERO, Signal::SIGTERM),
    (Duration::from_millis(400), Signal::SIGHUP),
    (Duration::from_millis(1000), Signal::SIGKILL),
];

/// When to give up: what still runs then belongs to another user or hangs in the kernel.
const PATIENCE: Duration = Duration::from_millis(1800);

/// How often it is looked.
const PAUSE: Duration = Duration::from_millis(10);

/// What became of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has ended: its status as a shell would have it.
    Ended(Pid, Ending),
    /// It has been stopped.
    Stopped(Pid),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Exited(i32),
    Killed(Signal),
}

impl Ending {
    /// The status that a shell shows for it.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Exited(code) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
            Self::Killed(signal) => u8::try_from(128 + signal as i32).unwrap_or(u8::MAX),
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit status {code}"),
            Self::Killed(signal) => write!(f, "killed by {}", signal.as_str()),
        }
    }
}

/// The next change of a child that has not been reported yet.
pub(crate) fn next_change() -> Option<Change> {
    loop {
        return match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Exited(pid, code)) => Some(Change::Ended(pid, Ending::Exited(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => Some(Change::Ended(pid, Ending::Killed(signal))),
            Ok(WaitStatus::Stopped(pid, _)) => Some(Change::Stopped(pid)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => None,
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(_) => None,
        };
    }
}

/// Ends every descendant but these children and what descends from them. Tells whether they are gone.
pub(crate) fn end_all_but(spared: &[Pid]) -> bool {
    let deadline = Deadline::after(PATIENCE);
    let mut sent: HashMap<Pid, Signal> = HashMap::new();
    loop {
        reap(spared, &mut sent);
        let children: Vec<Pid> = children().into_iter().filter(|child| !spared.contains(child)).collect();
        if children.is_empty() {
            return true;
        }
        if deadline.has_passed() {
            return false;
        }
        let signal = signal_after(PATIENCE.saturating_sub(deadline.remaining()));
        for child in children {
            if sent.insert(child, signal) != Some(signal) {
                send(child, signal);
                send(child, Signal::SIGCONT);
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Whether a process is stopped at this moment (the third field in proc_pid_stat(5)).
pub(crate) fn is_stopped(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T"))
}

/// Sends a signal to a child. One that has just ended, or that belongs to another user, does not get it.
pub(crate) fn send(child: Pid, signal: Signal) {
    kill(child, signal).ok();
}

/// Waits for those that have ended, except for the one whose end somebody else wants to see.
fn reap(spared: &[Pid], sent: &mut HashMap<Pid, Signal>) {
    let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    for child in children() {
        if spared.contains(&child) {
            continue;
        }
        if let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) = waitid(Id::Pid(child), ended) {
            sent.remove(&child);
        }
    }
}

fn signal_after(elapsed: Duration) -> Signal {
    STEPS.iter().rev().find(|(from, _)| elapsed >= *from).map_or(Signal::SIGTERM, |(_, signal)| *signal)
}

/// The processes whose parent this process is, ended ones that have not been waited for among them.
pub(crate) fn children() -> Vec<Pid> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let us = getpid();
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw))
        .filter(|pid| parent_of(*pid) == Some(us))
        .collect()
}

/// The fourth field of /proc/PID/stat; the second one is a name in parentheses with anything in it.
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = str::from_utf8(stat.get(after_name + 1..)?).ok()?;
    fields.split_ascii_whitespace().nth(1)?.parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pressure_grows_with_time() {
        let after = |ms| signal_after(Duration::from_millis(ms));
        assert_eq!([after(0), after(399)], [Signal::SIGTERM; 2]);
        assert_eq!([after(400), after(999)], [Signal::SIGHUP; 2]);
        assert_eq!([after(1000), after(9000)], [Signal::SIGKILL; 2]);
    }

    #[test]
    fn a_parent_is_found_by_its_pid() {
        assert_eq!(parent_of(getpid()), Some(nix::unistd::getppid()));
    }

    #[test]
    fn statuses_are_those_of_a_shell() {
        assert_eq!(Ending::Exited(3).status(), 3);
        assert_eq!(Ending::Killed(Signal::SIGKILL).status(), 137);
    }
}
