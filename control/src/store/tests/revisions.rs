//! Revisions are gapless, in the order of commits, and each has its change and its event.

use std::task::Poll;
use std::time::Duration;

use super::ground::{Ground, create, events, number, plain};
use crate::domain::{ChangedObject, Changes, Revision};
use crate::store::{Retention, Store};

on_both_engines!(
    changes_say_what_they_are_about,
    revisions_of_concurrent_writers_become_visible_without_gaps,
    a_change_that_is_given_up_leaves_nothing,
    a_transaction_that_is_given_up_while_it_begins_stays_open_nowhere,
    whoever_is_too_far_behind_is_told_so,
);

async fn changes_say_what_they_are_about(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let org = &cause.actor.org;
    let a = "a".parse().unwrap();
    store.set_secret(&cause, None, plain("X", "x")).await.unwrap();
    store.delete_agent(&cause, &a).await.unwrap();
    store.delete_enclave(&cause, &"lab".parse().unwrap()).await.unwrap();
    let Changes::Since(changes) = store.changes_since(org, Revision(0), 100).await.unwrap() else {
        panic!("they are there")
    };
    assert_eq!(changes.iter().map(|change| change.revision.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    let kinds = changes.iter().map(|change| match &change.object {
        ChangedObject::Agent { agent, .. } => format!("agent {agent}"),
        ChangedObject::AgentGone { agent, .. } => format!("gone {agent}"),
        ChangedObject::Secret { agent: Some((_, _, agent)), name } => format!("secret {agent} {name}"),
        ChangedObject::Secret { agent: None, name } => format!("secret {name}"),
        ChangedObject::EnclaveGone { .. } => "enclave gone".into(),
    });
    let expected =
        ["agent a", "secret a gitlab:token", "agent b", "secret b gitlab:token", "secret X", "gone a"];
    assert_eq!(kinds.collect::<Vec<_>>(), [&expected[..], &["enclave gone"]].concat());
    let Changes::Since(rest) = store.changes_since(org, Revision(5), 1).await.unwrap() else { panic!() };
    assert_eq!(rest.len(), 1);
    assert_eq!(store.changes_since(org, Revision(7), 1).await.unwrap(), Changes::Since(Vec::new()));
    assert_eq!(store.changes_since(org, Revision(8), 1).await.unwrap(), Changes::Unknown, "newer than ours");
}

async fn revisions_of_concurrent_writers_become_visible_without_gaps(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let replica = ground.replica().await;
    let org = cause.actor.org.clone();
    let start = store.revision(&org).await.unwrap();
    let writers = (0..4).map(|writer| {
        let store = if writer % 2 == 0 { store.clone() } else { replica.clone() };
        let cause = cause.clone();
        tokio::spawn(async move {
            for round in 0..25 {
                store
                    .create_agent(&cause, &create(&format!("w{writer}-{round}"), "lab"), None)
                    .await
                    .unwrap();
            }
        })
    });
    let writers = writers.collect::<Vec<_>>();
    let mut seen = start;
    while seen.0 < start.0 + 100 {
        let Changes::Since(changes) = replica.changes_since(&org, seen, 1000).await.unwrap() else {
            panic!("a gap after {seen}")
        };
        for change in changes {
            assert_eq!(change.revision.0, seen.0 + 1, "a revision was not visible when a later one was");
            seen = change.revision;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(store.revision(&org).await.unwrap(), seen);
    assert_eq!(events(&store, &cause, "agent.create").await.len(), 102);
}

async fn a_change_that_is_given_up_leaves_nothing(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let org = &cause.actor.org;
    let mut kept = Vec::new();
    for round in 0..60_u64 {
        let agent = create(&format!("r{round}"), "lab");
        let change = store.create_agent(&cause, &agent, None);
        // Given up at another place each time: as when the client hangs up.
        let limit = std::time::Duration::from_micros(round * 120);
        if tokio::time::timeout(limit, change).await.is_ok() {
            kept.push(agent.name);
        }
    }
    // Waits for the last one, which may be at its end although nobody asks for it any more.
    ground.agent(&store, &cause, "after", "lab").await;
    let revision = store.revision(org).await.unwrap();
    for name in &kept {
        store.agent(org, name).await.unwrap();
    }
    // What is there is whole: an agent, its revision and its event, or none of them.
    let agents = number(&store, "SELECT COUNT(*) FROM agents").await;
    assert_eq!(agents, number(&store, "SELECT COUNT(*) FROM changes WHERE kind = 'agent'").await);
    assert_eq!(
        u64::try_from(agents).unwrap(),
        u64::try_from(events(&store, &cause, "agent.create").await.len()).unwrap()
    );
    assert_eq!(revision.0, u64::try_from(agents).unwrap() + 2);
    let numbers = number(&store, "SELECT COUNT(*) FROM audit_events").await;
    assert_eq!(u64::try_from(numbers).unwrap(), store.newest_event(org).await.unwrap());
}

/// Whoever asks may hang up at any moment, and then what was begun is dropped.
async fn a_transaction_that_is_given_up_while_it_begins_stays_open_nowhere(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    // Given up at each place where it waits.
    for place in 0..10 {
        let mut left = place;
        let mut begun = Box::pin(store.write());
        std::future::poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            begun.as_mut().poll(context).map(drop)
        })
        .await;
        drop(begun);
        if ground.url.starts_with("postgres") {
            // PostgreSQL ends them itself after ten seconds.
            let closed = tokio::time::timeout(Duration::from_secs(5), no_transaction_is_open(&store)).await;
            closed.unwrap_or_else(|_| panic!("given up at {place}, it stays open"));
        }
    }
    ground.agent(&store, &cause, "after", "lab").await;
}

async fn no_transaction_is_open(store: &Store) {
    let open = "SELECT COUNT(*) FROM pg_stat_activity \
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    // Another connection is asked each time.
    let mut quiet = 0;
    while quiet < 20 {
        quiet = if number(store, open).await == 0 { quiet + 1 } else { 0 };
    }
}

async fn whoever_is_too_far_behind_is_told_so(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let org = &cause.actor.org;
    // As after ten thousand changes.
    super::ground::execute(&store, "UPDATE organisations SET revision = 10003").await;
    super::ground::execute(&store, "UPDATE changes SET revision = revision + 9999").await;
    let retention = Retention { audit: Duration::from_secs(3600) };
    let pruned = store.prune(retention, cause.time).await.unwrap();
    assert_eq!(pruned.changes, 0);
    assert_eq!(store.changes_since(org, Revision(2), 10).await.unwrap(), Changes::Unknown);
    assert!(
        matches!(store.changes_since(org, Revision(9999), 10).await.unwrap(), Changes::Since(c) if c.len() == 4)
    );
    super::ground::execute(&store, "UPDATE organisations SET revision = 20001").await;
    assert_eq!(store.prune(retention, cause.time).await.unwrap().changes, 2);
}
