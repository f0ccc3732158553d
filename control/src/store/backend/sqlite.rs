//! SQLite: one process, one file.

use std::borrow::Cow;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, Executor};

use super::{ACQUIRE_TIMEOUT, Backend, Connecting, Pools};
use crate::store::{Result, StoreError};

pub(super) struct Sqlite {
    path: PathBuf,
}

/// Each connection is set up with this. WAL lets readers go on while one writes; `FULL` syncs at each commit, so
/// that what was acknowledged survives a power cut. What is deleted is overwritten. What sorting and undoing need
/// stays in memory: the directories for temporary files are out of reach.
const SETUP: &str = "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                     PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF; PRAGMA secure_delete = ON; \
                     PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY";

impl Sqlite {
    const READERS: u32 = 4;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    const FOR_OTHERS: u32 = 0o077;

    pub(super) fn new(path: &str) -> Result<Self> {
        let path = path.split('?').next().unwrap_or_default();
        if path.is_empty() || path == ":memory:" {
            return Err(StoreError::Url);
        }
        Ok(Self { path: PathBuf::from(path) })
    }

    /// Makes the file for us alone, where others cannot replace it. SQLite gives its other files the same mode.
    fn prepare(&self) -> Result<()> {
        let directory =
            self.path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let metadata = fs::metadata(directory).map_err(|error| place(directory, error))?;
        let own = rustix::process::geteuid().as_raw();
        if metadata.uid() != own && metadata.uid() != 0 {
            return Err(place(directory, "belongs to another user"));
        }
        if metadata.mode() & Self::WRITABLE_BY_OTHERS != 0 {
            return Err(place(directory, "is writable by other users; expected at most 0755"));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&self.path).map_err(|error| place(&self.path, error))?;
        let metadata = file.metadata().map_err(|error| place(&self.path, error))?;
        if metadata.mode() & Self::FOR_OTHERS != 0 {
            return Err(place(&self.path, "is open to other users; expected 0600"));
        }
        Ok(())
    }

    async fn pool(&self, connections: u32) -> Result<AnyPool, sqlx::Error> {
        let url = format!("sqlite://{}", self.path.display());
        AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(SETUP).await?;
                    Ok(())
                })
            })
            .connect(&url)
            .await
    }
}

fn place(path: &Path, why: impl ToString) -> StoreError {
    StoreError::Place { path: path.display().to_string(), why: why.to_string() }
}

impl Backend for Sqlite {
    fn connect(&self) -> Connecting<'_> {
        Box::pin(async {
            self.prepare()?;
            let writer = self.pool(1).await?;
            let reader = self.pool(Self::READERS).await?;
            Ok(Pools { writer, reader })
        })
    }

    fn begin_write(&self) -> &'static str {
        "BEGIN IMMEDIATE"
    }

    fn migration_lock(&self) -> Option<&'static str> {
        // The transaction itself is the lock.
        None
    }

    fn dialect(&self, migration: &'static str) -> Cow<'static, str> {
        migration.into()
    }

    fn scrub(&self) -> &'static [&'static str] {
        // The file itself is overwritten where something was deleted; the log still has it.
        &["PRAGMA wal_checkpoint(TRUNCATE)"]
    }

    fn time(&self) -> Option<&'static str> {
        None
    }

    fn listen_url(&self) -> Option<&str> {
        None
    }
}
