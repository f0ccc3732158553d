//! Places where a test can end the process.
//!
//! `DVX_TEST_FAIL_POINT=<point>:before` or `:after` ends it right before or right after the call or transaction
//! of that name, the first time that it gets there; `<point>:before:2` does so the second time. It can only take
//! something away, so it is always there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{IntegrationError, Result};

/// Every point: each step of an operation, and each call of a removal.
pub const POINTS: [&str; 10] = [
    "account",
    "member",
    "token",
    "prove",
    "publish",
    "deliver",
    "retire",
    "rotate-self",
    "remove",
    "confirm",
];

/// Before or after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// What is going to be done is written down, and not done.
    Before,
    /// It is done, and what came of it is not written down.
    After,
}

/// What happens at the points.
#[derive(Clone, Default)]
pub(crate) struct FailPoints(Option<Arc<dyn Fn(&'static str, When) -> bool + Send + Sync>>);

impl FailPoints {
    const VARIABLE: &str = "DVX_TEST_FAIL_POINT";

    /// As the environment says, which ends the process.
    pub(crate) fn of_environment() -> Self {
        let Ok(text) = std::env::var(Self::VARIABLE) else { return Self(None) };
        let mut words = text.split(':').map(str::to_owned);
        let (wanted, side) = (words.next(), words.next());
        let times = words.next().and_then(|times| times.parse().ok()).unwrap_or(1);
        let passed = AtomicU32::new(0);
        Self(Some(Arc::new(move |point, when| {
            let when = match when {
                When::Before => "before",
                When::After => "after",
            };
            // A value that is no point has them told only: so a test finds out which there are on its way.
            tracing::debug!(point, when, "fail point");
            let is_meant = wanted.as_deref() == Some(point) && side.as_deref() == Some(when);
            if is_meant && passed.fetch_add(1, Ordering::Relaxed) + 1 == times {
                std::process::abort();
            }
            false
        })))
    }

    /// Where this says so, what is done stops as if the process had ended.
    #[cfg(test)]
    pub(crate) fn stopping(stops: impl Fn(&'static str, When) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(stops)))
    }

    /// Passes, or does not come back.
    pub(crate) fn reach(&self, point: &'static str, when: When) -> Result<()> {
        match &self.0 {
            Some(stops) if stops(point, when) => Err(IntegrationError::Stopped),
            _ => Ok(()),
        }
    }
}
