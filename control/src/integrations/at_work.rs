//! What this process is at.
//!
//! Leases end by the wall clock, so that whatever became of their holders others go on. But a wall clock can jump,
//! and a process does not take what it is at itself for left behind: it would make the same thing twice.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::OperationId;

/// Operations that are carried on at the moment.
#[derive(Default)]
pub(super) struct AtWork(Mutex<BTreeSet<OperationId>>);

impl AtWork {
    /// None where it is carried on already.
    pub(super) fn begin(&self, operation: &OperationId) -> Option<Place<'_>> {
        let is_new = self.lock().insert(operation.clone());
        is_new.then(|| Place { at_work: self, operation: operation.clone() })
    }

    pub(super) fn all(&self) -> BTreeSet<OperationId> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<OperationId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As long as it is there, an operation is carried on.
pub(super) struct Place<'a> {
    at_work: &'a AtWork,
    operation: OperationId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.at_work.lock().remove(&self.operation);
    }
}
