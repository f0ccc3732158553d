//! Time that passes when a test says so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Lab;
use crate::world::Builder;
use crate::{ControlPlane, faketime_library, now, skip, within};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long GitLab must not have been asked anything before nobody is at work.
const IDLE: Duration = Duration::from_millis(300);

/// Somebody who is at work comes further within this.
const LEFT_BEHIND: Duration = Duration::from_secs(4);

/// Longer than anything waits that is not rare.
const STEP: i64 = 65;

impl Lab {
    /// One whose control plane and GitLab have clocks that [`pass`](Self::pass) moves. None, which is said, where
    /// that cannot be.
    #[track_caller]
    pub fn movable(test: &str, world: Builder) -> Option<Self> {
        if faketime_library().is_none() {
            skip(test, "libfaketime is not installed");
            return None;
        }
        Some(Self::with(ControlPlane::builder().movable_clock(), world))
    }

    /// Some seconds pass, or come back, for the control plane and GitLab.
    #[track_caller]
    pub fn pass(&self, seconds: i64) {
        let seconds = self.seconds.fetch_add(seconds, Ordering::Relaxed) + seconds;
        // The control plane is the one that is late, as it is over any network.
        self.gitlab.shift_time(seconds);
        self.control.shift_clock(seconds);
    }

    /// Waits for something, and lets time fly whenever nobody is at work.
    #[track_caller]
    pub fn fly<T>(&mut self, what: &str, mut poll: impl FnMut(&mut Self) -> Result<T, String>) -> T {
        let start = now();
        let (mut asked, mut passed) = (usize::MAX, now());
        loop {
            let count = self.gitlab.requests().len();
            let why = match poll(self) {
                Ok(value) => return value,
                Err(why) => why,
            };
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}: {why}");
            // A lease would be over in the middle of what it is for, or else it is one that somebody left behind.
            let held = asked != count || self.books()["held"] != 0;
            if !held || passed.elapsed() > LEFT_BEHIND {
                self.pass(STEP);
                passed = now();
            }
            asked = count;
            within(IDLE, || None::<()>);
        }
    }
}
