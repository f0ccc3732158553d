//! The streams of this process: how they are woken, and how they are ended from outside.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use dvx_proto::EnclaveName;
use tokio::sync::Notify;

use super::lines::Cut;
use crate::crypto::HashedToken;
use crate::domain::{EnclaveId, EnclaveIdentity, OrgId, Revision, SessionId, SessionRecord};

/// How many brokers of one enclave are served at a time. One is normal and two are a restart; the oldest gives
/// way beyond that, so that a broker that reconnects over and over holds no more than this.
const PER_ENCLAVE: usize = 4;

/// A broker that is connected to this process.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) enclave: EnclaveIdentity,
    /// The API key that it came with.
    pub(crate) key: HashedToken,
    /// Something that concerns it has changed, or it is over.
    pub(crate) wake: Notify,
    fate: AtomicU8,
    /// What was committed last and not confirmed yet, and since when this process knew of it.
    committed: Mutex<Option<(Revision, Instant)>>,
    record: OnceLock<SessionRecord>,
}

/// Why a stream is ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fate {
    EnclaveGone = 1,
    Superseded = 2,
    Stopping = 3,
    /// There is no telling what it has missed.
    Lost = 4,
}

impl Fate {
    const fn reason(self) -> &'static str {
        match self {
            Self::EnclaveGone => "the enclave is gone",
            Self::Superseded => "the enclave has newer connections",
            Self::Stopping => "the control plane is stopping",
            Self::Lost => "the changes that it needs are not kept any more",
        }
    }
}

impl Session {
    pub(crate) fn new(id: SessionId, enclave: EnclaveIdentity, key: HashedToken) -> Self {
        Self {
            id,
            enclave,
            key,
            wake: Notify::new(),
            fate: AtomicU8::new(0),
            committed: Mutex::default(),
            record: OnceLock::new(),
        }
    }

    /// What is noted of it in the database.
    pub(crate) fn remember(&self, record: SessionRecord) {
        // Once is enough: nothing of it changes.
        let _again: Result<(), SessionRecord> = self.record.set(record);
    }

    /// Changes that came at `since` have been sent.
    pub(crate) fn commit(&self, revision: Revision, since: Instant) {
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        // The oldest that is not confirmed counts.
        let since = committed.map_or(since, |(_, since)| since);
        *committed = Some((revision, since));
    }

    /// How long it took from a change until now that the broker has confirmed it.
    pub(crate) fn confirm(&self, revision: Revision, now: Instant) -> Option<Duration> {
        let mut committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, since) = committed.take_if(|(sent, _)| revision >= *sent)?;
        Some(now.saturating_duration_since(since))
    }

    /// Ends the stream, at once where it waits. The first reason counts.
    pub(crate) fn end(&self, fate: Fate) {
        // An error means that it is ending already.
        let _already: Result<u8, u8> =
            self.fate.compare_exchange(0, fate as u8, Ordering::AcqRel, Ordering::Acquire);
        self.wake.notify_one();
    }

    /// An error once the stream is to end.
    pub(crate) fn check(&self) -> Result<(), Cut> {
        let fate = match self.fate.load(Ordering::Acquire) {
            0 => return Ok(()),
            1 => Fate::EnclaveGone,
            2 => Fate::Superseded,
            3 => Fate::Stopping,
            _ => Fate::Lost,
        };
        Err(Cut(fate.reason()))
    }
}

/// All sessions of this process.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<All>);

#[derive(Default)]
struct All {
    by_enclave: HashMap<EnclaveId, Vec<Arc<Session>>>,
    by_id: HashMap<SessionId, Arc<Session>>,
}

impl Sessions {
    /// Lets one in.
    pub(crate) fn insert(&self, session: Arc<Session>) {
        let mut all = self.all();
        let of_enclave = all.by_enclave.entry(session.enclave.id.clone()).or_default();
        while of_enclave.len() >= PER_ENCLAVE {
            of_enclave.remove(0).end(Fate::Superseded);
        }
        of_enclave.push(session.clone());
        all.by_id.insert(session.id.clone(), session);
    }

    /// Forgets one that has ended.
    pub(crate) fn remove(&self, session: &Arc<Session>) {
        let mut all = self.all();
        if let Some(of_enclave) = all.by_enclave.get_mut(&session.enclave.id) {
            of_enclave.retain(|other| !Arc::ptr_eq(other, session));
            if of_enclave.is_empty() {
                all.by_enclave.remove(&session.enclave.id);
            }
        }
        if all.by_id.get(&session.id).is_some_and(|other| Arc::ptr_eq(other, session)) {
            all.by_id.remove(&session.id);
        }
    }

