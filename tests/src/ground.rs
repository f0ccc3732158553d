//! The directories in which a world lies.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{binary, users};

/// A temporary directory that any user may pass through, with one directory for each purpose.
pub struct Ground {
    root: TempDir,
}

impl Ground {
    /// Makes it; what the broker writes into belongs to this user.
    pub fn new(broker_uid: u32) -> Self {
        let root =
            tempfile::Builder::new().prefix("dvx-").tempdir().expect("temporary directories can be made");
        fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
        let ground = Self { root };
        ground.directory("etc", own(), 0o755);
        ground.directory("home", own(), 0o755);
        ground.directory("output", own(), 0o755);
        ground.directory("run", broker_uid, 0o755);
        ground.directory("log", broker_uid, 0o700);
        ground
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// A path in it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Makes a directory with this owner and mode.
    pub fn directory(&self, path: &str, owner: u32, mode: u32) -> PathBuf {
        let path = self.path(path);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        give(&path, owner);
        path
    }

    /// A program of ours, at a place where every user can run it.
    pub fn program(&self, name: &str) -> PathBuf {
        let path = binary(name);
        let open =
            |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
        if path.ancestors().filter(|path| !path.as_os_str().is_empty()).all(open) {
            return path;
        }
        let copy = self.path(name);
        if !copy.exists() {
            fs::copy(&path, &copy).unwrap();
        }
        copy
    }

    /// A user's home directory.
    pub fn home(&self, uid: u32) -> PathBuf {
        let path = self.path(&format!("home/{uid}"));
        if path.exists() { path } else { self.directory(&format!("home/{uid}"), uid, 0o700) }
    }
}

/// Makes a file or directory somebody's, where that is possible.
pub fn give(path: &Path, owner: u32) {
    if users::is_root() {
        chown(path, Some(owner), Some(owner)).unwrap();
    }
}

fn own() -> u32 {
    users::own_uid()
}
