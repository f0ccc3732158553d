//! Work on one row that one at a time does, whoever it is: a lease has a name of its own, so not even the same
//! process takes it twice. Whoever lost one can record nothing any more.
//!
//! The name begins with that of the replica, and a lease ends with its replica. Names of version 0002 of the schema
//! do not, so among several replicas those leases end by their date alone.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::row::{Columns, assembled, micros, span};
use super::transaction::Write;
use super::{Result, Store};
use crate::domain::{LeaseId, OperationId};

/// After this without renewal somebody else may go on, also while the replica lives.
pub(super) const LEASE: Duration = Duration::from_secs(30);
/// A lease or a date further ahead was made by a clock that has been put back since.
const NONSENSE: Duration = Duration::from_secs(2 * 3600);

pub(super) fn ahead(now: Timestamp, time: Duration) -> i64 {
    micros(now).saturating_add(span(time))
}

/// The replica that a lease names.
const REPLICA: &str = "substr(holder, 1, 36)";

/// That a row is due, given the column with its date, and free. Needs `now` and what lies further ahead than a date
/// can as `$1` and `$2`, the same for the end of a lease, in shared time, as `$3` and `$4`, and what [`Store::dead`]
/// needs as `$5`.
fn due(date: &str, dead: &str) -> String {
    format!(
        "({date} <= $1 OR {date} > $2) AND (held_until IS NULL OR held_until < $3 OR held_until > $4 OR {dead})"
    )
}

impl Store {
    /// Takes rows of a table that are due; `condition` says which. What was taken is returned.
    pub(super) async fn take(
        &self,
        table: &'static str,
        date: &'static str,
        condition: &str,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<(String, LeaseId)>> {
        let shared = self.0.time.stored(now);
        let (mut dead, replicas) = self.dead(REPLICA, 5);
        if !self.is_alone() {
            dead = format!("(holder LIKE '%/%' AND {dead})");
        }
        let due = due(date, &dead);
        let select =
            format!("SELECT id FROM {table} WHERE {condition} AND {due} ORDER BY {date} LIMIT {limit}");
        let bind = |sql: String| {
            let query = sqlx::query(assembled(sql)).bind(micros(now)).bind(ahead(now, NONSENSE));
            query.bind(shared).bind(shared.saturating_add(span(LEASE * 2))).bind(replicas.clone())
        };
        let rows = bind(select).fetch_all(&self.0.reader).await?;
        let mut taken = Vec::with_capacity(rows.len());
        if rows.is_empty() {
            return Ok(taken);
        }
        let mut write = self.write().await?;
        for row in rows {
            let (id, lease) = (row.text("id")?, self.new_lease(now));
            let update = format!(
                "UPDATE {table} SET holder = $6, held_until = $7 WHERE id = $8 AND {condition} AND {due}"
            );
            let done = bind(update)
                .bind(lease.as_str().to_owned())
                .bind(shared.saturating_add(span(LEASE)))
                .bind(id.clone())
                .execute(write.connection())
                .await?;
            if done.rows_affected() > 0 {
                taken.push((id, lease));
            }
        }
        write.commit().await?;
        Ok(taken)
    }

    fn new_lease(&self, now: Timestamp) -> LeaseId {
        format!("{}/{}", self.replica(), LeaseId::generate(now)).into()
    }

    /// Gives all leases of this process back, so that others go on at once.
    pub(crate) async fn release_leases(&self) -> Result<()> {
        let mut write = self.write().await?;
        for sql in [
            "UPDATE operations SET holder = NULL, held_until = NULL WHERE holder LIKE $1 || '/%'",
            "UPDATE minted SET holder = NULL, held_until = NULL WHERE holder LIKE $1 || '/%'",
            "DELETE FROM leases WHERE holder = $1",
        ] {
            sqlx::query(sql).bind(self.replica().as_str()).execute(write.connection()).await?;
        }
        write.commit().await
    }

    /// Holds on to a row; false where it is somebody else's.
    pub(crate) async fn renew(
        &self,
        table: Leased,
        id: &str,
        lease: &LeaseId,
        now: Timestamp,
    ) -> Result<bool> {
        let mut write = self.write().await?;
        let sql = format!("UPDATE {} SET held_until = $3 WHERE id = $1 AND holder = $2", table.as_str());
        let done = sqlx::query(assembled(sql))
            .bind(id)
            .bind(lease.as_str())
            .bind(self.0.time.stored(now).saturating_add(span(LEASE)))
            .execute(write.connection())
            .await?;
        write.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Takes part in something that may be done only so often; otherwise how long to wait. Each bound is a span
    /// and how many times in it.
    pub(crate) async fn pace(
        &self,
        name: &str,
        bounds: &[(Duration, u32)],
        clock: &(dyn Fn() -> Timestamp + Sync),
    ) -> Result<Option<Duration>> {
        let mut write = self.write().await?;
        write.serialise(name).await?;
        // Not before the wait for whoever was first, who would be in the future then.
        let time = clock();
        let now = self.0.time.stored(time);
        let longest = bounds.iter().map(|(time, _)| *time).max().unwrap_or_default();
        sqlx::query("DELETE FROM paces WHERE name = $1 AND at < $2")
            .bind(name)
            .bind(now.saturating_sub(span(longest)))
            .execute(write.connection())
            .await?;
        // A clock that was put back has left some in the future: they were made by now, if not when.
        sqlx::query("UPDATE paces SET at = $2 WHERE name = $1 AND at > $2")
            .bind(name)
            .bind(now)
            .execute(write.connection())
            .await?;
        let rows = sqlx::query("SELECT at FROM paces WHERE name = $1 ORDER BY at DESC")
            .bind(name)
            .fetch_all(write.connection())
            .await?;
        let times = rows.iter().map(|row: &AnyRow| row.number("at")).collect::<Result<Vec<_>>>()?;
        let wait = bounds.iter().filter_map(|(bound, most)| {
            // The one that must have passed before there may be another.
            let oldest = times.get(usize::try_from(most.saturating_sub(1)).unwrap_or(usize::MAX))?;
            let free = oldest.saturating_add(span(*bound));
            u64::try_from(free - now).ok().filter(|wait| *wait > 0).map(Duration::from_micros)
        });
        let wait = wait.max();
        if wait.is_none() {
            sqlx::query("INSERT INTO paces (name, at, id) VALUES ($1, $2, $3)")
                .bind(name)
                .bind(now)
                .bind(LeaseId::generate(time).as_str())
                .execute(write.connection())
                .await?;
        }
        write.commit().await?;
        Ok(wait)
    }
}

impl Write<'_> {
    /// Others who do this wait until the transaction ends.
    async fn serialise(&mut self, name: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO leases (name, holder, until) VALUES ($1, '', 0) ON CONFLICT (name) DO UPDATE SET \
             until = excluded.until",
        )
        .bind(format!("pace/{name}"))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Whether an operation is still this lease's. Its row is taken.
    pub(super) async fn holds(&mut self, operation: &OperationId, lease: &LeaseId) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE operations SET holder = holder WHERE id = $1 AND holder = $2 AND state = 'running'",
        )
        .bind(operation.as_str())
        .bind(lease.as_str())
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() > 0)
    }
}

/// Tables with leases.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leased {
    Operations,
    Minted,
}

impl Leased {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Operations => "operations",
            Self::Minted => "minted",
        }
    }
}
