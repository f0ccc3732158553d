//! Who is at the other end of a connection, as the kernel tells it.
//!
//! Everything is read once, when the connection is accepted. What could not be proved stays unknown, and a
//! rule that asks for it does not match: see [`Rules::agent_for`](crate::policy::Rules::agent_for).

mod cgroup;
mod error;
pub(crate) mod loopback;
pub(crate) mod owner;
mod sys;
pub(crate) mod unix;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use dvx_proto::agent::Transport;

pub(crate) use error::{PeerError, Unidentified};

use cgroup::CgroupPaths;
use loopback::Diagnosis;

use crate::clock::Monotonic;
use crate::policy::Rules;

/// What the kernel proved about a peer.
#[derive(Debug, Clone)]
pub(crate) struct PeerFacts {
    pub(crate) transport: Transport,
    /// On a Unix socket the user that connected; on TCP the one that made the peer's socket.
    pub(crate) uid: u32,
    /// The primary group. Nothing tells it for TCP.
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Groups,
    /// For the record only: numbers are reused. Nothing tells it for TCP.
    pub(crate) pid: Option<u32>,
    /// The path of the peer's control group in the cgroup v2 hierarchy.
    pub(crate) cgroup: Option<Arc<str>>,
    pub(crate) namespace: PidNamespace,
    /// The inode of the peer's socket, which leads to the processes that hold it. TCP only.
    pub(crate) socket: Option<u32>,
}

/// What the kernel offers for telling peers apart, found out once.
pub(crate) struct PeerContext {
    pidfd: Pidfd,
    /// The pidfd of the peer before. For as long as one is open the kernel need not set up another for the same
    /// process, which is more than half of what telling a peer costs; and a client that makes a connection for
    /// each request comes back at once.
    last: Mutex<Option<OwnedFd>>,
    cgroups: CgroupPaths,
    diagnosis: Diagnosis,
}

/// Whether peers of the Unix socket are asked by way of a pidfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pidfd {
    /// Linux 6.13 and later.
    Used,
    /// The kernel is older, or a test wants to see what holds without.
    Unused,
}

impl PeerContext {
    /// Finds out what can be used; what is [`Pidfd::Unused`] stays so.
    pub(crate) fn new(pidfd: Pidfd) -> Self {
        let pidfd = match pidfd {
            Pidfd::Used => unix::probe(),
            Pidfd::Unused => Pidfd::Unused,
        };
        Self {
            pidfd,
            last: Mutex::default(),
            cgroups: CgroupPaths::of_this_system(),
            diagnosis: Diagnosis::Off,
        }
    }

    /// Prepares for TCP peers too. Where that fails they are refused, with the reason.
    #[must_use]
    pub(crate) fn with_loopback(mut self) -> Self {
        self.diagnosis = Diagnosis::open();
        self
    }

    pub(crate) fn pidfd(&self) -> Pidfd {
        self.pidfd
    }

    fn keep(&self, pidfd: OwnedFd) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(pidfd);
    }

    /// The path of a peer's control group. Only peers that a rule mentions may make us search for it.
    fn cgroup_path(&self, id: u64, uid: u32, rules: &Rules, now: Monotonic) -> Option<Arc<str>> {
        if rules.mentions(uid) { self.cgroups.find(id, uid, now) } else { self.cgroups.known(id) }
    }
}

/// The user that stands for all those that have no number in this user namespace (`DEFAULT_OVERFLOWUID` in
/// the kernel's `highuid.h`). It is nobody's.
pub(crate) const OVERFLOW_UID: u32 = 65534;

/// Whether a peer's process lives among ours. A root in another pid namespace is the root of a container.
/// It is looked up for uid 0 alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PidNamespace {
    /// The peer is in the broker's namespace itself.
    Ours,
    /// It is in a nested one.
    Nested,
    /// Nobody looked, or this kernel cannot tell.
    Unknown,
}

impl PidNamespace {
    /// Reads the line `NSpid:` of a process's or a pidfd's record in `/proc`: the pids that the process has,
    /// one for each namespace from ours inwards (proc_pid_status(5)).
    fn read(record: &str) -> Self {
        let pids = record.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let mut pids = pids.unwrap_or_default().split_ascii_whitespace();
        match (pids.next().map(str::parse::<u32>), pids.next()) {
            (Some(Ok(1..)), None) => Self::Ours,
            (Some(Ok(1..)), Some(_)) => Self::Nested,
            (Some(Ok(0) | Err(_)) | None, _) => Self::Unknown,
        }
    }
}

/// The groups that a peer is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Groups {
    /// Nothing tells them.
    Unknown,
    /// All of them, in the connection's own memory: the usual case costs no allocation.
    Few { list: [u32; Groups::INLINE], length: usize },
    /// All of them.
    Many(Box<[u32]>),
}

impl Groups {
    /// Most users are in a handful of groups.
    pub(crate) const INLINE: usize = 8;

    /// The list, if it is known.
    pub(crate) fn known(&self) -> Option<&[u32]> {
        match self {
            Self::Unknown => None,
            Self::Few { list, length } => list.get(..*length),
            Self::Many(list) => Some(list),
        }
    }
}

impl From<&[u32]> for Groups {
    fn from(groups: &[u32]) -> Self {
        let mut list = [0; Self::INLINE];
        match list.get_mut(..groups.len()) {
            Some(start) => {
                start.copy_from_slice(groups);
                Self::Few { list, length: groups.len() }
            }
            None => Self::Many(groups.into()),
        }
    }
}

impl PeerFacts {
    /// Whether the peer is in a group, if that is known.
    pub(crate) fn in_group(&self, gid: u32) -> Option<bool> {
        if self.gid == Some(gid) {
            return Some(true);
        }
        self.groups.known().map(|groups| groups.contains(&gid))
    }
}

#[cfg(test)]
mod tests;
