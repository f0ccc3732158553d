//! Credentials that come to their end.

use dvx_proto::Secret;
use dvx_proto::operator::Attention;
use jiff::{SignedDuration, Timestamp};

use super::ground::{Ground, execute};
use crate::domain::{AuditQuery, Cause, Metadata, NewSecret};
use crate::store::Store;

on_both_engines!(
    an_end_is_said_once_for_each_of_60_30_and_7_days,
    replicas_say_it_once,
    what_is_replaced_by_itself_is_not_said,
    a_provider_whose_token_nobody_replaces_is_said,
);

fn days(number: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * number)
}

async fn give(store: &Store, cause: &Cause, name: &str, ends: Timestamp) {
    let metadata = Metadata {
        agent_accessible: false,
        display_name: None,
        auth_type: None,
        instance_url: None,
        expires_at: Some(ends),
    };
    let secret =
        NewSecret { name: name.parse().unwrap(), value: Secret::from(b"glpat-x".to_vec()), metadata };
    store.set_secret(cause, Some(&"a".parse().unwrap()), secret).await.unwrap();
}

async fn said(store: &Store, cause: &Cause) -> usize {
    let query = AuditQuery { limit: 1000, ..AuditQuery::default() };
    let events = store.events(&cause.actor.org, &query).await.unwrap();
    events.iter().filter(|event| event.action == "credential.expiring").count()
}

async fn an_end_is_said_once_for_each_of_60_30_and_7_days(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let now = cause.time;
    give(&store, &cause, "gitlab:token", now + days(61)).await;
    give(&store, &cause, "github:token", now + days(400)).await;
    for (after, expected) in
        [(0, 0), (1, 1), (2, 0), (31, 1), (32, 0), (54, 1), (60, 0), (61, 0), (62, 0), (40, 0)]
    {
        assert_eq!(store.warn_of_expiry(now + days(after)).await.unwrap(), expected, "after {after} days");
    }
    assert_eq!(said(&store, &cause).await, 3);
    let shown = store.attention(&cause.actor.org, now + days(1)).await.unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].credential.as_str(), "gitlab:token");
    assert_eq!(store.attention(&cause.actor.org, now).await.unwrap().len(), 0);
    // Another token is another end.
    give(&store, &cause, "gitlab:token", now + days(90)).await;
    assert_eq!(store.warn_of_expiry(now + days(54)).await.unwrap(), 1);
}

async fn replicas_say_it_once(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    give(&store, &cause, "gitlab:token", cause.time + days(5)).await;
    let looking = (0..4).map(|_| {
        let (store, now) = (store.clone(), cause.time);
        tokio::spawn(async move { store.warn_of_expiry(now).await.unwrap() })
    });
    let mut count = 0;
    for looked in looking.collect::<Vec<_>>() {
        count += looked.await.unwrap();
    }
    assert_eq!((count, said(&store, &cause).await), (1, 1));
}

async fn what_is_replaced_by_itself_is_not_said(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    give(&store, &cause, "gitlab:token", cause.time + days(5)).await;
    execute(&store, "UPDATE integrations SET origin = 'minted'").await;
    assert_eq!(store.warn_of_expiry(cause.time).await.unwrap(), 0);
    assert_eq!(store.attention(&cause.actor.org, cause.time).await.unwrap().len(), 0);
    // But one that the provider refuses is shown whatever it is.
    execute(&store, "UPDATE integrations SET status = 'invalid', cause = 'revoked'").await;
    let shown = store.attention(&cause.actor.org, cause.time).await.unwrap();
    assert_eq!(shown[0].refused.as_deref(), Some("revoked"));
}

async fn a_provider_whose_token_nobody_replaces_is_said(ground: Ground) {
    let (store, cause) = ground.furnished().await;
    let ends = (cause.time + days(20)).as_microsecond();
    for (id, next) in [("p1", "NULL"), ("p2", "1")] {
        let insert = format!(
            "INSERT INTO credential_providers (id, org_id, name, provider, instance_url, group_id, mode, status, \
             user_id, token_expires_at, next_rotation_at, created_at, version, kek_id, wrapped_key, value) \
             SELECT '{id}', id, '{id}', 'gitlab', 'https://gitlab.com', 1, 'service_account', 'active', 1, \
             {ends}, {next}, 0, 1, kek_id, head_key, head_key FROM organisations"
        );
        execute(&store, &insert).await;
    }
    assert_eq!(store.warn_of_expiry(cause.time).await.unwrap(), 1);
    assert_eq!(store.warn_of_expiry(cause.time).await.unwrap(), 0);
    let shown = store.attention(&cause.actor.org, cause.time).await.unwrap();
    let names = |shown: &[Attention]| -> Vec<_> {
        shown.iter().map(|one| (one.credential_provider.clone(), one.refused.clone())).collect()
    };
    assert_eq!(names(&shown), [(Some("p1".to_owned()), None)], "the other one is replaced");
    assert_eq!(shown[0].expires_at.map(Timestamp::as_microsecond), Some(ends));
    assert_eq!(store.attention(&cause.actor.org, cause.time - days(50)).await.unwrap().len(), 0, "far away");
    let inactive = "UPDATE credential_providers SET status = 'inactive', reason = 'revoked' WHERE id = 'p2'";
    execute(&store, inactive).await;
    let shown = store.attention(&cause.actor.org, cause.time).await.unwrap();
    assert!(names(&shown).contains(&(Some("p2".to_owned()), Some("revoked".to_owned()))), "{shown:?}");
}
