//! Whoever edits the database gets an error and an event, never a plaintext or another agent's value.

use super::ground::{self, Ground, events, execute, opened, opened_as, plain};
use crate::crypto::Unreadable;
use crate::domain::{Cause, PageRequest};
use crate::store::Store;

on_both_engines!(
    no_column_that_a_value_is_bound_to_can_be_edited,
    a_row_that_is_moved_does_not_open,
    values_that_are_swapped_do_not_open,
    an_older_row_does_not_open,
    an_older_head_does_not_open,
    a_deleted_secret_does_not_come_back,
    a_secret_that_was_lost_can_be_set_again,
    an_unreadable_value_is_reported_once,
    the_database_holds_no_plaintext,
);

async fn id(store: &Store, cause: &Cause, agent: &str) -> String {
    store.agent_id(&cause.actor.org, &agent.parse().unwrap()).await.unwrap().to_string()
}

async fn no_column_that_a_value_is_bound_to_can_be_edited(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let other = crate::domain::SecretId::generate(cause.time);
    let kek = crate::crypto::Kek::generate();
    let a = id(&store, &cause, "a").await;
    let edits = [
        "agent_accessible = 1".to_owned(),
        "agent_accessible = 7".into(),
        "credential = 0".into(),
        "version = version + 1".into(),
        "version = version - 1".into(),
        "version = -1".into(),
        "display_name = 'other'".into(),
        "display_name = NULL".into(),
        "auth_type = 'service_account'".into(),
        "auth_type = 'unheard-of'".into(),
        "instance_url = 'https://evil.example.com'".into(),
        "instance_url = 'not a url'".into(),
        "instance_url = NULL".into(),
        "expires_at = NULL".into(),
        "expires_at = expires_at + 1000000".into(),
        "expires_at = 9223372036854775807".into(),
        format!("id = '{other}'"),
        format!("kek_id = '{}'", kek.id()),
        "kek_id = ''".into(),
        "value = wrapped_key".into(),
        "wrapped_key = value".into(),
    ];
    for edit in edits {
        let copy = format!("CREATE TABLE kept AS SELECT * FROM secrets WHERE agent_id = '{a}'");
        execute(&store, &copy).await;
        assert_eq!(execute(&store, &format!("UPDATE secrets SET {edit} WHERE agent_id = '{a}'")).await, 1);
        assert_eq!(opened(&store, &cause, "a").await, Some(Err(Unreadable)), "{edit}");
        assert_eq!(opened(&store, &cause, "b").await, Some(Ok("glpat-b".into())), "{edit}");
        execute(&store, &format!("DELETE FROM secrets WHERE agent_id = '{a}'")).await;
        execute(&store, "INSERT INTO secrets SELECT * FROM kept").await;
        execute(&store, "DROP TABLE kept").await;
        assert_eq!(opened(&store, &cause, "a").await, Some(Ok("glpat-a".into())), "put back after {edit}");
    }
    assert!(!events(&store, &cause, "secret.integrity").await.is_empty());
}

