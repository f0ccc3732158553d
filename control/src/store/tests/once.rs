//! Requests that may be repeated.

use super::ground::{Ground, create, number};
use crate::domain::{Changed, Once, Outcome, StoredAnswer};
use crate::store::{Conflict, StoreError};

on_both_engines!(
    a_repeated_request_gets_the_first_answer_and_does_nothing,
    of_two_that_race_one_is_carried_out,
    what_failed_is_tried_again,
);

fn render(changed: &Changed<dvx_proto::operator::Agent>) -> StoredAnswer {
    let body = serde_json::to_vec(&changed.value).unwrap().into();
    StoredAnswer { status: 201, revision: changed.revision, body }
}

fn once(request: u8) -> Option<Once<'static, dvx_proto::operator::Agent>> {
    Some(Once { key: "key", request: [request; 32], render: &render })
}

async fn a_repeated_request_gets_the_first_answer_and_does_nothing(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let agent = create("c", "lab");
    let Ok(Outcome::Done(done)) = store.create_agent(&cause, &agent, once(1)).await else {
        panic!("not done")
    };
    let Ok(Outcome::Repeated(answer)) = store.create_agent(&cause, &agent, once(1)).await else {
        panic!("done")
    };
    assert_eq!((answer.status, answer.revision), (201, done.revision));
    assert_eq!(answer.body.expose_secret(), serde_json::to_vec(&done.value).unwrap());
    let other = store.create_agent(&cause, &create("d", "lab"), once(2)).await;
    assert!(matches!(other, Err(StoreError::Conflict(Conflict::KeyReused))));
    // Keys are their sender's own.
    let mut somebody = cause.clone();
    somebody.actor.name = "olga".into();
    let Ok(Outcome::Done(_)) = store.create_agent(&somebody, &create("d", "lab"), once(1)).await else {
        panic!("another operator's key was in the way")
    };
}

async fn of_two_that_race_one_is_carried_out(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let replica = ground.replica().await;
    let agent = create("c", "lab");
    let racers = (0..8).map(|index| {
        let store = if index % 2 == 0 { store.clone() } else { replica.clone() };
        let (cause, agent) = (cause.clone(), agent.clone());
        tokio::spawn(async move { store.create_agent(&cause, &agent, once(1)).await })
    });
    let (mut done, mut repeated) = (0, 0);
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap().unwrap() {
            Outcome::Done(_) => done += 1,
            Outcome::Repeated(_) => repeated += 1,
        }
    }
    assert_eq!((done, repeated), (1, 7));
    assert_eq!(number(&store, "SELECT COUNT(*) FROM agents WHERE name = 'c'").await, 1);
}

async fn what_failed_is_tried_again(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    assert!(store.create_agent(&cause, &create("c", "later"), once(1)).await.is_err());
    ground.enclave(&store, &cause, "later").await;
    let again = store.create_agent(&cause, &create("c", "later"), once(1)).await;
    assert!(matches!(again, Ok(Outcome::Done(_))));
}
