//! The newest changes of one organisation, shared by all of its streams.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::{Change, EnclaveId, Revision};

/// What a stream has to look at to come up to date.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// All that concerns it, and up to which revision.
    Changes { newest: Revision, changes: Vec<Arc<Change>> },
    /// Some of it is here no more.
    Behind { newest: Revision },
}

/// Bounded: the oldest make room, and a stream that still needed them asks the database.
pub(crate) struct Ring {
    capacity: usize,
    /// All changes after this revision are here.
    base: Revision,
    newest: Revision,
    changes: VecDeque<Arc<Change>>,
}

impl Ring {
    /// An empty ring at a revision.
    pub(crate) fn new(revision: Revision, capacity: usize) -> Self {
        Self { capacity, base: revision, newest: revision, changes: VecDeque::new() }
    }

    /// The revision up to which all changes have been seen.
    pub(crate) const fn newest(&self) -> Revision {
        self.newest
    }

    /// Whether all changes after a revision are here.
    pub(crate) fn has(&self, revision: Revision) -> bool {
        revision >= self.base && revision <= self.newest
    }

    /// What a revision is known by besides its number, if it is here.
    pub(crate) fn mark(&self, revision: Revision) -> Option<u64> {
        let at = self.changes.partition_point(|change| change.revision < revision);
        self.changes.get(at).filter(|change| change.revision == revision).map(|change| change.mark)
    }

    /// Takes whole revisions, in order, up to `newest`.
    pub(crate) fn extend(&mut self, newest: Revision, changes: impl IntoIterator<Item = Arc<Change>>) {
        for change in changes {
            if change.revision > self.newest {
                self.changes.push_back(change);
            }
        }
        self.newest = self.newest.max(newest);
        while self.changes.len() > self.capacity {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.base = self.base.max(oldest.revision);
        }
        // What is left of a revision that was cut in the middle is covered by `base`.
        while self.changes.front().is_some_and(|change| change.revision <= self.base) {
            self.changes.pop_front();
        }
    }

    /// Begins anew at a revision: what was in between is not known.
    pub(crate) fn reset(&mut self, revision: Revision) {
        self.changes.clear();
        self.base = revision;
        self.newest = revision;
    }

    /// The changes after `cursor` that concern an enclave.
    pub(crate) fn since(&self, cursor: Revision, enclave: &EnclaveId) -> Since {
        let newest = self.newest;
        if cursor < self.base {
            return Since::Behind { newest };
        }
        let from = self.changes.partition_point(|change| change.revision <= cursor);
        let changes = self
            .changes
            .iter()
            .skip(from)
            .filter(|change| change.object.enclave().is_none_or(|concerned| concerned == enclave));
        Since::Changes { newest, changes: changes.cloned().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::batch::tests::{agent_changed, enclave, org_secret};

    fn revisions(since: Since) -> Option<(u64, Vec<u64>)> {
        match since {
            Since::Changes { newest, changes } => {
                Some((newest.0, changes.iter().map(|change| change.revision.0).collect()))
            }
            Since::Behind { .. } => None,
        }
    }

    #[test]
    fn a_stream_gets_what_concerns_it_and_nothing_twice() {
        let mut ring = Ring::new(Revision(10), 100);
        ring.extend(Revision(12), [agent_changed(11, "e1", "a"), agent_changed(12, "e2", "b")].map(Arc::new));
        ring.extend(Revision(13), [org_secret(13, "S")].map(Arc::new));
        assert_eq!(revisions(ring.since(Revision(10), &enclave("e1"))), Some((13, vec![11, 13])));
        assert_eq!(revisions(ring.since(Revision(11), &enclave("e1"))), Some((13, vec![13])));
        assert_eq!(revisions(ring.since(Revision(13), &enclave("e1"))), Some((13, vec![])));
        // The database may be asked twice for the same revisions.
        ring.extend(Revision(13), [org_secret(13, "S")].map(Arc::new));
        assert_eq!(revisions(ring.since(Revision(10), &enclave("e2"))), Some((13, vec![12, 13])));
    }

    #[test]
    fn a_revision_that_is_here_is_known_by_its_mark() {
        let mut ring = Ring::new(Revision(10), 2);
        for revision in 11..=13 {
            ring.extend(Revision(revision), [Arc::new(org_secret(revision, "S"))]);
        }
        let marks = [10, 11, 12, 13, 14].map(|revision| ring.mark(Revision(revision)));
        assert_eq!(marks, [None, None, Some(12_000), Some(13_000), None]);
    }

    #[test]
    fn who_is_behind_the_oldest_is_told_so_and_never_gets_half_a_revision() {
        let mut ring = Ring::new(Revision(0), 3);
        ring.extend(Revision(1), [agent_changed(1, "e", "a"), agent_changed(1, "e", "b")].map(Arc::new));
        ring.extend(Revision(3), [agent_changed(2, "e", "c"), agent_changed(3, "e", "d")].map(Arc::new));
        assert_eq!(ring.since(Revision(0), &enclave("e")), Since::Behind { newest: Revision(3) });
        assert_eq!(revisions(ring.since(Revision(1), &enclave("e"))), Some((3, vec![2, 3])));
    }

    #[test]
    fn a_ring_that_begins_anew_sends_everybody_to_the_database() {
        let mut ring = Ring::new(Revision(5), 10);
        ring.extend(Revision(6), [agent_changed(6, "e", "a")].map(Arc::new));
        ring.reset(Revision(9));
        assert_eq!(ring.since(Revision(6), &enclave("e")), Since::Behind { newest: Revision(9) });
        assert_eq!(revisions(ring.since(Revision(9), &enclave("e"))), Some((9, vec![])));
    }
}
