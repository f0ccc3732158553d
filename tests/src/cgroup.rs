//! Control groups for tests of selectors.

use std::fs;
use std::path::{Path, PathBuf};

use crate::clock;

/// A control group that goes away with this value.
pub struct Cgroup {
    directory: PathBuf,
    mount: PathBuf,
}

/// Where the unified hierarchy is mounted, if it is.
pub fn cgroup2_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next()? == "cgroup2")
            .then(|| PathBuf::from(before.split(' ').nth(4).unwrap_or_default()))
    })
}

impl Cgroup {
    /// Makes the group `path` (and its parents) below the mount point; `None` where this machine does not let us.
    pub fn create(path: &str) -> Option<Self> {
        let mount = cgroup2_mount()?;
        let directory = mount.join(path.trim_start_matches('/'));
        fs::create_dir_all(&directory).ok()?;
        fs::metadata(directory.join("cgroup.procs")).ok()?;
        Some(Self { directory, mount })
    }

    /// Its directory in the file system.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its path as the kernel reports it.
    pub fn path(&self) -> String {
        let path = self.directory.strip_prefix(&self.mount).expect("a group lies below the mount point");
        format!("/{}", path.display())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A group with groups in it goes with the last of them; members that were just killed leave a moment later.
        if has_children(&self.directory) {
            return;
        }
        let gone = || fs::remove_dir(&self.directory).is_ok() || !self.directory.exists();
        clock::within(clock::PATIENCE, || gone().then_some(()));
        let mut parent = self.directory.parent();
        while let Some(directory) = parent.filter(|directory| *directory != self.mount) {
            if fs::remove_dir(directory).is_err() {
                break;
            }
            parent = directory.parent();
        }
    }
}

fn has_children(directory: &Path) -> bool {
    let mut entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
}
