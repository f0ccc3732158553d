//! Migrations, and what a start refuses.

use super::ground::{self, Ground, execute, number};
use crate::clock;
use crate::crypto::Kek;
use crate::store::migrate::{MIGRATIONS, Migration};
use crate::store::{Conflict, Store, StoreError};

on_both_engines!(
    a_second_start_changes_nothing,
    replicas_that_start_together_migrate_once,
    a_program_survives_an_added_migration_and_refuses_a_contracted_schema,
    initialising_twice_is_refused_and_mints_nothing,
    a_start_with_the_wrong_key_is_refused,
    a_database_that_was_not_initialised_is_refused,
);

async fn a_second_start_changes_nothing(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let again = ground.open().await;
    assert_eq!(again.schema().await.unwrap(), MIGRATIONS.last().unwrap().number);
    assert_eq!(ground::opened(&again, &cause, "a").await.unwrap().unwrap(), "glpat-a");
    let applied = number(&store, "SELECT COUNT(*) FROM migrations").await;
    assert_eq!(usize::try_from(applied).unwrap(), MIGRATIONS.len());
}

async fn replicas_that_start_together_migrate_once(ground: Ground) {
    let starts = (0..4).map(|_| {
        let (url, kek) = (ground.url.clone(), ground.kek.clone());
        tokio::spawn(async move {
            Store::init(&url, kek, "default", &"admin".parse().unwrap(), clock::wall()).await.is_ok()
        })
    });
    let mut won = 0;
    for start in starts.collect::<Vec<_>>() {
        won += u32::from(start.await.unwrap());
    }
    assert_eq!(won, 1, "one init makes the organisation");
    let store = ground.open().await;
    let applied = number(&store, "SELECT COUNT(*) FROM migrations").await;
    assert_eq!(usize::try_from(applied).unwrap(), MIGRATIONS.len());
    assert_eq!(number(&store, "SELECT COUNT(*) FROM keks").await, 1);
    assert_eq!(number(&store, "SELECT COUNT(*) FROM operators").await, 1);
}

async fn a_program_survives_an_added_migration_and_refuses_a_contracted_schema(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let newest = MIGRATIONS.last().unwrap().number;
    let expand =
        Migration { number: newest + 1, minimum: newest, sql: "ALTER TABLE agents ADD COLUMN colour TEXT" };
    let contract =
        Migration { number: newest + 2, minimum: newest + 1, sql: "ALTER TABLE agents DROP COLUMN colour" };
    let migrations = [expand, contract];
    store.migrate_with(&migrations[..1], clock::wall()).await.unwrap();
    // The version that runs, and one that starts, know nothing of the column.
    ground.agent(&store, &cause, "c", "lab").await;
    let again = ground.open().await;
    ground.agent(&again, &cause, "d", "lab").await;
    store.migrate_with(&migrations, clock::wall()).await.unwrap();
    match Store::open(&ground.url, ground.kek.clone(), clock::wall()).await {
        Err(StoreError::SchemaTooNew { found, known }) => assert_eq!((found, known), (newest + 2, newest)),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a schema that this version cannot use was used"),
    }
}

async fn initialising_twice_is_refused_and_mints_nothing(ground: Ground) {
    let store = ground.initialised().await;
    let admin = "admin".parse().unwrap();
    let again = Store::init(&ground.url, ground.kek.clone(), "default", &admin, clock::wall()).await;
    assert!(matches!(again, Err(StoreError::Conflict(Conflict::AlreadyInitialised))));
    assert_eq!(number(&store, "SELECT COUNT(*) FROM operators").await, 1);
    let token = Store::init(&ground.url, ground.kek.clone(), "second", &admin, clock::wall()).await.unwrap();
    let actor = store.operator_by_token(&token.hashed()).await.unwrap().unwrap();
    assert_eq!((actor.organisation.as_str(), actor.name.as_str()), ("second", "admin"));
    let wrong = Store::init(&ground.url, Kek::generate(), "third", &admin, clock::wall()).await;
    assert!(matches!(wrong, Err(StoreError::KekWrong { .. })));
    assert!(store.organisation("third").await.unwrap().is_none());
}

async fn a_start_with_the_wrong_key_is_refused(ground: Ground) {
    let store = ground.initialised().await;
    let wrong = Kek::generate();
    let Err(error) = Store::open(&ground.url, wrong.clone(), clock::wall()).await else {
        panic!("it started")
    };
    assert!(error.is_configuration());
    assert!(
        error.to_string().contains(wrong.id().as_str())
            && error.to_string().contains(ground.kek.id().as_str())
    );
    // A name alone does not make a key.
    execute(&store, &format!("UPDATE keks SET id = '{}'", wrong.id())).await;
    assert!(Store::open(&ground.url, wrong, clock::wall()).await.is_err());
}

async fn a_database_that_was_not_initialised_is_refused(ground: Ground) {
    let opened = Store::open(&ground.url, ground.kek.clone(), clock::wall()).await;
    assert!(matches!(opened, Err(StoreError::NotInitialised)));
    drop(ground.initialised().await);
}

#[tokio::test]
async fn a_file_is_made_for_its_owner_alone_where_others_cannot_write() {
    use std::os::unix::fs::PermissionsExt;
    let ground = ground::sqlite();
    drop(ground.initialised().await);
    let path = std::path::PathBuf::from(ground.url.strip_prefix("sqlite://").unwrap());
    for file in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let open = || Store::open(&ground.url, ground.kek.clone(), clock::wall());
    set(&path, 0o644);
    assert!(matches!(open().await, Err(StoreError::Place { .. })));
    set(&path, 0o600);
    set(path.parent().unwrap(), 0o777);
    assert!(matches!(open().await, Err(StoreError::Place { .. })));
    for url in ["", "sqlite://", "sqlite://:memory:", "mysql://x/y", "/var/lib/dvx/control.db"] {
        let opened = Store::open(url, ground.kek.clone(), clock::wall()).await;
        assert!(matches!(opened, Err(StoreError::Url)), "{url}");
    }
}
