//! The changes of one organisation, on their way from the database to its streams.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::ring::{Ring, Since};
use super::session::{Fate, Sessions};
use crate::clock;
use crate::domain::{Change, ChangedObject, Changes, EnclaveId, OrgId, Revision};
use crate::store::{Store, StoreError};

/// How many changes are kept in memory. A stream is behind by more only if it is written to very slowly; it
/// then reads from the database.
const CAPACITY: usize = 4096;

/// How many changes are read at a time.
const PAGE: u32 = 1000;

/// One organisation's.
pub(crate) struct Feed {
    org: OrgId,
    state: Mutex<State>,
    /// Held by the one that reads new changes: the last reading that came to its end.
    turn: tokio::sync::Mutex<u64>,
}

struct State {
    ring: Ring,
    /// Readings that have begun.
    readings: u64,
    /// When the newest changes came.
    noticed: Instant,
    /// The mark that was looked up last: of the revision that most streams begin with.
    looked_up: Option<(Revision, u64)>,
}

impl Feed {
    /// From this revision on.
    pub(crate) fn new(org: OrgId, revision: Revision) -> Self {
        let ring = Ring::new(revision, CAPACITY);
        let state = State { ring, readings: 0, noticed: clock::monotonic(), looked_up: None };
        Self { org, state: Mutex::new(state), turn: tokio::sync::Mutex::new(0) }
    }

    pub(crate) const fn org(&self) -> &OrgId {
        &self.org
    }

    /// Whether all changes after a revision are here.
    pub(crate) fn has(&self, revision: Revision) -> bool {
        self.state().ring.has(revision)
    }

    /// The newest revision that is known here.
    pub(crate) fn newest(&self) -> Revision {
        self.state().ring.newest()
    }

    /// When the newest changes came.
    pub(crate) fn noticed(&self) -> Instant {
        self.state().noticed
    }

    /// Reads what is new, and wakes the streams that it concerns. All who ask while others read share the next
    /// reading.
    pub(crate) async fn catch_up(&self, store: &Store, sessions: &Sessions) -> Result<(), StoreError> {
        let before = self.state().readings;
        let mut turn = self.turn.lock().await;
        if *turn > before {
            return Ok(());
        }
        let reading = {
            let mut state = self.state();
            state.readings += 1;
            state.readings
        };
        self.read(store, sessions).await?;
        *turn = reading;
        Ok(())
    }

    async fn read(&self, store: &Store, sessions: &Sessions) -> Result<(), StoreError> {
        loop {
            let newest = self.newest();
            match store.changes_since(&self.org, newest, PAGE).await? {
                Changes::Since(changes) if changes.is_empty() => return Ok(()),
                Changes::Since(changes) => self.take(changes, sessions),
                Changes::Unknown => {
                    // The database is another one than before, or so many changes came at once that some are
                    // gone already. Brokers begin anew.
                    let revision = store.revision(&self.org).await?;
                    {
                        let mut state = self.state();
                        state.ring.reset(revision);
                        state.looked_up = None;
                    }
                    sessions.end_all_of(&self.org, Fate::Lost);
                    return Ok(());
                }
            }
        }
    }

    fn take(&self, changes: Vec<Change>, sessions: &Sessions) {
        let Some(newest) = changes.last().map(|change| change.revision) else { return };
        let changes: Vec<_> = changes.into_iter().map(Arc::new).collect();
        {
            let mut state = self.state();
            state.ring.extend(newest, changes.iter().cloned());
            state.noticed = clock::monotonic();
        }
        for change in &changes {
            match (&change.object, change.object.enclave()) {
                (ChangedObject::EnclaveGone { enclave }, _) => sessions.end(enclave, Fate::EnclaveGone),
                (_, Some(enclave)) => sessions.wake(enclave),
                (_, None) => sessions.wake_all(&self.org),
            }
        }
    }

    /// What a stream has to send, and up to which revision; none where that must be asked of the database.
    pub(crate) fn since(
        &self,
        cursor: Revision,
        enclave: &EnclaveId,
    ) -> Option<(Revision, Vec<Arc<Change>>)> {
        match self.state().ring.since(cursor, enclave) {
            Since::Changes { newest, changes } => Some((newest.max(cursor), changes)),
            Since::Behind { .. } => None,
        }
    }

    /// The same from the database; none where it does not know any more either.
    pub(crate) async fn since_in(
        &self,
        store: &Store,
        cursor: Revision,
        enclave: &EnclaveId,
    ) -> Result<Option<(Revision, Vec<Arc<Change>>)>, StoreError> {
        match store.changes_since(&self.org, cursor, PAGE).await? {
            Changes::Unknown => Ok(None),
            Changes::Since(changes) => {
                let newest = changes.last().map_or(cursor, |change| change.revision);
                let concerns = |change: &Change| change.object.enclave().is_none_or(|other| other == enclave);
                let changes = changes.into_iter().filter(concerns).map(Arc::new).collect();
                Ok(Some((newest, changes)))
            }
        }
    }

    /// What a revision is known by besides its number, as far as that is known here.
    pub(crate) fn known_mark(&self, revision: Revision) -> Option<u64> {
        let state = self.state();
        let looked_up = state.looked_up.filter(|(known, _)| *known == revision).map(|(_, mark)| mark);
        state.ring.mark(revision).or(looked_up)
    }

    /// The same with a look into the database; none where the revision is not kept any more.
    pub(crate) async fn mark(&self, store: &Store, revision: Revision) -> Result<Option<u64>, StoreError> {
        if let Some(mark) = self.known_mark(revision) {
            return Ok(Some(mark));
        }
        let mark = store.change(&self.org, revision).await?.map(|change| change.mark);
        if let Some(mark) = mark {
            self.state().looked_up = Some((revision, mark));
        }
        Ok(mark)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
