//! Looking at an agent's directories: what is there, in which state. No file is opened here.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use dvx_memory::Arena;
use dvx_proto::AgentName;
use rustix::fs::{self, AtFlags, Dir, Mode, OFlags, Stat, StatVfsMountFlags};
use rustix::io::Errno;

use super::merge::FolderLook;
use super::source::{FileLook, FileStamp, Part, SourceName, Stamp};

/// Where to look, and what to accept.
pub(super) struct Scanner {
    pub(super) root: PathBuf,
    /// Permissions of others that are accepted, as bits of a mode.
    pub(super) allow_mode: u32,
    pub(super) arena: Arena,
}

/// One look at an agent's directories, with handles to read from them.
///
/// Whoever publishes many files at once switches a link, as Kubernetes' AtomicWriter does with `..data`. What is
/// read of a source is nevertheless of one generation: all of its files are looked at before the first is read,
/// and each is read only in the state that was seen, so there is a moment at which all of them were current.
pub(super) struct AgentLook {
    pub(super) credentials: FolderLook,
    pub(super) secrets: FolderLook,
    pub(super) agent_dir: Option<OwnedFd>,
    pub(super) secrets_dir: Option<OwnedFd>,
}

/// What tells one directory from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

/// The directory of an agent's secrets, in its own.
pub(super) const SECRETS: &str = "secrets";

const OTHERS_WRITE: u32 = 0o002;

impl Scanner {
    /// Opens the root. Without it nothing is known about anything.
    pub(super) fn open_root(&self) -> Result<OwnedFd, String> {
        let root = self.root.to_str().ok_or("the path is not UTF-8")?;
        self.open_dir(fs::CWD, root)?.ok_or_else(|| "there is no such directory".to_owned())
    }

    /// Looks at what an agent has.
    pub(super) fn look(&self, root: BorrowedFd<'_>, agent: &AgentName) -> AgentLook {
        let (agent_dir, credentials) = self.list(root, agent.as_str(), in_agent_dir);
        let (secrets_dir, secrets) = match (&agent_dir, &credentials) {
            (Some(dir), _) => self.list(dir.as_fd(), SECRETS, in_secrets_dir),
            // What cannot be read may contain anything.
            (None, Err(why)) => (None, Err(why.clone())),
            (None, Ok(_)) => (None, Ok(BTreeMap::new())),
        };
        AgentLook { credentials, secrets, agent_dir, secrets_dir }
    }

    fn list(
        &self,
        parent: BorrowedFd<'_>,
        name: &str,
        classify: fn(&[u8]) -> Option<(SourceName, Part)>,
    ) -> (Option<OwnedFd>, FolderLook) {
        match self.open_dir(parent, name) {
            Ok(None) => (None, Ok(BTreeMap::new())),
            Ok(Some(dir)) => match list(dir.as_fd(), classify) {
                Ok(stamps) => (Some(dir), Ok(stamps)),
                Err(error) => (None, Err(error.to_string())),
            },
            Err(why) => (None, Err(why)),
        }
    }

