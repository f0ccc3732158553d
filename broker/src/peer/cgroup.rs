//! The path of a control group by its number.
//!
//! The number is the inode of the group's directory; numbers are not used again, and cgroup v2 renames
//! nothing, so what was found once stays true. Opening a directory by its number takes a capability, so the
//! tree is searched, breadth first: what an agent may have piled up below its own unit is looked at last.

use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, RawDir, fstat, fstatfs, open, openat};

use crate::clock::Monotonic;

/// Finds paths and remembers them.
pub(super) struct CgroupPaths {
    /// The root of the hierarchy; `None` where there is no cgroup v2.
    root: Option<OwnedFd>,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    paths: HashMap<u64, Arc<str>>,
    /// The users for whom was searched, and until when that is paid for.
    paid_until: HashMap<u32, Monotonic>,
}

/// Every peer's group is one lookup here; a machine with more agents' groups than this searches again.
const MAX_REMEMBERED: usize = 512;

/// A search gives up after so many directories. Units lie near the root, so this is far beyond them.
const MAX_DIRECTORIES: u32 = 4096;

/// More directories than this never wait to be read, so that a search takes little memory.
const MAX_WAITING: usize = 4096;

/// What a search costs the user whose peer made us do it, for each directory: reading one takes about a tenth
/// of this. A user who shows us ever new groups thus takes at most a tenth of our time, and waits alone.
const PRICE_PER_DIRECTORY: Duration = Duration::from_micros(100);

/// How far ahead a user may be: some units that start together are found together.
const CREDIT: Duration = Duration::from_millis(200);

/// `CGROUP2_SUPER_MAGIC` of the kernel's `uapi/linux/magic.h`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;

impl CgroupPaths {
    /// The hierarchy that is mounted here, if any.
    pub(super) fn of_this_system() -> Self {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self { root: mount_points(&mounts).find_map(open_root), found: Mutex::default() }
    }

    /// The path, if it is known already.
    pub(super) fn known(&self, id: u64) -> Option<Arc<str>> {
        self.lock().paths.get(&id).cloned()
    }

    /// The path, searched for where it is not known; on behalf of a user, who may not make us do so all the
    /// time.
    pub(super) fn find(&self, id: u64, uid: u32, now: Monotonic) -> Option<Arc<str>> {
        let mut found = self.lock();
        if let Some(path) = found.paths.get(&id) {
            return Some(Arc::clone(path));
        }
        let root = self.root.as_ref()?;
        let paid_until = found.paid_until.get(&uid).copied().unwrap_or(now).max(now);
        if paid_until.since(now) > CREDIT {
            return None;
        }
        let (path, directories) = search(root.as_fd(), id);
        found.paid_until.insert(uid, paid_until + PRICE_PER_DIRECTORY.saturating_mul(directories));
        let path: Arc<str> = path?.into();
        if found.paths.len() >= MAX_REMEMBERED {
            found.paths.clear();
        }
        found.paths.insert(id, Arc::clone(&path));
        Some(path)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Found> {
        // Nothing is left half done where this is held.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Searches the tree; also says how many directories that took.
fn search(root: BorrowedFd<'_>, id: u64) -> (Option<String>, u32) {
    if fstat(root).is_ok_and(|stat| stat.st_ino == id) {
        return (Some("/".to_owned()), 1);
    }
    let mut directories = 0;
    let mut to_read = VecDeque::from([String::new()]);
    while let Some(path) = to_read.pop_front() {
        if directories == MAX_DIRECTORIES {
            break;
        }
        directories += 1;
        if let Some(found) = read_directory(root, &path, id, &mut to_read) {
            return (Some(found), directories);
        }
    }
    (None, directories)
}

/// Looks for the number among the children of a directory, and adds them to what is to be read.
fn read_directory(
    root: BorrowedFd<'_>,
    path: &str,
    id: u64,
    to_read: &mut VecDeque<String>,
) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let relative = path.strip_prefix('/').unwrap_or(".");
    // A group may be gone by now, or hidden from us: then it is not the peer's.
    let directory = openat(root, relative, flags, Mode::empty()).ok()?;
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        // Nothing that a unit or a configuration could name has another encoding.
        let Ok(name) = entry.file_name().to_str() else { continue };
        if entry.file_type() != FileType::Directory || matches!(name, "." | "..") {
            continue;
        }
        let child = format!("{path}/{name}");
        if entry.ino() == id {
            return Some(child);
        }
        if to_read.len() < MAX_WAITING {
            to_read.push_back(child);
        }
    }
    None
}

/// Where cgroup v2 is mounted with its root: proc_pid_mountinfo(5).
pub(super) fn mount_points(mounts: &str) -> impl Iterator<Item = PathBuf> {
    mounts.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/" && kind.starts_with("cgroup2 ")).then(|| unescape(point).into())
    })
}

