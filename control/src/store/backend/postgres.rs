//! PostgreSQL: any number of replicas side by side.

use std::borrow::Cow;

use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;

use super::{ACQUIRE_TIMEOUT, Backend, Connecting, Pools};

pub(super) struct Postgres {
    url: String,
}

impl Postgres {
    const CONNECTIONS: u32 = 16;
    const SNAPSHOTS: u32 = 8;

    pub(super) fn new(url: &str) -> Self {
        Self { url: url.to_owned() }
    }

    async fn pool(&self, connections: u32) -> Result<AnyPool, sqlx::Error> {
        AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect(&self.url)
            .await
    }
}

impl Backend for Postgres {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            let pool = self.pool(Self::CONNECTIONS).await?;
            let snapshots = self.pool(Self::SNAPSHOTS).await?;
            Ok(Pools { writer: pool.clone(), reader: pool, snapshots })
        })
    }

    fn begin_write(&self) -> &'static str {
        "BEGIN"
    }

    fn begin_snapshot(&self) -> &'static str {
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    }

    fn migration_lock(&self) -> Option<&'static str> {
        // The number is "dvx" in ASCII.
        Some("SELECT pg_advisory_xact_lock(6583928)")
    }

    fn dialect(&self, migration: &'static str) -> Cow<'static, str> {
        // Names sort by their bytes, as they do in SQLite and in pages.
        migration.replace(" BLOB", " BYTEA").replace(" TEXT", " TEXT COLLATE \"C\"").into()
    }

    fn listen_url(&self) -> Option<&str> {
        Some(&self.url)
    }
}