async fn a_row_that_is_moved_does_not_open(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let org = &cause.actor.org;
    let (a, b) = (id(&store, &cause, "a").await, id(&store, &cause, "b").await);
    // To another agent, with and without the row that says which version is the newest.
    execute(&store, &format!("DELETE FROM secrets WHERE agent_id = '{b}'")).await;
    execute(&store, &format!("UPDATE secrets SET agent_id = '{b}' WHERE agent_id = '{a}'")).await;
    assert_eq!(opened(&store, &cause, "b").await, Some(Err(Unreadable)));
    execute(&store, &format!("DELETE FROM secret_heads WHERE agent_id = '{b}'")).await;
    execute(&store, &format!("UPDATE secret_heads SET agent_id = '{b}' WHERE agent_id = '{a}'")).await;
    assert_eq!(opened(&store, &cause, "b").await, Some(Err(Unreadable)));
    // To the organisation, for everybody.
    execute(&store, "UPDATE secret_heads SET agent_id = ''").await;
    execute(&store, "UPDATE secrets SET agent_id = ''").await;
    assert_eq!(opened_as(&store, &cause, None, "gitlab:token").await, Some(Err(Unreadable)));
    // To another name of the same agent.
    for table in ["secrets", "secret_heads"] {
        execute(&store, &format!("UPDATE {table} SET agent_id = '{a}', name = 'DATABASE_URL'")).await;
    }
    let agent = a.into();
    assert_eq!(opened_as(&store, &cause, Some(&agent), "DATABASE_URL").await, Some(Err(Unreadable)));
    assert!(
        !store
            .secrets(org, Some(&"a".parse().unwrap()), &PageRequest::first(9))
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

async fn values_that_are_swapped_do_not_open(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    execute(&store, "CREATE TABLE kept AS SELECT * FROM secrets").await;
    for columns in ["value", "wrapped_key", "value, wrapped_key"] {
        for column in columns.split(", ") {
            let swap = format!(
                "UPDATE secrets SET {column} = (SELECT k.{column} FROM kept k WHERE k.agent_id <> secrets.agent_id)"
            );
            assert_eq!(execute(&store, &swap).await, 2);
        }
        for agent in ["a", "b"] {
            assert_eq!(opened(&store, &cause, agent).await, Some(Err(Unreadable)), "{columns}");
        }
        execute(&store, "DELETE FROM secrets").await;
        execute(&store, "INSERT INTO secrets SELECT * FROM kept").await;
        assert_eq!(opened(&store, &cause, "a").await, Some(Ok("glpat-a".into())));
    }
}

async fn an_older_row_does_not_open(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let name = "a".parse().unwrap();
    execute(&store, "CREATE TABLE kept AS SELECT * FROM secrets").await;
    store.set_secret(&cause, Some(&name), ground::credential("glpat-new")).await.unwrap();
    assert_eq!(opened(&store, &cause, "a").await, Some(Ok("glpat-new".into())));
    execute(&store, "DELETE FROM secrets").await;
    execute(&store, "INSERT INTO secrets SELECT * FROM kept").await;
    assert_eq!(opened(&store, &cause, "a").await, Some(Err(Unreadable)));
    assert_eq!(opened(&store, &cause, "b").await, Some(Ok("glpat-b".into())));
    // Nor when it says that it is the newest, nor when what says so is edited to agree.
    execute(&store, "UPDATE secrets SET version = 2").await;
    assert_eq!(opened(&store, &cause, "a").await, Some(Err(Unreadable)));
    execute(&store, "UPDATE secrets SET version = 1").await;
    execute(&store, "UPDATE secret_heads SET version = 1").await;
    assert_eq!(opened(&store, &cause, "a").await, Some(Err(Unreadable)));
}

async fn an_older_head_does_not_open(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let name = "a".parse().unwrap();
    execute(&store, "CREATE TABLE kept AS SELECT * FROM secret_heads").await;
    store.set_secret(&cause, Some(&name), ground::credential("glpat-new")).await.unwrap();
    execute(&store, "DELETE FROM secret_heads").await;
    assert_eq!(opened(&store, &cause, "a").await, Some(Err(Unreadable)), "without a head");
    execute(&store, "INSERT INTO secret_heads SELECT * FROM kept").await;
    assert_eq!(opened(&store, &cause, "a").await, Some(Err(Unreadable)));
    for edit in ["mac = value", "mac = wrapped_key"] {
        let sql = format!(
            "UPDATE secret_heads SET {} ",
            edit.replace(" = ", " = (SELECT s.").to_string()
                + " FROM secrets s WHERE s.agent_id = secret_heads.agent_id)"
        );
        execute(&store, &sql).await;
        assert_eq!(opened(&store, &cause, "b").await, Some(Err(Unreadable)), "{edit}");
    }
}

async fn a_deleted_secret_does_not_come_back(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let (agent, name) = ("a".parse().unwrap(), "gitlab:token".parse().unwrap());
    execute(&store, "CREATE TABLE kept AS SELECT * FROM secrets").await;
    execute(&store, "CREATE TABLE heads AS SELECT * FROM secret_heads").await;
    store.delete_secret(&cause, Some(&agent), &name).await.unwrap();
    assert_eq!(opened(&store, &cause, "a").await, None);
    let back = format!(
        "INSERT INTO secrets SELECT * FROM kept WHERE agent_id = '{}'",
        id(&store, &cause, "a").await
    );
    execute(&store, &back).await;
    assert_eq!(opened(&store, &cause, "a").await, Some(Err(Unreadable)));
    execute(&store, "UPDATE secret_heads SET deleted = 0").await;
    assert_eq!(opened(&store, &cause, "a").await, Some(Err(Unreadable)));
    // Set anew it has a version of its own, and the old row is as old as before.
    execute(&store, "DELETE FROM secret_heads").await;
    execute(&store, "DELETE FROM secrets").await;
    store.set_secret(&cause, Some(&agent), ground::credential("glpat-new")).await.unwrap();
    assert_eq!(opened(&store, &cause, "a").await, Some(Ok("glpat-new".into())));
    execute(&store, "DELETE FROM secrets").await;
    execute(&store, &back).await;
    assert_eq!(opened(&store, &cause, "a").await, Some(Err(Unreadable)), "although both are version 1");
}

async fn a_secret_that_was_lost_can_be_set_again(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    execute(&store, "UPDATE secrets SET value = wrapped_key, version = 40").await;
    assert_eq!(opened(&store, &cause, "a").await, Some(Err(Unreadable)));
    let set =
        store.set_secret(&cause, Some(&"a".parse().unwrap()), ground::credential("glpat-2")).await.unwrap();
    assert_eq!(set.value.info.version, 41, "no version comes twice");
    assert_eq!(opened(&store, &cause, "a").await, Some(Ok("glpat-2".into())));
}

async fn an_unreadable_value_is_reported_once(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    execute(&store, "UPDATE secrets SET instance_url = 'https://evil.example.com'").await;
    for _ in 0..3 {
        assert_eq!(opened(&store, &cause, "a").await, Some(Err(Unreadable)));
    }
    let events = events(&store, &cause, "secret.integrity").await;
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((event.actor.as_str(), event.agent.as_deref()), ("system", Some("a")));
    assert_eq!(event.subject.as_deref(), Some("gitlab:token"));
}

async fn the_database_holds_no_plaintext(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    store.set_secret(&cause, None, plain("API_KEY", "hunter2-hunter2")).await.unwrap();
    for needle in ["glpat-a", "hunter2-hunter2"] {
        let hex = needle.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let encoded = if ground.url.starts_with("sqlite") {
            format!(
                "SELECT COUNT(*) FROM secrets WHERE instr(lower(hex(value) || hex(wrapped_key)), '{hex}') > 0"
            )
        } else {
            format!(
                "SELECT COUNT(*) FROM secrets WHERE position('{hex}' IN encode(value || wrapped_key, 'hex')) > 0"
            )
        };
        assert_eq!(ground::number(&store, &encoded).await, 0);
        if let Some(path) = ground.url.strip_prefix("sqlite://") {
            for file in [path.to_owned(), format!("{path}-wal")] {
                let bytes = std::fs::read(file).unwrap_or_default();
                assert!(!bytes.windows(needle.len()).any(|window| window == needle.as_bytes()));
            }
        }
    }
}
