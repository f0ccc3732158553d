//! The processes of the enclave, and the users of its machine.

use std::cell::Cell;

use dvx_proto::agent::Transport;
use nix::errno::Errno;

use crate::api::Peer;
use crate::peer::{Groups, PeerFacts, PidNamespace};

#[derive(Debug)]
pub(super) struct Caller {
    pub(super) uid: u32,
    pub(super) unit: Option<&'static str>,
    pub(super) groups: &'static [u32],
}

pub(super) const CALLERS: [Caller; 7] = [
    Caller { uid: 1001, unit: Some("a.service"), groups: &[50] },
    Caller { uid: 1001, unit: Some("b.service"), groups: &[] },
    Caller { uid: 1002, unit: Some("a.service"), groups: &[7] },
    Caller { uid: 1002, unit: Some("b.service"), groups: &[50, 7] },
    Caller { uid: 1003, unit: None, groups: &[] },
    Caller { uid: 1004, unit: Some("a.service"), groups: &[50] },
    Caller { uid: 1005, unit: None, groups: &[50] },
];

impl Caller {
    /// As the kernel would describe it.
    pub(super) fn peer(&self) -> Peer {
        let cgroup =
            self.unit.map_or_else(|| "/user.slice/x".to_owned(), |unit| format!("/system.slice/{unit}"));
        let facts = PeerFacts {
            transport: Transport::Unix,
            uid: self.uid,
            gid: Some(100),
            groups: Groups::from(self.groups),
            pid: Some(4242),
            cgroup: Some(cgroup.into()),
            namespace: PidNamespace::Unknown,
            socket: None,
        };
        Peer { transport: Transport::Unix, tcp_port: 0, identity: Ok(facts) }
    }
}

thread_local! {
    /// Whether the user `late` has been made.
    static LATE: Cell<bool> = const { Cell::new(false) };
}

const LATE_UID: u32 = 1004;

pub(super) fn make_late_user(made: bool) {
    LATE.set(made);
}

/// The number of a user, or of one who may not have been found when looked up.
pub(super) fn uid_of(user: &str) -> Result<Option<u32>, u32> {
    match user {
        "late" => {
            if LATE.get() {
                Err(LATE_UID)
            } else {
                Ok(None)
            }
        }
        "1001" => Ok(Some(1001)),
        _ => Ok(user
            .strip_prefix("agent")
            .and_then(|number| number.parse::<u32>().ok())
            .map(|number| 1000 + number)),
    }
}

/// The machine's name service.
pub(super) fn look_up(user: &str) -> Result<Option<u32>, Errno> {
    Ok(uid_of(user).unwrap_or_else(Some))
}
