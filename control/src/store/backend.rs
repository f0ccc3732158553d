//! What differs between SQLite and PostgreSQL.

mod postgres;
mod sqlite;

use std::borrow::Cow;
use std::pin::Pin;
use std::time::Duration;

use sqlx::AnyPool;

use super::{Result, StoreError};

/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections by what they are for.
pub(super) struct Pools {
    pub(super) writer: AnyPool,
    pub(super) reader: AnyPool,
}

type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Pools>> + Send + 'a>>;

/// One of the two engines.
pub(super) trait Backend: Send + Sync {
    /// Opens the pools.
    fn connect(&self) -> Connecting<'_>;
    /// Begins a transaction that will write.
    fn begin_write(&self) -> &'static str;
    /// Taken in a transaction, keeps others from migrating until its end.
    fn migration_lock(&self) -> Option<&'static str>;
    /// Translates the types of a migration.
    fn dialect(&self, migration: &'static str) -> Cow<'static, str>;
    /// Removes from the files what rows held before they were changed; each is a statement of its own, outside of
    /// transactions. One that answers with a number other than 0 could not do it yet.
    fn scrub(&self) -> &'static [&'static str];
    /// Asks what time it is, in microseconds, where that is another machine's clock.
    fn time(&self) -> Option<&'static str>;
    /// Where other processes' announcements come from.
    fn listen_url(&self) -> Option<&str>;
}

/// The engine that a URL names.
pub(super) fn of(url: &str) -> Result<Box<dyn Backend>> {
    sqlx::any::install_default_drivers();
    if let Some(path) = url.strip_prefix("sqlite://") {
        return Ok(Box::new(sqlite::Sqlite::new(path)?));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Box::new(postgres::Postgres::new(url)));
    }
    Err(StoreError::Url)
}
