//! The only place where clocks are read: everything else takes the time as an argument, so that one decision
//! sees one instant.

use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

/// Reads the wall clock, to the microsecond that the database keeps.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn wall() -> Timestamp {
    // A clock beyond the year 9999 is a broken one: everything has expired then.
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX);
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// Reads the clock that nobody can set, for deadlines and for what took how long.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// How long ago something was; nothing when it lies ahead.
pub fn since(now: Timestamp, earlier: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(earlier)).unwrap_or_default()
}
