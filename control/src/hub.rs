//! From changes in the database to the streams of brokers, and from what brokers confirm back to the database.
//!
//! Nothing here is the only copy of anything: another replica, or this one after a restart, finds all of it in
//! the database again.

mod batch;
mod cache;
mod feed;
mod lines;
mod load;
mod metrics;
mod read;
mod recorder;
mod ring;
mod session;
mod stream;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dvx_proto::EnclaveName;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use cache::Cache;
use feed::Feed;
use recorder::Recorder;
use session::Fate;

use crate::clock;
use crate::domain::{AckRecord, OrgId, Revision};
use crate::store::{Announcement, Store, StoreError};

pub(crate) use lines::{Cut, Lines, Pen};
pub(crate) use metrics::Metrics;
pub(crate) use session::{Session, Sessions};
pub(crate) use stream::{Opened, Opening, open};

/// How often to look for changes that nobody has announced.
const POLL: Duration = Duration::from_secs(1);

/// How many requests of brokers may be at the database at a time. When thousands reconnect at once they wait
/// here, and operators are served meanwhile.
const AT_ONCE: usize = 16;

/// Shared by everything that serves brokers. Clones are the same hub.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    store: Store,
    sessions: Sessions,
    recorder: Recorder,
    feeds: Mutex<HashMap<OrgId, Arc<Feed>>>,
    cache: Cache,
    permits: Semaphore,
    current_permits: Semaphore,
    metrics: Metrics,
}

impl Hub {
    pub(crate) fn new(store: Store) -> Self {
        Self(Arc::new(Inner {
            store,
            sessions: Sessions::default(),
            recorder: Recorder::new(),
            feeds: Mutex::default(),
            cache: Cache::default(),
            permits: Semaphore::new(AT_ONCE),
            current_permits: Semaphore::new(AT_ONCE),
            metrics: Metrics::new(),
        }))
    }

    /// The streams of this process.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// To be held while a broker's request is at the database, and not while the broker is waited for.
    pub(crate) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed, so there always is one.
        self.permit_of(false).await
    }

    async fn permit_of(&self, is_current: bool) -> Option<SemaphorePermit<'_>> {
        let permits = if is_current { &self.0.current_permits } else { &self.0.permits };
        permits.acquire().await.ok()
    }

    /// An operator has deleted an enclave: its streams end before the operator hears that it is gone.
    pub(crate) fn enclave_deleted(&self, org: &OrgId, enclave: &EnclaveName) {
        self.0.sessions.end_deleted(org, enclave);
    }

    /// Whether a revision is one of the organisation's, as far as anybody knows.
    pub(crate) async fn has_revision(&self, org: &OrgId, revision: Revision) -> Result<bool, StoreError> {
        if self.known(org).is_some_and(|feed| revision <= feed.newest()) {
            return Ok(true);
        }
        Ok(revision <= self.0.store.revision(org).await?)
    }

    /// A broker has confirmed a revision.
    pub(crate) fn ack(&self, session: Option<&Session>, org: &OrgId, ack: AckRecord) {
        let took = session.and_then(|session| session.confirm(ack.revision, clock::monotonic()));
        self.0.metrics.count_ack(took);
        self.0.recorder.ack(org, ack);
    }

    /// Passes changes on until the process stops, then ends every stream.
    pub(crate) async fn run(self, stopping: watch::Receiver<bool>) -> io::Result<()> {
        let recorder = self.0.recorder.run(&self.0.store, &self.0.sessions, stopping.clone());
        tokio::join!(recorder, self.pass_on(stopping));
        Ok(())
    }

    async fn pass_on(&self, mut stopping: watch::Receiver<bool>) {
        let mut announcements = self.0.store.subscribe();
        let mut poll = tokio::time::interval(POLL);
        loop {
            let announced = tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => break,
                announced = announcements.recv() => announced,
                _ = poll.tick() => {
                    self.0.cache.clear();
                    Ok(Announcement::Everything)
                }
            };
            match announced {
                Ok(Announcement::Changes(org)) => self.catch_up(self.known(&org)).await,
                Ok(Announcement::Everything) | Err(RecvError::Lagged(_)) => self.catch_up_all().await,
                Ok(Announcement::Acks(_) | Announcement::Audit(_) | Announcement::Keys) => {}
                Err(RecvError::Closed) => break,
            }
            self.0.metrics.count_streams(self.0.sessions.count());
        }
        self.0.sessions.end_all(Fate::Stopping);
    }

    async fn catch_up_all(&self) {
        let feeds: Vec<_> = self.feeds().values().cloned().collect();
        for feed in feeds {
            self.catch_up(Some(feed)).await;
        }
    }

    async fn catch_up(&self, feed: Option<Arc<Feed>>) {
        let Some(feed) = feed else { return };
        if let Err(error) = feed.catch_up(&self.0.store, &self.0.sessions).await {
            // Looked for again within a second.
            tracing::warn!(error = crate::causes::causes(&error), "changes cannot be read");
        }
    }

    /// An organisation's feed, if somebody of it is or was connected here.
    fn known(&self, org: &OrgId) -> Option<Arc<Feed>> {
        self.feeds().get(org).cloned()
    }

    /// The same, made where there is none yet, and as new as the database now is.
    async fn feed(&self, org: &OrgId) -> Result<Arc<Feed>, StoreError> {
        let feed = match self.known(org) {
            Some(feed) => feed,
            None => {
                let newest = self.0.store.revision(org).await?;
                let fresh = Arc::new(Feed::new(org.clone(), newest));
                self.feeds().entry(org.clone()).or_insert(fresh).clone()
            }
        };
        // Also where it was there: what was changed at another replica may not have been heard of here yet, and
        // whoever changed it may have been told that no broker can serve anything older.
        feed.catch_up(&self.0.store, &self.0.sessions).await?;
        Ok(feed)
    }

    fn feeds(&self) -> std::sync::MutexGuard<'_, HashMap<OrgId, Arc<Feed>>> {
        self.0.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
