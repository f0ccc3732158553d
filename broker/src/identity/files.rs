//! The file from which each agent reads its current token: `<agents>/<agent>/token`.
//!
//! Everything is opened relative to a directory that was looked at through its own descriptor, and nothing is
//! followed, so a link put in the way gets no token.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use dvx_proto::AgentName;
use jiff::Timestamp;
use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, fchmod, fstat, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use thiserror::Error;

use super::acl::{self, Guest, READ, Rights, SEARCH, WRITE};
use super::{IssueError, IssuedToken, Issuer};
use crate::policy::{AgentRule, Rules};

/// Keeps a fresh token in the file of each agent.
pub(crate) struct TokenFiles {
    path: PathBuf,
    written: HashMap<AgentName, Written>,
    /// What an earlier broker left behind has been looked through.
    swept: bool,
}

/// What is wrong with one agent's file, or with all of them.
#[derive(Debug, Error)]
#[error("{}: {cause}", path.display())]
pub(crate) struct TokenFileProblem {
    pub(crate) path: PathBuf,
    pub(crate) cause: TokenFileError,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum TokenFileError {
    #[error("cannot {0}: {1}")]
    System(&'static str, Errno),
    #[error("is not a directory")]
    NotDirectory,
    #[error("belongs to uid {0}, not to the broker")]
    Foreign(u32),
    #[error("others can write to it (mode {0:04o})")]
    Writable(u32),
    #[error("the file system has no access control lists, so no other user can be let in")]
    NoAcl,
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// A token that lies in its file.
struct Written {
    uid: u32,
    gid: Option<u32>,
    issued_at: Timestamp,
    renew_at: Timestamp,
    stamp: Stamp,
}

/// What changes when somebody else touches a file; inodes alone are used again.
#[derive(PartialEq, Eq)]
struct Stamp {
    inode: u64,
    mode: u32,
    size: i64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(directory: BorrowedFd<'_>, path: &str) -> Result<Self, Errno> {
        let stat = statat(directory, path, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Self {
            inode: stat.st_ino,
            mode: stat.st_mode,
            size: stat.st_size,
            changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)),
        })
    }
}

const TOKEN: &str = "token";
/// Becomes [`TOKEN`] once it is whole.
const NEW_TOKEN: &str = ".token.new";

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl TokenFiles {
    /// Under this directory, which is made with the first token.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, written: HashMap::new(), swept: false }
    }

    /// Renews what is due: tokens past half their life, files that are gone, agents that are new or changed.
    /// Removes what belongs to no agent any more. To be called every few seconds; mostly it does nothing.
    pub(crate) fn refresh(
        &mut self,
        rules: &Rules,
        issuer: &Issuer,
        now: Timestamp,
    ) -> Vec<TokenFileProblem> {
        let root = match open_root(&self.path) {
            Ok(root) => root,
            Err(cause) => return vec![TokenFileProblem { path: self.path.clone(), cause }],
        };
        let mut problems = Vec::new();
        for rule in rules.iter() {
            if self.is_fresh(root.as_fd(), rule, now) {
                continue;
            }
            match write(root.as_fd(), rule, issuer, now) {
                Ok(written) => {
                    self.written.insert(rule.name.clone(), written);
                }
                Err(cause) => {
                    self.written.remove(&rule.name);
                    problems.push(TokenFileProblem { path: self.path.join(rule.name.as_str()), cause });
                }
            }
        }
        self.sweep(root.as_fd(), rules);
        problems
    }

    /// Removes every token, when the broker ends and they with it.
    pub(crate) fn remove_all(&mut self) {
        if let Ok(root) = open_root(&self.path) {
            self.sweep(root.as_fd(), &Rules::default());
        }
    }

    fn is_fresh(&self, root: BorrowedFd<'_>, rule: &AgentRule, now: Timestamp) -> bool {
        self.written.get(&rule.name).is_some_and(|written| {
            let for_this_agent = (written.uid, written.gid) == (rule.uid, rule.gid);
            // A clock that was set back makes it one of the future.
            let in_first_half = (written.issued_at..written.renew_at).contains(&now);
            for_this_agent
                && in_first_half
                && Stamp::of(root, &format!("{}/{TOKEN}", rule.name))
                    .is_ok_and(|stamp| stamp == written.stamp)
        })
    }

    /// Removes the directories of agents that are gone, here or since an earlier broker made them.
    fn sweep(&mut self, root: BorrowedFd<'_>, rules: &Rules) {
        let agents: HashSet<&AgentName> = rules.iter().map(|rule| &rule.name).collect();
        if self.swept && self.written.keys().all(|name| agents.contains(name)) {
            return;
        }
        self.swept = true;
        self.written.retain(|name, _| agents.contains(name));
        for name in names_in(root).unwrap_or_default() {
            if name.parse().is_ok_and(|name: AgentName| !agents.contains(&name)) {
                remove(root, &name);
            }
        }
    }
}

