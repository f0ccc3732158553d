//! `~/.dvx/token`: a link to the file that the broker keeps fresh.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use thiserror::Error;

use crate::error::{Exit, Failure, chain};

/// Why the link could not be made.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    #[error("cannot make {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is not a directory of the caller's own", path.display())]
    NotOurDirectory { path: PathBuf },
    #[error("{} is there and is not a link", path.display())]
    NotOurs { path: PathBuf },
}

impl LinkError {
    pub(super) fn into_failure(self) -> Failure {
        let failure = Failure::new(Exit::Other, "cannot link the agent's token", chain(&self));
        match self {
            Self::Io { .. } | Self::NotOurDirectory { .. } => failure,
            Self::NotOurs { .. } => {
                failure.with_hint("move it away, or name it in DVX_TOKEN_FILE".to_owned())
            }
        }
    }
}

/// Makes `<directory>/token` a link to `target`, in one step where another link is there. Returns whether
/// anything had to be changed. A file that is not a link was made by a person, and stays.
pub(super) fn set(directory: &Path, target: &Path) -> Result<bool, LinkError> {
    let link = directory.join("token");
    if target == link {
        return Ok(false);
    }
    make_private(directory)?;
    match fs::symlink_metadata(&link) {
        Ok(there) if there.is_symlink() => {
            if fs::read_link(&link).is_ok_and(|current| current == target) {
                return Ok(false);
            }
        }
        Ok(_) => return Err(LinkError::NotOurs { path: link }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(LinkError::Io { path: link, source }),
    }
    let fresh = directory.join(format!(".token.{}", std::process::id()));
    let made =
        remove_stale(&fresh).and_then(|()| symlink(target, &fresh)).and_then(|()| fs::rename(&fresh, &link));
    made.map(|()| true).map_err(|source| LinkError::Io { path: link, source })
}

/// What an earlier run with our process number left when it was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A directory that only the caller can look into.
fn make_private(directory: &Path) -> Result<(), LinkError> {
    let broken = |source| LinkError::Io { path: directory.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(broken(error)),
    }
    let there: Metadata = fs::metadata(directory).map_err(broken)?;
    if !there.is_dir() || there.uid() != geteuid().as_raw() {
        return Err(LinkError::NotOurDirectory { path: directory.to_owned() });
    }
    if there.permissions().mode() & 0o777 != 0o700 {
        fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(broken)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_made_once_and_follows_its_target() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join(".dvx");
        let current = || fs::read_link(directory.join("token")).unwrap();
        assert!(set(&directory, Path::new("/run/a")).unwrap());
        assert_eq!(current(), Path::new("/run/a"));
        assert!(!set(&directory, Path::new("/run/a")).unwrap());
        assert!(set(&directory, Path::new("/run/b")).unwrap());
        assert_eq!(current(), Path::new("/run/b"));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing else is left there");
    }

    #[test]
    fn the_directory_is_private_whatever_it_was() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join(".dvx");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        set(&directory, Path::new("/run/a")).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_that_a_person_made_stays() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join(".dvx");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("token"), "mine").unwrap();
        assert!(matches!(set(&directory, Path::new("/run/a")), Err(LinkError::NotOurs { .. })));
        assert_eq!(fs::read_to_string(directory.join("token")).unwrap(), "mine");
    }

    #[test]
    fn a_link_to_itself_is_never_made() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join(".dvx");
        assert!(!set(&directory, &directory.join("token")).unwrap());
        assert!(!directory.exists());
    }

    #[test]
    fn what_is_not_a_directory_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join(".dvx");
        fs::write(&file, "").unwrap();
        assert!(matches!(set(&file, Path::new("/run/a")), Err(LinkError::NotOurDirectory { .. })));
    }
}
