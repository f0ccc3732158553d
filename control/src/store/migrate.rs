//! Bringing the schema up to date.
//!
//! Migrations expand first and contract later: a migration adds what the new version needs and takes nothing away
//! that the version before uses, so replicas of both run side by side. What only the old version needed goes with
//! a later migration, whose `minimum` says which version of the schema a program must know to run with it.

use jiff::Timestamp;
use sqlx::Executor;

use super::row::{Columns, assembled, micros};
use super::transaction::only_number;
use super::{Result, Store, StoreError};

pub(super) struct Migration {
    pub(super) number: i64,
    /// Programs that know at least this migration can still run with it.
    pub(super) minimum: i64,
    pub(super) sql: &'static str,
}

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { number: 1, minimum: 1, sql: include_str!("../../migrations/0001_tables.sql") },
    Migration { number: 2, minimum: 1, sql: include_str!("../../migrations/0002_integrations.sql") },
    Migration { number: 3, minimum: 1, sql: include_str!("../../migrations/0003_expiry_warnings.sql") },
    Migration { number: 4, minimum: 1, sql: include_str!("../../migrations/0004_problems.sql") },
];

impl Store {
    pub(super) async fn migrate(&self, now: Timestamp) -> Result<()> {
        self.migrate_with(MIGRATIONS, now).await
    }

    pub(super) async fn migrate_with(&self, migrations: &[Migration], now: Timestamp) -> Result<()> {
        let mut write = self.write().await?;
        if let Some(lock) = self.0.backend.migration_lock() {
            sqlx::query(lock).execute(write.connection()).await?;
        }
        sqlx::query(
            "CREATE TABLE IF NOT EXISTS migrations \
             (number BIGINT PRIMARY KEY, minimum BIGINT NOT NULL, applied_at BIGINT NOT NULL)",
        )
        .execute(write.connection())
        .await?;
        let row = sqlx::query(
            "SELECT COALESCE(MAX(number), 0) AS found, COALESCE(MAX(minimum), 0) AS minimum FROM migrations",
        )
        .fetch_one(write.connection())
        .await?;
        let (found, minimum) = (row.number("found")?, row.number("minimum")?);
        let known = migrations.last().map_or(0, |migration| migration.number);
        if minimum > known {
            return Err(StoreError::SchemaTooNew { found, known });
        }
        for migration in migrations.iter().filter(|migration| migration.number > found) {
            let sql = self.0.backend.dialect(migration.sql).into_owned();
            write.connection().execute(assembled(sql)).await?;
            sqlx::query("INSERT INTO migrations (number, minimum, applied_at) VALUES ($1, $2, $3)")
                .bind(migration.number)
                .bind(migration.minimum)
                .bind(micros(now))
                .execute(write.connection())
                .await?;
        }
        write.commit().await
    }

    /// The newest migration that the database has.
    pub async fn schema(&self) -> Result<i64> {
        let row =
            sqlx::query("SELECT COALESCE(MAX(number), 0) FROM migrations").fetch_one(&self.0.reader).await?;
        only_number(&row)
    }
}
