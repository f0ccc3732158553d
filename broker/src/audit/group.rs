//! Lines that are written together.
//!
//! A write(2) costs nearly the same for one line as for thirty. Where requests come several at a time, each hands its
//! line in and lets those that are ready go first; the first that is back writes the lines of all. One that comes
//! alone does not wait.

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use thiserror::Error;

/// A line is not in the log, so what it is about must not be served. The log knows why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the audit log cannot be written")]
pub(crate) struct Unwritten;

/// A line that was handed in.
#[must_use]
pub(crate) enum Entry {
    Settled(Result<(), Unwritten>),
    /// Together with others.
    Waiting(Group),
}

/// What became of lines that waited for each other.
#[derive(Clone, Default)]
pub(crate) struct Group(Arc<OnceLock<Result<(), Unwritten>>>);

impl Group {
    pub(super) fn settle(self, outcome: Result<(), Unwritten>) {
        self.0.get_or_init(|| outcome);
    }

    pub(super) fn outcome(&self) -> Option<Result<(), Unwritten>> {
        self.0.get().copied()
    }
}

/// Counts the lines between two pauses of the serving thread.
#[derive(Default)]
pub(super) struct Round {
    lines: u32,
    was_crowded: bool,
}

impl Round {
    pub(super) fn count(&mut self) {
        self.lines = self.lines.saturating_add(1);
    }

    pub(super) fn end(&mut self) {
        self.was_crowded = self.lines > 1;
        self.lines = 0;
    }

    /// Whether others are likely to come with the next one, as they did in the round before.
    pub(super) fn is_crowded(&self) -> bool {
        self.was_crowded
    }
}

/// Lets all tasks run that are ready now: the runtime queues one that wakes itself behind them.
pub(super) async fn after_those_that_are_ready() {
    let mut is_back = false;
    poll_fn(|cx| {
        if is_back {
            return Poll::Ready(());
        }
        is_back = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests;
