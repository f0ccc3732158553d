//! The time by which replicas compare what they have written: the database's, where it has a clock of its own.
//!
//! A replica whose clock is behind would have a broker that is gone taken for one that serves no more, and one whose
//! clock is ahead would keep it for too long. So what is compared is kept in the database's time, and is in our own
//! outside of the store.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::row::micros;
use super::transaction::only_number;
use super::{Result, Store, StoreError};
use crate::clock;

/// An answer that took longer says too little of what time it was when it was asked for.
const PROMPT: Duration = Duration::from_secs(1);

/// By how many microseconds the database's clock is ahead of ours.
#[derive(Default)]
pub(super) struct SharedTime(AtomicI64);

impl SharedTime {
    /// A time of ours, as it is stored.
    pub(super) fn stored(&self, time: Timestamp) -> i64 {
        micros(time).saturating_add(self.0.load(Ordering::Relaxed))
    }

    /// What was stored, as a time of ours.
    pub(super) fn read(&self, stored: i64) -> Result<Timestamp> {
        Timestamp::from_microsecond(stored.saturating_sub(self.0.load(Ordering::Relaxed)))
            .map_err(|_| StoreError::Corrupt("a time that no calendar has"))
    }
}

impl Store {
    /// Looks at the database's clock; `now` is ours.
    pub(super) async fn compare_clocks(&self, now: Timestamp) -> Result<()> {
        let Some(sql) = self.0.backend.time() else { return Ok(()) };
        let begin = clock::monotonic();
        let theirs = only_number(&sqlx::query(sql).fetch_one(&self.0.reader).await?)?;
        if begin.elapsed() < PROMPT {
            self.0.time.0.store(theirs.saturating_sub(micros(now)), Ordering::Relaxed);
        }
        Ok(())
    }
}
