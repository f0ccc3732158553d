//! The credentials as of now: what every agent may have, ready to be written to a socket.
//!
//! One upstream writes, the server reads. A reader takes one [`View`] and decides on that alone; it never waits
//! for a writer. Nothing here does I/O, and time is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use dvx_proto::agent::{AgentState, INSTANCE_RELATION, SecretSummary};
use dvx_proto::{AgentName, ProviderName, SecretName};
use hyper::header::HeaderValue;
use tokio::sync::watch;

use crate::clock::Monotonic;

mod render;
mod value;

pub(crate) use self::value::{Credential, CredentialFacts, SecretEntry, ValueError};

/// The holder of what is served now.
pub(crate) struct Keyring {
    current: ArcSwap<View>,
    revision: watch::Sender<u64>,
}

/// What is known at one moment: the newest snapshot, and when the upstream last stood by it.
pub(crate) struct View {
    /// The newest snapshot; empty before the first.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The snapshot's revision as answers name it.
    pub(crate) revision_field: HeaderValue,
    confirmed: Option<Monotonic>,
}

/// Everything that is served, as the upstream had it at one moment.
#[derive(Default)]
pub(crate) struct Snapshot {
    /// Higher than that of every snapshot before.
    pub(crate) revision: u64,
    /// The agents that the upstream knows.
    pub(crate) agents: BTreeMap<AgentName, Arc<AgentEntry>>,
}

/// What one agent may have.
pub(crate) struct AgentEntry {
    /// Whether it is served at all.
    pub(crate) state: AgentState,
    /// Why it is not, as the operator put it.
    pub(crate) reason: Option<String>,
    /// Its credentials.
    pub(crate) credentials: BTreeMap<ProviderName, Arc<Credential>>,
    /// Its secrets, those that it may see.
    pub(crate) secrets: BTreeMap<SecretName, Arc<SecretEntry>>,
    /// The list of its credentials as it is served.
    pub(crate) credentials_body: Bytes,
    /// The `Link` fields that go with that list: one for each linked instance.
    pub(crate) credentials_links: Vec<HeaderValue>,
    /// The list of its secrets as it is served.
    pub(crate) secrets_body: Bytes,
}

/// How far what is held can be trusted to be current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// Served. The upstream stood by it this long ago.
    Fresh {
        /// For `Dvx-Age`.
        age: Duration,
    },
    /// Not served any more: that was too long ago.
    Stale {
        /// How long.
        age: Duration,
    },
    /// Nothing has come from the upstream yet.
    Never,
}

impl Keyring {
    /// One that holds nothing and has never been confirmed.
    pub(crate) fn new() -> Self {
        let view = View::new(Arc::default(), None);
        Self { current: ArcSwap::from_pointee(view), revision: watch::Sender::new(0) }
    }

    /// What is known now. One decision looks at one view.
    pub(crate) fn load(&self) -> Guard<Arc<View>> {
        self.current.load()
    }

    /// Replaces what is served by what the upstream said at `at`, and wakes the subscribers.
    pub(crate) fn publish(&self, snapshot: Snapshot, at: Monotonic) {
        let revision = snapshot.revision;
        self.current.store(Arc::new(View::new(Arc::new(snapshot), Some(at))));
        self.revision.send_replace(revision);
    }

    /// The upstream was asked at `at`, and nothing has changed.
    pub(crate) fn confirm(&self, at: Monotonic) {
        self.current.rcu(|view| View::new(Arc::clone(&view.snapshot), Some(at)));
    }

    /// Lets the subscribers look again, though nothing is new here.
    pub(crate) fn wake(&self) {
        self.revision.send_modify(|_| ());
    }

    /// See [`View::freshness`]; of everything together.
    pub(crate) fn freshness(&self, now: Monotonic, max_stale: Duration) -> Freshness {
        self.load().freshness(None, now, max_stale)
    }

    /// The revision of the newest snapshot, and a wake-up with each that is published.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

impl View {
    fn new(snapshot: Arc<Snapshot>, confirmed: Option<Monotonic>) -> Self {
        Self { revision_field: HeaderValue::from(snapshot.revision), snapshot, confirmed }
    }

    /// How old a value is: since the upstream last stood by it, which is the last confirmation of everything,
    /// or `frozen_since` where this value's own source has been bad from then on.
    pub(crate) fn freshness(
        &self,
        frozen_since: Option<Monotonic>,
        now: Monotonic,
        max_stale: Duration,
    ) -> Freshness {
        let Some(confirmed) = self.confirmed else { return Freshness::Never };
        let age = now.since(frozen_since.map_or(confirmed, |since| since.min(confirmed)));
        if age > max_stale { Freshness::Stale { age } } else { Freshness::Fresh { age } }
    }

    /// When the upstream last stood by the snapshot.
    #[cfg(test)]
    pub(crate) fn confirmed(&self) -> Option<Monotonic> {
        self.confirmed
    }
}

impl AgentEntry {
    /// An agent that is not served, and why. It has nothing.
    pub(crate) fn out_of_service(state: AgentState, reason: Option<String>) -> Self {
        Self { state, reason, ..Self::active(BTreeMap::new(), BTreeMap::new()) }
    }

