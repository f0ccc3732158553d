//! Who is connected and what has been confirmed, on its way to the database: a transaction for many at once.
//!
//! The first of a burst is written at once, since somebody waits for it; what comes meanwhile and within the
//! next few milliseconds shares the next transaction. One task writes, so a session that has ended stays so.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot, watch};

use super::session::Sessions;
use crate::clock;
use crate::domain::{AckRecord, EnclaveId, OrgId, SessionId, SessionRecord};
use crate::store::{Store, StoreError};

/// How long what follows upon something is collected.
const WINDOW: Duration = Duration::from_millis(10);

/// How often it is noted of those that are connected that they still are.
const REFRESH: Duration = Duration::from_secs(5);

/// A process that could not note it for so long does not say any more that nothing has changed: others may take its
/// brokers for gone, and it may not hear of what they have changed.
pub(crate) const UNNOTED: Duration = Duration::from_secs(10);

/// How long to wait when the database does not take it.
const RETRY: Duration = Duration::from_millis(250);

/// How long the end of all streams may take to be noted once the process stops.
const DRAIN: Duration = Duration::from_secs(2);

/// What is to be written.
pub(crate) struct Recorder {
    pending: Mutex<Pending>,
    work: Notify,
    /// Of all that are connected it was noted at this time or later that they are.
    noted: Mutex<Instant>,
}

#[derive(Default)]
struct Pending {
    connected: Vec<(SessionRecord, oneshot::Sender<()>)>,
    acks: HashMap<OrgId, HashMap<SessionId, AckRecord>>,
    gone: Vec<(EnclaveId, SessionId)>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.connected.is_empty() && self.acks.is_empty() && self.gone.is_empty()
    }

    /// Of one session the newest counts.
    fn ack(&mut self, org: &OrgId, ack: AckRecord) {
        self.acks.entry(org.clone()).or_default().insert(ack.session.clone(), ack);
    }
}

impl Recorder {
    pub(crate) fn new() -> Self {
        let (pending, work) = (Mutex::default(), Notify::new());
        Self { pending, work, noted: Mutex::new(clock::monotonic()) }
    }

    /// Whether it was noted lately that those are connected that are. Only then does our word count for as long as
    /// everybody believes it does.
    pub(crate) fn is_noted(&self) -> bool {
        let noted = *self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.elapsed() < UNNOTED
    }

    /// Returns when it is in the database that a broker is connected. Only then may it be sent anything: who
    /// asks how far a change has come must know of everybody that might have an older state.
    pub(crate) async fn connected(&self, record: SessionRecord) -> bool {
        let (done, written) = oneshot::channel();
        self.pending().connected.push((record, done));
        self.work.notify_one();
        written.await.is_ok()
    }

    /// A broker has confirmed something.
    pub(crate) fn ack(&self, org: &OrgId, ack: AckRecord) {
        self.pending().ack(org, ack);
        self.work.notify_one();
    }

    /// A broker has gone.
    pub(crate) fn gone(&self, enclave: EnclaveId, session: SessionId) {
        self.pending().gone.push((enclave, session));
        self.work.notify_one();
    }

    /// Writes until the process stops and the last stream has ended.
    pub(crate) async fn run(&self, store: &Store, sessions: &Sessions, mut stopping: watch::Receiver<bool>) {
        let mut refresh = tokio::time::interval(REFRESH);
        let mut drained = Box::pin(drain(sessions, &mut stopping));
        loop {
            let is_refresh = tokio::select! {
                () = self.work.notified() => false,
                _ = refresh.tick() => true,
                () = &mut drained => break,
            };
            if is_refresh {
                self.refresh(store, sessions).await;
            } else {
                self.flush(store).await;
                tokio::time::sleep(WINDOW).await;
            }
        }
        self.flush(store).await;
    }

    async fn refresh(&self, store: &Store, sessions: &Sessions) {
        let begin = clock::monotonic();
        match store.touch_sessions(&sessions.records(), clock::wall()).await {
            Ok(()) => *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = begin,
            Err(error) => {
                tracing::warn!(error = crate::causes::causes(&error), "sessions are not refreshed");
            }
        }
    }

    async fn flush(&self, store: &Store) {
        let pending = std::mem::take(&mut *self.pending());
        if pending.is_empty() {
            return;
        }
        let Pending { connected, acks, gone } = pending;
        let mut failed = note_connected(store, connected).await.err();
        for (org, acks) in acks {
            let records: Vec<AckRecord> = acks.into_values().collect();
            if let Err(error) = store.record_acks(&org, &records).await {
                failed = Some(error);
                let mut pending = self.pending();
                for ack in records {
                    // One that has come since is newer.
                    let of_org = pending.acks.entry(org.clone()).or_default();
                    of_org.entry(ack.session.clone()).or_insert(ack);
                }
            }
        }
        if let Err(error) = store.end_sessions(&gone, clock::wall()).await {
            failed = Some(error);
            self.pending().gone.extend(gone);
        }
        if let Some(error) = failed {
            tracing::warn!(error = crate::causes::causes(&error), "what brokers confirm is not recorded yet");
            tokio::time::sleep(RETRY).await;
            self.work.notify_one();
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// On failure the brokers are told by their channels that end.
async fn note_connected(
    store: &Store,
    connected: Vec<(SessionRecord, oneshot::Sender<()>)>,
) -> Result<(), StoreError> {
    if connected.is_empty() {
        return Ok(());
    }
    let (records, waiting): (Vec<_>, Vec<_>) = connected.into_iter().unzip();
    store.touch_sessions(&records, clock::wall()).await?;
    for done in waiting {
        // Whoever hung up meanwhile has said so by `gone`.
        let _gone: Result<(), ()> = done.send(());
    }
    Ok(())
}

/// Until the process stops and the streams have ended, or will not.
async fn drain(sessions: &Sessions, stopping: &mut watch::Receiver<bool>) {
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        pending::<()>().await;
    }
    let ended = async {
        while sessions.count().0 > 0 {
            tokio::time::sleep(WINDOW).await;
        }
    };
    if tokio::time::timeout(DRAIN, ended).await.is_err() {
        tracing::debug!("some streams have not ended in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Revision;

    fn ack(session: &str, revision: u64) -> AckRecord {
        AckRecord {
            enclave: "e".to_owned().into(),
            session: session.to_owned().into(),
            revision: Revision(revision),
            degraded: Vec::new(),
            time: "2026-11-25T10:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn of_each_session_the_newest_ack_is_written() {
        let (mut pending, org) = (Pending::default(), OrgId::from("o".to_owned()));
        for record in [ack("s", 1), ack("t", 1), ack("s", 2)] {
            pending.ack(&org, record);
        }
        let mut written: Vec<_> = pending.acks[&org]
            .values()
            .map(|ack| (ack.session.as_str().to_owned(), ack.revision.0))
            .collect();
        written.sort();
        assert_eq!(written, [("s".to_owned(), 2), ("t".to_owned(), 1)]);
    }
}
