//! What a stream reads from the database.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dvx_proto::{AgentName, SecretName};

use super::Hub;
use super::feed::Feed;
use super::lines::Cut;
use super::load::Loaded;
use super::session::Session;
use crate::domain::{AgentId, AgentRecord, Change, PageRequest, Revision, StoredSecret};
use crate::store::StoreError;

/// Agents and names are read so many at a time.
pub(super) const PAGE: u32 = 64;

/// Secrets can be large, and a page of them is what a reader that does not read makes this process hold.
pub(super) const SECRETS: u32 = 8;

/// How often a database that fails is tried before the stream is cut.
const ATTEMPTS: u32 = 3;
const RETRY: Duration = Duration::from_millis(200);

/// Reads on behalf of one stream: among a bounded number of others, and for no longer than it takes.
pub(super) struct Reader {
    pub(super) hub: Hub,
    pub(super) feed: Arc<Feed>,
    pub(super) session: Arc<Session>,
    /// It has everything up to the newest changes. Those that do not must not keep changes from those that do.
    pub(super) is_current: bool,
}

impl Reader {
    pub(super) fn new(hub: Hub, feed: Arc<Feed>, session: Arc<Session>) -> Self {
        Self { hub, feed, session, is_current: false }
    }

    /// What has changed since a revision and concerns the enclave, and up to which revision. None where that is
    /// not known any more.
    pub(super) async fn since(&self, cursor: Revision) -> Result<Option<(Revision, Vec<Arc<Change>>)>, Cut> {
        let (store, enclave) = (&self.hub.0.store, &self.session.enclave.id);
        match self.feed.since(cursor, enclave) {
            Some(since) => Ok(Some(since)),
            None => self.again(|| self.feed.since_in(store, cursor, enclave)).await,
        }
    }

    /// What a revision is known by besides its number; none where it is not kept any more.
    pub(super) async fn mark(&self, revision: Revision) -> Result<Option<u64>, Cut> {
        match self.feed.known_mark(revision) {
            Some(mark) => Ok(Some(mark)),
            None => self.again(|| self.feed.mark(&self.hub.0.store, revision)).await,
        }
    }

    pub(super) async fn agent(&self, agent: &AgentName) -> Result<Option<AgentRecord>, Cut> {
        let (store, enclave) = (&self.hub.0.store, &self.session.enclave.id);
        self.again(|| store.agent_of_enclave(enclave, agent)).await
    }

    pub(super) async fn agents(&self, after: Option<&AgentName>) -> Result<Vec<AgentRecord>, Cut> {
        let (store, enclave) = (&self.hub.0.store, &self.session.enclave.id);
        self.again(|| store.agents_of_enclave(enclave, after, PAGE)).await
    }

    pub(super) async fn org_secret_names(&self, after: Option<&SecretName>) -> Result<Vec<SecretName>, Cut> {
        let (store, org) = (&self.hub.0.store, &self.session.enclave.org);
        self.again(|| store.org_secret_names(org, after, PAGE)).await
    }

    /// Some of an agent's secrets, encrypted.
    pub(super) async fn agent_secrets(
        &self,
        agent: &AgentId,
        after: Option<String>,
    ) -> Result<Vec<StoredSecret>, Cut> {
        let (store, org) = (&self.hub.0.store, &self.session.enclave.org);
        let page = PageRequest { after, limit: SECRETS };
        self.again(|| store.agent_secrets(org, agent, &page)).await
    }

    pub(super) async fn agent_secret(&self, agent: &AgentId, name: &SecretName) -> Result<Loaded, Cut> {
        let (store, org) = (&self.hub.0.store, &self.session.enclave.org);
        let stored = self.again(|| store.stored_secret(org, Some(agent), name)).await?;
        self.open(stored).await
    }

    pub(super) async fn open(&self, stored: Option<StoredSecret>) -> Result<Loaded, Cut> {
        let (store, stored) = (&self.hub.0.store, &stored);
        self.again(|| Loaded::open(store, stored.as_ref())).await
    }

    /// A secret of the organisation as it is at a revision or later, read once for all streams.
    pub(super) async fn org_secret(&self, name: &SecretName, revision: Revision) -> Result<Arc<Loaded>, Cut> {
        let (store, org) = (&self.hub.0.store, &self.session.enclave.org);
        let newest = || self.feed.newest().max(revision);
        if let Some(loaded) = self.hub.0.cache.find(org, name, revision) {
            return Ok(loaded);
        }
        let load =
            || async { Loaded::open(store, store.stored_secret(org, None, name).await?.as_ref()).await };
        self.again(|| self.hub.0.cache.get(org, name, revision, newest(), load)).await
    }

    async fn again<T, F>(&self, read: impl Fn() -> F) -> Result<T, Cut>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut attempt = 1;
        loop {
            self.session.check()?;
            let result = {
                let _permit = self.hub.permit_of(self.is_current).await;
                read().await
            };
            match result {
                Ok(value) => return Ok(value),
                Err(error) if attempt < ATTEMPTS => {
                    tracing::debug!(error = crate::causes::causes(&error), attempt, "a stream cannot read");
                    attempt += 1;
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => {
                    tracing::warn!(
                        error = crate::causes::causes(&error),
                        "a stream is cut, since it cannot read"
                    );
                    return Err(Cut("the database failed"));
                }
            }
        }
    }
}
