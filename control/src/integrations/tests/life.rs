//! From a link to its end.

use std::time::Duration;

use serde_json::json;

use super::world::{AGENT, World, agent, provider};
use crate::domain::{Debt, Mode, OperationState, OrgId, PageRequest};
use crate::integrations::{IntegrationError, Integrations};
use crate::store::{Conflict, StoreError};

const MODES: [Mode; 2] = [Mode::ServiceAccount, Mode::ProjectAccessToken];
const DAY: i64 = 24 * 3600;

async fn debts(
    service: &Integrations,
    org: &OrgId,
    after: Option<String>,
    limit: u32,
) -> (Vec<Debt>, Option<String>) {
    let page = service.debts(org, &PageRequest { after, limit }).await.unwrap();
    (page.items, page.next)
}

async fn all_debts(service: &Integrations, org: &OrgId) -> Vec<Debt> {
    debts(service, org, None, 1000).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_makes_one_identity_that_works_and_unlinking_leaves_nothing() {
    for mode in MODES {
        let world = World::new().await;
        let service = world.linked(mode).await;
        world.assert_consistent("linked").await;
        let live = world.gitlab.live();
        let identity = &live["identities"][0];
        assert_eq!(identity["members"][0]["access_level"], 30, "{live}");
        assert_eq!(live["tokens"][0]["scopes"], json!(["api", "write_repository", "self_rotate"]));
        if mode == Mode::ServiceAccount {
            let name = identity["username"].as_str().unwrap();
            assert!(name.starts_with("dvx-agent-") && name.ends_with("-a"), "{name}");
        }
        let again = world.link(&service, mode).await;
        assert!(matches!(again, Err(IntegrationError::AlreadyLinked)), "{again:?}");
        let outcome = service.unlink(&world.cause(), &agent(AGENT), &provider()).await.unwrap();
        assert_eq!(outcome.warning, None);
        assert_eq!(world.value(AGENT).await, None);
        world.settle(&service).await;
        world.assert_consistent("unlinked").await;
        assert_eq!(world.gitlab.live()["identities"], json!([]));
        // And again, also while GitLab is still deleting.
        world.link(&service, mode).await.unwrap();
        world.settle(&service).await;
        world.assert_consistent("linked again").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_keeps_the_token_before_for_a_minute() {
    for mode in MODES {
        let world = World::new().await;
        let service = world.linked(mode).await;
        let before = world.value(AGENT).await.unwrap();
        let status = service.rotate(&world.cause(), &agent(AGENT), &provider()).await.unwrap();
        assert_eq!(status.state, OperationState::Done);
        let after = world.value(AGENT).await.unwrap();
        assert!(before != after);
        let works = |value: &str| {
            world.gitlab.api("GET", "/personal_access_tokens/self", Some(value), &json!(null)).status == 200
        };
        service.remove_due().await.unwrap();
        world.pass(50);
        service.remove_due().await.unwrap();
        assert!(works(&before) && works(&after));
        world.pass(15);
        world.settle(&service).await;
        assert!(!works(&before) && works(&after));
        world.assert_consistent("rotated").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_is_rotated_once_however_the_clock_jumps() {
    let world = World::new().await;
    let service = world.linked(Mode::ServiceAccount).await;
    let minted = || world.asked("POST", "/personal_access_tokens");
    for (days, expected) in [(2, 1), (-2, 1), (20, 1), (5, 2), (-2, 2), (2, 2), (24, 3)] {
        world.pass(days * DAY);
        world.settle(&service).await;
        assert_eq!(minted(), expected, "after {days} days");
        world.assert_consistent("after a jump").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_debt_is_listed_and_paid_when_gitlab_is_back() {
    let world = World::new().await;
    let service = world.linked(Mode::ServiceAccount).await;
    world.gitlab.go_down();
    let outcome = service.unlink(&world.cause(), &agent(AGENT), &provider()).await.unwrap();
    assert!(outcome.warning.unwrap().contains("debts"));
    assert_eq!(world.value(AGENT).await, None);
    let org = world.cause().actor.org;
    let (first, next) = debts(&service, &org, None, 1).await;
    let (second, end) = debts(&service, &org, next, 1).await;
    assert_eq!((first.len(), second.len(), end), (1, 1, None));
    assert_ne!(first, second);
    let deletion = service.provider_delete(&world.cause(), "maker").await;
    let problem = deletion.unwrap_err().problem();
    assert_eq!(problem.detail, "2 things that it made are still to be removed at the provider");
    assert!(problem.hint.unwrap().contains("dvx credential-provider debts"));
    world.gitlab.come_back();
    world.settle(&service).await;
    world.assert_consistent("paid").await;
    assert_eq!(all_debts(&service, &org).await, []);
    service.provider_delete(&world.cause(), "maker").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_provider_is_listed_from_the_first_moment_to_the_last() {
    for deleted in [false, true] {
        let world = World::new().await;
        let service = world.linked(Mode::ServiceAccount).await;
        let org = world.cause().actor.org;
        service.rotate(&world.cause(), &agent(AGENT), &provider()).await.unwrap();
        assert_eq!(all_debts(&service, &org).await, [], "what an agent may still use is no debt");
        if deleted {
            world.store.delete_agent(&world.cause(), &agent(AGENT)).await.unwrap();
        } else {
            service.unlink(&world.cause(), &agent(AGENT), &provider()).await.unwrap();
        }
        let mut seen = Vec::new();
        // Less than what was replaced is kept for.
        for _ in 0..30 {
            let debts = all_debts(&service, &org).await;
            match service.provider_delete(&world.cause(), "maker").await {
                Ok(()) => break,
                Err(IntegrationError::Store(StoreError::Conflict(Conflict::ProviderOwes(count)))) => {
                    assert_eq!(count, debts.len() as u64, "{debts:?}")
                }
                Err(error) => panic!("{error}"),
            }
            seen.extend(debts.into_iter().map(|debt| debt.why));
            service.schedule().await.unwrap();
            world.pass(1);
            service.remove_due().await.unwrap();
        }
        assert_eq!(
            service.provider_list(&org, &PageRequest::first(10)).await.unwrap().items.len(),
            0,
            "{seen:?}"
        );
        assert!(seen.iter().any(|why| why.contains("looked for until it is gone")), "{seen:?}");
        assert_eq!(deleted, seen.iter().any(|why| why.contains("about to be removed")), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_end_is_its_identitys() {
    for mode in MODES {
        let world = World::new().await;
        let service = world.linked(mode).await;
        let cause = world.cause();
        world.store.revoke_agent(&cause, &agent(AGENT), "left").await.unwrap();
        for _ in 0..3 {
            service.schedule().await.unwrap();
            world.pass(5);
            service.remove_due().await.unwrap();
        }
        assert_eq!(world.gitlab.live()["tokens"], json!([]));
        world.store.reprovision_agent(&world.cause(), &agent(AGENT)).await.unwrap();
        world.settle(&service).await;
        world.assert_consistent("provisioned anew").await;
        assert_eq!(world.gitlab.live()["tokens"].as_array().unwrap().len(), 1);
        world.store.delete_agent(&world.cause(), &agent(AGENT)).await.unwrap();
        world.settle(&service).await;
        assert_eq!(world.gitlab.live(), json!({"identities": [], "tokens": []}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_own_token_is_replaced_at_once_and_when_it_is_due() {
    let world = World::new().await;
    let service = world.service();
    let request = world.request(Mode::ServiceAccount, Some(Duration::from_secs(30 * 24 * 3600)));
    let made = service.provider_create(&world.cause(), request).await.unwrap();
    assert_eq!((made.inactive, made.version), (None, 2));
    world.link(&service, Mode::ServiceAccount).await.unwrap();
    world.pass(31 * DAY);
    world.settle(&service).await;
    let org = world.cause().actor.org;
    let after = service.provider_list(&org, &PageRequest::first(10)).await.unwrap().items.remove(0);
    assert_eq!((after.inactive, after.version), (None, 3));
    world.assert_consistent("the provider's token was replaced").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_refused_with_a_token_that_may_not() {
    let world = World::new().await;
    let service = world.service();
    world.gitlab.seed(&json!({"users": [{"username": "guest"}]}));
    for (value, expected) in [
        (world.gitlab.token("guest", &["api"]), "Owner access"),
        (world.gitlab.token("owner", &["read_api"]), "scope"),
        ("glpat-unknown-unknown-unknown".to_owned(), "know"),
    ] {
        let mut request = world.request(Mode::ServiceAccount, None);
        request.token = super::world::token(&value);
        let refused = service.provider_create(&world.cause(), request).await.unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
    }
    assert_eq!(world.number("SELECT COUNT(*) FROM credential_providers").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_allows_less_time_gets_less() {
    let world = World::new().await;
    world.maker(Mode::ServiceAccount).await;
    world.gitlab.set(&json!({"max_lifetime_days": 7}));
    let service = world.service();
    world.link(&service, Mode::ServiceAccount).await.unwrap();
    world.assert_consistent("a short life").await;
    world.pass(7 * DAY - 3600);
    world.settle(&service).await;
    world.assert_consistent("rotated before its end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_an_instance_that_is_down_leaves_nothing_to_do() {
    let world = World::new().await;
    world.maker(Mode::ServiceAccount).await;
    let service = world.service();
    world.gitlab.sim(
        "POST",
        "/faults",
        &json!({"path": "/api/v4/**", "action": {"kind": "status", "status": 422, "body": "{\"message\":\"no\"}"}}),
    );
    assert!(world.link(&service, Mode::ServiceAccount).await.is_err());
    assert_eq!(world.number("SELECT COUNT(*) FROM minted WHERE state <> 'gone'").await, 0);
    assert_eq!(all_debts(&service, &world.cause().actor.org).await, []);
    world.link(&service, Mode::ServiceAccount).await.unwrap();
    world.assert_consistent("tried again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_links_keep_the_limit_on_service_accounts_and_none_is_lost() {
    let world = World::new().await;
    world.maker(Mode::ServiceAccount).await;
    let service = world.service();
    let cause = world.cause();
    let mut links = tokio::task::JoinSet::new();
    for number in 0..25 {
        let name = world.ground.agent(&world.store, &cause, &format!("n{number}"), "lab").await;
        let (service, cause) = (service.clone(), cause.clone());
        links.spawn(async move { service.link_minted(&cause, &name, "maker", None, None).await.unwrap() });
    }
    let waiting = links.join_all().await;
    let done = waiting.iter().filter(|status| status.state == OperationState::Done).count();
    assert_eq!(done, 10);
    let told = waiting.iter().filter(|status| status.progress.contains("10 service accounts a minute"));
    assert_eq!(told.count(), 15);
    // Another process takes over.
    drop(service);
    world.settle(&world.service()).await;
    assert_eq!(world.gitlab.live()["tokens"].as_array().unwrap().len(), 25);
    world.assert_consistent("all linked").await;
    assert!(world.gitlab.requests().iter().all(|request| request["status"] != 429));
}
