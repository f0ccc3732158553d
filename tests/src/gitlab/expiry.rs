//! What `expires_at` may be, and what it is when nothing is said.

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};

use super::clock::day;
use super::settings::Settings;

impl Settings {
    fn last_day(&self, now: Timestamp) -> Date {
        day(now) + self.max_lifetime_days.days()
    }

    /// There is no lower bound: today and earlier are accepted, and such a token is dead at once.
    pub(super) fn check_expiry(&self, expires_at: Option<Date>, now: Timestamp) -> Result<(), String> {
        let last = self.last_day(now);
        if self.expiry_enforced && expires_at.is_some_and(|date| date > last) {
            return Err(format!("Expiration date must be before {last}"));
        }
        Ok(())
    }

    /// Of a new token.
    pub(super) fn expiry_on_create(&self, asked: Option<Date>, now: Timestamp) -> Option<Date> {
        asked.or_else(|| self.expiry_enforced.then(|| self.last_day(now)))
    }

    /// Of a rotated token.
    pub(super) fn expiry_on_rotation(&self, asked: Option<Date>, now: Timestamp) -> Option<Date> {
        asked.or_else(|| self.expiry_enforced.then(|| day(now) + 7.days()))
    }
}
