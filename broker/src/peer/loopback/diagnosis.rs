//! One question to the kernel's socket diagnosis, and its answer (`uapi/linux/inet_diag.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send, socket,
};

use super::super::PeerError;
use super::ESTABLISHED;

/// The way to the socket diagnosis.
pub(in crate::peer) enum Diagnosis {
    /// There is no loopback listener.
    Off,
    Open(Mutex<Inquiry>),
    Unavailable(Errno),
}

/// Who made a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) inode: u32,
    /// The cgroup v2 that the maker was in at that time (`INET_DIAG_CGROUP_ID`, Linux 5.8).
    pub(super) cgroup: Option<u64>,
}

/// A netlink socket that is used for one question after the other.
pub(in crate::peer) struct Inquiry {
    netlink: OwnedFd,
    sequence: u32,
}

impl Diagnosis {
    pub(in crate::peer) fn open() -> Self {
        match Inquiry::open() {
            Ok(inquiry) => Self::Open(Mutex::new(inquiry)),
            Err(errno) => Self::Unavailable(errno),
        }
    }

    /// Asks for the socket that has the address `peer` and is connected to `local`.
    pub(super) fn owner_of(&self, peer: SocketAddr, local: SocketAddr) -> Result<Owner, PeerError> {
        match self {
            Self::Off => Err(PeerError::LoopbackOff),
            Self::Unavailable(errno) => Err(PeerError::NoDiagnosis(*errno)),
            // A question that was left unanswered does no harm: its number is never expected again.
            Self::Open(inquiry) => {
                inquiry.lock().unwrap_or_else(PoisonError::into_inner).owner_of(peer, local)
            }
        }
    }
}

impl Inquiry {
    fn open() -> Result<Self, Errno> {
        let netlink = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkSockDiag,
        )?;
        // From here on it takes messages of the kernel only.
        connect(netlink.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self { netlink, sequence: 0 })
    }

    fn owner_of(&mut self, peer: SocketAddr, local: SocketAddr) -> Result<Owner, PeerError> {
        self.sequence = self.sequence.wrapping_add(1);
        let fd = self.netlink.as_raw_fd();
        send(fd, &question(peer, local, self.sequence), MsgFlags::empty()).map_err(PeerError::Diagnosis)?;
        let mut buffer = [0; ANSWER_SIZE];
        // The kernel answers before `send` returns: what is not there now will not come. Answers that an
        // earlier, interrupted question left behind are passed over.
        for _ in 0..MAX_LEFT_BEHIND {
            let length = recv(fd, &mut buffer, MsgFlags::MSG_DONTWAIT).map_err(PeerError::Diagnosis)?;
            let message = buffer.get(..length).unwrap_or_default();
            if sequence_of(message) == Some(self.sequence) {
                return owner_in(message, peer, local);
            }
        }
        Err(PeerError::MalformedAnswer)
    }
}

/// An answer with all its attributes has under 400 bytes.
const ANSWER_SIZE: usize = 4096;

const MAX_LEFT_BEHIND: usize = 16;

