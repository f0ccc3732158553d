//! The newest version of each secret, kept apart from its row and authenticated, so that an older row, a row
//! that was deleted, and a row that was put somewhere else are known for what they are.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dvx_proto::without_trace;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sqlx::any::AnyRow;

use super::row::Columns;
use super::transaction::Write;
use super::{Object, Result, Store, StoreError};
use crate::crypto::{Aad, Kek, KeptKey, Unreadable, derive};
use crate::domain::{Head, OrgId, Place};

/// Each organisation's key for this, as it was opened first.
#[derive(Default)]
pub(super) struct HeadKeys(Mutex<HashMap<OrgId, KeptKey>>);

/// What an organisation's head key is bound to.
pub(super) fn head_key_aad(org: &str) -> Aad {
    Aad::new("dvx head key 1").text(org)
}

const SELECT: &str = "SELECT head_key, kek_id FROM organisations WHERE id = $1";

impl Store {
    /// The organisation's head key; inner: it does not open.
    pub(super) async fn head_key(&self, org: &OrgId) -> Result<Result<KeptKey, Unreadable>> {
        if let Some(key) = self.0.head_keys.get(org) {
            return Ok(Ok(key));
        }
        let row = sqlx::query(SELECT).bind(org.as_str()).fetch_optional(&self.0.reader).await?;
        let row = row.ok_or(StoreError::NotFound(Object::Organisation))?;
        let kek = self.kek(&row.text("kek_id")?.into()).await?;
        self.0.head_keys.unwrap(org, kek, &row)
    }
}

impl HeadKeys {
    fn lock(&self) -> MutexGuard<'_, HashMap<OrgId, KeptKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, org: &OrgId) -> Option<KeptKey> {
        self.lock().get(org).cloned()
    }

    fn unwrap(&self, org: &OrgId, kek: Option<Kek>, row: &AnyRow) -> Result<Result<KeptKey, Unreadable>> {
        let Some(kek) = kek else { return Ok(Err(Unreadable)) };
        let key = KeptKey::unwrap(&kek, &head_key_aad(org.as_str()), &row.blob("head_key")?)?;
        Ok(key.map(|key| self.lock().entry(org.clone()).or_insert(key).clone()))
    }
}

impl Head {
    fn mac(&self, key: &KeptKey, place: &Place) -> Option<Hmac<Sha256>> {
        let aad = Aad::new("dvx secret head 1")
            .text(place.org.as_str())
            .text(place.agent_id())
            .text(place.name.as_str())
            .text(self.secret.as_str())
            .number(self.version)
            .number(i64::from(self.deleted));
        let mut derived = zeroize::Zeroizing::new([0; 32]);
        derive(key.expose_secret(), b"dvx secret head mac", derived.as_mut_slice());
        let mut mac = Hmac::<Sha256>::new_from_slice(derived.as_slice()).ok()?;
        mac.update(aad.as_bytes());
        Some(mac)
    }

    pub(super) fn authentic(&self, key: &KeptKey, place: &Place) -> bool {
        without_trace(|| self.mac(key, place).is_some_and(|mac| mac.verify_slice(&self.mac).is_ok()))
    }

    fn signed(mut self, key: &KeptKey, place: &Place) -> Self {
        let mac = without_trace(|| self.mac(key, place).map(|mac| mac.finalize().into_bytes().to_vec()));
        self.mac = mac.unwrap_or_default();
        self
    }
}

impl Write<'_> {
    /// As [`Store::head_key`], over this transaction's connection: there may be no other.
    async fn head_key(&mut self, org: &OrgId) -> Result<Result<KeptKey, Unreadable>> {
        if let Some(key) = self.store().0.head_keys.get(org) {
            return Ok(Ok(key));
        }
        let row = sqlx::query(SELECT).bind(org.as_str()).fetch_optional(self.connection()).await?;
        let row = row.ok_or(StoreError::NotFound(Object::Organisation))?;
        let kek = self.kek(&row.text("kek_id")?.into()).await?;
        self.store().0.head_keys.unwrap(org, kek, &row)
    }

    pub(super) async fn read_head(&mut self, place: &Place) -> Result<Option<Head>> {
        let row = sqlx::query(
            "SELECT secret_id, version, deleted, mac FROM secret_heads \
             WHERE org_id = $1 AND agent_id = $2 AND name = $3",
        )
        .bind(place.org.as_str())
        .bind(place.agent_id())
        .bind(place.name.as_str())
        .fetch_optional(self.connection())
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Head {
            secret: row.text("secret_id")?.into(),
            version: row.number("version")?,
            deleted: row.flag("deleted")?,
            mac: row.blob("mac")?,
        }))
    }

    pub(super) async fn write_head(&mut self, place: &Place, head: Head) -> Result<()> {
        let key = self.head_key(&place.org).await?;
        let key =
            key.map_err(|Unreadable| StoreError::Corrupt("an organisation's head key that does not open"))?;
        let head = head.signed(&key, place);
        sqlx::query(
            "INSERT INTO secret_heads (org_id, agent_id, name, secret_id, version, deleted, mac) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (org_id, agent_id, name) DO UPDATE SET \
             secret_id = excluded.secret_id, version = excluded.version, deleted = excluded.deleted, \
             mac = excluded.mac",
        )
        .bind(place.org.as_str())
        .bind(place.agent_id())
        .bind(place.name.as_str())
        .bind(head.secret.as_str())
        .bind(head.version)
        .bind(i64::from(head.deleted))
        .bind(head.mac)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

/// Whether a row is the one that its head speaks of.
pub(super) fn current(head: &Head, version: u64, id: &str) -> bool {
    !head.deleted
        && u64::try_from(head.version).is_ok_and(|newest| newest == version)
        && head.secret.as_str() == id
}
