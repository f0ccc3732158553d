//! Work that one at a time does, and what becomes of it when whoever does it is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::SignedDuration;

use super::ground::{Ground, execute, watch};
use crate::clock;
use crate::domain::{LeaseId, Notes, Operation, OperationId, ProviderId, Step};
use crate::store::{Leased, Store};

on_both_engines!(
    a_lease_ends_with_its_replica_and_whoever_lost_it_records_nothing,
    a_lease_of_a_replica_that_is_gone_is_free,
    a_clock_that_is_ahead_ends_no_lease_of_another_replica,
    a_replica_that_stops_gives_its_leases_back,
    a_lease_of_a_version_that_names_no_replica_ends_by_its_date,
    what_may_be_done_so_often_is_not_done_more_often_after_a_clock_is_put_back,
);

/// An operation, which the first replica does.
async fn taken(ground: &Ground) -> (Store, OperationId, LeaseId) {
    let store = ground.initialised().await;
    let cause = ground.cause(&store).await;
    let provider = ProviderId::generate(cause.time);
    let id = store.begin_provider_rotation(&cause, &provider, &"gitlab".parse().unwrap()).await.unwrap();
    let (_, lease) = take(&store).await.unwrap();
    (store, id, lease)
}

async fn take(store: &Store) -> Option<(Operation, LeaseId)> {
    store.take_operations(&BTreeSet::new(), 8, clock::wall()).await.unwrap().pop()
}

async fn a_lease_ends_with_its_replica_and_whoever_lost_it_records_nothing(ground: Ground) {
    let (first, id, lease) = taken(&ground).await;
    let second = ground.replica().await;
    if !second.is_alone() {
        assert!(take(&second).await.is_none());
        watch(&second, &first, 1, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(take(&second).await.is_none(), "it lives");
        watch(&second, &first, 10, [9; 4]);
        assert!(take(&second).await.is_none(), "it may live");
        watch(&second, &first, 14, [9]);
    }
    let (operation, new) = take(&second).await.expect("it is free");
    assert_eq!(operation.id, id);
    let now = clock::wall();
    assert!(!first.renew(Leased::Operations, id.as_str(), &lease, now).await.unwrap());
    assert!(!first.advance(&id, &lease, Step::RotateSelf, &Notes::default(), now).await.unwrap());
    assert!(second.advance(&id, &new, Step::RotateSelf, &Notes::default(), now).await.unwrap());
    assert!(take(&second).await.is_none(), "nobody takes what it has itself");
}

async fn what_may_be_done_so_often_is_not_done_more_often_after_a_clock_is_put_back(ground: Ground) {
    const BOUNDS: [(Duration, u32); 1] = [(Duration::from_secs(60), 2)];
    let store = ground.initialised().await;
    let start = clock::wall();
    let wait = async |seconds| {
        let now = start + SignedDuration::from_secs(seconds);
        let wait = store.pace("something", &BOUNDS, &|| now).await.unwrap();
        wait.map(|wait| wait.as_secs())
    };
    assert_eq!((wait(200_000).await, wait(200_001).await, wait(200_002).await), (None, None, Some(58)));
    assert_eq!((wait(0).await, wait(59).await), (Some(60), Some(1)), "no more, and for no longer");
    assert_eq!((wait(60).await, wait(61).await, wait(62).await), (None, None, Some(58)));
}

async fn a_lease_of_a_replica_that_is_gone_is_free(ground: Ground) {
    let (first, ..) = taken(&ground).await;
    let second = ground.replica().await;
    first.sign_off().await.unwrap();
    assert!(take(&second).await.is_some());
}

async fn a_clock_that_is_ahead_ends_no_lease_of_another_replica(ground: Ground) {
    let (..) = taken(&ground).await;
    let second = ground.replica().await;
    if second.is_alone() {
        return;
    }
    let ahead = clock::wall() + SignedDuration::from_mins(5);
    second.heartbeat(ahead).await.unwrap();
    assert!(second.take_operations(&BTreeSet::new(), 8, ahead).await.unwrap().is_empty());
}

async fn a_replica_that_stops_gives_its_leases_back(ground: Ground) {
    let (first, ..) = taken(&ground).await;
    let time = Duration::from_secs(300);
    assert!(first.lease("prune", time, clock::wall()).await.unwrap());
    let second = ground.replica().await;
    if !second.is_alone() {
        assert!(!second.lease("prune", time, clock::wall()).await.unwrap());
    }
    first.release_leases().await.unwrap();
    assert!(take(&second).await.is_some());
    assert!(second.lease("prune", time, clock::wall()).await.unwrap());
}

async fn a_lease_of_a_version_that_names_no_replica_ends_by_its_date(ground: Ground) {
    let (first, id, _) = taken(&ground).await;
    let lease = LeaseId::generate(clock::wall());
    execute(&first, &format!("UPDATE operations SET holder = '{lease}' WHERE id = '{id}'")).await;
    let second = ground.replica().await;
    watch(&second, &first, 1, [9; 9]);
    if !second.is_alone() {
        assert!(take(&second).await.is_none());
        let later = clock::wall() + SignedDuration::from_secs(31);
        assert!(second.take_operations(&BTreeSet::new(), 8, later).await.unwrap().pop().is_some());
    } else {
        assert!(take(&second).await.is_some(), "there is no other replica");
    }
}
