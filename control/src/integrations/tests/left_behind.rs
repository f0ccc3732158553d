//! What a process that has ended was at is carried on by the next one, and nothing comes in between.

use std::collections::BTreeSet;
use std::time::Duration;

use dvx_gitlab::{GroupId, UserId};
use serde_json::json;

use super::world::{AGENT, World, agent, provider, token};
use crate::domain::{Mode, NewProvider, OperationState, PageRequest, ProviderToken};
use crate::integrations::fail_points::When;
use crate::integrations::{IntegrationError, Integrations, ProviderRequest};
use crate::store::tests::ground;

const MODE: Mode = Mode::ServiceAccount;

/// A world in which a process ended while it made an agent's first token.
async fn half_linked() -> World {
    let world = World::new().await;
    world.maker(MODE).await;
    let (service, struck) = world.crashing(|at, when| (at, when) == ("token", When::After));
    drop(world.link(&service, MODE).await);
    assert!(struck.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(world.value(AGENT).await, None);
    world
}

/// One in which it ended while it made another token.
async fn half_rotated(at: &'static str) -> (World, String) {
    let world = World::new().await;
    world.linked(MODE).await;
    let before = world.value(AGENT).await.unwrap();
    let (service, _) = world.crashing(move |point, when| (point, when) == (at, When::After));
    drop(service.rotate(&world.cause(), &agent(AGENT), &provider()).await);
    (world, before)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_process_carries_on_at_once() {
    for point in ["token", "prove", "publish", "deliver"] {
        let (world, before) = half_rotated(point).await;
        world.stand_still();
        let next = world.successor().await;
        for (operation, lease) in
            next.store().take_operations(&BTreeSet::new(), 8, world.now()).await.unwrap()
        {
            next.drive(operation, lease).await.unwrap();
        }
        let after = world.value(AGENT).await.unwrap();
        assert!(before != after, "{point}");
        world.go_on();
        world.settle(&next).await;
        world.assert_consistent(point).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_left_behind_comes_to_its_end_before_anything_else() {
    let cause = |world: &World| world.cause();
    let world = half_linked().await;
    let next = world.successor().await;
    let linked = world.link(&next, MODE).await.unwrap();
    assert_eq!(linked.state, OperationState::Done, "the same again is the same: {linked:?}");
    world.settle(&next).await;
    world.assert_consistent("linked").await;

    let world = half_linked().await;
    let next = world.successor().await;
    let rotated = next.rotate(&cause(&world), &agent(AGENT), &provider()).await.unwrap();
    assert_eq!(rotated.state, OperationState::Done, "{rotated:?}");
    assert_eq!(ground::events(&world.store, &cause(&world), "integration.rotate").await.len(), 1);
    world.settle(&next).await;
    world.assert_consistent("linked and rotated").await;

    let world = half_linked().await;
    let next = world.successor().await;
    let url = Some(world.gitlab.url().parse().unwrap());
    let person = token(&world.gitlab.token("owner", &["api"]));
    let refused = next.link_pat(&cause(&world), &agent(AGENT), &provider(), person, url).await;
    assert!(matches!(refused, Err(IntegrationError::AlreadyLinked)), "{refused:?}");
    world.settle(&next).await;
    world.assert_consistent("linked, and not with another token").await;

    let world = half_linked().await;
    let next = world.successor().await;
    next.unlink(&cause(&world), &agent(AGENT), &provider()).await.unwrap();
    world.settle(&next).await;
    assert_eq!(world.value(AGENT).await, None);
    assert_eq!(world.gitlab.live(), json!({"identities": [], "tokens": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_left_behind_comes_to_its_end_before_anything_else() {
    let (world, before) = half_rotated("token").await;
    let next = world.successor().await;
    let rotated = next.rotate(&world.cause(), &agent(AGENT), &provider()).await.unwrap();
    assert_eq!(rotated.state, OperationState::Done, "{rotated:?}");
    assert!(world.value(AGENT).await.unwrap() != before);
    let again = world.link(&next, MODE).await;
    assert!(matches!(again, Err(IntegrationError::AlreadyLinked)), "{again:?}");

    let (world, _) = half_rotated("prove").await;
    let next = world.successor().await;
    let again = world.link(&next, MODE).await;
    assert!(matches!(again, Err(IntegrationError::AlreadyLinked)), "a rotation is no link: {again:?}");
    world.settle(&next).await;
    world.assert_consistent("rotated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_set_by_hand_stays_away_when_it_is_unlinked_in_the_middle_of_a_link() {
    let world = World::new().await;
    world.maker(MODE).await;
    world.store.set_secret(&world.cause(), Some(&agent(AGENT)), ground::credential("glpat-a")).await.unwrap();
    let (service, _) = world.crashing(|at, when| (at, when) == ("token", When::After));
    drop(world.link(&service, MODE).await);
    let next = world.successor().await;
    next.unlink(&world.cause(), &agent(AGENT), &provider()).await.unwrap();
    world.settle(&next).await;
    assert_eq!(world.value(AGENT).await, None);
    assert_eq!(world.gitlab.live(), json!({"identities": [], "tokens": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_new_token_is_not_taken_for_the_one_whose_rotation_was_left_behind() {
    for when in [When::Before, When::After] {
        let world = World::new().await;
        let (service, _) = world.crashing(move |at, moment| (at, moment) == ("rotate-self", when));
        let every = Some(Duration::from_secs(30 * 24 * 3600));
        drop(service.provider_create(&world.cause(), world.request(MODE, every)).await);
        let next = world.successor().await;
        let another = token(&world.gitlab.token("owner", &["api"]));
        next.provider_rotate(&world.cause(), "maker", another).await.unwrap();
        world.settle(&next).await;
        let found = next
            .provider_list(&world.cause().actor.org, &PageRequest::first(10))
            .await
            .unwrap()
            .items
            .remove(0);
        assert_eq!((found.inactive, found.version), (None, 2), "{when:?}");
        works(&world, &next).await;
    }
}

async fn works(world: &World, service: &Integrations) {
    let linked = world.link(service, MODE).await.unwrap();
    assert_eq!(linked.state, OperationState::Done, "{linked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_maker_was_slow_is_not_taken_from_the_agent_again() {
    let world = World::new().await;
    world.maker(MODE).await;
    world.gitlab.fail("POST", "/api/v4/groups/*/service_accounts", &json!({"kind": "delay", "ms": 1500}));
    let slow = world.service();
    let (cause, name) = (world.cause(), agent(AGENT));
    let link = tokio::spawn(async move { slow.link_minted(&cause, &name, "maker", None, None).await });
    let asked = async {
        while world.number("SELECT COUNT(*) FROM minted WHERE kind = 'account'").await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap();
    // It is taken for dead, and works on.
    let other = world.successor().await;
    let (operation, lease) =
        other.store().take_operations(&BTreeSet::new(), 1, world.now()).await.unwrap().remove(0);
    drop(other.drive(operation, lease).await);
    let status = link.await.unwrap().unwrap();
    assert_eq!(status.state, OperationState::Done);
    world.settle(&other).await;
    assert!(world.value(AGENT).await.is_some());
    world.assert_consistent("made twice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_told_to_end_does_so_between_two_steps() {
    let world = World::new().await;
    world.maker(MODE).await;
    world.gitlab.fail("POST", "/api/v4/groups/*/service_accounts", &json!({"kind": "delay", "ms": 1500}));
    let first = world.service();
    let (service, cause, name) = (first.clone(), world.cause(), agent(AGENT));
    let link = tokio::spawn(async move { service.link_minted(&cause, &name, "maker", None, None).await });
    let asked = async {
        while world.asked("POST", "/service_accounts") == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.unwrap();
    first.stop().await;
    let known = "SELECT COUNT(*) FROM minted WHERE external_id IS NOT NULL";
    assert_eq!(world.number(known).await, 1, "the call came to its end, and what it made is known");
    assert_eq!(world.number("SELECT COUNT(*) FROM operations WHERE holder IS NOT NULL").await, 0);
    assert_eq!(link.await.unwrap().unwrap().state, OperationState::Running);
    let next = world.successor().await;
    world.settle(&next).await;
    assert!(world.value(AGENT).await.is_some());
    world.assert_consistent("carried on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_a_process_made_last_has_its_token_replaced_by_the_next() {
    let world = World::new().await;
    let given = world.gitlab.token("owner", &["api"]);
    let token = ProviderToken {
        value: token(&given),
        id: None,
        user: UserId(world.gitlab.seeded["users"]["owner"].as_u64().unwrap()),
        expires_at: None,
        may_rotate: true,
    };
    let ProviderRequest { name, instance_url, mode, .. } = world.request(MODE, None);
    let group = GroupId(world.gitlab.seeded["groups"]["company"].as_u64().unwrap());
    let rotate_every = Some(Duration::from_secs(24 * 3600));
    let new = NewProvider { name, instance_url, group, mode, rotate_every, token };
    world.store.create_provider(&world.cause(), &new, None, Some(&provider())).await.unwrap();
    let next = world.successor().await;
    world.settle(&next).await;
    assert_eq!(world.asked("POST", "/self/rotate"), 1);
    let known = next.provider_list(&world.cause().actor.org, &PageRequest::first(10)).await.unwrap().items;
    assert!(known[0].inactive.is_none() && known[0].version == 2, "{known:?}");
}
