//! How long to wait before the next try.

use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};

/// Doubles with each failure. What is waited is between a half and the whole of it, so that brokers that failed
/// together do not come back together.
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    pub(super) const LONGEST: Duration = Duration::from_secs(15);

    pub(super) const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// After something has worked.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// How long to wait now.
    pub(super) fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(Self::LONGEST);
        jittered(whole)
    }

    /// As after many failures.
    pub(super) fn longest(&mut self) -> Duration {
        self.next = Self::LONGEST;
        jittered(Self::LONGEST)
    }
}

fn jittered(whole: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness it is a wait all the same.
    let _filled: Result<usize, _> = getrandom(&mut random, GetRandomFlags::empty());
    whole / 2 + whole / 2 * u32::from(u16::from_ne_bytes(random)) / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_fifteen_seconds_and_begin_anew() {
        let mut backoff = Backoff::new();
        for whole in [100, 200, 400, 800, 1600, 3200, 6400, 12800, 15000, 15000] {
            let pause = backoff.pause();
            let whole = Duration::from_millis(whole);
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= Backoff::FIRST);
    }
}
