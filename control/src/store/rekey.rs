//! Replacing the KEK while others serve.
//!
//! 1. The new KEK becomes `next`, and each of the two is stored encrypted under the other. Replicas see that and
//!    hold both; what they write from then on is under the new one.
//! 2. When all that live have it, the keys of what is stored are encrypted anew, in batches.
//! 3. When nothing is under the old one any more, the new one becomes `current`; of the old one only the name
//!    stays, for the error message.
//! 4. What was encrypted under the old one is removed from the database's files too, where deleted rows leave it.
//!
//! Whatever is interrupted is taken up by the same command.

use std::time::Duration;

use dvx_proto::without_trace;
use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::heads::head_key_aad;
use super::row::{Columns, assembled};
use super::transaction::{Write, only_number};
use super::{Announcement, Result, Store, StoreError, idempotency, minted, providers, secrets};
use crate::crypto::{Aad, DataKey, Envelope, Kek, KekId};
use crate::domain::OrgId;

/// What a rekey has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rekeyed {
    /// Values whose keys are encrypted anew.
    pub values: u64,
    /// Values that did not open before, and do not now.
    pub unreadable: u64,
}

/// How long replicas have to take over the new key.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);
/// Rows of one transaction, during which the organisation's writers wait.
const BATCH: i64 = 200;

impl Store {
    /// Replaces the KEK by another one. Returns when nothing can be opened with the old one any more.
    pub async fn rekey(&self, new: &Kek, clock: &(dyn Fn() -> Timestamp + Sync)) -> Result<Rekeyed> {
        let mut done = Rekeyed::default();
        if let Some(old) = self.begin_rekey(new, clock()).await? {
            self.await_replicas(new.id(), clock).await?;
            loop {
                for organisation in self.organisations().await? {
                    self.rewrap_organisation(&organisation.id, &old, new, &mut done).await?;
                }
                // A writer that was at it when the new key came may have written with the old one.
                if self.finish_rekey(&old, new).await? {
                    break;
                }
            }
        }
        self.scrub(clock).await?;
        Ok(done)
    }