/// `SOCK_DIAG_BY_FAMILY`: the type of the question and of the answer.
const BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
/// The attribute that every answer about a TCP socket has since Linux 5.8.
const CGROUP_ID: u16 = 21;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_msg`.
const BODY: usize = 72;
/// The header and `struct inet_diag_req_v2`.
const QUESTION: usize = 72;

/// Composes the question. Its source is the peer's end, its destination ours: the other way round the answer
/// would be our own socket.
fn question(peer: SocketAddr, local: SocketAddr, sequence: u32) -> [u8; QUESTION] {
    let family = if peer.is_ipv4() { AF_INET } else { AF_INET6 };
    let all_states = u32::MAX.to_ne_bytes();
    let any_interface = [0; 4];
    let no_cookie = [0xff; 8];
    let mut message = [0; QUESTION];
    let parts: [&[u8]; 13] = [
        &(QUESTION as u32).to_ne_bytes(),
        &BY_FAMILY.to_ne_bytes(),
        &NLM_F_REQUEST.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &[0; 4],
        &[family, IPPROTO_TCP, 0, 0],
        &all_states,
        &peer.port().to_be_bytes(),
        &local.port().to_be_bytes(),
        &octets(peer.ip()),
        &octets(local.ip()),
        &any_interface,
        &no_cookie,
    ];
    for (place, byte) in message.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *byte;
    }
    message
}

/// An address as `idiag_src` and `idiag_dst` hold it: IPv4 in the first four bytes.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// The number of the question that a message answers.
fn sequence_of(message: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(array(message, 8)?))
}

/// Reads an answer, and takes it only if it is about the peer's end of a living connection.
fn owner_in(message: &[u8], peer: SocketAddr, local: SocketAddr) -> Result<Owner, PeerError> {
    let length = array(message, 0).map(u32::from_ne_bytes).and_then(|length| usize::try_from(length).ok());
    let kind = array(message, 4).map(u16::from_ne_bytes);
    let (Some(length), Some(kind)) = (length, kind) else { return Err(PeerError::MalformedAnswer) };
    let content = message.get(HEADER..length).ok_or(PeerError::MalformedAnswer)?;
    match kind {
        BY_FAMILY => {}
        NLMSG_ERROR => return Err(refusal(content)),
        _ => return Err(PeerError::MalformedAnswer),
    }
    let Some((body, attributes)) = content.split_at_checked(BODY) else {
        return Err(PeerError::MalformedAnswer);
    };
    let socket = Described::read(body).ok_or(PeerError::MalformedAnswer)?;
    if (socket.source, socket.destination) != (peer, local) {
        return Err(PeerError::OtherSocket);
    }
    if socket.state != ESTABLISHED {
        return Err(PeerError::NotEstablished(socket.state));
    }
    if socket.inode == 0 {
        return Err(PeerError::Orphan);
    }
    Ok(Owner { uid: socket.uid, inode: socket.inode, cgroup: cgroup_in(attributes) })
}

/// `struct nlmsgerr` begins with a negative errno.
fn refusal(content: &[u8]) -> PeerError {
    match array(content, 0).map(i32::from_ne_bytes) {
        Some(code) => match Errno::from_raw(code.saturating_neg()) {
            Errno::ENOENT => PeerError::UnknownSocket,
            errno => PeerError::Diagnosis(errno),
        },
        None => PeerError::MalformedAnswer,
    }
}

/// `struct inet_diag_msg`, as far as it matters.
struct Described {
    state: u8,
    source: SocketAddr,
    destination: SocketAddr,
    uid: u32,
    inode: u32,
}

impl Described {
    fn read(body: &[u8]) -> Option<Self> {
        let [family, state] = array(body, 0)?;
        let address = |port: usize, place: usize| {
            let port = u16::from_be_bytes(array(body, port)?);
            Some(SocketAddr::new(address(family, array(body, place)?)?, port))
        };
        Some(Self {
            state,
            source: address(4, 8)?,
            destination: address(6, 24)?,
            uid: u32::from_ne_bytes(array(body, 64)?),
            inode: u32::from_ne_bytes(array(body, 68)?),
        })
    }
}

/// An address in its one form: an IPv6 socket that speaks IPv4 answers with mapped addresses.
fn address(family: u8, octets: [u8; 16]) -> Option<IpAddr> {
    match family {
        AF_INET => {
            let [a, b, c, d, ..] = octets;
            Some(Ipv4Addr::new(a, b, c, d).into())
        }
        AF_INET6 => Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical()),
        _ => None,
    }
}

/// Looks for the cgroup among the attributes: each is its length, its type and its value, padded to four.
fn cgroup_in(mut attributes: &[u8]) -> Option<u64> {
    loop {
        let length = usize::from(u16::from_ne_bytes(array(attributes, 0)?));
        if u16::from_ne_bytes(array(attributes, 2)?) == CGROUP_ID {
            return (length == 12).then_some(u64::from_ne_bytes(array(attributes, 4)?));
        }
        // A length below that of its own header would never end.
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests;
