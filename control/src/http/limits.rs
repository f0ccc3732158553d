//! What one caller may write into log and audit trail by being refused.

use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::Peer;
use crate::listener::gate::Key;

/// The first refusals of a caller are recorded each.
const BURST: NonZeroU32 = NonZeroU32::new(100).unwrap();
/// Beyond that, so many a second: enough to see that it goes on.
const PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// How many callers are told apart. When there are more, those that have been quiet are forgotten.
const MAX_CALLERS: usize = 10_000;

/// Says which refusals are recorded. Nobody is answered slower for it.
pub(crate) struct Refusals(DefaultKeyedRateLimiter<Key>);

impl Refusals {
    pub(crate) fn new() -> Self {
        Self(RateLimiter::keyed(Quota::per_second(PER_SECOND).allow_burst(BURST)))
    }

    /// Whether this one is.
    pub(crate) fn is_recorded(&self, peer: Peer) -> bool {
        if self.0.len() > MAX_CALLERS {
            self.0.retain_recent();
            self.0.shrink_to_fit();
        }
        self.0.len() <= 2 * MAX_CALLERS && self.0.check_key(&peer.key()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_cannot_fill_the_log_or_silence_another() {
        let refusals = Refusals::new();
        let peer = |uid| Peer::Unix { uid, pid: Some(1) };
        let recorded = (0..1000).filter(|_| refusals.is_recorded(peer(1))).count();
        assert!((100..200).contains(&recorded), "{recorded}");
        assert!(refusals.is_recorded(peer(2)));
    }
}