    /// Removes what rows held before from the files. Readers that are at it are waited for.
    async fn scrub(&self, clock: &(dyn Fn() -> Timestamp + Sync)) -> Result<()> {
        let begin = clock();
        for statement in self.0.backend.scrub() {
            loop {
                let tried = sqlx::query(*statement).fetch_optional(&self.0.writer).await;
                let is_done = match &tried {
                    Ok(Some(row)) => only_number(row)? == 0,
                    Ok(None) => true,
                    Err(_) => false,
                };
                if is_done {
                    break;
                }
                if crate::clock::since(clock(), begin) > PATIENCE {
                    tried?;
                    return Err(StoreError::StillRead);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Makes the new KEK `next`; returns the old one. `None` where the new one is in force already.
    pub(super) async fn begin_rekey(&self, new: &Kek, now: Timestamp) -> Result<Option<Kek>> {
        let mut write = self.write().await?;
        if let Some(lock) = self.0.backend.migration_lock() {
            sqlx::query(lock).execute(write.connection()).await?;
        }
        let rows = write.kek_rows().await?;
        self.take_over(&rows)?;
        let current = rows.iter().find(|row| !row.next).ok_or(StoreError::NotInitialised)?;
        let next = rows.iter().find(|row| row.next);
        if current.id == *new.id() && next.is_none() {
            return Ok(None);
        }
        if let Some(other) = next.filter(|next| next.id != *new.id()) {
            return Err(StoreError::RekeyUnderWay(other.id.clone()));
        }
        let old = self.0.keyring.get(&current.id).ok_or(StoreError::Corrupt("no KEK"))?;
        if next.is_none() {
            write.insert_kek(new, "next", Some(new.wrapped_under(&old)), now).await?;
            sqlx::query("UPDATE keks SET wrapped = $2 WHERE id = $1")
                .bind(old.id().as_str())
                .bind(old.wrapped_under(new))
                .execute(write.connection())
                .await?;
        }
        write.announce(Announcement::Keys);
        write.commit().await?;
        self.load_keys().await?;
        Ok(Some(old))
    }

    async fn await_replicas(&self, new: &KekId, clock: &(dyn Fn() -> Timestamp + Sync)) -> Result<()> {
        let begin = clock();
        loop {
            let behind = self.replicas_without(new).await?;
            if behind == 0 {
                return Ok(());
            }
            if crate::clock::since(clock(), begin) > PATIENCE {
                return Err(StoreError::ReplicasBehind(u64::try_from(behind).unwrap_or(0)));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(super) async fn rewrap_organisation(
        &self,
        org: &OrgId,
        old: &Kek,
        new: &Kek,
        done: &mut Rekeyed,
    ) -> Result<()> {
        let mut write = self.write().await?;
        write.lock(org).await?;
        write.rewrap_head_key(org, old, new).await?;
        write.commit().await?;
        while self.rewrap_batch(org, old, new, done).await? {}
        Ok(())
    }

    /// Encrypts some keys anew; whether there may be more.
    pub(super) async fn rewrap_batch(
        &self,
        org: &OrgId,
        old: &Kek,
        new: &Kek,
        done: &mut Rekeyed,
    ) -> Result<bool> {
        let mut write = self.write().await?;
        write.lock(org).await?;
        let secrets = write.rewrap_secrets(org, old, new, done).await?;
        let answers = write.rewrap_answers(org, old, new).await?;
        let others =
            write.rewrap_providers(org, old, new).await? | write.rewrap_minted(org, old, new).await?;
        write.commit().await?;
        Ok(secrets || answers || others)
    }

    /// Makes the new KEK `current`, if nothing is under the old one any more.
    pub(super) async fn finish_rekey(&self, old: &Kek, new: &Kek) -> Result<bool> {
        let mut write = self.write().await?;
        // No organisation's writer is at anything now.
        sqlx::query("UPDATE organisations SET revision = revision").execute(write.connection()).await?;
        for table in ["organisations", "secrets", "idempotency", "credential_providers", "minted"] {
            let row = sqlx::query(assembled(format!("SELECT COUNT(*) FROM {table} WHERE kek_id = $1")))
                .bind(old.id().as_str())
                .fetch_one(write.connection())
                .await?;
            if only_number(&row)? > 0 {
                return Ok(false);
            }
        }
        sqlx::query("UPDATE keks SET state = 'retired', probe = $2, wrapped = NULL WHERE id = $1")
            .bind(old.id().as_str())
            .bind(Vec::<u8>::new())
            .execute(write.connection())
            .await?;
        sqlx::query("UPDATE keks SET state = 'current', wrapped = NULL WHERE id = $1")
            .bind(new.id().as_str())
            .execute(write.connection())
            .await?;
        write.announce(Announcement::Keys);
        write.commit().await?;
        self.load_keys().await?;
        Ok(true)
    }
}

impl Write<'_> {
    async fn rewrap_head_key(&mut self, org: &OrgId, old: &Kek, new: &Kek) -> Result<()> {
        let row = sqlx::query("SELECT head_key FROM organisations WHERE id = $1 AND kek_id = $2")
            .bind(org.as_str())
            .bind(old.id().as_str())
            .fetch_optional(self.connection())
            .await?;
        let Some(row) = row else { return Ok(()) };
        let aad = head_key_aad(org.as_str());
        let wrapped = row.blob("head_key")?;
        let rewrapped = without_trace(|| match DataKey::unwrap(old, &aad, &wrapped) {
            Ok(key) => key.wrapped_under(new, &aad),
            // It opens as little afterwards.
            Err(_) => wrapped,
        });
        sqlx::query("UPDATE organisations SET head_key = $2, kek_id = $3 WHERE id = $1")
            .bind(org.as_str())
            .bind(rewrapped)
            .bind(new.id().as_str())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    async fn rewrap_secrets(
        &mut self,
        org: &OrgId,
        old: &Kek,
        new: &Kek,
        done: &mut Rekeyed,
    ) -> Result<bool> {
        let sql = format!(
            "SELECT {} {} WHERE s.kek_id = $1 AND s.org_id = $2 LIMIT $3",
            secrets::COLUMNS,
            secrets::FROM
        );
        let rows = sqlx::query(assembled(sql))
            .bind(old.id().as_str())
            .bind(org.as_str())
            .bind(BATCH)
            .fetch_all(self.connection())
            .await?;
        for row in &rows {
            let rewrapped = rewrapped_secret(row, old, new);
            if rewrapped.is_some() {
                done.values += 1;
            } else {
                done.unreadable += 1;
            }
            let wrapped = rewrapped.map_or_else(|| row.blob("wrapped_key"), Ok)?;
            sqlx::query(
                "UPDATE secrets SET wrapped_key = $4, kek_id = $5 WHERE org_id = $1 AND agent_id = $2 AND name = $3",
            )
            .bind(org.as_str())
            .bind(row.text("agent_id")?)
            .bind(row.text("name")?)
            .bind(wrapped)
            .bind(new.id().as_str())
            .execute(self.connection())
            .await?;
        }
        Ok(!rows.is_empty())
    }

    async fn rewrap_providers(&mut self, org: &OrgId, old: &Kek, new: &Kek) -> Result<bool> {
        let rows = sqlx::query(
            "SELECT id, instance_url, group_id, mode, version, wrapped_key FROM credential_providers \
             WHERE kek_id = $1 AND org_id = $2 LIMIT $3",
        )
        .bind(old.id().as_str())
        .bind(org.as_str())
        .bind(BATCH)
        .fetch_all(self.connection())
        .await?;
        for row in &rows {
            let (id, url, mode) = (row.text("id")?, row.text("instance_url")?, row.text("mode")?);
            let aad = providers::aad(&providers::Bound {
                org: org.as_str(),
                id: &id,
                instance_url: &url,
                group: row.number("group_id")?,
                mode: &mode,
                version: row.number("version")?,
            });
            self.rewrap("credential_providers", &id, row, &aad, old, new).await?;
        }
        Ok(!rows.is_empty())
    }

    async fn rewrap_minted(&mut self, org: &OrgId, old: &Kek, new: &Kek) -> Result<bool> {
        let rows =
            sqlx::query("SELECT id, wrapped_key FROM minted WHERE kek_id = $1 AND org_id = $2 LIMIT $3")
                .bind(old.id().as_str())
                .bind(org.as_str())
                .bind(BATCH)
                .fetch_all(self.connection())
                .await?;
        for row in &rows {
            let id = row.text("id")?;
            let aad = minted::aad(org.as_str(), &id);
            self.rewrap("minted", &id, row, &aad, old, new).await?;
        }
        Ok(!rows.is_empty())
    }

    async fn rewrap(
        &mut self,
        table: &'static str,
        id: &str,
        row: &AnyRow,
        aad: &Aad,
        old: &Kek,
        new: &Kek,
    ) -> Result<()> {
        let envelope =
            Envelope { kek: old.id().clone(), wrapped_key: row.blob("wrapped_key")?, value: Vec::new() };
        // What does not open now opens as little afterwards.
        let wrapped = envelope.rewrapped(old, new, aad).unwrap_or(envelope.wrapped_key);
        sqlx::query(assembled(format!("UPDATE {table} SET wrapped_key = $2, kek_id = $3 WHERE id = $1")))
            .bind(id)
            .bind(wrapped)
            .bind(new.id().as_str())
            .execute(self.connection())
            .await?;
        Ok(())
    }

    async fn rewrap_answers(&mut self, org: &OrgId, old: &Kek, new: &Kek) -> Result<bool> {
        let rows = sqlx::query(
            "SELECT actor, key, status, wrapped_key FROM idempotency WHERE kek_id = $1 AND org_id = $2 LIMIT $3",
        )
        .bind(old.id().as_str())
        .bind(org.as_str())
        .bind(BATCH)
        .fetch_all(self.connection())
        .await?;
        for row in &rows {
            let (actor, key) = (row.text("actor")?, row.text("key")?);
            let aad = idempotency::aad(org.as_str(), &actor, &key, row.number("status")?);
            let wrapped_key = row.blob("wrapped_key")?;
            let envelope = Envelope { kek: old.id().clone(), wrapped_key, value: Vec::new() };
            let wrapped = envelope.rewrapped(old, new, &aad).unwrap_or(envelope.wrapped_key);
            sqlx::query(
                "UPDATE idempotency SET wrapped_key = $4, kek_id = $5 WHERE org_id = $1 AND actor = $2 AND key = $3",
            )
            .bind(org.as_str())
            .bind(actor)
            .bind(key)
            .bind(wrapped)
            .bind(new.id().as_str())
            .execute(self.connection())
            .await?;
        }
        Ok(!rows.is_empty())
    }
}

fn rewrapped_secret(row: &AnyRow, old: &Kek, new: &Kek) -> Option<Vec<u8>> {
    let secret = secrets::read(row).ok().flatten().filter(|secret| !secret.malformed)?;
    let version = i64::try_from(secret.version).ok()?;
    let aad = secrets::aad(&secret.place, &secret.id, &secret.metadata, secret.credential, version);
    secret.envelope.rewrapped(old, new, &aad).ok()
}
