//! When a token ends, and when to replace it. Nothing here reads a clock.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Of a token's life, the share after which it is replaced at the latest.
const ROTATE_AT: f64 = 0.8;

/// The share by which jitter brings that forward at most, so that tokens made together do not end together.
const SPREAD: f64 = 0.05;

/// A number from 0 to 1 that spreads what would otherwise happen at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// No spreading: everything happens as late as it may.
    pub const NONE: Self = Self(0.0);

    /// From any number; what lies outside of 0 to 1 becomes the nearer of the two.
    pub fn new(value: f64) -> Self {
        Self(if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) })
    }
}

/// When a token with this `expires_at` ends: at 00:00 UTC of that day, which is none of its usable days.
pub fn ends_at(expires_at: Date) -> Timestamp {
    // Only the last date that there is has no such time.
    let midnight = expires_at.to_datetime(Time::midnight());
    TimeZone::UTC.to_timestamp(midnight).unwrap_or(Timestamp::MAX)
}

/// The `expires_at` of a token that is made now for `days`: the date that many days ahead, so that it lives at
/// least `days - 1` days and ends at a midnight.
pub fn expiry_date(now: Timestamp, days: u16) -> Date {
    let ahead = SignedDuration::from_hours(24 * i64::from(days));
    let then = now.checked_add(ahead).unwrap_or(Timestamp::MAX);
    TimeZone::UTC.to_datetime(then).date()
}

/// When to replace a token that was made at `made` and ends at `ends`: between 75 and 80 % of its life. A token
/// that ends before it was made is due at once.
pub fn rotate_at(made: Timestamp, ends: Timestamp, jitter: Jitter) -> Timestamp {
    let life = made.duration_until(ends);
    if !life.is_positive() {
        return made;
    }
    let share = ROTATE_AT - SPREAD * jitter.0;
    made.checked_add(SignedDuration::from_secs_f64(life.as_secs_f64() * share)).unwrap_or(ends)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_ends_when_its_last_date_begins() {
        let end = ends_at(date(2027, 1, 1));
        assert_eq!(end, at("2027-01-01T00:00:00Z"));
        assert!(at("2026-12-31T23:59:59Z") < end);
        assert_eq!(ends_at(Date::MAX).min(Timestamp::MAX), ends_at(Date::MAX));
    }

    #[test]
    fn thirty_days_end_at_a_midnight_up_to_a_day_early() {
        for (now, expected) in [
            ("2026-11-20T00:00:00Z", date(2026, 12, 20)),
            ("2026-11-20T23:50:00Z", date(2026, 12, 20)),
            ("2026-12-31T12:00:00+05:00", date(2027, 1, 30)),
            ("2028-02-01T00:00:00Z", date(2028, 3, 2)),
        ] {
            assert_eq!(expiry_date(at(now), 30), expected, "{now}");
        }
    }

    #[test]
    fn a_token_is_replaced_at_four_fifths_of_its_life_or_a_little_before() {
        let (made, ends) = (at("2026-11-01T00:00:00Z"), at("2026-12-01T00:00:00Z"));
        assert_eq!(rotate_at(made, ends, Jitter::NONE), at("2026-11-25T00:00:00Z"));
        assert_eq!(rotate_at(made, ends, Jitter::new(1.0)), at("2026-11-23T12:00:00Z"));
        assert_eq!(rotate_at(ends, made, Jitter::NONE), ends);
        assert_eq!(rotate_at(made, made, Jitter::NONE), made);
    }

    #[test]
    fn a_token_that_ends_tomorrow_is_replaced_before_its_midnight() {
        let made = at("2026-11-20T12:00:00Z");
        let ends = ends_at(date(2026, 11, 21));
        assert_eq!(rotate_at(made, ends, Jitter::NONE), at("2026-11-20T21:36:00Z"));
    }

    proptest! {
        #[test]
        fn rotation_lies_between_75_and_80_percent(start in 0i64..4_000_000_000, life in 1i64..40_000_000, j: f64) {
            let made = Timestamp::from_second(start).unwrap();
            let ends = Timestamp::from_second(start + life).unwrap();
            let when = rotate_at(made, ends, Jitter::new(j));
            let share = made.duration_until(when).as_secs_f64() / life as f64;
            prop_assert!((0.7499..=0.8001).contains(&share), "{share}");
        }

        #[test]
        fn nothing_panics_at_the_ends_of_time(days: u16, seconds in -377_705_023_201i64..=253_402_207_200) {
            let now = Timestamp::from_second(seconds).unwrap();
            let ends = ends_at(expiry_date(now, days));
            prop_assert!(rotate_at(now, ends, Jitter::NONE) <= ends.max(now));
        }
    }
}
