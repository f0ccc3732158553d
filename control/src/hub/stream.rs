//! One broker's stream, from its first line to its last.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dvx_proto::agent::AgentState;
use dvx_proto::enclave::{Frame, Hello, Mode, heartbeat};
use dvx_proto::{AgentName, SecretName};

use super::batch::{Target, coalesce};
use super::feed::Feed;
use super::lines::{Cut, Lines, Pen};
use super::load::{Loaded, Writer, line};
use super::read::{self, Reader};
use super::recorder::UNNOTED;
use super::session::{Fate, Session};
use super::{Hub, Inner};
use crate::crypto::seal::Sealer;
use crate::domain::{AgentRecord, ChainHead, Changes, Revision, SessionRecord};
use crate::store::StoreError;

/// What a broker comes with.
pub(crate) struct Opening {
    pub(crate) session: Session,
    pub(crate) sealer: Sealer,
    /// What it has in force.
    pub(crate) revision: Option<Revision>,
    /// By what it knows that revision from another one of that number, if it does.
    pub(crate) mark: Option<u64>,
    pub(crate) max_stale: Duration,
}

/// What becomes of a broker that wants to watch.
pub(crate) enum Opened {
    Stream(Lines),
    /// Its enclave was deleted just now.
    Deleted,
    /// It cannot be noted that it is connected, so it gets nothing.
    Unrecorded,
}

/// Lets a broker in. Until it is in the database that it is connected, it is not sent anything.
pub(crate) async fn open(hub: &Hub, opening: Opening) -> Result<Opened, StoreError> {
    let Opening { session, sealer, revision, mark, max_stale } = opening;
    let session = Arc::new(session);
    let record = SessionRecord {
        enclave: session.enclave.id.clone(),
        session: session.id.clone(),
        // What was sent last counts as word from us, and may be younger than what we remember by this much.
        max_stale: max_stale.saturating_add(UNNOTED),
    };
    session.remember(record.clone());
    hub.0.sessions.insert(session.clone());
    let guard = Connected { hub: hub.0.clone(), session: session.clone() };
    if !hub.0.recorder.connected(record).await {
        return Ok(Opened::Unrecorded);
    }
    let _permit = hub.permit().await;
    // Had the enclave been deleted before the session was there to be ended, nobody would end it.
    if hub.0.store.enclave_by_key(&session.key).await?.is_none() {
        return Ok(Opened::Deleted);
    }
    let feed = hub.feed(&session.enclave.org).await?;
    let start = match revision {
        Some(revision) if can_resume(&hub.0, &feed, revision, mark).await? => Start::Resume(revision),
        _ => Start::Snapshot(feed.newest()),
    };
    let head = hub.0.store.chain_head(&session.enclave.id).await?;
    let writer = Writer::new(session.enclave.clone(), sealer);
    let hub = hub.clone();
    Ok(Opened::Stream(Lines::new(move |pen| async move {
        let reader = Reader::new(hub, feed, guard.session.clone());
        let heartbeat = heartbeat(max_stale);
        let mut stream = Stream { reader, pen, writer, heartbeat, seen: Revision(0), committed: Revision(0) };
        let Err(cut) = stream.run(start, head).await;
        tracing::debug!(enclave = %guard.session.enclave.name, %cut, "a stream ends");
        Err(cut)
    })))
}

/// Whether what changed since a revision is known, and the revision one of ours: after a backup was put back,
/// a broker may have one that only has the number of one of ours.
async fn can_resume(
    hub: &Inner,
    feed: &Feed,
    revision: Revision,
    mark: Option<u64>,
) -> Result<bool, StoreError> {
    if revision.0 == 0 || revision > feed.newest() {
        return Ok(false);
    }
    if mark.is_some() && mark != feed.mark(&hub.store, revision).await? {
        return Ok(false);
    }
    if feed.has(revision) {
        return Ok(true);
    }
    let changes = hub.store.changes_since(feed.org(), revision, 1).await?;
    Ok(matches!(changes, Changes::Since(_)))
}

/// A session that is forgotten when this is dropped.
struct Connected {
    hub: Arc<Inner>,
    session: Arc<Session>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.hub.sessions.remove(&self.session);
        self.hub.recorder.gone(self.session.enclave.id.clone(), self.session.id.clone());
        self.hub.metrics.count_streams(self.hub.sessions.count());
    }
}

enum Start {
    Snapshot(Revision),
    Resume(Revision),
}

enum Never {}

struct Stream {
    reader: Reader,
    pen: Pen,
    writer: Writer,
    /// Silence after which the broker is told that nothing has changed.
    heartbeat: Duration,
    /// Up to here it is known whether anything concerns the enclave.
    seen: Revision,
    /// What the broker was told last to have in force.
    committed: Revision,
}

impl Stream {
    async fn run(&mut self, start: Start, head: Option<ChainHead>) -> Result<Never, Cut> {
        self.hub().metrics.count_streams(self.hub().sessions.count());
        let mode = match start {
            Start::Snapshot(_) => Mode::Snapshot,
            Start::Resume(_) => Mode::Resume,
        };
        self.write(&Frame::Hello(self.hello(mode, head))).await?;
        match start {
            Start::Snapshot(revision) => {
                self.hub().metrics.count_snapshot();
                Box::pin(self.snapshot(revision)).await?;
                self.commit(revision).await?;
            }
            Start::Resume(revision) => {
                self.seen = revision;
                Box::pin(self.follow()).await?;
                // Also where nothing has changed: the broker learns that it is up to date.
                self.stand_by().await?;
            }
        }
        self.reader.is_current = true;
        let mut heartbeat = tokio::time::interval(self.heartbeat);
        loop {
            heartbeat.reset();
            // Boxed: most streams wait most of the time, and what sending needs is not kept meanwhile.
            if Box::pin(self.follow()).await? {
                continue;
            }
            tokio::select! {
                () = self.reader.session.wake.notified() => self.session().check()?,
                _ = heartbeat.tick() => {
                    Box::pin(self.follow()).await?;
                    self.stand_by().await?;
                }
            }
        }
    }

