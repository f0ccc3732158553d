//! How far changes have come, and sessions.

use std::time::Duration;

use dvx_proto::enclave::Degraded;
use jiff::SignedDuration;

use super::ground::{Ground, number, plain, watch};
use crate::clock;
use crate::crypto::HashedToken;
use crate::domain::{AckRecord, Cause, EnclaveIdentity, PageRequest, Revision, SessionId, SessionRecord};
use crate::store::Store;

on_both_engines!(
    a_broker_that_never_came_serves_nothing,
    the_session_that_has_confirmed_least_decides,
    sessions_of_a_process_that_died_do_not_count,
    clocks_of_replicas_are_not_compared,
    a_broker_that_is_gone_may_serve_for_as_long_as_it_said,
    a_revision_concerns_the_enclave_of_its_agent_or_all,
    many_acks_are_one_statement,
);

async fn identity(ground: &Ground, store: &Store, cause: &Cause, name: &str) -> EnclaveIdentity {
    let key = ground.enclave(store, cause, name).await.api_key;
    store.enclave_by_key(&HashedToken::of(key.expose_secret())).await.unwrap().unwrap()
}

fn session(enclave: &EnclaveIdentity, name: &str) -> SessionRecord {
    let (enclave, session) = (enclave.id.clone(), SessionId::from(name.to_owned()));
    SessionRecord { enclave, session, max_stale: Duration::from_secs(60) }
}

fn ack(of: &SessionRecord, revision: u64, cause: &Cause) -> AckRecord {
    AckRecord {
        enclave: of.enclave.clone(),
        session: of.session.clone(),
        revision: Revision(revision),
        degraded: vec![Degraded { what: "agent x".into(), why: "no such user".into() }],
        time: cause.time,
    }
}

async fn missing(store: &Store, cause: &Cause, revision: u64, after: i64) -> Vec<String> {
    let now = cause.time + SignedDuration::from_secs(after);
    let deliveries = store.deliveries(&cause.actor.org, Revision(revision), None, now).await.unwrap();
    let missing = deliveries.iter().filter(|delivery| delivery.missing(Revision(revision), now));
    missing.map(|delivery| delivery.name.to_string()).collect()
}

async fn a_broker_that_never_came_serves_nothing(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    assert!(missing(&store, &cause, 4, 0).await.is_empty());
    let listed = store.enclave(&cause.actor.org, &"lab".parse().unwrap(), cause.time).await.unwrap();
    assert!(!listed.connected && listed.revision.is_none() && listed.seen_at.is_none());
    assert_eq!((listed.agents, listed.lag), (2, 4));
}

async fn the_session_that_has_confirmed_least_decides(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let lab = identity(&ground, &store, &cause, "two").await;
    ground.agent(&store, &cause, "c", "two").await;
    let (old, new) = (session(&lab, "old"), session(&lab, "new"));
    store.touch_sessions(&[old.clone(), new.clone()], cause.time).await.unwrap();
    assert_eq!(missing(&store, &cause, 5, 0).await, ["two"], "a session that has said nothing has nothing");
    let org = &cause.actor.org;
    store.record_acks(org, &[ack(&old, 4, &cause), ack(&new, 5, &cause)]).await.unwrap();
    assert_eq!(missing(&store, &cause, 5, 0).await, ["two"]);
    let listed = store.enclave(org, &lab.name, cause.time).await.unwrap();
    assert_eq!((listed.connected, listed.revision, listed.degraded.len()), (true, Some(4), 1));
    store.end_sessions(&[(lab.id.clone(), old.session)], cause.time).await.unwrap();
    assert!(missing(&store, &cause, 5, 0).await.is_empty());
    assert_eq!(missing(&store, &cause, 6, 0).await, ["two"], "of a later revision it has said nothing");
}

async fn sessions_of_a_process_that_died_do_not_count(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let replica = ground.replica().await;
    let lab = identity(&ground, &store, &cause, "two").await;
    let all = store.set_secret(&cause, None, plain("X", "x")).await.unwrap().revision;
    assert_eq!(all, Revision(5));
    let (old, new) = (session(&lab, "old"), session(&lab, "new"));
    replica.touch_sessions(std::slice::from_ref(&old), cause.time).await.unwrap();
    store.touch_sessions(std::slice::from_ref(&new), cause.time).await.unwrap();
    store.record_acks(&cause.actor.org, &[ack(&new, 5, &cause)]).await.unwrap();
    if !store.is_alone() {
        watch(&store, &replica, 1, [9; 5]);
        assert_eq!(missing(&store, &cause, 5, 0).await, ["two"], "it may live");
        watch(&store, &replica, 6, [9]);
    }
    assert!(missing(&store, &cause, 5, 0).await.is_empty());
    store.end_sessions_of_the_dead().await.unwrap();
    assert_eq!(number(&store, "SELECT COUNT(*) FROM sessions").await, 1);
}