    /// An agent that is served.
    pub(crate) fn active(
        credentials: BTreeMap<ProviderName, Arc<Credential>>,
        secrets: BTreeMap<SecretName, Arc<SecretEntry>>,
    ) -> Self {
        let summaries: Vec<_> = credentials.values().map(|credential| credential.summary()).collect();
        let names: Vec<_> = secrets.keys().map(|name| SecretSummary { name: name.clone() }).collect();
        Self {
            state: AgentState::Active,
            reason: None,
            credentials_body: list(&summaries),
            credentials_links: credentials.values().filter_map(|credential| link(credential)).collect(),
            secrets_body: list(&names),
            credentials,
            secrets,
        }
    }
}

/// Names and kinds only: no secret comes here.
fn list<T: serde::Serialize>(elements: &[T]) -> Bytes {
    // Neither summary can fail to serialize: both are structs of strings.
    serde_json::to_vec(elements).unwrap_or_else(|_| b"[]".to_vec()).into()
}

/// A `Link` field (RFC 8288). An address with a character that would end the target early gets none.
fn link(credential: &Credential) -> Option<HeaderValue> {
    let target = credential.instance.as_ref()?.to_string();
    if target.contains(['<', '>', '"']) {
        return None;
    }
    let provider = &credential.provider;
    HeaderValue::try_from(format!("<{target}>; rel=\"{INSTANCE_RELATION}\"; title=\"{provider}\"")).ok()
}

#[cfg(test)]
mod tests {
    use dvx_memory::Arena;

    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::since_boot(Duration::from_secs(seconds))
    }

    fn fresh(seconds: u64) -> Freshness {
        Freshness::Fresh { age: Duration::from_secs(seconds) }
    }

    fn stale(seconds: u64) -> Freshness {
        Freshness::Stale { age: Duration::from_secs(seconds) }
    }

    #[test]
    fn freshness_is_the_age_of_the_older_of_confirmation_and_freeze() {
        for (confirmed, frozen, now, expected) in [
            (None, None, 0, Freshness::Never),
            (None, Some(0), 5, Freshness::Never),
            (Some(100), None, 100, fresh(0)),
            (Some(100), None, 160, fresh(60)),
            (Some(100), None, 161, stale(61)),
            (Some(100), None, 50, fresh(0)),
            (Some(100), Some(70), 100, fresh(30)),
            (Some(100), Some(70), 131, stale(61)),
            (Some(100), Some(120), 130, fresh(30)),
        ] {
            let view = View::new(Arc::default(), confirmed.map(at));
            let freshness = view.freshness(frozen.map(at), at(now), Duration::from_secs(60));
            assert_eq!(freshness, expected, "confirmed {confirmed:?}, frozen {frozen:?}, now {now}");
        }
    }

    #[test]
    fn waking_has_subscribers_look_at_what_they_know() {
        let keyring = Keyring::new();
        keyring.publish(Snapshot { revision: 7, agents: BTreeMap::new() }, at(1));
        let mut revisions = keyring.subscribe();
        assert!(!revisions.has_changed().unwrap());
        keyring.wake();
        assert!(revisions.has_changed().unwrap());
        assert_eq!(*revisions.borrow_and_update(), 7);
    }

    #[test]
    fn an_agent_out_of_service_says_why_and_has_nothing() {
        let entry = AgentEntry::out_of_service(AgentState::Isolated, Some("the reason".into()));
        assert_eq!(entry.state, AgentState::Isolated);
        assert_eq!(entry.reason.as_deref(), Some("the reason"));
        assert!(entry.credentials.is_empty() && entry.secrets.is_empty());
        assert_eq!(entry.credentials_body, "[]");
    }

    #[test]
    fn confirming_keeps_the_snapshot_and_publishing_replaces_it() {
        let keyring = Keyring::new();
        let mut revisions = keyring.subscribe();
        let hour = Duration::from_secs(3600);
        assert_eq!(keyring.freshness(at(1), hour), Freshness::Never);

        keyring.publish(Snapshot { revision: 1, agents: BTreeMap::new() }, at(1));
        let held = Arc::clone(&keyring.load());
        assert!(revisions.has_changed().unwrap());
        assert_eq!(*revisions.borrow_and_update(), 1);

        keyring.confirm(at(11));
        assert_eq!(keyring.freshness(at(12), hour), fresh(1));
        assert!(Arc::ptr_eq(&keyring.load().snapshot, &held.snapshot));
        assert!(!revisions.has_changed().unwrap(), "a confirmation is no change");

        keyring.publish(Snapshot { revision: 2, agents: BTreeMap::new() }, at(20));
        assert_eq!(*revisions.borrow(), 2);
        assert_eq!(held.snapshot.revision, 1, "a reader keeps what it has");
        assert_eq!(held.freshness(None, at(30), hour), fresh(29));
    }

    #[test]
    fn the_lists_are_sorted_and_exact() {
        let arena = Arena::new(false).unwrap();
        let credential = |provider: &str, instance: Option<&str>| {
            let mut facts = CredentialFacts::defaults(provider.parse().unwrap());
            facts.instance = instance.map(|url| url.parse().unwrap());
            Arc::new(Credential::new(facts, b"glpat-x", &arena).unwrap())
        };
        let secret = |name: &str| {
            let name: SecretName = name.parse().unwrap();
            Arc::new(SecretEntry::new(name, b"v", &arena).unwrap())
        };
        let entry = AgentEntry::active(
            [credential("gitlab", Some("https://gitlab.com")), credential("aws", None)]
                .map(|credential| (credential.provider.clone(), credential))
                .into(),
            ["b", "A"].map(|name| (name.parse().unwrap(), secret(name))).into(),
        );
        assert_eq!(
            entry.credentials_body,
            r#"[{"provider":"aws","display_name":"aws","auth_type":"pat"},{"provider":"gitlab","display_name":"gitlab","auth_type":"pat"}]"#
        );
        assert_eq!(entry.secrets_body, r#"[{"name":"A"},{"name":"b"}]"#);
        assert_eq!(
            entry.credentials_links,
            [r#"<https://gitlab.com>; rel="urn:dvx:rel:instance"; title="gitlab""#]
        );
        let odd = credential("gitlab", Some("https://h/a>;b"));
        assert_eq!(link(&odd), None, "an address that would break the field gets none");
    }
}
