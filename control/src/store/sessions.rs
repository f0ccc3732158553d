//! Brokers that are connected, and what they have confirmed.

use std::time::Duration;

use dvx_proto::enclave::HEARTBEAT_SECONDS;
use jiff::Timestamp;
use sqlx::Any;
use sqlx::query::Query;

use super::row::{PARAMETERS, assembled, placeholders, span, stored};
use super::{Announcement, Result, Store};
use crate::domain::{AckRecord, OrgId, SessionRecord};

/// A session of which nothing was heard for so long is over, whatever became of the process that had it.
pub const SESSION_TTL: Duration = Duration::from_secs(3 * HEARTBEAT_SECONDS);

/// The sessions of an enclave `e` that live.
pub(super) struct Live {
    /// From where they come, as SQL.
    pub(super) sql: String,
    /// $2: the processes that are dead.
    pub(super) dead: String,
    /// $3: when the process that has a session must have said something of it.
    pub(super) since: i64,
}

/// Rows of one statement, each with at most five parameters.
const BATCH: usize = PARAMETERS / 5;

impl Store {
    pub(super) fn live_sessions(&self, now: Timestamp) -> Live {
        let (is_dead, dead) = self.dead("s.replica", 2);
        let sql = format!("FROM sessions s WHERE s.enclave_id = e.id AND NOT ({is_dead}) AND s.seen_at > $3");
        Live { sql, dead, since: self.sessions_since(now) }
    }

    /// When something must have been said of a session that lives.
    pub(super) fn sessions_since(&self, now: Timestamp) -> i64 {
        self.0.time.stored(now).saturating_sub(span(SESSION_TTL))
    }

    /// Notes that brokers are connected to this process, or still are. A session that is new has confirmed nothing.
    pub async fn touch_sessions(&self, sessions: &[SessionRecord], now: Timestamp) -> Result<()> {
        for batch in sessions.chunks(BATCH) {
            retrying(|| self.touch_batch(batch, now)).await?;
        }
        Ok(())
    }

    async fn touch_batch(&self, batch: &[SessionRecord], now: Timestamp) -> Result<()> {
        let mut write = self.write().await?;
        let now = self.0.time.stored(now);
        let values = placeholders(batch.len(), 4);
        let sql = format!(
            "WITH v (enclave_id, id, seen_at, max_stale) AS (VALUES {values}) \
                 UPDATE enclaves SET seen_at = v.seen_at, max_stale = v.max_stale FROM v \
                 WHERE enclaves.id = v.enclave_id"
        );
        bind_sessions(&sql, batch, now).execute(write.connection()).await?;
        // An enclave that was deleted has no sessions any more.
        let sql = format!(
            "WITH v (enclave_id, id, seen_at, max_stale) AS (VALUES {values}) \
                 INSERT INTO sessions (enclave_id, id, replica, connected_at, seen_at, max_stale) \
                 SELECT v.enclave_id, v.id, ${replica}, v.seen_at, v.seen_at, v.max_stale FROM v \
                 JOIN enclaves e ON e.id = v.enclave_id WHERE TRUE \
                 ON CONFLICT (enclave_id, id) DO UPDATE SET seen_at = excluded.seen_at, \
                 replica = excluded.replica, max_stale = excluded.max_stale",
            replica = batch.len() * 4 + 1
        );
        bind_sessions(&sql, batch, now).bind(self.replica().as_str()).execute(write.connection()).await?;
        write.commit().await
    }

    /// Notes what brokers have confirmed: one record for each session, the newest. All of one organisation.
    pub async fn record_acks(&self, org: &OrgId, acks: &[AckRecord]) -> Result<()> {
        for batch in acks.chunks(BATCH) {
            retrying(|| self.record_batch(org, batch)).await?;
        }
        Ok(())
    }

    async fn record_batch(&self, org: &OrgId, batch: &[AckRecord]) -> Result<()> {
        let mut write = self.write().await?;
        let values = placeholders(batch.len(), 5);
        for update in [
            "UPDATE enclaves SET acked_revision = v.revision, acked_at = v.time, seen_at = v.time, \
             degraded = v.degraded FROM v WHERE enclaves.id = v.enclave_id",
            "UPDATE sessions SET acked_revision = v.revision, seen_at = v.time FROM v \
             WHERE sessions.enclave_id = v.enclave_id AND sessions.id = v.session",
        ] {
            let sql = format!(
                "WITH v (enclave_id, session, revision, time, degraded) AS (VALUES {values}) {update}"
            );
            let mut statement = sqlx::query(assembled(sql)).persistent(false);
            for ack in batch {
                let degraded = serde_json::to_string(&ack.degraded).unwrap_or_else(|_| "[]".to_owned());
                statement = statement
                    .bind(ack.enclave.as_str().to_owned())
                    .bind(ack.session.as_str().to_owned())
                    .bind(stored(ack.revision.0))
                    .bind(self.0.time.stored(ack.time))
                    .bind(degraded);
            }
            statement.execute(write.connection()).await?;
        }
        write.announce(Announcement::Acks(org.clone()));
        write.commit().await
    }
}

/// Does it again where another transaction was in the way: two batches may lock the same rows in different orders.
async fn retrying<F: Future<Output = Result<()>>>(attempt: impl Fn() -> F) -> Result<()> {
    for _ in 0..4 {
        match attempt().await {
            Err(error) if error.is_transient() => {}
            done => return done,
        }
    }
    attempt().await
}

fn bind_sessions<'q>(
    sql: &str,
    batch: &[SessionRecord],
    now: i64,
) -> Query<'q, Any, <Any as sqlx::Database>::Arguments> {
    let mut statement = sqlx::query(assembled(sql.to_owned())).persistent(false);
    for session in batch {
        statement = statement
            .bind(session.enclave.as_str().to_owned())
            .bind(session.session.as_str().to_owned())
            .bind(now)
            .bind(stored(session.max_stale.as_secs()));
    }
    statement
}