    fn hello(&self, mode: Mode, head: Option<ChainHead>) -> Hello {
        Hello {
            organisation: self.session().enclave.org.as_str().to_owned(),
            enclave: self.session().enclave.name.clone(),
            mode,
            encapsulated_key: self.writer.encapsulated_key().to_owned(),
            audit_seq: head.map_or(0, |head| head.seq),
            audit_head: head.map(|head| head.head.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    /// Says that nothing else has changed. What did not concern the enclave moves its revision on now.
    async fn stand_by(&mut self) -> Result<(), Cut> {
        if !self.hub().recorder.is_noted() {
            return Ok(());
        }
        if self.seen == self.committed {
            return self.write(&Frame::Heartbeat { revision: self.committed.0 }).await;
        }
        self.commit(self.seen).await
    }

    async fn commit(&mut self, revision: Revision) -> Result<(), Cut> {
        let mark = self.reader.mark(revision).await?;
        self.session().commit(revision, self.reader.feed.noticed());
        self.write(&Frame::Commit { revision: revision.0, mark }).await?;
        (self.seen, self.committed) = (revision, revision);
        Ok(())
    }

    /// Sends what has changed and concerns the enclave. The answer is whether anything has.
    async fn follow(&mut self) -> Result<bool, Cut> {
        let mut has_sent = false;
        loop {
            let Some((newest, changes)) = self.reader.since(self.seen).await? else {
                self.session().end(Fate::Lost);
                self.session().check()?;
                return Ok(false);
            };
            if newest == self.seen {
                return Ok(has_sent);
            }
            self.seen = newest;
            if !changes.is_empty() {
                for target in coalesce(&changes) {
                    self.send(target, newest).await?;
                }
                self.commit(newest).await?;
                has_sent = true;
            }
        }
    }

    async fn send(&mut self, target: Target, revision: Revision) -> Result<(), Cut> {
        match target {
            Target::Agent(agent) => match self.reader.agent(&agent).await? {
                Some(record) => self.send_agent(record, revision).await,
                None => self.write(&Frame::AgentGone { agent }).await,
            },
            Target::Secret(None, name) => {
                let loaded = self.reader.org_secret(&name, revision).await?;
                self.send_secret(None, &name, &loaded, revision).await
            }
            Target::Secret(Some((agent, id)), name) => match self.reader.agent(&agent).await? {
                Some(record) if record.id == id && record.document.state == AgentState::Active => {
                    let loaded = self.reader.agent_secret(&record.id, &name).await?;
                    self.send_secret(Some(&agent), &name, &loaded, revision).await
                }
                // It is gone, not served or another one by now. The broker may still have what the secret was,
                // and must not keep it until the agent's own change comes.
                Some(record) => self.send_agent(record, revision).await,
                None => self.write(&Frame::AgentGone { agent }).await,
            },
        }
    }

    async fn send_agent(&mut self, record: AgentRecord, revision: Revision) -> Result<(), Cut> {
        let is_served = record.document.state == AgentState::Active;
        let agent = record.document.agent.clone();
        self.write(&Frame::Agent(record.document)).await?;
        if !is_served {
            return Ok(());
        }
        let mut after = None;
        loop {
            let page = self.reader.agent_secrets(&record.id, after).await?;
            let is_last = page.len() < read::SECRETS as usize;
            after = page.last().map(|secret| secret.place.name.as_str().to_owned());
            for stored in page {
                let name = stored.place.name.clone();
                let loaded = self.reader.open(Some(stored)).await?;
                self.send_secret(Some(&agent), &name, &loaded, revision).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// Everything, in pages. Each page is as the database is when it is read, which may be newer than the
    /// revision: what has changed meanwhile is among the changes after it, and is sent once more. So no reader,
    /// however slow, keeps a transaction open.
    async fn snapshot(&mut self, revision: Revision) -> Result<(), Cut> {
        let mut after = None;
        loop {
            let names = self.reader.org_secret_names(after.as_ref()).await?;
            let is_last = names.len() < read::PAGE as usize;
            for name in &names {
                let loaded = self.reader.org_secret(name, revision).await?;
                if !matches!(*loaded, Loaded::Gone) {
                    self.send_secret(None, name, &loaded, revision).await?;
                }
            }
            if is_last {
                break;
            }
            after = names.into_iter().last();
        }
        let mut after = None;
        loop {
            let agents = self.reader.agents(after.as_ref()).await?;
            let is_last = agents.len() < read::PAGE as usize;
            after = agents.last().map(|record| record.document.agent.clone());
            for record in agents {
                self.send_agent(record, revision).await?;
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn send_secret(
        &mut self,
        agent: Option<&AgentName>,
        name: &SecretName,
        loaded: &Loaded,
        revision: Revision,
    ) -> Result<(), Cut> {
        let line = self.writer.secret(agent, name, loaded, revision)?;
        self.put(line).await
    }

    async fn write(&self, frame: &Frame) -> Result<(), Cut> {
        self.put(line(frame)?).await
    }

    async fn put(&self, line: Bytes) -> Result<(), Cut> {
        // Whoever was slow to take the line before may be over by now.
        self.session().check()?;
        self.hub().metrics.count_frame();
        self.pen.put(line).await;
        Ok(())
    }

    fn session(&self) -> &Session {
        &self.reader.session
    }

    fn hub(&self) -> &Inner {
        &self.reader.hub.0
    }
}
