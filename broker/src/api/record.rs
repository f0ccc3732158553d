//! What becomes of a request, and its line in the audit log.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dvx_proto::agent::Route;
use dvx_proto::{AgentName, Code, Fingerprint};
use rustix::rand::{GetRandomFlags, getrandom};

use super::answer::{self, Answer};
use super::caller::Peer;
use super::framing::is_injection;
use super::problem::Refusal;
use super::{Api, Handling, Settings};
use crate::audit::{Action, Entry, Event, Unwritten, Verdict};
use crate::clock::{self, Now};
use crate::hex;
use crate::keyring::View;

/// What was asked for and by whom, filled in as it becomes known.
pub(super) struct Record<'a> {
    pub(super) action: Action,
    pub(super) subject: Option<Cow<'a, str>>,
    pub(super) agent: Option<&'a AgentName>,
    pub(super) now: Now,
    request_id: RequestId,
}

/// Sixteen hexadecimal digits.
struct RequestId([u8; 16]);

/// Names requests for the audit log: unlike any other of this process and, in practice, of any other.
pub(super) struct RequestIds {
    start: u64,
    count: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        let mut start = [0; 8];
        // Without it the names are still unlike each other.
        if let Err(error) = getrandom(&mut start, GetRandomFlags::empty()) {
            tracing::warn!(%error, "request ids begin at 0");
        }
        Self { start: u64::from_ne_bytes(start), count: AtomicU64::new(0) }
    }

    fn next(&self) -> RequestId {
        let number = self.start.wrapping_add(self.count.fetch_add(1, Ordering::Relaxed));
        let mut name = [0; 16];
        hex::write(&number.to_be_bytes(), &mut name);
        RequestId(name)
    }
}

impl RequestId {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// A request that is served.
pub(super) struct Served {
    pub(super) answer: Answer,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) revision: Option<u64>,
    pub(super) reason: Option<&'static str>,
}

/// An answer whose line waits for others.
pub(crate) struct Entered<'a> {
    api: &'a Api,
    action: Action,
    answer: Answer,
    entry: Entry,
}

impl Entered<'_> {
    /// Once the line is written.
    pub(super) async fn answer(self) -> Answer {
        let outcome = self.api.audit.settled(self.entry).await;
        self.api.release(self.action, self.answer, outcome)
    }
}

impl<'a> Record<'a> {
    pub(super) fn new(ids: &RequestIds, path: &str, route: Option<&'a Route>, now: Now) -> Self {
        let (action, subject) = match route {
            None if is_injection(path) => (Action::CredentialRoute, None),
            None | Some(Route::Discover) => (Action::Unknown, None),
            Some(Route::Whoami) => (Action::Whoami, None),
            Some(Route::IssueToken) => (Action::TokenIssue, None),
            Some(Route::Credentials) => (Action::CredentialList, None),
            Some(Route::Credential(provider)) => (Action::CredentialGet, text(provider.as_ref())),
            Some(Route::Rejected(provider)) => (Action::CredentialRejected, text(provider.as_ref())),
            Some(Route::Secrets) => (Action::SecretList, None),
            Some(Route::Secret(name)) => (Action::SecretGet, text(name.as_ref())),
            Some(Route::GitCredential) => (Action::CredentialGit, None),
        };
        Self { action, subject, agent: None, now, request_id: ids.next() }
    }
}

fn text(name: Option<&impl AsRef<str>>) -> Option<Cow<'_, str>> {
    name.map(|name| Cow::Borrowed(name.as_ref()))
}

impl Served {
    pub(super) fn new(answer: Answer) -> Self {
        Self { answer, fingerprint: None, revision: None, reason: None }
    }

    pub(super) fn from_upstream(body: Bytes, view: &View, age: Duration) -> Self {
        let answer = answer::from_upstream(body, &view.revision_field, age);
        Self { revision: Some(view.snapshot.revision), ..Self::new(answer) }
    }

    pub(super) fn with_fingerprint(mut self, fingerprint: Fingerprint) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }

    pub(super) fn with_reason(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }
}

