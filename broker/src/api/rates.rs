//! How often an agent may ask, and how much the audit log says of those who ask too often.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dvx_proto::AgentName;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::clock;

type Limiter = RateLimiter<NotKeyed, InMemoryState, OurClock, NoOpMiddleware<Duration>>;

/// The clock by which everything else is timed.
#[derive(Debug, Clone, Copy)]
struct OurClock;

impl Clock for OurClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        clock::monotonic().uptime()
    }
}

/// Refusals that are written to the audit log at once, and per second after that. A caller that is refused
/// more often than this is making a point, and must not be able to fill the disk with it.
const RECORDED_REFUSALS_BURST: NonZeroU32 = NonZeroU32::new(1000).unwrap();
const RECORDED_REFUSALS_PER_SECOND: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// The rate limits of all agents.
pub(crate) struct Rates {
    per_second: Option<NonZeroU32>,
    agents: BTreeMap<AgentName, Arc<Rate>>,
}

/// The rate limit of one agent.
pub(crate) struct Rate {
    requests: Option<Limiter>,
    pub(crate) refusals: Refusals,
}

/// Decides which refusals are recorded.
pub(crate) struct Refusals {
    limiter: Limiter,
    skipped: AtomicU64,
}

impl Rates {
    /// Limits for these agents; those that were known keep what they have used up.
    pub(crate) fn new<'a>(
        per_second: Option<NonZeroU32>,
        agents: impl Iterator<Item = &'a AgentName>,
        before: Option<&Self>,
    ) -> Self {
        let known = before.filter(|before| before.per_second == per_second);
        let rate = |name: &AgentName| {
            let kept = known.and_then(|known| known.agents.get(name).cloned());
            (name.clone(), kept.unwrap_or_else(|| Arc::new(Rate::new(per_second))))
        };
        Self { per_second, agents: agents.map(rate).collect() }
    }

    /// The limit, if there is one.
    pub(crate) fn per_second(&self) -> Option<NonZeroU32> {
        self.per_second
    }

    pub(crate) fn of(&self, agent: &AgentName) -> Option<&Rate> {
        self.agents.get(agent).map(Arc::as_ref)
    }
}

impl Rate {
    fn new(per_second: Option<NonZeroU32>) -> Self {
        let requests = per_second.map(|rate| limiter(Quota::per_second(rate)));
        Self { requests, refusals: Refusals::new() }
    }

    /// Uses up one request, or says how long to wait for the next.
    pub(crate) fn take(&self) -> Result<(), Duration> {
        let Some(limiter) = &self.requests else { return Ok(()) };
        limiter.check().map_err(|until| until.wait_time_from(OurClock.now()))
    }
}

impl Refusals {
    pub(crate) fn new() -> Self {
        let quota = Quota::per_second(RECORDED_REFUSALS_PER_SECOND).allow_burst(RECORDED_REFUSALS_BURST);
        Self { limiter: limiter(quota), skipped: AtomicU64::new(0) }
    }

    /// Whether to record this refusal and, if so, how many before it were not.
    pub(crate) fn admit(&self) -> Option<u64> {
        if self.limiter.check().is_ok() {
            return Some(self.skipped.swap(0, Ordering::Relaxed));
        }
        self.skipped.fetch_add(1, Ordering::Relaxed);
        None
    }
}

fn limiter(quota: Quota) -> Limiter {
    RateLimiter::direct_with_clock(quota, OurClock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Monotonic, Now};

    #[test]
    fn one_agent_at_its_limit_leaves_the_others_theirs() {
        let names: [AgentName; 2] = ["a".parse().unwrap(), "b".parse().unwrap()];
        let rates = Rates::new(NonZeroU32::new(1), names.iter(), None);
        let first = rates.of(&names[0]).unwrap();
        assert!(first.take().is_ok());
        assert!(first.take().is_err());
        assert!(rates.of(&names[1]).unwrap().take().is_ok());
    }

    #[test]
    fn a_second_brings_back_what_a_second_may_take() {
        let name: AgentName = "a".parse().unwrap();
        let at = |milliseconds| {
            let mono = Monotonic::since_boot(Duration::from_millis(milliseconds));
            clock::make_up(Some(Now { mono, ..clock::now() }));
        };
        at(5_000);
        let rates = Rates::new(NonZeroU32::new(4), std::iter::once(&name), None);
        let granted = || (0..100).filter(|_| rates.of(&name).unwrap().take().is_ok()).count();
        let counts = [5_000, 5_249, 5_250, 6_250, 60_000].map(|time| {
            at(time);
            granted()
        });
        clock::make_up(None);
        assert_eq!(counts, [4, 0, 1, 4, 4]);
    }

    #[test]
    fn a_reload_does_not_refill_what_was_used_up() {
        let names: [AgentName; 1] = ["a".parse().unwrap()];
        let before = Rates::new(NonZeroU32::new(1), names.iter(), None);
        assert!(before.of(&names[0]).unwrap().take().is_ok());
        let after = Rates::new(NonZeroU32::new(1), names.iter(), Some(&before));
        assert!(after.of(&names[0]).unwrap().take().is_err());
    }

    #[test]
    fn without_a_limit_there_is_none() {
        let name: AgentName = "a".parse().unwrap();
        let rates = Rates::new(None, std::iter::once(&name), None);
        assert!((0..10_000).all(|_| rates.of(&name).unwrap().take().is_ok()));
    }

    #[test]
    fn refusals_beyond_the_first_thousand_are_counted_instead() {
        let refusals = Refusals::new();
        let recorded = (0..5000).filter(|_| refusals.admit().is_some()).count();
        assert!((1000..2000).contains(&recorded), "{recorded}");
    }
}
