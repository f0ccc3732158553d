//! Everything that is kept, in SQLite or PostgreSQL.
//!
//! What differs between the two is a `Backend`; the SQL is written once. All that brokers are
//! told of has a revision of its organisation. A change is one transaction: it takes the row of the organisation
//! (which puts the writers of an organisation in order, so revisions become visible without gaps and in order),
//! writes its rows, the revision in `changes`, and the audit event.

mod agents;
mod announce;
mod audit;
mod auth;
mod backend;
mod changes;
mod deliveries;
mod enclaves;
mod error;
mod expiry;
mod heads;
mod idempotency;
mod ingest;
mod init;
mod integrations;
mod keys;
mod leases;
mod migrate;
mod minted;
mod operations;
mod operators;
mod others;
mod overview;
mod providers;
mod prune;
mod rekey;
mod replicas;
mod row;
mod secrets;
mod sessions;
mod shared_time;
mod transaction;
mod watch;

use std::sync::Arc;

use jiff::Timestamp;
use sqlx::AnyPool;
use tokio::sync::broadcast;

pub(crate) use integrations::token_name;
pub(crate) use leases::Leased;
pub(crate) use minted::{Intention, Made};
pub(crate) use operations::{Wanted, Wish};

pub use announce::Announcement;
pub use error::{Conflict, Object, StoreError};
pub use prune::{Pruned, Retention};
pub use rekey::Rekeyed;
pub use sessions::SESSION_TTL;

use crate::crypto::Kek;
use crate::domain::ReplicaId;
use backend::Backend;
use heads::HeadKeys;
use keys::Keyring;
use others::Others;
use secrets::Reported;
use shared_time::SharedTime;

type Result<T, E = StoreError> = std::result::Result<T, E>;

/// The database, and the keys to what is encrypted in it. Clones share everything.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    backend: Box<dyn Backend>,
    /// SQLite: one connection, so that writers wait their turn here.
    writer: AnyPool,
    reader: AnyPool,
    keyring: Keyring,
    head_keys: HeadKeys,
    announcements: broadcast::Sender<Announcement>,
    replica: ReplicaId,
    others: Others,
    time: SharedTime,
    reported: Reported,
}

impl Store {
    /// Connects, brings the schema up to date, and checks that the KEK is the one that values were encrypted
    /// with. No table is read as a whole.
    pub async fn open(url: &str, kek: Kek, now: Timestamp) -> Result<Self> {
        let backend = backend::of(url)?;
        let store = Self::connect(backend, kek, now).await?;
        store.migrate(now).await?;
        store.load_keys().await?;
        store.heartbeat(now).await?;
        store.listen();
        Ok(store)
    }

    /// Connects only.
    async fn connect(backend: Box<dyn Backend>, kek: Kek, now: Timestamp) -> Result<Self> {
        let pools = backend.connect().await?;
        Ok(Self(Arc::new(Inner {
            backend,
            writer: pools.writer,
            reader: pools.reader,
            keyring: Keyring::new(kek),
            head_keys: HeadKeys::default(),
            announcements: broadcast::channel(announce::CAPACITY).0,
            replica: ReplicaId::generate(now),
            others: Others::default(),
            time: SharedTime::default(),
            reported: Reported::default(),
        })))
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.0.reader).await?;
        Ok(())
    }

    /// This process, among those on the same database.
    pub fn replica(&self) -> &ReplicaId {
        &self.0.replica
    }

    /// Ends every connection, after what is under way.
    pub async fn close(&self) {
        self.0.reader.close().await;
        self.0.writer.close().await;
    }
}

#[cfg(test)]
pub(crate) mod tests;
