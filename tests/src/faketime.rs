//! A clock that a test can move, by libfaketime.

use std::path::{Path, PathBuf};

/// Where libfaketime is, if it is installed. The one for programs with threads: in the other, one thread can read the
/// real time while another reads the file.
pub fn library() -> Option<PathBuf> {
    let directories = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    directories
        .iter()
        .map(|directory| PathBuf::from(directory).join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.exists())
}

/// The words before a command that put it under the clock in this file. Only the wall clock moves.
///
/// They stand right before the program: the library wants to be loaded under the program's own user.
pub(crate) fn words(library: &Path, clock: &Path) -> Vec<String> {
    vec![
        "env".into(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        // What is neither +… nor -… is the second at which the clock stands still.
        "FAKETIME_FMT=%s".into(),
        "FAKETIME_NO_CACHE=1".into(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
    ]
}
