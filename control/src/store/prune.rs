//! Dropping what is too old, in batches, by one replica at a time.

use std::time::Duration;

use jiff::Timestamp;

use super::row::{Columns, ago, assembled, micros, span, stored};
use super::{Result, Store};

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Audit events.
    pub audit: Duration,
}

/// What was dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Audit events.
    pub events: u64,
    /// Answers to requests that may be repeated.
    pub answers: u64,
    /// Changes.
    pub changes: u64,
}

/// Answers to requests that may be repeated are kept so long.
const ANSWERS: Duration = Duration::from_secs(24 * 3600);
/// So many changes of an organisation are kept; a broker that is further behind takes a snapshot.
const CHANGES: u64 = 10_000;
/// A replica that says nothing for so long is forgotten.
const REPLICAS: Duration = Duration::from_secs(60);
/// What ended, or is gone at a provider, is kept so long for whoever asks how it went.
const JOURNAL: Duration = Duration::from_secs(30 * 24 * 3600);
/// Long enough for a run; after it another replica may try.
const LEASE: Duration = Duration::from_secs(300);
const BATCH: i64 = 1000;

impl Store {
    /// Drops what is too old. Does nothing where another replica is at it.
    pub async fn prune(&self, retention: Retention, now: Timestamp) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        if !self.lease("prune", LEASE, now).await? {
            return Ok(pruned);
        }
        pruned.events = self
            .delete_in_batches(
                "DELETE FROM audit_events WHERE (org_id, number) IN \
                 (SELECT org_id, number FROM audit_events WHERE time < $1 ORDER BY time LIMIT $2)",
                ago(now, retention.audit),
            )
            .await?;
        pruned.answers = self
            .delete_in_batches(
                "DELETE FROM idempotency WHERE (org_id, actor, key) IN \
                 (SELECT org_id, actor, key FROM idempotency WHERE created_at < $1 ORDER BY created_at LIMIT $2)",
                ago(now, ANSWERS),
            )
            .await?;
        pruned.changes = self.prune_changes().await?;
        for (sql, age) in [
            ("DELETE FROM operations WHERE state <> 'running' AND updated_at < $1", JOURNAL),
            ("DELETE FROM minted WHERE state = 'gone' AND created_at < $1 AND due_at < $1", JOURNAL),
            ("DELETE FROM paces WHERE at < $1", ANSWERS),
        ] {
            let mut write = self.write().await?;
            sqlx::query(sql).bind(ago(now, age)).execute(write.connection()).await?;
            write.commit().await?;
        }
        self.prune_sessions(now).await?;
        self.prune_replicas(now).await?;
        self.release("prune").await?;
        Ok(pruned)
    }

    async fn prune_sessions(&self, now: Timestamp) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM sessions WHERE seen_at < $1 OR replica NOT IN (SELECT id FROM replicas)")
            .bind(self.sessions_since(now))
            .execute(write.connection())
            .await?;
        write.commit().await
    }

    /// Not by the date alone: what a dead replica had leased is free.
    async fn prune_replicas(&self, now: Timestamp) -> Result<()> {
        let (dead, replicas) = self.dead("replicas.id", 2);
        let mut write = self.write().await?;
        sqlx::query(assembled(format!("DELETE FROM replicas WHERE seen_at < $1 AND {dead}")))
            .bind(self.0.time.stored(now).saturating_sub(span(REPLICAS)))
            .bind(replicas)
            .execute(write.connection())
            .await?;
        write.commit().await
    }

    async fn delete_in_batches(&self, sql: &'static str, before: i64) -> Result<u64> {
        let mut deleted = 0;
        loop {
            let mut write = self.write().await?;
            let batch = sqlx::query(sql).bind(before).bind(BATCH).execute(write.connection()).await?;
            write.commit().await?;
            deleted += batch.rows_affected();
            if batch.rows_affected() < BATCH.unsigned_abs() {
                return Ok(deleted);
            }
        }
    }

    async fn prune_changes(&self) -> Result<u64> {
        let mut deleted = 0;
        for organisation in self.organisations().await? {
            let Some(through) = organisation.revision.0.checked_sub(CHANGES).filter(|through| *through > 0)
            else {
                continue;
            };
            let mut write = self.write().await?;
            let row = sqlx::query(
                "UPDATE organisations SET pruned = $2 WHERE id = $1 AND pruned < $2 RETURNING pruned",
            )
            .bind(organisation.id.as_str())
            .bind(stored(through))
            .fetch_optional(write.connection())
            .await?;
            if row.map(|row| row.number("pruned")).transpose()?.is_some() {
                let gone = sqlx::query("DELETE FROM changes WHERE org_id = $1 AND revision <= $2")
                    .bind(organisation.id.as_str())
                    .bind(stored(through))
                    .execute(write.connection())
                    .await?;
                deleted += gone.rows_affected();
            }
            write.commit().await?;
        }
        Ok(deleted)
    }

    /// Takes work that one replica at a time does; false where another one has it.
    pub async fn lease(&self, name: &str, time: Duration, now: Timestamp) -> Result<bool> {
        let mut write = self.write().await?;
        let taken = sqlx::query(
            "INSERT INTO leases (name, holder, until) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE SET \
             holder = excluded.holder, until = excluded.until WHERE leases.until < $4 OR leases.holder = $2",
        )
        .bind(name)
        .bind(self.replica().as_str())
        .bind(micros(now).saturating_add(span(time)))
        .bind(micros(now))
        .execute(write.connection())
        .await?;
        write.commit().await?;
        Ok(taken.rows_affected() > 0)
    }

    /// Gives work back.
    pub async fn release(&self, name: &str) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM leases WHERE name = $1 AND holder = $2")
            .bind(name)
            .bind(self.replica().as_str())
            .execute(write.connection())
            .await?;
        write.commit().await
    }
}
