//! The processes on one database, and which KEKs they hold.

use jiff::Timestamp;

use super::row::Columns;
use super::transaction::only_number;
use super::{Result, Store};
use crate::clock;
use crate::crypto::KekId;

impl Store {
    /// To be called each second: says that this process is alive and takes over KEKs that are new. An error other
    /// than [`Unavailable`](super::StoreError::Unavailable) means that this process cannot go on: its KEK was
    /// replaced while it did not look.
    pub async fn heartbeat(&self, now: Timestamp) -> Result<()> {
        self.compare_clocks(now).await?;
        let rows =
            sqlx::query("SELECT id FROM keks WHERE state <> 'retired'").fetch_all(&self.0.reader).await?;
        let ids = rows.iter().map(|row| Ok(KekId::from(row.text("id")?))).collect::<Result<Vec<_>>>()?;
        let held = self.0.keyring.held();
        if ids.len() != held.len() || ids.iter().any(|id| held.iter().all(|kek| kek.id() != id)) {
            self.load_keys().await?;
        }
        let held = self.0.keyring.held();
        let keks = held.iter().map(|kek| kek.id().as_str()).collect::<Vec<_>>().join(" ");
        let mut write = self.write().await?;
        sqlx::query(
            "INSERT INTO replicas (id, seen_at, keks) VALUES ($1, $2, $3) \
             ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, keks = excluded.keks",
        )
        .bind(self.replica().as_str())
        .bind(self.0.time.stored(now))
        .bind(keks)
        .execute(write.connection())
        .await?;
        write.commit().await?;
        if self.is_alone() { Ok(()) } else { self.look_at_others().await }
    }

    async fn look_at_others(&self) -> Result<()> {
        let rows = sqlx::query("SELECT id, seen_at FROM replicas WHERE id <> $1")
            .bind(self.replica().as_str())
            .fetch_all(&self.0.reader)
            .await?;
        let heartbeats = rows.iter().map(|row| Ok((row.text("id")?, row.number("seen_at")?)));
        self.0.others.look(heartbeats.collect::<Result<_>>()?, clock::monotonic());
        Ok(())
    }

    /// Without other processes' announcements there are no other processes.
    pub(super) fn is_alone(&self) -> bool {
        self.0.backend.listen_url().is_none()
    }

    /// SQL that a replica, given as SQL, is dead or gone; and what is to be bound to the parameter of this number.
    pub(super) fn dead(&self, replica: &str, parameter: u8) -> (String, String) {
        if self.is_alone() {
            return (format!("{replica} <> ${parameter}"), self.replica().to_string());
        }
        let sql = format!(
            "(NOT EXISTS (SELECT 1 FROM replicas r WHERE r.id = {replica}) \
             OR ${parameter} LIKE '%' || {replica} || '%')"
        );
        (sql, self.0.others.dead())
    }

    /// Says that this process ends.
    pub async fn sign_off(&self) -> Result<()> {
        let mut write = self.write().await?;
        for sql in ["DELETE FROM sessions WHERE replica = $1", "DELETE FROM replicas WHERE id = $1"] {
            sqlx::query(sql).bind(self.replica().as_str()).execute(write.connection()).await?;
        }
        write.commit().await
    }

    /// How many other processes are alive, as far as can be told by now, and do not hold this KEK. Whoever changes
    /// it is another process beside the one that serves, also on SQLite.
    pub(super) async fn replicas_without(&self, kek: &KekId) -> Result<i64> {
        self.look_at_others().await?;
        let row = sqlx::query(
            "SELECT COUNT(*) FROM replicas WHERE id <> $1 AND $2 NOT LIKE '%' || id || '%' \
             AND keks NOT LIKE '%' || $3 || '%'",
        )
        .bind(self.replica().as_str())
        .bind(self.0.others.dead())
        .bind(kek.as_str())
        .fetch_one(&self.0.reader)
        .await?;
        only_number(&row)
    }
}
