//! Replacing the KEK while others serve.

use std::time::Duration;

use jiff::SignedDuration;

use super::ground::{self, Ground, events, execute, number, opened, plain, watch};
use crate::clock;
use crate::crypto::Kek;
use crate::domain::{Once, Outcome, StoredAnswer};
use crate::store::row::Columns;
use crate::store::{Rekeyed, Store, StoreError};

on_both_engines!(
    after_a_rekey_only_the_new_key_opens,
    a_rekey_that_was_killed_is_repeated,
    a_rekey_may_be_killed_anywhere,
    replicas_follow_while_a_writer_is_at_work,
    a_rekey_waits_for_replicas_that_do_not_follow,
    a_rekey_to_yet_another_key_is_refused_meanwhile,
    what_was_unreadable_before_stays_so_and_holds_nothing_up,
);

async fn after_a_rekey_only_the_new_key_opens(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let secret = "answer".to_owned();
    let render = |changed: &crate::domain::Changed<_>| StoredAnswer {
        status: 201,
        revision: changed.revision,
        body: secret.as_bytes().to_vec().into(),
    };
    let once = || Some(Once { key: "k", request: [1; 32], render: &render });
    let name = "extra".parse().unwrap();
    store.create_enclave(&cause, &name, once()).await.unwrap();
    let new = Kek::generate();
    let done = store.rekey(&new, &clock::wall).await.unwrap();
    assert_eq!(done, Rekeyed { values: 2, unreadable: 0 });
    assert_eq!(store.rekey(&new, &clock::wall).await.unwrap(), Rekeyed::default(), "again it does nothing");
    assert_eq!(opened(&store, &cause, "a").await.unwrap().unwrap(), "glpat-a");
    let Ok(Outcome::Repeated(answer)) = store.create_enclave(&cause, &name, once()).await else {
        panic!("the answer is gone")
    };
    assert_eq!(answer.body.expose_secret(), b"answer");
    match Store::open(&ground.url, ground.kek.clone(), clock::wall()).await {
        Err(error @ StoreError::KekReplaced { .. }) => {
            assert!(error.to_string().contains("install the new key"))
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the old key still opens the database"),
    }
    let again = Store::open(&ground.url, new, clock::wall()).await.unwrap();
    assert_eq!(opened(&again, &cause, "b").await.unwrap().unwrap(), "glpat-b");
    assert_eq!(number(&store, "SELECT COUNT(*) FROM keks WHERE wrapped IS NOT NULL").await, 0);
    let old = ground.kek.id();
    for table in ["secrets", "organisations", "idempotency"] {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE kek_id = '{old}'");
        assert_eq!(number(&store, &sql).await, 0, "{table}");
    }
}

async fn a_rekey_that_was_killed_is_repeated(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let new = Kek::generate();
    let org = &cause.actor.org;
    // Killed after the new key was made known, and again after one of two values.
    let old = store.begin_rekey(&new, clock::wall()).await.unwrap().unwrap();
    for kek in [&ground.kek, &new] {
        let started = Store::open(&ground.url, kek.clone(), clock::wall()).await.unwrap();
        assert_eq!(opened(&started, &cause, "a").await.unwrap().unwrap(), "glpat-a");
        started.sign_off().await.unwrap();
    }
    execute(&store, "CREATE TABLE kept AS SELECT * FROM secrets").await;
    store.rewrap_organisation(org, &old, &new, &mut Rekeyed::default()).await.unwrap();
    let a = store.agent_id(org, &"a".parse().unwrap()).await.unwrap();
    execute(&store, &format!("DELETE FROM secrets WHERE agent_id = '{a}'")).await;
    execute(&store, &format!("INSERT INTO secrets SELECT * FROM kept WHERE agent_id = '{a}'")).await;
    for kek in [&ground.kek, &new] {
        let started = Store::open(&ground.url, kek.clone(), clock::wall()).await.unwrap();
        for agent in ["a", "b"] {
            assert_eq!(opened(&started, &cause, agent).await.unwrap().unwrap(), format!("glpat-{agent}"));
        }
        started.sign_off().await.unwrap();
    }
    assert!(!store.finish_rekey(&old, &new).await.unwrap(), "one value is still under the old key");
    let done = store.rekey(&new, &clock::wall).await.unwrap();
    assert_eq!(done, Rekeyed { values: 1, unreadable: 0 });
    let started = Store::open(&ground.url, new, clock::wall()).await.unwrap();
    assert_eq!(opened(&started, &cause, "a").await.unwrap().unwrap(), "glpat-a");
}

async fn a_rekey_may_be_killed_anywhere(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let new = Kek::generate();
    for attempt in 0..2000_u64 {
        let patience = Duration::from_micros(attempt * 150);
        let ended = tokio::time::timeout(patience, store.rekey(&new, &clock::wall)).await;
        for agent in ["a", "b"] {
            assert_eq!(opened(&store, &cause, agent).await.unwrap().unwrap(), format!("glpat-{agent}"));
        }
        if ended.is_ok_and(|ended| ended.is_ok()) {
            break;
        }
    }
    let started = Store::open(&ground.url, new, clock::wall()).await.unwrap();
    assert_eq!(opened(&started, &cause, "a").await.unwrap().unwrap(), "glpat-a");
    assert!(matches!(
        Store::open(&ground.url, ground.kek.clone(), clock::wall()).await,
        Err(StoreError::KekReplaced { .. })
    ));
    assert!(events(&store, &cause, "secret.integrity").await.is_empty());
}

async fn replicas_follow_while_a_writer_is_at_work(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let replica = ground.replica().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writer = tokio::spawn({
        let (replica, cause, stopped) = (replica.clone(), cause.clone(), stopped.clone());
        async move {
            let mut written = 0;
            while !*stopped.borrow() {
                let secret = plain("COUNTER", &written.to_string());
                replica.set_secret(&cause, None, secret).await.unwrap();
                written += 1;
                let value = ground::opened_as(&replica, &cause, None, "COUNTER").await.unwrap().unwrap();
                assert_eq!(value, (written - 1).to_string());
            }
            written
        }
    });
    let heart = tokio::spawn({
        let (replica, mut stopped) = (replica.clone(), stopped.clone());
        async move {
            while !*stopped.borrow() {
                replica.heartbeat(clock::wall()).await.unwrap();
                drop(tokio::time::timeout(Duration::from_millis(100), stopped.changed()).await);
            }
        }
    });
    let mut kek = Kek::generate();
    for _ in 0..3 {
        store.rekey(&kek, &clock::wall).await.unwrap();
        kek = Kek::generate();
    }
    stop.send(true).unwrap();
    assert!(writer.await.unwrap() > 0);
    heart.await.unwrap();
    assert_eq!(opened(&replica, &cause, "a").await.unwrap().unwrap(), "glpat-a");
    assert!(events(&store, &cause, "secret.integrity").await.is_empty(), "nothing ever looked unreadable");
}

async fn a_rekey_waits_for_replicas_that_do_not_follow(ground: Ground) {
    let (store, _) = ground.furnished().await;
    let replica = ground.replica().await;
    let new = Kek::generate();
    store.begin_rekey(&new, clock::wall()).await.unwrap();
    assert_eq!(store.replicas_without(new.id()).await.unwrap(), 1);
    for hours in [-2, 2] {
        replica.heartbeat(clock::wall() + SignedDuration::from_hours(hours)).await.unwrap();
        execute(&store, &format!("UPDATE replicas SET keks = '' WHERE id = '{}'", replica.replica())).await;
        assert_eq!(store.replicas_without(new.id()).await.unwrap(), 1, "it lives, whatever its clock says");
    }
    watch(&store, &replica, 1, [9; 6]);
    assert_eq!(store.replicas_without(new.id()).await.unwrap(), 0, "a dead one is not waited for");
    watch(&store, &replica, 7, [10]);
    assert_eq!(store.replicas_without(new.id()).await.unwrap(), 1, "it is back");
    replica.heartbeat(clock::wall()).await.unwrap();
    assert_eq!(store.replicas_without(new.id()).await.unwrap(), 0);
}

async fn a_rekey_to_yet_another_key_is_refused_meanwhile(ground: Ground) {
    let (store, _) = ground.furnished().await;
    let new = Kek::generate();
    store.begin_rekey(&new, clock::wall()).await.unwrap();
    let other = store.rekey(&Kek::generate(), &clock::wall).await;
    assert!(matches!(other, Err(StoreError::RekeyUnderWay(id)) if id == *new.id()));
    store.rekey(&new, &clock::wall).await.unwrap();
}

async fn what_was_unreadable_before_stays_so_and_holds_nothing_up(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let a = store.agent_id(&cause.actor.org, &"a".parse().unwrap()).await.unwrap();
    execute(&store, &format!("UPDATE secrets SET display_name = 'x' WHERE agent_id = '{a}'")).await;
    execute(&store, "UPDATE secrets SET agent_id = 'nobody' WHERE agent_id = 'nobody'").await;
    let done = store.rekey(&Kek::generate(), &clock::wall).await.unwrap();
    assert_eq!(done, Rekeyed { values: 1, unreadable: 1 });
    assert!(opened(&store, &cause, "a").await.unwrap().is_err());
    assert_eq!(opened(&store, &cause, "b").await.unwrap().unwrap(), "glpat-b");
}

/// Whoever finds the old key later and has a copy of the files must not be able to use it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_encrypted_under_the_old_key_stays_in_the_files() {
    let ground = ground::sqlite();
    let (store, _cause) = ground.furnished().await;
    let new = Kek::generate();
    let old = store.begin_rekey(&new, clock::wall()).await.unwrap().unwrap();
    let sql = "SELECT wrapped_key AS w FROM secrets UNION ALL SELECT head_key FROM organisations \
               UNION ALL SELECT wrapped FROM keks";
    let rows = sqlx::query(sql).fetch_all(&store.0.reader).await.unwrap();
    let under_old: Vec<Vec<u8>> = rows.iter().map(|row| row.blob("w").unwrap()).collect();
    assert!(under_old.len() >= 5 && under_old.iter().all(|wrapped| in_files(&ground.url, wrapped)));
    drop(old);
    store.rekey(&new, &clock::wall).await.unwrap();
    for wrapped in &under_old {
        assert!(!in_files(&ground.url, wrapped));
    }
}

fn in_files(url: &str, needle: &[u8]) -> bool {
    let path = url.strip_prefix("sqlite://").unwrap();
    let files = [path.to_owned(), format!("{path}-wal")];
    let held: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap_or_default()).collect();
    held.iter().any(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
}
