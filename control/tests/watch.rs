//! The stream of one broker: what it begins with, what comes, and what is confirmed.

use std::time::Duration;

use dvx_proto::agent::AgentState;
use dvx_proto::enclave::{Frame, HEARTBEAT_SECONDS, Mode};
use dvx_tests::{ControlPlane, EnclaveClient, State};
use serde_json::json;

/// A control plane with an enclave `lab` and its broker.
fn lab() -> (ControlPlane, EnclaveClient) {
    let control = ControlPlane::start();
    let broker = EnclaveClient::of(&control, 0, control.admin().create_enclave("lab"));
    (control, broker)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_has_agents_and_the_values_of_those_that_are_served() {
    let (control, broker) = lab();
    let admin = control.admin();
    admin.create_agent("a", "lab", 1001);
    admin.create_agent("b", "lab", 1002);
    admin.set_token("a", "gitlab", "glpat-of-a");
    admin.set_secret(Some("b"), "PASSWORD", "of b");
    let newest = admin.set_secret(None, "SHARED", "of all");
    admin.set_state("b", "isolate");
    let mut state = State::default();
    let watch = broker.connected(&mut state).await;
    assert_eq!((watch.hello.mode, state.revision), (Mode::Snapshot, Some(newest + 1)));
    assert_eq!(state.agents.len(), 2);
    assert_eq!(state.agents["b"].state, AgentState::Isolated);
    assert_eq!(state.agents["b"].reason.as_deref(), Some("a test"));
    assert_eq!(state.value(Some("a"), "gitlab:token"), Some(&b"glpat-of-a"[..]));
    assert_eq!(state.value(None, "SHARED"), Some(&b"of all"[..]));
    assert_eq!(state.value(Some("b"), "PASSWORD"), None);
    let (_, sealed) = state.secrets.values().find(|(_, sealed)| sealed.name.provider().is_some()).unwrap();
    assert!(!sealed.agent_accessible && sealed.credential.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_come_as_they_are_made() {
    let (control, broker) = lab();
    let admin = control.admin();
    let mut state = State::default();
    let mut watch = broker.connected(&mut state).await;
    admin.create_agent("a", "lab", 1001);
    let set = admin.set_secret(Some("a"), "X", "one");
    watch.until(&mut state, set).await;
    assert_eq!(state.value(Some("a"), "X"), Some(&b"one"[..]));
    let set = admin.set_secret(Some("a"), "X", "two");
    watch.until(&mut state, set).await;
    assert_eq!(state.value(Some("a"), "X"), Some(&b"two"[..]));
    let isolated = admin.set_state("a", "isolate");
    watch.until(&mut state, isolated).await;
    assert_eq!((state.agents["a"].state, state.secrets.len()), (AgentState::Isolated, 0));
    // Not while it is not served, but then at once.
    let set = admin.set_secret(Some("a"), "X", "three");
    let restored = admin.set_state("a", "restore");
    watch.until(&mut state, restored.max(set)).await;
    assert_eq!(state.value(Some("a"), "X"), Some(&b"three"[..]));
    let deleted = admin.delete_secret(Some("a"), "X");
    watch.until(&mut state, deleted).await;
    assert_eq!(state.value(Some("a"), "X"), None);
    let gone = admin.change("DELETE", "/agents/a", &json!(null));
    watch.until(&mut state, gone).await;
    assert!(state.agents.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolation_is_delivered_once_the_broker_has_confirmed_it() {
    let (control, broker) = lab();
    let admin = control.admin();
    admin.create_agent("a", "lab", 1001);
    let mut state = State::default();
    let mut watch = broker.connected(&mut state).await;
    broker.confirm(&watch, state.revision.unwrap()).await;
    let isolated = admin.set_state("a", "isolate");
    watch.until(&mut state, isolated).await;
    assert_eq!(admin.missing(isolated), ["lab"]);
    broker.confirm(&watch, isolated).await;
    admin.delivered(isolated);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_soon_goes_stale_hears_from_the_control_plane_in_time() {
    let (_control, mut broker) = lab();
    broker.max_stale_seconds = 1;
    let mut state = State::default();
    let mut watch = broker.connected(&mut state).await;
    let heard = tokio::time::timeout(Duration::from_secs(HEARTBEAT_SECONDS / 2), watch.next()).await;
    assert!(matches!(heard, Ok(Ok(Some(Frame::Heartbeat { .. })))), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_gets_what_has_changed_and_nothing_else() {
    let (control, broker) = lab();
    let admin = control.admin();
    admin.create_agent("a", "lab", 1001);
    admin.set_secret(Some("a"), "KEPT", "kept");
    let mut state = State::default();
    drop(broker.connected(&mut state).await);
    admin.set_secret(Some("a"), "NEW", "one");
    let newest = admin.set_secret(Some("a"), "NEW", "two");
    state = state.reconnected();
    let mut watch = broker.watch(state.revision).await.unwrap();
    assert_eq!(watch.hello.mode, Mode::Resume);
    // Set twice, sent once.
    let Some(Frame::Secret(secret)) = watch.next().await.unwrap() else { panic!("a secret") };
    assert_eq!((secret.name.as_str(), watch.open(&secret).unwrap().as_slice()), ("NEW", &b"two"[..]));
    assert!(
        matches!(watch.next().await.unwrap(), Some(Frame::Commit { revision, .. }) if revision == newest)
    );
    // Nothing has changed: it is told so.
    let mut watch = broker.watch(Some(newest)).await.unwrap();
    assert_eq!(watch.hello.mode, Mode::Resume);
    assert!(
        matches!(watch.next().await.unwrap(), Some(Frame::Commit { revision, .. }) if revision == newest)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_is_absent_zero_or_from_the_future_begins_with_a_snapshot() {
    let (control, broker) = lab();
    let newest = control.admin().create_agent("a", "lab", 1001);
    for revision in [None, Some(0), Some(newest + 1), Some(u64::MAX)] {
        let mut watch = broker.watch(revision).await.unwrap();
        assert_eq!(watch.hello.mode, Mode::Snapshot, "{revision:?}");
        let mut state = State::default();
        assert_eq!(watch.commit(&mut state).await.unwrap(), newest);
        assert_eq!(state.agents.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_made_anew_elsewhere_leaves_its_enclave_and_its_secrets() {
    let (control, broker) = lab();
    let admin = control.admin();
    let other = EnclaveClient::of(&control, 0, admin.create_enclave("other"));
    admin.create_agent("a", "lab", 1001);
    admin.set_secret(Some("a"), "X", "old");
    let (mut state, mut other_state) = (State::default(), State::default());
    let mut watch = broker.connected(&mut state).await;
    let mut other_watch = other.connected(&mut other_state).await;
    let gone = admin.change("DELETE", "/agents/a", &json!(null));
    let made = admin.create_agent("a", "other", 1001);
    watch.until(&mut state, gone).await;
    other_watch.until(&mut other_state, made).await;
    assert!(state.agents.is_empty() && state.secrets.is_empty());
    assert_eq!((other_state.agents.len(), other_state.secrets.len()), (1, 0));
    // And in the same place: the old one's secrets do not come back.
    admin.set_secret(Some("a"), "Y", "old");
    admin.change("DELETE", "/agents/a", &json!(null));
    let made = admin.create_agent("a", "other", 1001);
    other_watch.until(&mut other_state, made).await;
    assert_eq!((other_state.agents.len(), other_state.secrets.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_made_while_a_snapshot_is_on_its_way_comes_after_it() {
    let (control, broker) = lab();
    let admin = control.admin();
    admin.create_agent("a", "lab", 1001);
    for number in 0..40 {
        admin.set_secret(Some("a"), &format!("S{number:02}"), &"x".repeat(60_000));
    }
    // More than the buffers on the way hold, so the snapshot waits in the middle.
    let mut watch = broker.watch(None).await.unwrap();
    admin.set_secret(Some("a"), "S00", "new");
    let newest = admin.set_secret(Some("a"), "S39", "new");
    let mut state = State::default();
    watch.until(&mut state, newest).await;
    assert_eq!(state.secrets.len(), 40);
    for name in ["S00", "S39"] {
        assert_eq!(state.value(Some("a"), name), Some(&b"new"[..]), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_of_another_history_begins_with_a_snapshot() {
    let (control, broker) = lab();
    let newest = control.admin().create_agent("a", "lab", 1001);
    let mut state = State::default();
    drop(broker.connected(&mut state).await);
    let mark = state.mark.expect("a mark");
    for (mark, mode) in [(mark, Mode::Resume), (mark + 1, Mode::Snapshot), (0, Mode::Snapshot)] {
        let watch = broker.watch_from(Some(newest), Some(mark)).await.unwrap();
        assert_eq!(watch.hello.mode, mode, "{mark}");
    }
    // Also where the revision is not the newest, and where the mark is that of another one.
    let after = control.admin().set_secret(Some("a"), "X", "x");
    let modes =
        [(newest, mark, Mode::Resume), (newest, mark + 1, Mode::Snapshot), (after, mark, Mode::Snapshot)];
    for (revision, mark, mode) in modes {
        let mut watch = broker.watch_from(Some(revision), Some(mark)).await.unwrap();
        assert_eq!(watch.hello.mode, mode, "{revision} {mark}");
        let mut state = if mode == Mode::Resume { state.clone().reconnected() } else { State::default() };
        assert_eq!(watch.commit(&mut state).await.unwrap(), after);
        assert_ne!(state.mark, Some(mark));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_an_agent_that_is_another_one_meanwhile_is_gone_with_the_commit_that_it_belongs_to() {
    let (control, broker) = lab();
    let admin = control.admin();
    admin.create_agent("a", "lab", 1001);
    admin.create_agent("b", "lab", 1002);
    admin.create_agent("c", "lab", 1003);
    admin.create_agent("d", "lab", 1004);
    for agent in ["b", "c", "d"] {
        admin.set_secret(Some(agent), "Z", "old");
    }
    let mut state = State::default();
    drop(broker.connected(&mut state).await);
    for number in 0..60 {
        admin.set_secret(Some("a"), &format!("S{number:02}"), &"x".repeat(60_000));
    }
    for agent in ["b", "c"] {
        admin.delete_secret(Some(agent), "Z");
    }
    let changed = admin.set_secret(Some("d"), "Z", "new");
    // More than the buffers on the way hold, so what changed waits in the middle.
    let mut watch = broker.watch_from(state.revision, state.mark).await.unwrap();
    admin.set_state("b", "isolate");
    for agent in ["c", "d"] {
        admin.call("DELETE", &format!("/agents/{agent}"), &serde_json::Value::Null);
    }
    admin.create_agent("d", "lab", 2004);
    admin.set_secret(Some("d"), "Z", "of another one");
    let mut state = state.reconnected();
    let first = watch.commit(&mut state).await.unwrap();
    assert!(first >= changed);
    assert_eq!(state.value(Some("b"), "Z"), None);
    assert_eq!(state.value(Some("c"), "Z"), None);
    // It gets what it has together with who it is.
    assert_eq!(state.agents["d"].unix_user.as_str(), "2004");
}