    /// Nothing where there is no such directory.
    fn open_dir(&self, parent: BorrowedFd<'_>, name: &str) -> Result<Option<OwnedFd>, String> {
        let dir = match fs::openat(parent, name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let mode = fs::fstat(&dir).map_err(|error| error.to_string())?.st_mode & 0o7777;
        // Kubernetes mounts its volumes read-only, and their directories have mode 1777.
        if mode & OTHERS_WRITE & !self.allow_mode != 0 && !is_read_only(&dir) {
            return Err(format!("other users may write to the directory (mode {mode:04o})"));
        }
        Ok(Some(dir))
    }
}

fn is_read_only(dir: &OwnedFd) -> bool {
    fs::fstatvfs(dir).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn list(
    dir: BorrowedFd<'_>,
    classify: fn(&[u8]) -> Option<(SourceName, Part)>,
) -> Result<BTreeMap<SourceName, Stamp>, Errno> {
    let mut seen: BTreeMap<SourceName, (Option<FileLook>, Option<FileLook>)> = BTreeMap::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let Some((name, part)) = classify(entry.file_name().to_bytes()) else { continue };
        let look = match name {
            SourceName::Odd(_) => Err(Errno::INVAL),
            SourceName::Credential(_) | SourceName::Secret(_) => {
                fs::statat(dir, entry.file_name(), AtFlags::empty()).map(|stat| FileStamp::of(&stat))
            }
        };
        // Gone again, or a link to nothing, which is what Kubernetes leaves for a moment of a removed file.
        if look == Err(Errno::NOENT) {
            continue;
        }
        let (value, facts) = seen.entry(name).or_default();
        match part {
            Part::Value => *value = Some(look),
            Part::Facts => *facts = Some(look),
        }
    }
    // JSON without a token says something about nothing.
    Ok(seen
        .into_iter()
        .filter_map(|(name, (value, facts))| Some((name, Stamp { value: value?, facts })))
        .collect())
}

/// Which part of which source a file of an agent's directory is. Names with a dot in front are other people's,
/// such as Kubernetes' `..data`.
fn in_agent_dir(file: &[u8]) -> Option<(SourceName, Part)> {
    if file.starts_with(b".") || file == SECRETS.as_bytes() {
        return None;
    }
    let text = String::from_utf8_lossy(file);
    let (stem, part) = match (text.strip_suffix(".token"), text.strip_suffix(".json")) {
        (Some(stem), _) => (stem, Part::Value),
        (None, Some(stem)) => (stem, Part::Facts),
        (None, None) => return Some((SourceName::Odd(text.into()), Part::Value)),
    };
    Some(match stem.parse() {
        Ok(provider) => (SourceName::Credential(provider), part),
        Err(_) => (SourceName::Odd(text.into()), Part::Value),
    })
}

/// As [`in_agent_dir`], for the directory of secrets.
fn in_secrets_dir(file: &[u8]) -> Option<(SourceName, Part)> {
    if file.starts_with(b".") {
        return None;
    }
    let text = String::from_utf8_lossy(file);
    let name = text.parse().map_or_else(|_| SourceName::Odd(text.into()), SourceName::Secret);
    Some((name, Part::Value))
}

impl Identity {
    pub(super) fn of(dir: &OwnedFd) -> Option<Self> {
        let stat = fs::fstat(dir).ok()?;
        Some(Self { device: stat.st_dev, inode: stat.st_ino })
    }
}

impl FileStamp {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            mode: stat.st_mode,
            modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// The kernel's types for these differ from one processor to another.
fn nanoseconds(seconds: impl Into<i128>, nanoseconds: impl Into<i128>) -> i128 {
    seconds.into() * 1_000_000_000 + nanoseconds.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_a_file_is() {
        let agent = |file: &str| in_agent_dir(file.as_bytes());
        let gitlab = || SourceName::Credential("gitlab".parse().unwrap());
        assert_eq!(agent("gitlab.token"), Some((gitlab(), Part::Value)));
        assert_eq!(agent("gitlab.json"), Some((gitlab(), Part::Facts)));
        for other in ["secrets", ".gitlab.token", "..data", "..2026_01_01"] {
            assert_eq!(agent(other), None, "{other}");
        }
        for odd in ["GitLab.token", "token", "gitlab.tok", "a b.json", "gitlab.token~"] {
            assert_eq!(agent(odd), Some((SourceName::Odd(odd.into()), Part::Value)), "{odd}");
        }
        assert!(matches!(in_agent_dir(b"\xff.token"), Some((SourceName::Odd(_), _))));

        let secret = |file: &str| in_secrets_dir(file.as_bytes());
        assert_eq!(secret("tls.crt"), Some((SourceName::Secret("tls.crt".parse().unwrap()), Part::Value)));
        assert_eq!(secret("a b"), Some((SourceName::Odd("a b".into()), Part::Value)));
        assert_eq!(secret(".x"), None);
    }

    #[test]
    fn an_odd_name_is_shown_without_its_control_characters() {
        let odd = SourceName::Odd("a\u{1b}[2J\n".into());
        assert_eq!(odd.file(Part::Value), "a\\u{1b}[2J\\n");
    }
}
