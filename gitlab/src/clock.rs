//! The only place where a clock is read, for the durations in logs. What depends on dates takes them as
//! arguments.

use std::time::Duration;

use tokio::time::Instant;

/// A running stopwatch.
#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
