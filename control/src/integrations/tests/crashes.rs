//! The process ends, or an answer is lost, at every place.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::world::{AGENT, World, agent, provider};
use crate::domain::Mode;
use crate::integrations::Integrations;
use crate::integrations::fail_points::{FailPoints, POINTS, When};
use crate::store::tests::ground;

/// Something that takes several calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saga {
    Link(Mode),
    Rotate(Mode),
    Unlink(Mode),
    ProviderRotate,
}

const SAGAS: [Saga; 7] = [
    Saga::Link(Mode::ServiceAccount),
    Saga::Link(Mode::ProjectAccessToken),
    Saga::Rotate(Mode::ServiceAccount),
    Saga::Rotate(Mode::ProjectAccessToken),
    Saga::Unlink(Mode::ServiceAccount),
    Saga::Unlink(Mode::ProjectAccessToken),
    Saga::ProviderRotate,
];

impl Saga {
    /// A world in which it can begin.
    async fn world(self) -> World {
        let world = World::new().await;
        match self {
            Self::Link(mode) => world.maker(mode).await,
            Self::Rotate(mode) | Self::Unlink(mode) => drop(world.linked(mode).await),
            Self::ProviderRotate => {}
        }
        world
    }

    /// Begins it; how it ends is seen elsewhere.
    async fn run(self, world: &World, service: &Integrations) {
        let cause = world.cause();
        match self {
            Self::Link(mode) => drop(world.link(service, mode).await),
            Self::Rotate(_) => {
                drop(service.rotate(&cause, &agent(AGENT), &provider()).await);
                world.pass(61);
                drop(service.remove_due().await);
            }
            Self::Unlink(_) => drop(service.unlink(&cause, &agent(AGENT), &provider()).await),
            Self::ProviderRotate => {
                let every = Some(Duration::from_secs(30 * 24 * 3600));
                drop(service.provider_create(&cause, world.request(Mode::ServiceAccount, every)).await);
            }
        }
    }

    async fn check(self, world: &World, what: &str) {
        world.assert_consistent(what).await;
        let linked = world.value(AGENT).await.is_some();
        match self {
            Self::Rotate(_) => assert!(linked, "{what}"),
            Self::Unlink(_) => assert!(!linked, "{what}"),
            Self::Link(_) => {}
            Self::ProviderRotate => {
                // Rotated once or not at all, and never presented after that.
                assert!(world.asked("POST", "/self/rotate") <= 1, "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_anywhere_gitlab_has_what_the_database_knows() {
    let mut reached = BTreeSet::new();
    for saga in SAGAS {
        for point in POINTS {
            for when in [When::Before, When::After] {
                let what = format!("{saga:?} {point} {when:?}");
                let world = saga.world().await;
                let (service, struck) = world.crashing(move |at, moment| at == point && moment == when);
                saga.run(&world, &service).await;
                if !struck.load(Ordering::Relaxed) {
                    continue;
                }
                reached.insert(point);
                world.settle(&world.successor().await).await;
                saga.check(&world, &what).await;
            }
        }
    }
    assert_eq!(reached, POINTS.into_iter().collect(), "every point is a point of some saga");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_anywhere_leaves_nothing_behind() {
    for saga in SAGAS {
        for lost in 0.. {
            assert!(lost < 40, "{saga:?} does not come to its end");
            let world = saga.world().await;
            world.gitlab.sim(
                "POST",
                "/faults",
                &json!({"path": "/api/v4/**", "skip": lost, "action": {"kind": "lose_answer"}}),
            );
            let service = world.service();
            saga.run(&world, &service).await;
            world.settle(&service).await;
            let faults = world.gitlab.sim("GET", "/faults", &json!(null));
            world.gitlab.come_back();
            saga.check(&world, &format!("{saga:?}, answer {lost} lost")).await;
            if faults[0]["seen"].as_u64().unwrap() <= lost {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_never_do_one_thing_twice() {
    let test = "two_replicas_never_do_one_thing_twice";
    let Some(ground) = ground::postgres(test) else { return };
    let world = World::on(ground).await;
    let first = world.linked(Mode::ServiceAccount).await;
    let second = world.service_with(world.ground.open().await, FailPoints::default());
    world.pass(25 * 24 * 3600);
    let both = [&first, &second];
    let seen = Mutex::new(0);
    for _ in 0..6 {
        let work = async |service: &Integrations| {
            service.schedule().await.unwrap();
            for (operation, lease) in
                service.store().take_operations(&BTreeSet::new(), 8, world.now()).await.unwrap()
            {
                *seen.lock().unwrap() += 1;
                drop(service.drive(operation, lease).await);
            }
            service.remove_due().await.unwrap();
        };
        let [one, other] = both;
        tokio::join!(work(one), work(other));
        world.pass(20);
    }
    assert_eq!(*seen.lock().unwrap(), 1, "one operation, taken once");
    assert_eq!(
        world.asked("POST", "/personal_access_tokens"),
        2,
        "one token for the link, one for the rotation"
    );
    world.assert_consistent("two replicas").await;
}
