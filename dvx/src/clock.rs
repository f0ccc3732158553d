//! The only place where clocks are read.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A point in the future at which patience ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn after(wait: Duration) -> Self {
        Self(now() + wait)
    }

    /// How long until then; nothing once it has passed.
    pub(crate) fn remaining(&self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    pub(crate) fn has_passed(&self) -> bool {
        self.remaining().is_zero()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the module that reads clocks")]
fn now() -> Instant {
    Instant::now()
}

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the module that reads clocks")]
pub(crate) fn wall() -> Timestamp {
    Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH)
}
