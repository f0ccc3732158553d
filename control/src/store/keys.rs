//! The KEKs in force.
//!
//! There is one, `current`, but during a rekey: then there is also `next`, each encrypted under the other in the
//! database, so that whoever has one has both. Values are written with `next` as soon as there is one.

use std::sync::{Arc, PoisonError, RwLock};

use sqlx::any::AnyRow;

use super::row::Columns;
use super::transaction::Write;
use super::{Announcement, Result, Store, StoreError};
use crate::crypto::{Kek, KekId};

/// Those in force, `current` first.
pub(super) const SELECT: &str =
    "SELECT id, state, probe, wrapped FROM keks WHERE state <> 'retired' ORDER BY state";

/// The KEKs that this process holds.
pub(super) struct Keyring(RwLock<Arc<Vec<Kek>>>);

/// A row of `keks`.
pub(super) struct KekRow {
    pub(super) id: KekId,
    pub(super) next: bool,
    probe: Vec<u8>,
    wrapped: Option<Vec<u8>>,
}

impl Keyring {
    pub(super) fn new(kek: Kek) -> Self {
        Self(RwLock::new(Arc::new(vec![kek])))
    }

    pub(super) fn held(&self) -> Arc<Vec<Kek>> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn get(&self, id: &KekId) -> Option<Kek> {
        self.held().iter().find(|kek| kek.id() == id).cloned()
    }

    pub(super) fn hold(&self, keks: Vec<Kek>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keks);
    }
}

impl KekRow {
    pub(super) fn read(row: &AnyRow) -> Result<Self> {
        Ok(Self {
            id: row.text("id")?.into(),
            next: row.text("state")? == "next",
            probe: row.blob("probe")?,
            wrapped: row.optional_blob("wrapped")?,
        })
    }

    /// This key, from those at hand.
    fn find(&self, held: &[Kek]) -> Result<Option<Kek>> {
        if let Some(kek) = held.iter().find(|kek| *kek.id() == self.id && kek.matches(&self.probe)) {
            return Ok(Some(kek.clone()));
        }
        let Some(wrapped) = self.wrapped.as_deref() else { return Ok(None) };
        for kek in held {
            if let Some(unwrapped) = kek.unwrap_other(&self.id, wrapped)? {
                return Ok(Some(unwrapped).filter(|kek| kek.matches(&self.probe)));
            }
        }
        Ok(None)
    }
}

impl Store {
    /// Takes over the KEKs that are in force now. Without the current one nothing opens: that is an error.
    pub async fn load_keys(&self) -> Result<()> {
        let rows = sqlx::query(SELECT).fetch_all(&self.0.reader).await?;
        let rows = rows.iter().map(KekRow::read).collect::<Result<Vec<_>>>()?;
        match self.take_over(&rows) {
            Err(StoreError::KekWrong { given, expected }) if self.is_retired(&given).await? => {
                Err(StoreError::KekReplaced { given, current: expected })
            }
            done => done,
        }
    }

    pub(super) fn take_over(&self, rows: &[KekRow]) -> Result<()> {
        let held = self.0.keyring.held();
        let current = rows.iter().find(|row| !row.next).ok_or(StoreError::NotInitialised)?;
        let mut keks = Vec::with_capacity(rows.len());
        for row in rows {
            match row.find(&held)? {
                Some(kek) => keks.push(kek),
                None => return Err(self.not_held(&current.id, &row.id)),
            }
        }
        self.0.keyring.hold(keks);
        Ok(())
    }

    async fn is_retired(&self, id: &KekId) -> Result<bool> {
        let row = sqlx::query("SELECT id FROM keks WHERE id = $1 AND state = 'retired'")
            .bind(id.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        Ok(row.is_some())
    }

    fn not_held(&self, current: &KekId, missing: &KekId) -> StoreError {
        let given = self.0.keyring.held().first().map_or_else(|| missing.clone(), |kek| kek.id().clone());
        StoreError::KekWrong { given, expected: current.clone() }
    }

    /// The KEK of this id, looking for a new one where it is not known.
    pub(super) async fn kek(&self, id: &KekId) -> Result<Option<Kek>> {
        if let Some(kek) = self.0.keyring.get(id) {
            return Ok(Some(kek));
        }
        match self.load_keys().await {
            Ok(()) => Ok(self.0.keyring.get(id)),
            // One value that names a key that there is not must not look like a failure of everything.
            Err(StoreError::KekWrong { .. } | StoreError::KekReplaced { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Write<'_> {
    /// As [`Store::kek`], over this transaction's connection: there may be no other.
    pub(super) async fn kek(&mut self, id: &KekId) -> Result<Option<Kek>> {
        if let Some(kek) = self.store().0.keyring.get(id) {
            return Ok(Some(kek));
        }
        let rows = self.kek_rows().await?;
        match self.store().take_over(&rows) {
            Ok(()) => Ok(self.store().0.keyring.get(id)),
            Err(StoreError::KekWrong { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The KEK to write with: the newest. Read in the transaction, so that none is written with a key that a rekey
    /// has replaced. The organisation's row must be taken.
    pub(super) async fn writing_kek(&mut self) -> Result<Kek> {
        let rows = self.kek_rows().await?;
        let newest = rows.iter().find(|row| row.next).or(rows.first()).ok_or(StoreError::NotInitialised)?;
        if let Some(kek) = self.store().0.keyring.get(&newest.id) {
            return Ok(kek);
        }
        self.store().take_over(&rows)?;
        self.announce(Announcement::Keys);
        self.store().0.keyring.get(&newest.id).ok_or(StoreError::Corrupt("no KEK"))
    }
}
