//! The simulator's clock: the machine's, shifted or stopped.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// What time it is in the simulator.
#[derive(Debug, Clone, Copy)]
pub(super) enum Clock {
    Shifted(SignedDuration),
    Stopped(Timestamp),
}

impl Default for Clock {
    fn default() -> Self {
        Self::Shifted(SignedDuration::ZERO)
    }
}

impl Clock {
    pub(super) fn now(self) -> Timestamp {
        match self {
            Self::Shifted(by) => Timestamp::now() + by,
            Self::Stopped(at) => at,
        }
    }
}

/// The day in UTC.
pub(super) fn day(at: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(at).date()
}

/// 00:00 UTC of a day.
pub(super) fn midnight(day: Date) -> Timestamp {
    TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).expect("UTC has every midnight")
}

/// As GitLab writes points in time: `2026-11-20T07:47:13.900Z`.
pub(super) fn iso(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
