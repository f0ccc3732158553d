//! Peers of the loopback listener.
//!
//! TCP has no credentials; the kernel's socket diagnosis (sock_diag(7)) tells who made the peer's socket. An
//! answer counts only when it is about exactly the peer's socket, that socket is an established connection
//! that a process holds, and our own end is established *afterwards*: as long as that is so, no other socket
//! can have the peer's address and port towards ours. It is the second factor beside a token, never alone.

mod diagnosis;

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use dvx_proto::agent::Transport;

pub(super) use diagnosis::Diagnosis;

use super::{Groups, OVERFLOW_UID, PeerContext, PeerError, PeerFacts, PidNamespace, Unidentified, sys};
use crate::clock::Monotonic;
use crate::policy::Rules;

/// `TCP_ESTABLISHED` of the kernel's `tcp_states.h`.
pub(super) const ESTABLISHED: u8 = 1;

/// Reads whose socket is at the other end. To be called right after accept, once.
///
/// Where [`Rules::needs_owner`] then says so, [`owner::prove`](super::owner::prove) has to follow.
pub(crate) fn identify(
    socket: BorrowedFd<'_>,
    peer: SocketAddr,
    local: SocketAddr,
    context: &PeerContext,
    rules: &Rules,
    now: Monotonic,
) -> Result<PeerFacts, Unidentified> {
    facts(socket, peer, local, context, rules, now).map_err(|reason| Unidentified {
        transport: Transport::Tcp,
        uid: None,
        gid: None,
        pid: None,
        reason,
    })
}

fn facts(
    socket: BorrowedFd<'_>,
    peer: SocketAddr,
    local: SocketAddr,
    context: &PeerContext,
    rules: &Rules,
    now: Monotonic,
) -> Result<PeerFacts, PeerError> {
    let (peer, local) = (canonical(peer), canonical(local));
    if !peer.ip().is_loopback() || !local.ip().is_loopback() {
        return Err(PeerError::NotLoopback);
    }
    let owner = context.diagnosis.owner_of(peer, local)?;
    own_end_is_established(socket)?;
    if matches!(owner.uid, OVERFLOW_UID | u32::MAX) {
        return Err(PeerError::Nobody);
    }
    Ok(PeerFacts {
        transport: Transport::Tcp,
        uid: owner.uid,
        gid: None,
        groups: Groups::Unknown,
        pid: None,
        cgroup: owner.cgroup.and_then(|id| context.cgroup_path(id, owner.uid, rules, now)),
        namespace: PidNamespace::Unknown,
        socket: Some(owner.inode),
    })
}

/// Whether our end of the connection is one still. To be asked after anything that was looked up by address.
pub(super) fn own_end_is_established(socket: BorrowedFd<'_>) -> Result<(), PeerError> {
    match sys::tcp_state(socket) {
        Ok(ESTABLISHED) => Ok(()),
        Ok(state) => Err(PeerError::OwnEndClosed(state)),
        Err(errno) => Err(PeerError::Diagnosis(errno)),
    }
}

/// One form for an address: IPv4 may come dressed as IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
