//! Events, brokers' logs, and what is dropped.

use std::time::Duration;

use dvx_proto::operator::{AuditEvent, LineDetails};
use jiff::SignedDuration;
use sha2::{Digest, Sha256};

use super::ground::{Ground, events, number};
use crate::crypto::HashedToken;
use crate::domain::{AuditQuery, BrokerLine, Cause, EnclaveIdentity, Event};
use crate::store::{Retention, Store};

on_both_engines!(
    events_are_found_by_agent_time_and_number,
    lines_are_stored_once_and_follow_each_other,
    gaps_and_breaks_are_events,
    a_log_that_begins_anew_is_another_chain,
    a_text_that_no_database_takes_holds_nothing_up,
    what_is_too_old_is_dropped_by_one_replica_at_a_time,
);

async fn lab(ground: &Ground) -> (Store, Cause, EnclaveIdentity) {
    let store = ground.initialised().await;
    let cause = ground.cause(&store).await;
    let key = ground.enclave(&store, &cause, "lab").await.api_key;
    let identity = store.enclave_by_key(&HashedToken::of(key.expose_secret())).await.unwrap().unwrap();
    (store, cause, identity)
}

/// Lines of a log, each following on the one before.
fn log(cause: &Cause, name: &str, count: u64) -> Vec<BrokerLine> {
    let mut prev = [0; 32];
    let line = |seq| {
        let line = format!("{{\"seq\":{seq},\"uid\":1001,\"log\":\"{name}\"}}");
        let hash = Sha256::digest(line.as_bytes()).into();
        let event = AuditEvent {
            number: 0,
            time: cause.time,
            actor: "me".into(),
            role: None,
            action: "credential.get".into(),
            subject: Some("gitlab".into()),
            agent: Some("me".into()),
            decision: "served".into(),
            reason: None,
            request_id: None,
            enclave: None,
            seq: Some(seq),
            line: LineDetails::default(),
        };
        let made = BrokerLine { line, hash, seq, prev, event };
        prev = hash;
        made
    };
    (1..=count).map(line).collect()
}

async fn events_are_found_by_agent_time_and_number(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let org = &cause.actor.org;
    let all = AuditQuery { limit: 100, ..AuditQuery::default() };
    let found = store.events(org, &all).await.unwrap();
    let numbers = found.iter().map(|event| event.number).collect::<Vec<_>>();
    assert_eq!(numbers, (1..=u64::try_from(numbers.len()).unwrap()).collect::<Vec<_>>());
    let query = AuditQuery { agent: Some("a".parse().unwrap()), ..all.clone() };
    assert_eq!(store.events(org, &query).await.unwrap().len(), 2);
    let mut later = cause.clone();
    later.time += SignedDuration::from_hours(1);
    store
        .append_event(&later, Event::denied("agent.delete", Some("a".into()), "role-forbidden"))
        .await
        .unwrap();
    let query = AuditQuery { since: Some(later.time), ..all.clone() };
    let found = store.events(org, &query).await.unwrap();
    assert_eq!(found.len(), 1);
    let event = &found[0];
    assert_eq!((event.decision.as_str(), event.reason.as_deref()), ("denied", Some("role-forbidden")));
    let query = AuditQuery { until: Some(later.time), after: 2, limit: 1, ..all };
    assert_eq!(store.events(org, &query).await.unwrap()[0].number, 3);
    assert_eq!(store.newest_event(org).await.unwrap(), event.number);
}

async fn lines_are_stored_once_and_follow_each_other(ground: Ground) {
    let (store, cause, enclave) = lab(&ground).await;
    let lines = log(&cause, "x", 700);
    assert_eq!(store.chain_head(&enclave.id).await.unwrap(), None);
    let first = store.ingest(&enclave, &lines[..600], cause.time).await.unwrap();
    assert_eq!((first.seq, first.stored, first.raised), (600, 600, 0));
    let again = store.ingest(&enclave, &lines[500..], cause.time).await.unwrap();
    assert_eq!((again.seq, again.stored, again.raised), (700, 100, 0));
    let old = store.ingest(&enclave, &lines[..10], cause.time).await.unwrap();
    assert_eq!((old.seq, old.stored, old.raised), (700, 0, 0));
    let head = store.chain_head(&enclave.id).await.unwrap().unwrap();
    assert_eq!((head.seq, head.head), (700, lines[699].hash));
    assert_eq!(number(&store, "SELECT COUNT(*) FROM audit_events WHERE line IS NOT NULL").await, 700);
    let query = AuditQuery { agent: Some("me".parse().unwrap()), limit: 1, ..AuditQuery::default() };
    let stored = store.events(&enclave.org, &query).await.unwrap().remove(0);
    assert_eq!(stored.line, LineDetails { uid: Some(1001), ..LineDetails::default() });
    assert_eq!((stored.enclave.as_deref(), stored.seq), (Some("lab"), Some(1)));
}

