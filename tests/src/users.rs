//! Users that exist nowhere but in the kernel.

use std::sync::atomic::{AtomicU32, Ordering};

/// Users above this are not in any machine's user database.
const FIRST_UID: u32 = 61_001;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A user (and group of the same number) that no other test of this or a parallel process uses.
pub fn fresh_uid() -> u32 {
    let in_process = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(in_process < 200, "more users than one test process has");
    FIRST_UID + (std::process::id() % 5_000) * 200 + in_process
}

/// The user who runs the tests.
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Whether tests can act as other users.
pub fn is_root() -> bool {
    own_uid() == 0
}

/// For the first line of tests that need other users: prints a line and is true where there are none.
#[must_use]
pub fn skip_without_root(test: &str) -> bool {
    if !is_root() {
        crate::skip(test, "it needs root, to act as other users");
    }
    !is_root()
}
