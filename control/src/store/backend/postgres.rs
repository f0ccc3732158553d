//! PostgreSQL: any number of replicas side by side.

use std::borrow::Cow;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Executor};

use super::{ACQUIRE_TIMEOUT, Backend, Connecting, Pools};

pub(super) struct Postgres {
    url: String,
}

/// A replica that hangs, or was cut off, in the middle of a transaction must not keep the others from writing. A
/// commit that was acknowledged survives a crash, also where the server is set up to be faster than that.
const SETUP: &str = "SET idle_in_transaction_session_timeout = '10s'; SET lock_timeout = '5s'; \
                     SET statement_timeout = '60s'; SET synchronous_commit = on";

impl Postgres {
    const CONNECTIONS: u32 = 16;

    pub(super) fn new(url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    async fn pool(&self) -> Result<AnyPool, sqlx::Error> {
        AnyPoolOptions::new()
            .max_connections(Self::CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(SETUP).await?;
                    Ok(())
                })
            })
            .connect(&self.url)
            .await
    }
}

impl Backend for Postgres {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            let pool = self.pool().await?;
            Ok(Pools { writer: pool.clone(), reader: pool })
        })
    }

    fn begin_write(&self) -> &'static str {
        "BEGIN"
    }

    fn migration_lock(&self) -> Option<&'static str> {
        // The number is "dvx" in ASCII.
        Some("SELECT pg_advisory_xact_lock(6583928)")
    }

    fn dialect(&self, migration: &'static str) -> Cow<'static, str> {
        // Names sort by their bytes, as they do in SQLite and in pages.
        migration.replace(" BLOB", " BYTEA").replace(" TEXT", " TEXT COLLATE \"C\"").into()
    }

    fn scrub(&self) -> &'static [&'static str] {
        // Only this writes tables anew; VACUUM alone leaves the bytes of old rows where they are. Each is locked for
        // as long as that takes, which is why it is for rekeys alone.
        &[
            "VACUUM FULL keks",
            "VACUUM FULL organisations",
            "VACUUM FULL secrets",
            "VACUUM FULL idempotency",
            "VACUUM FULL credential_providers",
            "VACUUM FULL minted",
        ]
    }

    fn time(&self) -> Option<&'static str> {
        Some("SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT")
    }

    fn listen_url(&self) -> Option<&str> {
        Some(&self.url)
    }
}
