//! The processes behind a TCP peer.
//!
//! The kernel tells the user of a TCP peer and not the process, so a group or the pid namespace of root can
//! only be shown for *all* processes of that user that may hold the socket: those that do hold it where their
//! descriptors can be read (which root can, and everybody for themselves), else every one. This reads all of
//! `/proc`, which takes milliseconds, and is done only where a rule asks for it.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::loopback::own_end_is_established;
use super::{PeerError, PeerFacts, PidNamespace, Unidentified};

/// Adds to the facts what is true of every process that may be the peer. Blocks.
pub(crate) fn prove(mut facts: PeerFacts, socket: BorrowedFd<'_>) -> Result<PeerFacts, Unidentified> {
    let proven = Suspects::of(&facts).and_then(|suspects| {
        // While this holds, the socket that the processes were searched for is still the peer's.
        own_end_is_established(socket)?;
        suspects.in_common()
    });
    match proven {
        Ok((groups, namespace)) => {
            facts.groups = groups.as_slice().into();
            facts.namespace = namespace;
            Ok(facts)
        }
        Err(reason) => Err(Unidentified {
            transport: facts.transport,
            uid: Some(facts.uid),
            gid: None,
            pid: None,
            reason,
        }),
    }
}

/// The processes that may hold the peer's socket.
struct Suspects(Vec<Status>);

/// No machine that agents run on has more processes; one that has is not searched to its end.
const MAX_PROCESSES: usize = 32_768;

/// `PROC_PID_INIT_INO` of the kernel's `proc_ns.h`: the pid namespace that sees every process.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

impl Suspects {
    fn of(facts: &PeerFacts) -> Result<Self, PeerError> {
        let inode = facts.socket.ok_or(PeerError::NoOwner)?;
        let link = format!("socket:[{inode}]");
        let sees_everything = std::fs::read_link("/proc/self/ns/pid")
            .is_ok_and(|namespace| namespace == Path::new(INITIAL_PID_NAMESPACE));
        let mut suspects = Vec::new();
        let mut text = Vec::new();
        for (count, entry) in std::fs::read_dir("/proc").map_err(unreadable)?.enumerate() {
            let process = entry.map_err(unreadable)?.path();
            if count == MAX_PROCESSES {
                return Err(PeerError::Processes(Errno::E2BIG));
            }
            let Some(status) = status_of(&process, &mut text)? else { continue };
            if status.kernel_thread || !status.users.contains(&facts.uid) {
                continue;
            }
            match holds(&process, &link) {
                Holds::Yes => suspects.push(status),
                Holds::No => {}
                // One that we cannot even see might be the peer instead.
                Holds::Unknown if !sees_everything => return Err(PeerError::NoOwner),
                Holds::Unknown => suspects.push(status),
            }
        }
        Ok(Self(suspects))
    }

    /// The groups that all are in, and the namespace that all are in.
    fn in_common(self) -> Result<(Vec<u32>, PidNamespace), PeerError> {
        let mut suspects = self.0.into_iter();
        let Status { mut groups, mut namespace, .. } = suspects.next().ok_or(PeerError::NoOwner)?;
        for other in suspects {
            groups.retain(|group| other.groups.contains(group));
            namespace = match (namespace, other.namespace) {
                (PidNamespace::Nested, _) | (_, PidNamespace::Nested) => PidNamespace::Nested,
                (PidNamespace::Unknown, _) | (_, PidNamespace::Unknown) => PidNamespace::Unknown,
                (PidNamespace::Ours, PidNamespace::Ours) => PidNamespace::Ours,
            };
        }
        Ok((groups.into_iter().collect(), namespace))
    }
}

/// `/proc/<pid>/status`, as far as it matters (proc_pid_status(5)).
struct Status {
    /// Real, effective, saved and file system user.
    users: Vec<u32>,
    /// The effective group and the supplementary ones.
    groups: BTreeSet<u32>,
    namespace: PidNamespace,
    kernel_thread: bool,
}

/// Whether a process holds a socket.
enum Holds {
    Yes,
    No,
    /// Its descriptors are none of our business.
    Unknown,
}

