//! Waiting for conditions, with a deadline and never for a fixed time.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(4);

/// The one place where tests read a clock.
#[expect(clippy::disallowed_methods, reason = "this is the tests' clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Waits until the condition holds; panics with `what` when it never does.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    eventually_some(what, || condition().then_some(()));
}

/// Waits until there is a value; panics with `what` when there never is.
#[track_caller]
pub fn eventually_some<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    match within(PATIENCE, &mut poll) {
        Some(value) => value,
        None => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

/// Polls for a value until `limit` is over.
pub fn within<T>(limit: Duration, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    let start = now();
    loop {
        if let Some(value) = poll() {
            return Some(value);
        }
        if start.elapsed() > limit {
            return None;
        }
        thread::sleep(PAUSE);
    }
}
