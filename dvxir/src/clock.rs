//! The one place where clocks are read; everything else takes the time as an argument.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The end of a span that starts when this is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// Ends this long from now.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub(crate) fn after(span: Duration) -> Self {
        Self(Instant::now() + span)
    }

    /// What is left of the span; `None` when it is over.
    #[expect(clippy::disallowed_methods, reason = "this is where the clock is read")]
    pub(crate) fn remaining(self) -> Option<Duration> {
        let left = self.0.saturating_duration_since(Instant::now());
        // A socket takes a timeout of zero for none, and rounds down to microseconds.
        (left >= Duration::from_millis(1)).then_some(left)
    }
}

/// The time of day.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
