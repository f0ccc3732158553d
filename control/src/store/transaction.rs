//! Transactions that write.

use jiff::Timestamp;
use sqlx::{Any, AnyConnection, Row, Transaction};

use super::row::{Columns, clean, micros, stored};
use super::{Announcement, Object, Result, Store, StoreError};
use crate::domain::{Cause, ChangedObject, Event, OrgId, Revision};

/// A transaction that writes. Dropped without [`commit`](Self::commit), it leaves nothing.
pub(super) struct Write<'s> {
    transaction: Transaction<'static, Any>,
    store: &'s Store,
    announcements: Vec<Announcement>,
}

impl Store {
    pub(super) async fn write(&self) -> Result<Write<'_>> {
        // In a task of its own, which goes on when nobody waits any more: sqlx does not know of a transaction whose
        // beginning it has not seen the end of, and would give its connection to others with it.
        let (pool, statement) = (self.0.writer.clone(), self.0.backend.begin_write());
        let begun = tokio::spawn(async move { pool.begin_with(statement).await }).await;
        let transaction = begun.map_err(|_| sqlx::Error::WorkerCrashed)??;
        Ok(Write { transaction, store: self, announcements: Vec::new() })
    }
}

impl Write<'_> {
    pub(super) fn store(&self) -> &Store {
        self.store
    }

    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }

    /// Takes the organisation's row: other writers of the organisation wait until this transaction ends.
    pub(super) async fn lock(&mut self, org: &OrgId) -> Result<Revision> {
        let row =
            sqlx::query("UPDATE organisations SET revision = revision WHERE id = $1 RETURNING revision")
                .bind(org.as_str())
                .fetch_optional(self.connection())
                .await?;
        row.ok_or(StoreError::NotFound(Object::Organisation))?.revision("revision")
    }

    /// Makes a revision of the organisation, about one thing.
    pub(super) async fn bump(
        &mut self,
        org: &OrgId,
        time: Timestamp,
        object: &ChangedObject,
    ) -> Result<Revision> {
        let row =
            sqlx::query("UPDATE organisations SET revision = revision + 1 WHERE id = $1 RETURNING revision")
                .bind(org.as_str())
                .fetch_optional(self.connection())
                .await?;
        let revision = row.ok_or(StoreError::NotFound(Object::Organisation))?.revision("revision")?;
        let (kind, agent, secret) = match object {
            ChangedObject::Agent { id, agent, .. } => ("agent", Some((id, agent)), None),
            ChangedObject::AgentGone { id, agent, .. } => ("agent-gone", Some((id, agent)), None),
            ChangedObject::EnclaveGone { .. } => ("enclave-gone", None, None),
            ChangedObject::Secret { agent, name } => {
                ("secret", agent.as_ref().map(|(_, id, agent)| (id, agent)), Some(name))
            }
        };
        sqlx::query(
            "INSERT INTO changes (org_id, revision, time, kind, enclave_id, agent_id, agent, secret) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(org.as_str())
        .bind(stored(revision.0))
        .bind(micros(time))
        .bind(kind)
        .bind(object.enclave().map(|id| id.as_str()))
        .bind(agent.map(|(id, _)| id.as_str()))
        .bind(agent.map(|(_, name)| name.as_str()))
        .bind(secret.map(|name| name.as_str()))
        .execute(self.connection())
        .await?;
        self.announce(Announcement::Changes(org.clone()));
        Ok(revision)
    }

    /// Numbers for so many events; the first of them is returned. They become visible in their order.
    pub(super) async fn event_numbers(&mut self, org: &OrgId, count: u64) -> Result<u64> {
        let row = sqlx::query("UPDATE organisations SET events = events + $2 WHERE id = $1 RETURNING events")
            .bind(org.as_str())
            .bind(stored(count))
            .fetch_optional(self.connection())
            .await?;
        let last = row.ok_or(StoreError::NotFound(Object::Organisation))?.count("events")?;
        Ok((last + 1).saturating_sub(count))
    }

    /// Remembers what was done. It is there if, and only if, the rest of the transaction is.
    pub(super) async fn event(&mut self, cause: &Cause, event: Event) -> Result<()> {
        let number = self.event_numbers(&cause.actor.org, 1).await?;
        sqlx::query(
            "INSERT INTO audit_events \
             (org_id, number, time, actor, role, action, subject, agent, decision, reason, request_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(cause.actor.org.as_str())
        .bind(stored(number))
        .bind(micros(cause.time))
        .bind(cause.actor.name.as_str())
        .bind(cause.actor.role.map(|role| role.as_str()))
        .bind(event.action)
        .bind(event.subject.as_deref().map(|text| clean(text).into_owned()))
        .bind(event.agent.as_deref().map(|text| clean(text).into_owned()))
        .bind(event.decision.as_str())
        .bind(event.reason.as_deref().map(|text| clean(text).into_owned()))
        .bind(cause.request_id.as_deref())
        .execute(self.connection())
        .await?;
        self.announce(Announcement::Audit(cause.actor.org.clone()));
        Ok(())
    }

    /// Says it to everybody when the transaction has come about.
    pub(super) fn announce(&mut self, announcement: Announcement) {
        if !self.announcements.contains(&announcement) {
            self.announcements.push(announcement);
        }
    }

    pub(super) async fn commit(mut self) -> Result<()> {
        if self.store.0.backend.listen_url().is_some() {
            let announced = std::mem::take(&mut self.announcements);
            for payload in announced.iter().filter_map(Announcement::payload) {
                sqlx::query("SELECT pg_notify('dvx', $1)").bind(payload).execute(self.connection()).await?;
            }
            self.announcements = announced;
        }
        self.transaction.commit().await?;
        for announcement in self.announcements {
            self.store.announce_here(announcement);
        }
        Ok(())
    }
}

/// A statement's only number.
pub(super) fn only_number(row: &sqlx::any::AnyRow) -> Result<i64> {
    Ok(row.try_get(0)?)
}