/// The status of a process; `None` for what is no process, or not any more.
fn status_of(process: &Path, text: &mut Vec<u8>) -> Result<Option<Status>, PeerError> {
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    if !process.file_name().and_then(|name| name.to_str()).is_some_and(is_number) {
        return Ok(None);
    }
    text.clear();
    let read = std::fs::File::open(process.join("status")).and_then(|mut file| file.read_to_end(text));
    match read {
        // A process may have any bytes in its name.
        Ok(_) => Ok(Some(Status::read(&String::from_utf8_lossy(text)))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(unreadable(error)),
    }
}

impl Status {
    fn read(text: &str) -> Self {
        let numbers = |key: &str| -> Vec<u32> {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_default().split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect()
        };
        let effective = numbers("Gid:").get(1).copied();
        Self {
            users: numbers("Uid:"),
            groups: numbers("Groups:").into_iter().chain(effective).collect(),
            namespace: PidNamespace::read(text),
            kernel_thread: numbers("Kthread:") == [1],
        }
    }
}

fn holds(process: &Path, link: &str) -> Holds {
    match std::fs::read_dir(process.join("fd")) {
        Ok(descriptors) => {
            among(descriptors.map(|entry| entry.and_then(|entry| std::fs::read_link(entry.path()))), link)
        }
        Err(error) if is_gone(&error) => Holds::No,
        Err(_) => Holds::Unknown,
    }
}

/// Looks for a socket among what a process's descriptors lead to. One may have been closed since it was listed.
fn among(targets: impl Iterator<Item = io::Result<PathBuf>>, link: &str) -> Holds {
    for target in targets {
        match target {
            Ok(target) if target == Path::new(link) => return Holds::Yes,
            Ok(_) => {}
            Err(error) if is_gone(&error) => {}
            Err(_) => return Holds::Unknown,
        }
    }
    Holds::No
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32)
}

fn unreadable(error: io::Error) -> PeerError {
    PeerError::Processes(Errno::from_raw(error.raw_os_error().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uid: u32, groups: &str, pids: &str) -> Status {
        Status::read(&format!(
            "Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t7\t8\t9\t9\nGroups:\t{groups} \nNSpid:\t{pids}\n"
        ))
    }

    #[test]
    fn a_status_is_read_by_its_keys() {
        let read = status(1001, "50 60", "12");
        assert_eq!(read.users, [1001; 4]);
        assert_eq!(read.groups, BTreeSet::from([8, 50, 60]), "the effective group, not the real one");
        assert_eq!(read.namespace, PidNamespace::Ours);
        assert!(!read.kernel_thread);
        assert!(Status::read("Kthread:\t1\n").kernel_thread);
        assert_eq!(status(1, "", "12 1").namespace, PidNamespace::Nested);
        assert_eq!(Status::read("").namespace, PidNamespace::Unknown);
    }

    #[test]
    fn a_process_that_is_gone_holds_nothing_and_one_that_cannot_be_read_may() {
        let directory = tempfile::tempdir().unwrap();
        let (gone, unreadable) = (directory.path().join("1"), directory.path().join("2"));
        std::fs::create_dir_all(unreadable.join("status")).unwrap();
        assert!(matches!(status_of(&gone, &mut Vec::new()), Ok(None)));
        assert!(status_of(&unreadable, &mut Vec::new()).is_err());

        assert!(matches!(holds(&gone, "socket:[1]"), Holds::No));
        let descriptors = unreadable.join("fd");
        std::fs::create_dir(&descriptors).unwrap();
        std::os::unix::fs::symlink("socket:[2]", descriptors.join("0")).unwrap();
        assert!(matches!(holds(&unreadable, "socket:[1]"), Holds::No));
        assert!(matches!(holds(&unreadable, "socket:[2]"), Holds::Yes));
        std::fs::remove_file(descriptors.join("0")).unwrap();
        std::fs::write(descriptors.join("1"), "no link").unwrap();
        assert!(matches!(holds(&unreadable, "socket:[1]"), Holds::Unknown));
    }

    #[test]
    fn a_descriptor_closed_meanwhile_is_passed_over_and_one_that_cannot_be_read_may_be_the_socket() {
        let socket = || Ok(PathBuf::from("socket:[1]"));
        let failed = |errno: Errno| Err(io::Error::from_raw_os_error(errno as i32));
        for gone in [Errno::ENOENT, Errno::ESRCH] {
            assert!(matches!(among([failed(gone)].into_iter(), "socket:[1]"), Holds::No), "{gone}");
            assert!(
                matches!(among([failed(gone), socket()].into_iter(), "socket:[1]"), Holds::Yes),
                "{gone}"
            );
        }
        assert!(matches!(among([failed(Errno::EACCES)].into_iter(), "socket:[1]"), Holds::Unknown));
    }

    #[test]
    fn only_what_is_true_of_all_suspects_is_proven() {
        let common = |list: Vec<Status>| Suspects(list).in_common();
        assert_eq!(common(vec![]), Err(PeerError::NoOwner));
        assert_eq!(common(vec![status(1, "50 60", "3")]), Ok((vec![8, 50, 60], PidNamespace::Ours)));
        let two = vec![status(1, "50 60", "3"), status(1, "60 70", "4 1")];
        assert_eq!(common(two), Ok((vec![8, 60], PidNamespace::Nested)));
        let unknown = vec![status(1, "50", "3"), status(1, "", "")];
        assert_eq!(common(unknown), Ok((vec![8], PidNamespace::Unknown)));
    }
}