/// Mount points are written with white space and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// Opens a mount point; something else may have been mounted over it.
fn open_root(point: PathBuf) -> Option<OwnedFd> {
    let root = open(&point, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let magic = u64::try_from(fstatfs(&root).ok()?.f_type).ok()?;
    (magic == CGROUP2_MAGIC).then_some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_where_it_is_mounted() {
        let mounts = "\
            31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw\n\
            42 31 0:38 /../x /elsewhere rw - cgroup2 cgroup2 rw\n\
            43 31 0:38 / /with\\040space\\134 rw - cgroup2 none rw\n\
            garbage\n";
        let points: Vec<PathBuf> = mount_points(mounts).collect();
        assert_eq!(points, [PathBuf::from("/sys/fs/cgroup/unified"), PathBuf::from("/with space\\")]);
    }

    #[test]
    fn only_a_cgroup_file_system_is_taken_for_one() {
        assert!(open_root("/proc".into()).is_none());
        assert!(open_root("/nonexistent".into()).is_none());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let Some(mount) = mount_points(&mounts).next() else {
            skipped!("only_a_cgroup_file_system_is_taken_for_one, in part: there is no cgroup v2");
            return;
        };
        assert!(open_root(mount.clone()).is_some());
        assert!(open_root(mount.join("cgroup.procs")).is_none(), "a file of it");
    }

    #[test]
    fn a_directory_is_found_by_its_number_wherever_it_lies() {
        let tree = tempfile::tempdir().unwrap();
        for path in ["system.slice/a.service/inner", "system.slice/b.service", "user.slice"] {
            std::fs::create_dir_all(tree.path().join(path)).unwrap();
        }
        std::fs::write(tree.path().join("cgroup.procs"), "").unwrap();
        let root = open(tree.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let number = |path: &str| rustix::fs::stat(tree.path().join(path)).unwrap().st_ino;
        for path in
            ["/system.slice", "/system.slice/a.service/inner", "/system.slice/b.service", "/user.slice"]
        {
            let (found, _) = search(root.as_fd(), number(path.strip_prefix('/').unwrap()));
            assert_eq!(found.as_deref(), Some(path));
        }
        assert_eq!(search(root.as_fd(), number(".")), (Some("/".to_owned()), 1));
        assert_eq!(search(root.as_fd(), number("cgroup.procs")).0, None, "not a directory");
        assert_eq!(search(root.as_fd(), 0), (None, 6));
    }

    #[test]
    fn a_directory_that_became_a_link_is_not_followed() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(tree.path().join("elsewhere/inside")).unwrap();
        std::os::unix::fs::symlink("elsewhere", tree.path().join("link")).unwrap();
        let root = open(tree.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let inside = rustix::fs::stat(tree.path().join("elsewhere/inside")).unwrap().st_ino;
        let mut to_read = VecDeque::new();
        let found = read_directory(root.as_fd(), "/elsewhere", inside, &mut to_read);
        assert_eq!(found.as_deref(), Some("/elsewhere/inside"));
        assert_eq!(read_directory(root.as_fd(), "/link", inside, &mut to_read), None);
        assert!(to_read.is_empty());
    }

    #[test]
    fn what_waits_to_be_read_and_what_is_remembered_is_bounded() {
        let tree = tempfile::tempdir().unwrap();
        let names = 0..MAX_REMEMBERED + 3;
        names.clone().for_each(|name| std::fs::create_dir(tree.path().join(name.to_string())).unwrap());
        let root = open(tree.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let mut to_read = VecDeque::from(vec![String::new(); MAX_WAITING - 2]);
        assert_eq!(read_directory(root.as_fd(), "", 0, &mut to_read), None);
        assert_eq!(to_read.len(), MAX_WAITING);

        let paths = CgroupPaths { root: Some(root), found: Mutex::default() };
        for name in names {
            let number = rustix::fs::stat(tree.path().join(name.to_string())).unwrap().st_ino;
            let now = Monotonic::since_boot(Duration::from_secs(u64::try_from(name).unwrap()));
            assert_eq!(paths.find(number, 1001, now).as_deref(), Some(&*format!("/{name}")));
            assert!(paths.lock().paths.len() <= MAX_REMEMBERED);
        }
    }

    #[test]
    fn a_user_who_makes_us_search_in_vain_waits_and_others_do_not() {
        let tree = tempfile::tempdir().unwrap();
        let root = open(tree.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let paths = CgroupPaths { root: Some(root), found: Mutex::default() };
        let at = |millis| Monotonic::since_boot(Duration::from_millis(millis));
        let made = |name: &str| {
            std::fs::create_dir(tree.path().join(name)).unwrap();
            rustix::fs::stat(tree.path().join(name)).unwrap().st_ino
        };
        for _ in 0..2000 {
            assert_eq!(paths.find(1, 1001, at(5)), None);
        }
        let last = made("last");
        assert_eq!(paths.find(last, 1001, at(5)).as_deref(), Some("/last"), "with the last of its credit");

        let new = made("new");
        assert_eq!(paths.find(new, 1001, at(5)), None, "its credit is used up");
        assert_eq!(paths.known(new), None);
        assert_eq!(paths.find(new, 1001, at(6)).as_deref(), Some("/new"), "the next millisecond");
        assert_eq!(paths.known(new).as_deref(), Some("/new"));
        assert_eq!(paths.known(last).as_deref(), Some("/last"), "still");

        let other = made("other");
        paths.lock().paid_until.insert(1001, at(60_000));
        assert_eq!(paths.find(other, 1001, at(6)), None, "still waiting");
        assert_eq!(paths.find(other, 1002, at(6)).as_deref(), Some("/other"), "another user");
        assert_eq!(paths.find(other, 1001, at(6)).as_deref(), Some("/other"), "found by now");
    }
}