/// Opens the directory above all others, or makes it: everybody may pass through, nobody may look around.
fn open_root(path: &Path) -> Result<OwnedFd, TokenFileError> {
    let made = match mkdirat(CWD, path, Mode::from_raw_mode(0o711)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(TokenFileError::System("make it", errno)),
    };
    let root = open_directory(CWD, path)?;
    if made {
        // The process's umask took away what the others need.
        fchmod(&root, Mode::from_raw_mode(0o711))
            .map_err(|errno| TokenFileError::System("open it up", errno))?;
    }
    Ok(root)
}

/// Opens a directory that is ours and that nobody else can write to.
fn open_directory(parent: BorrowedFd<'_>, path: impl rustix::path::Arg) -> Result<OwnedFd, TokenFileError> {
    let directory = openat(parent, path, DIRECTORY, Mode::empty()).map_err(|errno| match errno {
        Errno::NOTDIR | Errno::LOOP => TokenFileError::NotDirectory,
        errno => TokenFileError::System("open it", errno),
    })?;
    let stat = fstat(&directory).map_err(|errno| TokenFileError::System("look at it", errno))?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(TokenFileError::Foreign(stat.st_uid));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(TokenFileError::Writable(stat.st_mode & 0o7777));
    }
    Ok(directory)
}

/// Puts a new token in an agent's file.
fn write(
    root: BorrowedFd<'_>,
    rule: &AgentRule,
    issuer: &Issuer,
    now: Timestamp,
) -> Result<Written, TokenFileError> {
    let name = rule.name.as_str();
    match mkdirat(root, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(TokenFileError::System("make it", errno)),
    }
    let directory = open_directory(root, name)?;
    let (reader, visitor) = guests(rule);
    acl::admit(&directory, visitor, Rights { owner: READ | WRITE | SEARCH, guest: SEARCH })
        .map_err(refused_acl)?;
    let IssuedToken { token, issued_at, expires_at } = issuer.issue(&rule.name, rule.uid, now)?;
    let stamp = replace(directory.as_fd(), reader, token.as_bytes())?;
    let half_life = (expires_at - issued_at) / 2;
    Ok(Written { uid: rule.uid, gid: rule.gid, issued_at, renew_at: issued_at + half_life, stamp })
}

/// Who may read the file, and who may enter its directory: with a group selector it takes both.
fn guests(rule: &AgentRule) -> (Guest, Guest) {
    if rule.uid == rustix::process::geteuid().as_raw() {
        return (Guest::Nobody, Guest::Nobody);
    }
    let reader = Guest::User(rule.uid);
    (reader, rule.gid.map_or(reader, Guest::Group))
}

/// Replaces the token at once and whole.
fn replace(directory: BorrowedFd<'_>, reader: Guest, token: &[u8]) -> Result<Stamp, TokenFileError> {
    let failed = |what| move |errno| TokenFileError::System(what, errno);
    match unlinkat(directory, NEW_TOKEN, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(TokenFileError::System("remove an old .token.new in it", errno)),
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        openat(directory, NEW_TOKEN, flags, Mode::RUSR | Mode::WUSR).map_err(failed("make a file in it"))?;
    acl::admit(&file, reader, Rights { owner: READ | WRITE, guest: READ }).map_err(refused_acl)?;
    File::from(file).write_all(token).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        TokenFileError::System("write a file in it", errno)
    })?;
    renameat(directory, NEW_TOKEN, directory, TOKEN).map_err(failed("replace the token in it"))?;
    Stamp::of(directory, TOKEN).map_err(failed("look at the token in it"))
}

fn refused_acl(errno: Errno) -> TokenFileError {
    match errno {
        Errno::OPNOTSUPP => TokenFileError::NoAcl,
        errno => TokenFileError::System("let its agent in", errno),
    }
}

/// Removes an agent's directory, if it is ours and holds nothing that we did not put there.
fn remove(root: BorrowedFd<'_>, name: &str) {
    let Ok(directory) = open_directory(root, name) else { return };
    let Some(content) = names_in(directory.as_fd()) else { return };
    if !content.iter().all(|name| name == TOKEN || name == NEW_TOKEN) {
        return;
    }
    let removed = content
        .iter()
        .try_for_each(|name| unlinkat(&directory, name.as_str(), AtFlags::empty()))
        .and_then(|()| unlinkat(root, name, AtFlags::REMOVEDIR));
    if let Err(errno) = removed {
        tracing::warn!(agent = name, %errno, "the token file of an agent that is gone cannot be removed");
    }
}

/// The names in a directory; `None` when it cannot be read to its end.
fn names_in(directory: BorrowedFd<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory).ok()? {
        let name = entry.ok()?.file_name().to_string_lossy().into_owned();
        if !matches!(name.as_str(), "." | "..") {
            names.push(name);
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests;
