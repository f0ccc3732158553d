//! Tokens that are refused.

use std::collections::BTreeSet;

use dvx_proto::Fingerprint;
use dvx_proto::enclave::Verdict;
use serde_json::json;

use super::world::{AGENT, World, agent, provider};
use crate::domain::{EnclaveIdentity, Mode};
use crate::integrations::Integrations;
use crate::store::tests::ground;

fn lab(world: &World) -> EnclaveIdentity {
    let (id, organisation) = (String::new().into(), String::new());
    EnclaveIdentity { id, name: "lab".parse().unwrap(), org: world.cause().actor.org, organisation }
}

async fn report(world: &World, service: &Integrations, fingerprint: Fingerprint) -> Verdict {
    let cause = world.cause();
    let org = cause.actor.org.clone();
    let integration = world.store.integration(&org, &agent(AGENT), &provider()).await.unwrap().unwrap();
    service.rejected(&lab(world), &integration.id, fingerprint).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_reports_lead_to_one_probe_and_one_mint() {
    let world = World::new().await;
    let service = world.linked(Mode::ServiceAccount).await;
    let value = world.value(AGENT).await.unwrap();
    let fingerprint = world.fingerprint(AGENT).await;
    assert_eq!(report(&world, &service, fingerprint).await, Verdict::Good);
    world.pass(10);
    world.gitlab.revoke(&value);
    let (probes, mints) =
        (world.asked("GET", "/personal_access_tokens/self"), world.asked("POST", "/personal_access_tokens"));
    let org = world.cause().actor.org;
    let integration = world.store.integration(&org, &agent(AGENT), &provider()).await.unwrap().unwrap();
    // An answer holds for some seconds: all of them come within that.
    world.stand_still();
    let mut reports = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let (service, enclave, id) = (service.clone(), lab(&world), integration.id.clone());
        reports.spawn(async move { service.rejected(&enclave, &id, fingerprint).await.unwrap() });
    }
    let verdicts = reports.join_all().await;
    world.go_on();
    assert!(verdicts.contains(&Verdict::Dead));
    // Whoever lets time pass before has another driver think that this one is dead.
    world.until_replaced(&value).await;
    // One for the reports, and one that proves the new token.
    assert_eq!(world.asked("GET", "/personal_access_tokens/self") - probes, 2);
    world.settle(&service).await;
    assert_eq!(world.asked("POST", "/personal_access_tokens") - mints, 1);
    assert!(world.value(AGENT).await.unwrap() != value);
    world.assert_consistent("repaired").await;
    assert_eq!(report(&world, &service, fingerprint).await, Verdict::Unknown, "there is a newer one");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_rotates_its_own_token_gets_another_one_and_its_own_goes() {
    for mode in [Mode::ServiceAccount, Mode::ProjectAccessToken] {
        let world = World::new().await;
        let service = world.linked(mode).await;
        let value = world.value(AGENT).await.unwrap();
        let fingerprint = world.fingerprint(AGENT).await;
        let rotated =
            world.gitlab.api("POST", "/personal_access_tokens/self/rotate", Some(&value), &json!({}));
        assert_eq!(rotated.status, 200);
        assert_eq!(report(&world, &service, fingerprint).await, Verdict::Dead);
        world.settle(&service).await;
        world.assert_consistent("rotated elsewhere").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_was_deleted_is_made_again_and_one_that_is_blocked_is_not() {
    let world = World::new().await;
    let service = world.linked(Mode::ServiceAccount).await;
    let live = world.gitlab.live();
    let user = live["identities"][0]["id"].as_u64().unwrap();
    let owner = world.gitlab.token("owner", &["api"]);
    let deleted = world.gitlab.api(
        "DELETE",
        &format!("/groups/company/service_accounts/{user}"),
        Some(&owner),
        &json!(null),
    );
    assert_eq!(deleted.status, 204);
    world.pass(5);
    world.gitlab.sim("POST", "/jobs", &json!(null));
    let fingerprint = world.fingerprint(AGENT).await;
    assert_eq!(report(&world, &service, fingerprint).await, Verdict::Dead);
    world.settle(&service).await;
    world.assert_consistent("made again").await;
    let name = world.gitlab.live()["identities"][0]["username"].as_str().unwrap().to_owned();
    world.gitlab.sim("PATCH", &format!("/users/{name}"), &json!({"state": "blocked"}));
    world.pass(10);
    let fingerprint = world.fingerprint(AGENT).await;
    assert_eq!(report(&world, &service, fingerprint).await, Verdict::Dead);
    let events = ground::events(&world.store, &world.cause(), "integration.invalid").await;
    assert_eq!(events.len(), 1);
    assert!(events[0].reason.as_ref().unwrap().contains("blocked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_gets_ten_tokens_a_minute_at_the_most() {
    let world = World::new().await;
    let service = world.linked(Mode::ServiceAccount).await;
    let before = world.asked("POST", "/personal_access_tokens");
    for _ in 0..16 {
        let value = world.value(AGENT).await.unwrap();
        world.gitlab.revoke(&value);
        report(&world, &service, Fingerprint::of(value.as_bytes())).await;
        for (operation, lease) in world.store.take_operations(&BTreeSet::new(), 8, world.now()).await.unwrap()
        {
            drop(service.drive(operation, lease).await);
        }
        world.pass(3);
    }
    let minted = world.asked("POST", "/personal_access_tokens") - before;
    assert!((2..=11).contains(&minted), "{minted} in 48 seconds");
    world.settle(&service).await;
    world.assert_consistent("after a storm").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_token_turns_invalid_once() {
    let world = World::new().await;
    let service = world.service();
    let value = world.gitlab.token("owner", &["api"]);
    let mut secret = ground::credential(&value);
    secret.metadata.instance_url = Some(world.gitlab.url().parse().unwrap());
    world.store.link_pat(&world.cause(), &agent(AGENT), secret, &Default::default()).await.unwrap();
    world.pass(4);
    let fingerprint = Fingerprint::of(value.as_bytes());
    assert_eq!(report(&world, &service, fingerprint).await, Verdict::Good);
    world.gitlab.revoke(&value);
    for _ in 0..3 {
        world.pass(4);
        assert_eq!(report(&world, &service, fingerprint).await, Verdict::Dead);
    }
    assert_eq!(ground::events(&world.store, &world.cause(), "integration.invalid").await.len(), 1);
    let org = world.cause().actor.org;
    let found = world.store.integration(&org, &agent(AGENT), &provider()).await.unwrap().unwrap();
    assert_eq!(found.ailment.as_deref(), Some("revoked"));
}
