//! Files that nobody else may have written, or read.
//!
//! Who writes the configuration owns the broker. So the file and the directories that lead to it must belong
//! to root or to the broker's own user and be writable by nobody else. What was opened is what is checked.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;
use zeroize::Zeroizing;

/// The largest configuration: 10,000 agents fit.
const MAX_BYTES: u64 = 1024 * 1024;

const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Why a file is not read.
#[derive(Debug, Error)]
pub(crate) enum Untrusted {
    #[error("cannot be read: {0}")]
    Io(io::Error),
    #[error("is not a regular file")]
    NotAFile,
    #[error("is larger than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("is not UTF-8")]
    NotText,
    #[error("belongs to uid {0}; expected root or the user that the broker runs as")]
    Owner(u32),
    #[error("is writable by other users (mode {0:04o}); expected at most 0644: chmod go-w")]
    Writable(u32),
    #[error("can be read by other users (mode {0:04o}); expected at most 0640: chmod o-rwx,g-w")]
    Readable(u32),
    #[error("its directory {} belongs to uid {owner}; expected root or the user that the broker runs as", .path.display())]
    DirectoryOwner { path: PathBuf, owner: u32 },
    #[error("its directory {} is writable by other users (mode {mode:04o}); expected at most 0755", .path.display())]
    DirectoryWritable { path: PathBuf, mode: u32 },
}

impl From<io::Error> for Untrusted {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Reads a file that is not secret but must be authentic.
pub(super) fn read_config(path: &Path) -> Result<String, Untrusted> {
    String::from_utf8(read(open(path)?)?).map_err(|_| Untrusted::NotText)
}

/// Reads a file that must be authentic and that nobody else may read. Its group may, as Kubernetes has it.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, Untrusted> {
    const READABLE_BY_OTHERS: u32 = 0o007;
    let file = open(path)?;
    let mode = file.metadata()?.mode() & 0o7777;
    if mode & READABLE_BY_OTHERS != 0 {
        return Err(Untrusted::Readable(mode));
    }
    Ok(Zeroizing::new(read(file)?))
}

fn read(file: File) -> Result<Vec<u8>, Untrusted> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).map_or(true, |length| length > MAX_BYTES) {
        return Err(Untrusted::TooLarge);
    }
    Ok(bytes)
}

fn open(path: &Path) -> Result<File, Untrusted> {
    // Without O_NONBLOCK a FIFO at the path would hold the start for ever.
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Untrusted::NotAFile);
    }
    check_owner(&metadata).map_err(Untrusted::Owner)?;
    check_mode(&metadata).map_err(Untrusted::Writable)?;
    // The directory of the name, and that of the file behind it where the name is a link (Kubernetes).
    let found = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    for path in [Some(std::path::absolute(path)?), found.ok()].into_iter().flatten() {
        if let Some(directory) = path.parent() {
            check_directory(directory)?;
        }
    }
    Ok(file)
}

fn check_directory(path: &Path) -> Result<(), Untrusted> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let metadata = OpenOptions::new().read(true).custom_flags(flags).open(path)?.metadata()?;
    check_owner(&metadata).map_err(|owner| Untrusted::DirectoryOwner { path: path.to_owned(), owner })?;
    // In a sticky directory nobody can replace what belongs to another (inode(7)).
    if metadata.mode() & STICKY == 0 {
        check_mode(&metadata).map_err(|mode| Untrusted::DirectoryWritable { path: path.to_owned(), mode })?;
    }
    Ok(())
}

fn check_owner(metadata: &Metadata) -> Result<(), u32> {
    let owner = metadata.uid();
    let trusted = owner == 0 || owner == rustix::process::geteuid().as_raw();
    if trusted { Ok(()) } else { Err(owner) }
}

fn check_mode(metadata: &Metadata) -> Result<(), u32> {
    let mode = metadata.mode() & 0o7777;
    if mode & WRITABLE_BY_OTHERS == 0 { Ok(()) } else { Err(mode) }
}
