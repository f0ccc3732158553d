//! Who waits is told.

use std::time::Duration;

use tokio::sync::broadcast::Receiver;

use super::ground::{self, Ground};
use crate::clock;
use crate::crypto::Kek;
use crate::store::Announcement;

on_both_engines!(a_change_is_announced_in_its_own_process);

async fn next(receiver: &mut Receiver<Announcement>, wanted: &Announcement) -> bool {
    let wait = async {
        loop {
            match receiver.recv().await {
                Ok(announcement) if announcement == *wanted => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or(false)
}

async fn a_change_is_announced_in_its_own_process(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let mut receiver = store.subscribe();
    ground.agent(&store, &cause, "c", "lab").await;
    assert!(next(&mut receiver, &Announcement::Changes(cause.actor.org.clone())).await);
    store.rekey(&Kek::generate(), &clock::wall).await.unwrap();
    assert!(next(&mut receiver, &Announcement::Keys).await);
}

#[tokio::test]
async fn what_was_not_committed_is_not_announced() {
    let ground = ground::sqlite();
    let (store, cause) = ground.furnished().await;
    let mut receiver = store.subscribe();
    assert!(store.create_agent(&cause, &ground::create("a", "lab"), None).await.is_err());
    let mut heard = Vec::new();
    while let Ok(announcement) = receiver.try_recv() {
        heard.push(announcement);
    }
    let changes = Announcement::Changes(cause.actor.org.clone());
    assert!(!heard.contains(&changes), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_replicas_hear_of_it_also_after_the_database_was_gone() {
    let Some(mut server) =
        dvx_tests::Postgres::start("other_replicas_hear_of_it_also_after_the_database_was_gone")
    else {
        return;
    };
    let ground = ground::at(server.create_database("dvx"));
    let (store, cause) = ground.furnished().await;
    let replica = ground.replica().await;
    let changes = Announcement::Changes(cause.actor.org.clone());
    let mut receiver = replica.subscribe();
    assert!(next(&mut receiver, &Announcement::Everything).await, "it listens");
    ground.agent(&store, &cause, "c", "lab").await;
    assert!(next(&mut receiver, &changes).await);
    server.kill();
    assert!(store.ping().await.is_err());
    server.restart();
    assert!(next(&mut receiver, &Announcement::Everything).await, "it listens again");
    ground.agent(&store, &cause, "d", "lab").await;
    assert!(next(&mut receiver, &changes).await);
    assert_eq!(ground::opened(&replica, &cause, "a").await.unwrap().unwrap(), "glpat-a");
}
