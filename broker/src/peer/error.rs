//! Why a peer cannot be told.

use dvx_proto::agent::Transport;
use nix::errno::Errno;
use thiserror::Error;

/// A peer that the kernel does not name well enough to be anybody's agent. Its requests are refused, not its
/// connection: it is told why.
#[derive(Debug, Clone, Error)]
#[error("{reason}")]
pub(crate) struct Unidentified {
    pub(crate) transport: Transport,
    /// For the record and for counting connections; it proves nothing.
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) pid: Option<u32>,
    pub(crate) reason: PeerError,
}

/// The reasons, fit for the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum PeerError {
    #[error("the kernel does not give the peer's credentials: {0}")]
    Credentials(Errno),
    #[error("the peer's user has no number in this user namespace")]
    Nobody,
    #[error("the peer's process is in a pid namespace that cannot be seen from here")]
    OutsidePidNamespace,
    #[error("the process that connected is gone")]
    Gone,
    #[error("the kernel does not give a pidfd of the peer: {0}")]
    Pidfd(Errno),
    #[error("the kernel does not tell about the peer's process: {0}")]
    ProcessInfo(Errno),
    #[error("the process behind the socket is {found}, not {connected} that connected")]
    OtherProcess { connected: u32, found: u32 },
    #[error("the peer connected as uid {connected} but is run by uid {real}")]
    ChangedUser { connected: u32, real: u32 },

    #[error("TCP peers are not told apart here: the loopback listener is off")]
    LoopbackOff,
    #[error("TCP peers cannot be told apart here: no socket diagnosis ({0})")]
    NoDiagnosis(Errno),
    #[error("the connection does not come from a loopback address")]
    NotLoopback,
    #[error("the kernel does not know the peer's socket; it is closed, or in another network namespace")]
    UnknownSocket,
    #[error("the kernel does not tell who owns the peer's socket: {0}")]
    Diagnosis(Errno),
    #[error("the kernel's answer about the peer's socket cannot be read")]
    MalformedAnswer,
    #[error("the kernel's answer is about another socket than the peer's")]
    OtherSocket,
    #[error("the peer's socket is not an established connection (state {0})")]
    NotEstablished(u8),
    #[error("the peer's socket belongs to no process any more")]
    Orphan,
    #[error("the connection is over on our side (state {0})")]
    OwnEndClosed(u8),

    #[error("no process of the peer's user can be shown to hold the peer's socket")]
    NoOwner,
    #[error("the processes of the peer's user cannot be looked through: {0}")]
    Processes(Errno),
}
