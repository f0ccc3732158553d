//! Being woken when a directory changes (inotify(7)). Only a help: what it misses, the regular look finds.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tracing::warn;

use super::scan::Identity;

/// The directories that are watched.
pub(super) struct Watcher {
    inotify: OwnedFd,
    watched: HashMap<PathBuf, Watched>,
    limit_reported: bool,
}

struct Watched {
    identity: Identity,
    descriptor: i32,
}

/// Enough for some dozen events at a time; what happened does not matter, only that something did.
const BUFFER_BYTES: usize = 4096;

impl Watcher {
    /// None where the limits of inotify are used up.
    pub(super) fn new() -> Option<Self> {
        match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(inotify) => Some(Self { inotify, watched: HashMap::new(), limit_reported: false }),
            Err(error) => {
                warn!(%error, "no inotify; changed files are found by looking");
                None
            }
        }
    }

    /// Watches the directory that is at this path now, and no longer the one that was there before.
    pub(super) fn watch(&mut self, path: &Path, identity: Option<Identity>) {
        let known = self.watched.get(path).map(|watched| watched.identity);
        if known == identity {
            return;
        }
        self.forget(path);
        let Some(identity) = identity else { return };
        let events = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.inotify, path, events) {
            Ok(descriptor) => {
                self.watched.insert(path.to_owned(), Watched { identity, descriptor });
            }
            Err(Errno::NOSPC) if !self.limit_reported => {
                self.limit_reported = true;
                warn!(path = %path.display(), "no inotify watch is left; changed files are found by looking");
            }
            // Gone again, unreadable or, as said above, one too many.
            Err(_) => {}
        }
    }

    /// Ends the watches of what lies in a directory.
    pub(super) fn forget_below(&mut self, path: &Path) {
        let below: Vec<_> =
            self.watched.keys().filter(|watched| watched.starts_with(path)).cloned().collect();
        below.iter().for_each(|path| self.forget(path));
    }

    fn forget(&mut self, path: &Path) {
        if let Some(old) = self.watched.remove(path) {
            // The kernel has ended it already where the directory is gone.
            let _ended = inotify::remove_watch(&self.inotify, old.descriptor);
        }
    }

    /// Becomes readable when something has happened.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Takes what has happened so far. Returns whether it was anything.
    pub(super) fn drain(&self) -> bool {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut any = false;
        // A flood must not keep the caller here: what is left makes the descriptor readable again.
        for _ in 0..1024 {
            match reader.next() {
                Ok(_) => any = true,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        any
    }
}