impl Api {
    /// Writes the decision down and only then lets the answer go.
    pub(super) fn finish(
        &self,
        peer: &Peer,
        settings: &Settings,
        record: &Record<'_>,
        result: Result<Served, Refusal>,
    ) -> Handling<'_> {
        let served = match result {
            Ok(served) => served,
            Err(refusal) => return Handling::Done(self.refuse(peer, settings, record, refusal)),
        };
        let mut event = event(peer, record, Verdict::Served, served.reason);
        event.fingerprint = served.fingerprint;
        event.revision = served.revision;
        let (action, answer) = (record.action, served.answer);
        match self.audit.enter(&event) {
            Entry::Settled(outcome) => Handling::Done(self.release(action, answer, outcome)),
            entry @ Entry::Waiting(_) => Handling::Entered(Entered { api: self, action, answer, entry }),
        }
    }

    fn release(&self, action: Action, answer: Answer, outcome: Result<(), Unwritten>) -> Answer {
        match outcome {
            Ok(()) => {
                self.metrics.count(action, Verdict::Served);
                answer
            }
            Err(Unwritten) => self.unrecorded(action),
        }
    }

    pub(super) fn refuse(
        &self,
        peer: &Peer,
        settings: &Settings,
        record: &Record<'_>,
        refusal: Refusal,
    ) -> Answer {
        let verdict = refusal.verdict();
        self.metrics.count(record.action, verdict);
        let rate = record.agent.and_then(|agent| settings.rates.of(agent));
        let refusals = rate.map_or(&self.strangers, |rate| &rate.refusals);
        if let Some(skipped) = refusals.admit() {
            self.note_refusal(peer, record, verdict, refusal.reason(), skipped);
        }
        refusal.into_answer()
    }

    /// A connection that was not let in. Who it comes from is asked only if it is written down.
    pub(crate) fn note_turned_away(&self, peer: impl FnOnce() -> Peer, reason: &'static str) {
        let verdict = Verdict::Limited;
        self.metrics.count(Action::Unknown, verdict);
        if let Some(skipped) = self.strangers.admit() {
            let record = Record::new(&self.request_ids, "", None, clock::now());
            self.note_refusal(&peer(), &record, verdict, reason, skipped);
        }
    }

    /// Nothing is served here, so a log that cannot be written changes nothing for the caller; readiness
    /// tells the operator.
    fn note_refusal(&self, peer: &Peer, record: &Record<'_>, verdict: Verdict, reason: &str, skipped: u64) {
        let reason = match skipped {
            0 => Cow::Borrowed(reason),
            skipped => Cow::Owned(format!("{reason} ({skipped} refusals before this one not recorded)")),
        };
        if self.audit.record(&event(peer, record, verdict, Some(&reason))).is_err() {
            self.metrics.count_audit_failure();
        }
    }

    fn unrecorded(&self, action: Action) -> Answer {
        self.metrics.count(action, Verdict::Unavailable);
        self.metrics.count_audit_failure();
        Refusal::new(Code::AuditUnavailable, "the audit log cannot be written, so nothing is served")
            .with_hint("the operator of this enclave sees the reason in `dvx-broker status`")
            .into_answer()
    }
}

fn event<'a>(
    peer: &'a Peer,
    record: &'a Record<'a>,
    decision: Verdict,
    reason: Option<&'a str>,
) -> Event<'a> {
    let facts = peer.identity.as_ref().ok();
    Event {
        time: record.now.wall,
        agent: record.agent.map(AgentName::as_str),
        uid: peer.uid(),
        gid: facts.and_then(|facts| facts.gid),
        pid: facts.and_then(|facts| facts.pid),
        cgroup: facts.and_then(|facts| facts.cgroup.as_deref()),
        transport: peer.transport,
        action: record.action,
        subject: record.subject.as_deref(),
        decision,
        reason,
        fingerprint: None,
        revision: None,
        request_id: record.request_id.as_str(),
    }
}
