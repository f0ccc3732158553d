//! Rate limits, in windows that begin with the minute, as GitLab counts them in Redis.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::answer::Answer;
use super::settings::Settings;

const WINDOW: i64 = 60;
const BAN: SignedDuration = SignedDuration::from_mins(15);

/// Counters by what is counted.
#[derive(Default)]
pub(super) struct Limits {
    counters: BTreeMap<String, (i64, u32)>,
    banned: BTreeMap<IpAddr, Timestamp>,
}

impl Limits {
    fn count(&mut self, key: &str, now: Timestamp) -> u32 {
        let window = now.as_second() / WINDOW;
        let counter = self.counters.entry(key.to_owned()).or_default();
        *counter = if counter.0 == window { (window, counter.1 + 1) } else { (window, 1) };
        counter.1
    }

    /// The application's limit on creating service accounts.
    pub(super) fn service_account(
        &mut self,
        user_id: u64,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(), Answer> {
        let count = self.count(&format!("service_account_creation {user_id}"), now);
        if count <= settings.service_accounts_per_minute {
            return Ok(());
        }
        Err(action_limit(settings.limit_says_retry_after.then_some(60)))
    }

    /// Rack::Attack, before anything else looks at the request.
    pub(super) fn throttle(&mut self, who: &str, settings: &Settings, now: Timestamp) -> Result<(), Answer> {
        let Some(limit) = settings.api_per_minute else { return Ok(()) };
        let count = self.count(&format!("throttle {who}"), now);
        if count <= limit {
            return Ok(());
        }
        Err(throttled(WINDOW - now.as_second() % WINDOW, limit, count, now))
    }

    /// Counts a refused git authentication.
    pub(super) fn git_failed(&mut self, address: IpAddr, settings: &Settings, now: Timestamp) {
        let Some(limit) = settings.git_ban_after else { return };
        if self.count(&format!("git {address}"), now) >= limit {
            self.banned.insert(address, now + BAN);
        }
    }

    /// A success forgets the failures.
    pub(super) fn git_succeeded(&mut self, address: IpAddr) {
        self.counters.remove(&format!("git {address}"));
    }

    pub(super) fn is_banned(&self, address: IpAddr, now: Timestamp) -> bool {
        self.banned.get(&address).is_some_and(|until| now < *until)
    }
}

/// The first form: plain text from the middleware.
pub(super) fn throttled(seconds: i64, limit: u32, observed: u32, now: Timestamp) -> Answer {
    let reset = now + SignedDuration::from_secs(seconds);
    Answer::text(429, "Retry later\n")
        .header("RateLimit-Name", "throttle_authenticated_api")
        .header("RateLimit-Limit", &limit.to_string())
        .header("RateLimit-Observed", &observed.to_string())
        .header("RateLimit-Remaining", "0")
        .header("RateLimit-Reset", &reset.as_second().to_string())
        .header("RateLimit-ResetTime", &reset.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
        .header("Retry-After", &seconds.to_string())
}

/// The second form: an object from the application.
pub(super) fn action_limit(retry_after: Option<i64>) -> Answer {
    let text = "This endpoint has been requested too many times. Try again later.";
    let answer = Answer::json(429, &json!({"message": {"error": text}}));
    match retry_after {
        Some(seconds) => answer.header("Retry-After", &seconds.to_string()),
        None => answer,
    }
}
