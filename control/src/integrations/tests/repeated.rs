//! A request that comes again is carried out once.

use std::time::Duration;

use super::world::{AGENT, World, agent, provider, token};
use crate::domain::{Cause, Mode, OperationState, Repeatable};
use crate::integrations::IntegrationError;
use crate::store::{Conflict, StoreError};

const MODE: Mode = Mode::ServiceAccount;

fn keyed(world: &World, key: &str, request: u8) -> Cause {
    Cause { repeatable: Some(Repeatable { key: key.into(), request: [request; 32] }), ..world.cause() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_and_a_rotation_are_made_once() {
    let world = World::new().await;
    world.maker(MODE).await;
    let service = world.service();
    let link = async |key, request| {
        service.link_minted(&keyed(&world, key, request), &agent(AGENT), "maker", None, None).await
    };
    let (first, second) = tokio::join!(link("k", 1), link("k", 1));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!((&first.id, first.state), (&second.id, OperationState::Done));
    assert_eq!(link("k", 1).await.unwrap(), first, "also when it is done");
    assert!(matches!(link("l", 1).await, Err(IntegrationError::AlreadyLinked)));
    let mismatch = link("k", 2).await;
    assert!(
        matches!(mismatch, Err(IntegrationError::Store(StoreError::Conflict(Conflict::KeyReused)))),
        "{mismatch:?}"
    );
    let rotate = async || service.rotate(&keyed(&world, "r", 3), &agent(AGENT), &provider()).await.unwrap();
    assert_eq!(rotate().await, rotate().await);
    assert_eq!(world.asked("POST", "/personal_access_tokens"), 2, "one for each of the two");
    world.settle(&service).await;
    world.assert_consistent("repeated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_joined_what_was_under_way_is_answered_alike_when_it_is_done() {
    let world = World::new().await;
    world.maker(MODE).await;
    world.gitlab.fail(
        "POST",
        "/api/v4/groups/*/service_accounts",
        &serde_json::json!({"kind": "delay", "ms": 1000}),
    );
    let service = world.service();
    let link = async |key| {
        service.link_minted(&keyed(&world, key, 1), &agent(AGENT), "maker", None, None).await.unwrap()
    };
    let (first, joined) = tokio::join!(link("a"), link("b"));
    assert_eq!(first.id, joined.id);
    assert_eq!(link("b").await, joined);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_provider_is_made_once() {
    let world = World::new().await;
    let service = world.service();
    let request = || world.request(MODE, Some(Duration::from_secs(30 * 24 * 3600)));
    let create = async || service.provider_create(&keyed(&world, "p", 1), request()).await.unwrap();
    let (made, at_once) = tokio::join!(create(), create());
    assert_eq!(made.id, at_once.id);
    let (made, again) = (create().await, create().await);
    assert_eq!((&made.id, made.version), (&again.id, again.version));
    assert_eq!(world.asked("POST", "/self/rotate"), 1);
    let other = service.provider_create(&keyed(&world, "q", 1), request()).await;
    assert!(matches!(other, Err(IntegrationError::NameTaken)), "{other:?}");
    let another = || token(&world.gitlab.token("owner", &["api"]));
    for _ in 0..2 {
        let given = service.provider_rotate(&keyed(&world, "s", 1), "maker", another()).await.unwrap();
        assert_eq!(given.version, made.version + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_token_is_linked_once() {
    let world = World::new().await;
    let service = world.service();
    let value = world.gitlab.token("owner", &["api"]);
    let url = || Some(world.gitlab.url().parse().unwrap());
    let link = async |key| {
        let cause = keyed(&world, key, 1);
        service.link_pat(&cause, &agent(AGENT), &provider(), token(&value), url()).await
    };
    let (first, second) = tokio::join!(link("k"), link("k"));
    assert_eq!(first.unwrap(), second.unwrap());
    link("k").await.unwrap();
    assert!(matches!(link("l").await, Err(IntegrationError::AlreadyLinked)));
}
