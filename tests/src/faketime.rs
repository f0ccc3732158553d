//! A clock that a test can move, by libfaketime.

use std::path::PathBuf;

/// Where libfaketime is, if it is installed.
pub fn library() -> Option<PathBuf> {
    let directories = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    directories
        .iter()
        .map(|directory| PathBuf::from(directory).join("faketime/libfaketime.so.1"))
        .find(|path| path.exists())
}

/// The variables that put a process under the clock in this file. Only the wall clock moves.
pub(crate) fn environment(library: &std::path::Path, clock: &std::path::Path) -> [(String, String); 4] {
    [
        ("LD_PRELOAD".into(), library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE".into(), clock.display().to_string()),
        ("FAKETIME_NO_CACHE".into(), "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC".into(), "1".into()),
    ]
}