/// What a replica writes whose clock is wrong, others understand.
async fn clocks_of_replicas_are_not_compared(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let lab = identity(&ground, &store, &cause, "two").await;
    let all = store.set_secret(&cause, None, plain("X", "x")).await.unwrap().revision;
    let replica = ground.replica().await;
    if store.is_alone() {
        return;
    }
    for hours in [-2, 2] {
        let wrong = clock::wall() + SignedDuration::from_hours(hours);
        let broker = session(&lab, &hours.to_string());
        replica.heartbeat(wrong).await.unwrap();
        replica.touch_sessions(std::slice::from_ref(&broker), wrong).await.unwrap();
        store.end_sessions_of_the_dead().await.unwrap();
        let listed = store.enclave(&cause.actor.org, &lab.name, clock::wall()).await.unwrap();
        assert!(listed.connected, "{hours} hours");
        let seen = clock::since(clock::wall(), listed.seen_at.unwrap());
        assert!(seen < Duration::from_secs(30), "{seen:?} ago at {hours} hours");
        replica.end_sessions(&[(lab.id.clone(), broker.session)], wrong).await.unwrap();
        assert_eq!(missing(&store, &cause, all.0, 30).await, ["two"], "it may serve, {hours} hours");
        assert!(missing(&store, &cause, all.0, 120).await.is_empty(), "it may not, {hours} hours");
    }
}

async fn a_broker_that_is_gone_may_serve_for_as_long_as_it_said(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let lab = identity(&ground, &store, &cause, "two").await;
    let all = store.set_secret(&cause, None, plain("X", "x")).await.unwrap().revision;
    assert_eq!(all, Revision(5));
    let broker = session(&lab, "s");
    store.touch_sessions(std::slice::from_ref(&broker), cause.time).await.unwrap();
    store.record_acks(&cause.actor.org, &[ack(&broker, 4, &cause)]).await.unwrap();
    store.end_sessions(&[(lab.id.clone(), broker.session)], cause.time).await.unwrap();
    assert_eq!(missing(&store, &cause, 5, 59).await, ["two"]);
    assert!(missing(&store, &cause, 5, 61).await.is_empty());
}

async fn a_revision_concerns_the_enclave_of_its_agent_or_all(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    identity(&ground, &store, &cause, "two").await;
    let org = &cause.actor.org;
    let names = async |revision, agent: Option<&str>| {
        let agent = agent.map(|agent| agent.parse().unwrap());
        let deliveries = store.deliveries(org, Revision(revision), agent.as_ref(), cause.time).await.unwrap();
        deliveries.iter().map(|delivery| delivery.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(4, None).await, ["lab"]);
    let all = store.set_secret(&cause, None, plain("X", "x")).await.unwrap().revision;
    assert_eq!(names(all.0, None).await, ["lab", "two"]);
    assert_eq!(names(all.0, Some("a")).await, ["lab"]);
    let nobody = store.deliveries(org, all, Some(&"nobody".parse().unwrap()), cause.time).await;
    assert!(nobody.is_err());
}

async fn many_acks_are_one_statement(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let mut sessions = Vec::new();
    for index in 0..60 {
        sessions.push(session(&identity(&ground, &store, &cause, &format!("e{index}")).await, "s"));
    }
    store.touch_sessions(&sessions, cause.time).await.unwrap();
    let acks = sessions.iter().map(|session| ack(session, 4, &cause)).collect::<Vec<_>>();
    let begin = clock::monotonic();
    store.record_acks(&cause.actor.org, &acks).await.unwrap();
    println!("60 acks: {:?}", begin.elapsed());
    let page = store.enclaves(&cause.actor.org, &PageRequest::first(100), cause.time).await.unwrap();
    assert_eq!(page.items.iter().filter(|enclave| enclave.revision == Some(4)).count(), 60);
}
