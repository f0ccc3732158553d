//! The only place where clocks are read: everything else takes the time as an argument, so that one decision
//! sees one instant.

use std::ops::Add;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Both clocks, read for one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// For ages and deadlines.
    pub(crate) mono: Monotonic,
    /// For what carries a date: expiry, audit lines, tokens.
    pub(crate) wall: Timestamp,
}

/// Time since boot, suspend included (`CLOCK_BOOTTIME`, clock_gettime(2)): a machine that slept through
/// `max_stale` must not wake up with secrets that look fresh. Nobody can set this clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Monotonic(Duration);

impl Monotonic {
    /// A point on the clock, for tests, which make up their own time.
    #[cfg(test)]
    pub(crate) const fn since_boot(duration: Duration) -> Self {
        Self(duration)
    }

    /// How long the machine has been running.
    pub(crate) const fn uptime(self) -> Duration {
        self.0
    }

    /// How long ago `earlier` was; nothing when it lies ahead.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }
}

/// Reads both clocks.
pub(crate) fn now() -> Now {
    Now { mono: monotonic(), wall: wall() }
}

/// Reads the monotonic clock alone.
pub(crate) fn monotonic() -> Monotonic {
    #[cfg(test)]
    if let Some(now) = MADE_UP.get() {
        return now.mono;
    }
    Monotonic(duration(clock_gettime(ClockId::Boottime)))
}

/// Reads the wall clock alone, by way of libc so that a test can stand between (faketime(1)).
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn wall() -> Timestamp {
    #[cfg(test)]
    if let Some(now) = MADE_UP.get() {
        return now.wall;
    }
    // A clock beyond the year 9999 is a broken one: everything has expired then.
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
thread_local! {
    /// What the clocks show to this thread instead of the time.
    static MADE_UP: std::cell::Cell<Option<Now>> = const { std::cell::Cell::new(None) };
}

/// Sets the clocks of this thread, or lets them show the time again.
#[cfg(test)]
pub(crate) fn make_up(now: Option<Now>) {
    MADE_UP.set(now);
}

/// Clocks that stand before their epoch count as being at it.
fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_saturate_at_both_ends() {
        let early = Monotonic::since_boot(Duration::from_secs(1));
        let late = early + Duration::from_secs(5);
        assert_eq!(late.since(early), Duration::from_secs(5));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late + Duration::MAX, Monotonic(Duration::MAX));
    }

    #[test]
    fn the_clocks_run_forward_and_agree_with_the_system() {
        let first = now();
        let second = now();
        assert!(second.mono >= first.mono);
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        assert!((second.mono.0.as_secs_f64() - seconds).abs() < 5.0);
        assert!(second.wall.duration_since(Timestamp::now()).abs().as_secs() < 5);
    }
}