    /// The live session of this name that came with the same API key.
    pub(crate) fn find(&self, id: &SessionId, key: &HashedToken) -> Option<Arc<Session>> {
        let all = self.all();
        let session = all.by_id.get(id)?;
        (session.key == *key && session.check().is_ok()).then(|| session.clone())
    }

    /// Ends the streams of an enclave that an operator has deleted.
    pub(crate) fn end_deleted(&self, org: &OrgId, enclave: &EnclaveName) {
        let is_of = |session: &Session| session.enclave.org == *org && session.enclave.name == *enclave;
        for session in self.all().by_id.values().filter(|session| is_of(session)) {
            session.end(Fate::EnclaveGone);
        }
    }

    /// Wakes the streams of an enclave.
    pub(crate) fn wake(&self, enclave: &EnclaveId) {
        for session in self.all().by_enclave.get(enclave).into_iter().flatten() {
            session.wake.notify_one();
        }
    }

    /// Wakes all streams of an organisation.
    pub(crate) fn wake_all(&self, org: &OrgId) {
        for session in self.all().by_enclave.values().flatten().filter(|session| session.enclave.org == *org)
        {
            session.wake.notify_one();
        }
    }

    /// Ends the streams of an enclave.
    pub(crate) fn end(&self, enclave: &EnclaveId, fate: Fate) {
        for session in self.all().by_enclave.get(enclave).into_iter().flatten() {
            session.end(fate);
        }
    }

    /// Ends every stream of an organisation.
    pub(crate) fn end_all_of(&self, org: &OrgId, fate: Fate) {
        let all = self.all();
        for session in all.by_enclave.values().flatten().filter(|session| session.enclave.org == *org) {
            session.end(fate);
        }
    }

    /// Ends every stream.
    pub(crate) fn end_all(&self, fate: Fate) {
        for session in self.all().by_enclave.values().flatten() {
            session.end(fate);
        }
    }

    /// What is noted of those that are connected.
    pub(crate) fn records(&self) -> Vec<SessionRecord> {
        self.all().by_enclave.values().flatten().filter_map(|session| session.record.get().cloned()).collect()
    }

    /// How many streams there are, and of how many enclaves.
    pub(crate) fn count(&self) -> (usize, usize) {
        let all = self.all();
        (all.by_enclave.values().map(Vec::len).sum(), all.by_enclave.len())
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: &str, enclave: &str, key: &str) -> Arc<Session> {
        let enclave = EnclaveIdentity {
            id: enclave.to_owned().into(),
            name: enclave.parse().unwrap(),
            org: "o".to_owned().into(),
            organisation: "default".to_owned(),
        };
        Arc::new(Session::new(id.to_owned().into(), enclave, HashedToken::of(key.as_bytes())))
    }

    #[test]
    fn a_broker_that_reconnects_over_and_over_ends_its_oldest_streams() {
        let sessions = Sessions::default();
        let all: Vec<_> = (0..6).map(|n| session(&n.to_string(), "e", "k")).collect();
        for one in &all {
            sessions.insert(one.clone());
        }
        let ended: Vec<_> = all.iter().map(|one| one.check().is_err()).collect();
        assert_eq!(ended, [true, true, false, false, false, false]);
        assert_eq!(sessions.count(), (4, 1));
        for one in &all {
            sessions.remove(one);
        }
        assert_eq!(sessions.count(), (0, 0));
    }

    #[test]
    fn a_session_is_found_with_its_own_key_while_it_lives() {
        let sessions = Sessions::default();
        let one = session("s", "e", "k");
        sessions.insert(one.clone());
        let find = |id: &str, key: &str| {
            sessions.find(&id.to_owned().into(), &HashedToken::of(key.as_bytes())).is_some()
        };
        assert!(find("s", "k") && !find("s", "other") && !find("t", "k"));
        sessions.end(&one.enclave.id, Fate::EnclaveGone);
        assert!(!find("s", "k"));
    }

    #[test]
    fn the_first_reason_counts() {
        let one = session("s", "e", "k");
        one.end(Fate::EnclaveGone);
        one.end(Fate::Stopping);
        assert_eq!(one.check(), Err(Cut("the enclave is gone")));
    }
}
