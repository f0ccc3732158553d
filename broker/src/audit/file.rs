//! The file that audit lines go to.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dvx_proto::EnclaveName;

use super::AuditError;
use super::line::Head;
use super::tail::{End, Tail};

/// An open log that only this process appends to.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// The length up to the last whole line.
    length: u64,
}

impl LogFile {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens or creates the log. The end is that of its chain: in it, or in the newest one beside it that a
    /// rotation left there.
    pub(super) fn open(path: &Path, enclave: &EnclaveName) -> Result<(Self, Option<End>), AuditError> {
        let file = open(path)?;
        lock(&file, path)?;
        let tail = Tail::read(&file).map_err(failed("read", path))?;
        let (end, torn) = match tail {
            Tail::Line { end, torn } => (Some(end), torn),
            Tail::Empty { torn } => (newest_sibling(path, enclave), torn),
            Tail::Foreign => return Err(AuditError::NotALog(path.to_owned())),
        };
        let length = file.metadata().map_err(failed("read", path))?.len() - torn;
        if torn > 0 {
            file.set_len(length).map_err(failed("truncate", path))?;
            tracing::warn!(file = %path.display(), bytes = torn, "cut off an audit line that was never finished");
        }
        Ok((Self { path: path.to_owned(), file, length }, end))
    }

    /// Appends whole lines by one write(2), or leaves the file as it was.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), AuditError> {
        let written = loop {
            match rustix::io::write(&self.file, lines) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other,
            }
        };
        match written {
            Ok(written) if written == lines.len() => {
                self.length += written as u64;
                Ok(())
            }
            Ok(_) => {
                self.cut()?;
                Err(AuditError::Full(self.path.clone()))
            }
            Err(error) => {
                self.cut()?;
                Err(failed("write to", &self.path)(error.into()))
            }
        }
    }

    /// Takes back a part of what was to be written. The next write must not follow it.
    fn cut(&mut self) -> Result<(), AuditError> {
        let cut = || {
            if self.file.metadata()?.len() > self.length { self.file.set_len(self.length) } else { Ok(()) }
        };
        cut().map_err(failed("truncate", &self.path))
    }

    /// Switches to the file that has the name now, unless that is the one already.
    pub(super) fn reopen(&mut self, head: &Head) -> Result<(), AuditError> {
        let file = open(&self.path)?;
        let identity = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        let unchanged = identity(&file).and_then(|new| Ok(new == identity(&self.file)?));
        if unchanged.map_err(failed("read", &self.path))? {
            return Ok(());
        }
        lock(&file, &self.path)?;
        match Tail::read(&file).map_err(failed("read", &self.path))? {
            Tail::Empty { torn: 0 } => {}
            Tail::Line { end, torn: 0 } if end.head == *head => {}
            Tail::Empty { .. } | Tail::Line { .. } | Tail::Foreign => {
                return Err(AuditError::NotOurs(self.path.clone()));
            }
        }
        self.length = file.metadata().map_err(failed("read", &self.path))?.len();
        self.file = file;
        Ok(())
    }

    /// Whether the file has no name any more, so that what is written to it is lost.
    pub(super) fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> AuditError {
    move |source| AuditError::File { action, path: path.to_owned(), source }
}

/// Opens or creates a log that nobody else can read.
fn open(path: &Path) -> Result<File, AuditError> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(failed("open", path))?;
    let metadata = file.metadata().map_err(failed("read", path))?;
    if !metadata.is_file() {
        return Err(AuditError::NotAFile(path.to_owned()));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(AuditError::Owner { path: path.to_owned(), owner: metadata.uid() });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(AuditError::Mode { path: path.to_owned(), mode });
    }
    Ok(file)
}

/// Two writers would break the chain.
fn lock(file: &File, path: &Path) -> Result<(), AuditError> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => AuditError::InUse(path.to_owned()),
        TryLockError::Error(source) => failed("lock", path)(source),
    })
}

/// The highest end of this enclave's chain in the files beside the log whose names begin with its name.
/// Compressed ones do not count, so a rotation should leave the newest as it is.
fn newest_sibling(path: &Path, enclave: &EnclaveName) -> Option<End> {
    let name = path.file_name()?.as_encoded_bytes();
    let siblings = std::fs::read_dir(path.parent()?).ok()?;
    let ends = siblings.filter_map(|entry| {
        let entry = entry.ok()?;
        let sibling = entry.file_name();
        let rotated = sibling.as_encoded_bytes().strip_prefix(name)?;
        if rotated.is_empty() { None } else { end_of(&entry.path()).ok()? }
    });
    ends.filter(|end| end.enclave == enclave.as_str()).max_by_key(|end| end.seq)
}

fn end_of(path: &Path) -> io::Result<Option<End>> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(ErrorKind::InvalidInput.into());
    }
    Ok(match Tail::read(&file)? {
        Tail::Line { end, .. } => Some(end),
        Tail::Empty { .. } | Tail::Foreign => None,
    })
}
