//! The name of a Unix socket: checked, held against other processes, and taken away at the end.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::{BindError, failed, unix_socket};

const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// A name that is this process's. Dropping it takes away the socket, if that is still the one that was bound,
/// and the lock.
pub(super) struct Claim {
    path: PathBuf,
    lock: Lock,
    /// Device and inode of the socket.
    socket: Option<(u64, u64)>,
}

struct Lock {
    path: PathBuf,
    file: File,
}

impl Claim {
    /// Makes the name free, unless somebody uses it.
    pub(super) fn new(path: &Path) -> Result<Self, BindError> {
        check_directory(path.parent().unwrap_or(Path::new("/")))?;
        let lock = Lock::take(path)?;
        remove_stale(path)?;
        Ok(Self { path: path.to_owned(), lock, socket: None })
    }

    /// Remembers the socket that is at the name now.
    pub(super) fn bound(&mut self) -> Result<(), BindError> {
        let metadata =
            fs::symlink_metadata(&self.path).map_err(|source| failed("look at", &self.path, source))?;
        self.socket = Some(identity(&metadata));
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| self.socket == Some(identity(&found)));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(socket = %self.path.display(), %error, "the socket's name stays behind");
        }
        // While it is held: whoever waits for it looks whether the name is still there.
        self.lock.remove();
    }
}

impl Lock {
    /// A lock beside the socket. A probe of the socket alone would let two processes start at one time.
    fn take(socket: &Path) -> Result<Self, BindError> {
        let mut path = socket.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let lock = |source| failed("lock", &path, source);
        loop {
            let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).mode(0o600).custom_flags(flags.bits());
            let file = options.open(&path).map_err(lock)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(BindError::InUse(socket.to_owned())),
                Err(TryLockError::Error(source)) => return Err(lock(source)),
            }
            let locked = file.metadata().map_err(lock)?;
            // Another process may have taken the name away between the two steps.
            match fs::symlink_metadata(&path) {
                Ok(named) if identity(&named) == identity(&locked) => return Ok(Self { path, file }),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(lock(error)),
            }
        }
    }

    fn remove(&self) {
        let ours = fs::symlink_metadata(&self.path)
            .and_then(|named| Ok(identity(&named) == identity(&self.file.metadata()?)));
        if ours.unwrap_or(false)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(lock = %self.path.display(), %error, "the lock stays behind");
        }
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Who can rename things in the directory can put a socket of their own in place of ours.
fn check_directory(path: &Path) -> Result<(), BindError> {
    let metadata = fs::symlink_metadata(path).map_err(|source| failed("look at", path, source))?;
    if !metadata.is_dir() {
        return Err(BindError::NotADirectory(path.to_owned()));
    }
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(BindError::DirectoryOwner { path: path.to_owned(), owner });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0 {
        return Err(BindError::DirectoryMode { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Removes a socket that nobody listens on any more, and nothing else.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed("look at", path, source)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match probe(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // A full queue is somebody's queue.
        Ok(()) => return Err(BindError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(BindError::InUse(path.to_owned())),
        Err(source) => return Err(failed("connect to", path, source)),
    }
    tracing::info!(socket = %path.display(), "taking over a socket that nobody listens on");
    fs::remove_file(path).map_err(|source| failed("remove", path, source))
}

fn probe(path: &Path) -> io::Result<()> {
    let address = rustix::net::SocketAddrUnix::new(path)?;
    Ok(rustix::net::connect(unix_socket()?, &address)?)
}
