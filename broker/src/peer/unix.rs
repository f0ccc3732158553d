//! Peers of the Unix socket.
//!
//! The credentials of a connection are those of whoever connected, at that moment, however the descriptor
//! travels afterwards. They suffice for users and groups. What is told of the *process* comes from a pidfd
//! that the kernel attached to the connection, never by its number, and counts only if that process is still
//! alive and still belongs to the user that connected.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use dvx_proto::agent::Transport;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};

use super::{
    Groups, OVERFLOW_UID, PeerContext, PeerError, PeerFacts, PidNamespace, Pidfd, Unidentified, sys,
};
use crate::clock::Monotonic;
use crate::policy::Rules;

/// Whether this kernel tells about processes by their pidfd: it is asked about ourselves.
pub(super) fn probe() -> Pidfd {
    let told = UnixStream::pair().is_ok_and(|(near, _far)| {
        let asked = Connector::of(near.as_fd()).map(|connector| process(near.as_fd(), &connector));
        matches!(asked, Ok(Ok(_)))
    });
    if told { Pidfd::Used } else { Pidfd::Unused }
}

/// `SO_PEERCRED` (unix(7)): the process that connected, as it was then.
pub(crate) struct Connector {
    pid: u32,
    pub(crate) uid: u32,
    gid: u32,
}

impl Connector {
    /// Reads which user is connected.
    pub(crate) fn of(socket: BorrowedFd<'_>) -> Result<Self, Unidentified> {
        let credentials = getsockopt(&socket, sockopt::PeerCredentials);
        credentials
            .and_then(|told| {
                let pid = u32::try_from(told.pid()).map_err(|_| Errno::ESRCH)?;
                Ok(Self { pid, uid: told.uid(), gid: told.gid() })
            })
            .map_err(|errno| Unidentified {
                transport: Transport::Unix,
                uid: None,
                gid: None,
                pid: None,
                reason: PeerError::Credentials(errno),
            })
    }

    /// Reads all else that is told of the same connection. To be called right after accept, once.
    pub(crate) fn identify(
        &self,
        socket: BorrowedFd<'_>,
        context: &PeerContext,
        rules: &Rules,
        now: Monotonic,
    ) -> Result<PeerFacts, Unidentified> {
        facts(socket, self, context, rules, now).map_err(|reason| Unidentified {
            transport: Transport::Unix,
            uid: Some(self.uid),
            gid: Some(self.gid),
            pid: Some(self.pid),
            reason,
        })
    }
}

/// What the connector's process is now.
struct Process {
    cgroup: Option<u64>,
    namespace: PidNamespace,
}

fn facts(
    socket: BorrowedFd<'_>,
    connector: &Connector,
    context: &PeerContext,
    rules: &Rules,
    now: Monotonic,
) -> Result<PeerFacts, PeerError> {
    if connector.pid == 0 {
        return Err(PeerError::OutsidePidNamespace);
    }
    if matches!(connector.uid, OVERFLOW_UID | u32::MAX) {
        return Err(PeerError::Nobody);
    }
    let groups = match sys::peer_groups(socket) {
        Ok(groups) => groups,
        Err(Errno::ENOPROTOOPT) => Groups::Unknown,
        Err(errno) => return Err(PeerError::Credentials(errno)),
    };
    let process = match context.pidfd {
        Pidfd::Used => {
            let (process, pidfd) = process(socket, connector)?;
            context.keep(pidfd);
            process
        }
        Pidfd::Unused => Process { cgroup: None, namespace: PidNamespace::Unknown },
    };
    Ok(PeerFacts {
        transport: Transport::Unix,
        uid: connector.uid,
        gid: Some(connector.gid),
        groups,
        pid: Some(connector.pid),
        cgroup: process.cgroup.and_then(|id| context.cgroup_path(id, connector.uid, rules, now)),
        namespace: process.namespace,
        socket: None,
    })
}

fn process(socket: BorrowedFd<'_>, connector: &Connector) -> Result<(Process, OwnedFd), PeerError> {
    let owned = getsockopt(&socket, sockopt::PeerPidfd).map_err(|errno| match errno {
        // Reaped before Linux 6.16, and since.
        Errno::EINVAL | Errno::ESRCH => PeerError::Gone,
        other => PeerError::Pidfd(other),
    })?;
    let pidfd = owned.as_fd();
    let info = sys::process_info(pidfd).map_err(|errno| match errno {
        Errno::ESRCH => PeerError::Gone,
        Errno::EREMOTE => PeerError::OutsidePidNamespace,
        other => PeerError::ProcessInfo(other),
    })?;
    let real = info.real_uid.ok_or(PeerError::Gone)?;
    if info.pid != connector.pid {
        return Err(PeerError::OtherProcess { connected: connector.pid, found: info.pid });
    }
    if real != connector.uid {
        return Err(PeerError::ChangedUser { connected: connector.uid, real });
    }
    let namespace = if connector.uid == 0 { pid_namespace(pidfd) } else { PidNamespace::Unknown };
    let mut ended = [PollFd::new(pidfd, PollFlags::POLLIN)];
    match poll(&mut ended, PollTimeout::ZERO) {
        Ok(0) => Ok((Process { cgroup: info.cgroup, namespace }, owned)),
        Ok(_) => Err(PeerError::Gone),
        Err(errno) => Err(PeerError::ProcessInfo(errno)),
    }
}

/// Reads the pids that a process has, one for each namespace from ours inwards, from the pidfd's own record
/// (proc_pid_fdinfo(5)).
fn pid_namespace(pidfd: BorrowedFd<'_>) -> PidNamespace {
    match std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())) {
        Ok(record) => PidNamespace::read(&record),
        Err(_) => PidNamespace::Unknown,
    }
}