async fn gaps_and_breaks_are_events(ground: Ground) {
    let (store, cause, enclave) = lab(&ground).await;
    let (lines, forged) = (log(&cause, "x", 9), log(&cause, "forged", 9));
    store.ingest(&enclave, &lines[..3], cause.time).await.unwrap();
    let gap = store.ingest(&enclave, &lines[5..6], cause.time).await.unwrap();
    assert_eq!((gap.seq, gap.stored, gap.raised), (6, 1, 1));
    let gaps = events(&store, &cause, "audit.gap").await;
    assert_eq!(gaps[0].reason.as_deref(), Some("lines 4 to 5 are missing"));
    // Another line under a known number, and one that does not follow.
    let other = store.ingest(&enclave, &forged[1..2], cause.time).await.unwrap();
    assert_eq!((other.seq, other.stored, other.raised), (6, 1, 1));
    let broken = store.ingest(&enclave, &forged[6..7], cause.time).await.unwrap();
    assert_eq!((broken.seq, broken.stored, broken.raised), (7, 1, 1));
    let reasons = events(&store, &cause, "audit.broken").await;
    let reasons = reasons.iter().map(|event| event.reason.clone().unwrap()).collect::<Vec<_>>();
    assert_eq!(
        reasons,
        [
            "line 2 was delivered before, and was another one",
            "line 7 does not follow the line 6 that was delivered",
        ]
    );
    let again = store.ingest(&enclave, &forged[1..2], cause.time).await.unwrap();
    assert_eq!((again.stored, again.raised), (0, 0), "also such a line is stored once");
}

async fn a_log_that_begins_anew_is_another_chain(ground: Ground) {
    let (store, cause, enclave) = lab(&ground).await;
    store.ingest(&enclave, &log(&cause, "x", 5), cause.time).await.unwrap();
    let anew = store.ingest(&enclave, &log(&cause, "y", 3), cause.time).await.unwrap();
    assert_eq!((anew.seq, anew.stored, anew.raised), (3, 3, 1));
    let gaps = events(&store, &cause, "audit.gap").await;
    assert_eq!(gaps[0].reason.as_deref(), Some("the chain begins anew; the one before ended at line 5"));
    let late = log(&cause, "z", 8);
    let other = lab_of(&ground, &store, &cause).await;
    let late = store.ingest(&other, &late[6..], cause.time).await.unwrap();
    assert_eq!((late.seq, late.stored, late.raised), (8, 2, 1), "a log whose beginning never came");
}

async fn a_text_that_no_database_takes_holds_nothing_up(ground: Ground) {
    let (store, cause, enclave) = lab(&ground).await;
    let mut lines = log(&cause, "x", 1);
    lines[0].event.subject = Some("a\0b".into());
    store.ingest(&enclave, &lines, cause.time).await.unwrap();
    store.append_event(&cause, Event::denied("agent.create", Some("a\0b".into()), "\0")).await.unwrap();
    let stored = number(&store, "SELECT COUNT(*) FROM audit_events WHERE subject = 'a\u{fffd}b'").await;
    assert_eq!(stored, 2);
}

async fn lab_of(ground: &Ground, store: &Store, cause: &Cause) -> EnclaveIdentity {
    let key = ground.enclave(store, cause, "other").await.api_key;
    store.enclave_by_key(&HashedToken::of(key.expose_secret())).await.unwrap().unwrap()
}

async fn what_is_too_old_is_dropped_by_one_replica_at_a_time(ground: Ground) {
    let (store, cause, enclave) = lab(&ground).await;
    let replica = ground.replica().await;
    store.ingest(&enclave, &log(&cause, "x", 2500), cause.time).await.unwrap();
    let retention = Retention { audit: Duration::from_secs(3600) };
    assert_eq!(store.prune(retention, cause.time).await.unwrap().events, 0);
    let later = cause.time + SignedDuration::from_secs(3601);
    assert!(replica.lease("prune", Duration::from_secs(10), later).await.unwrap());
    assert!(!store.lease("prune", Duration::from_secs(10), later).await.unwrap());
    assert_eq!(store.prune(retention, later).await.unwrap().events, 0, "another one is at it");
    replica.release("prune").await.unwrap();
    let pruned = store.prune(retention, later).await.unwrap();
    assert_eq!(pruned.events, u64::try_from(2500 + 3).unwrap());
    // Lines that come again although they were dropped are not taken for others.
    let again = store.ingest(&enclave, &log(&cause, "x", 2500)[2400..], later).await.unwrap();
    assert_eq!((again.seq, again.raised), (2500, 0));
}
