//! Several replicas on one PostgreSQL.

use dvx_proto::enclave::Mode;
use dvx_tests::{ControlPlane, EnclaveClient, Postgres, State};

fn two_replicas(test: &str) -> Option<ControlPlane> {
    let postgres = Postgres::start(test)?;
    Some(ControlPlane::builder().postgres(postgres).replicas(2).start())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_at_one_replica_reaches_the_brokers_of_the_other_and_its_delivery_is_seen() {
    let Some(control) = two_replicas("a_change_at_one_replica_reaches_the_brokers_of_the_other") else {
        return;
    };
    let admin = control.admin();
    let key = admin.create_enclave("lab");
    admin.create_agent("a", "lab", 1001);
    let broker = EnclaveClient::of(&control, 1, key);
    let mut state = State::default();
    let mut watch = broker.connected(&mut state).await;
    for _ in 0..3 {
        for verb in ["isolate", "restore"] {
            let revision = admin.set_state("a", verb);
            watch.until(&mut state, revision).await;
            broker.confirm(&watch, revision).await;
            admin.delivered(revision);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_goes_on_at_another_replica_when_its_own_is_killed() {
    let Some(mut control) = two_replicas("a_broker_goes_on_at_another_replica") else { return };
    let key = control.admin().create_enclave("lab");
    control.admin().create_agent("a", "lab", 1001);
    let mut state = State::default();
    let watch = EnclaveClient::of(&control, 1, key.clone()).connected(&mut state).await;
    control.replica_number(1).kill();
    drop(watch);
    let set = control.admin().set_secret(Some("a"), "X", "new");
    let broker = EnclaveClient::of(&control, 0, key);
    state = state.reconnected();
    let mut watch = broker.watch(state.revision).await.unwrap();
    assert_eq!(watch.hello.mode, Mode::Resume);
    watch.until(&mut state, set).await;
    assert_eq!(state.value(Some("a"), "X"), Some(&b"new"[..]));
    broker.confirm(&watch, set).await;
    control.admin().delivered(set);
    control.start_replica(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_nobody_was_told_of_arrives_all_the_same() {
    let Some(mut control) = two_replicas("a_change_that_nobody_was_told_of") else { return };
    let key = control.admin().create_enclave("lab");
    control.admin().create_agent("a", "lab", 1001);
    let broker = EnclaveClient::of(&control, 1, key);
    let mut state = State::default();
    let mut watch = broker.connected(&mut state).await;
    for round in 0..3 {
        control.postgres().query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query LIKE 'listen%'",
        );
        let set = control.admin().set_secret(Some("a"), "X", &round.to_string());
        watch.until(&mut state, set).await;
        broker.confirm(&watch, set).await;
        control.admin().delivered(set);
    }
}

/// Whoever waited for a change may have been told that it is in force, since no broker was connected: one that comes
/// back must not be told that what it has is the newest.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_is_told_of_what_its_replica_has_not_heard_of() {
    let Some(mut control) = two_replicas("a_broker_that_comes_back_is_told") else { return };
    let key = control.admin().create_enclave("lab");
    control.admin().create_agent("a", "lab", 1001);
    let broker = EnclaveClient::of(&control, 1, key);
    let mut state = State::default();
    for round in 0..5 {
        drop(broker.connected(&mut state).await);
        control.postgres().query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query LIKE 'listen%'",
        );
        let set = control.admin_at(0).set_secret(Some("a"), "X", &round.to_string());
        state = state.reconnected();
        let mut watch = broker.watch(state.revision).await.unwrap();
        assert_eq!(watch.hello.mode, Mode::Resume);
        assert_eq!(watch.commit(&mut state).await.unwrap(), set, "round {round}");
        state = state.reconnected();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_behind_what_is_kept_begins_with_a_snapshot() {
    let Some(mut control) = two_replicas("a_broker_behind_what_is_kept") else { return };
    let key = control.admin().create_enclave("lab");
    let made = control.admin().create_agent("a", "lab", 1001);
    let newest = control.admin().set_secret(Some("a"), "X", "new");
    let pruned = "UPDATE organisations SET pruned = revision; DELETE FROM changes";
    control.postgres().query(pruned);
    let broker = EnclaveClient::of(&control, 0, key);
    assert_eq!(broker.watch(Some(made)).await.unwrap().hello.mode, Mode::Snapshot);
    let mut state = State::default();
    broker.connected(&mut state).await;
    assert_eq!(state.value(Some("a"), "X"), Some(&b"new"[..]));
    assert_eq!(broker.watch(Some(newest)).await.unwrap().hello.mode, Mode::Resume);
}
