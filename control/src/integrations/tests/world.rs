//! A store, a simulator, and a service between them, whose clock is the test's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use dvx_gitlab::{Guard, ProjectId, Transport};
use dvx_proto::{AgentName, Fingerprint, ProviderName, Token};
use dvx_tests::GitLab;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::clock;
use crate::domain::{Cause, Mode, OperationState, OperationStatus};
use crate::integrations::fail_points::{FailPoints, When};
use crate::integrations::{Integrations, ProviderRequest, Result};
use crate::store::Store;
use crate::store::tests::ground::{self, Ground};

pub(super) struct World {
    pub(super) ground: Ground,
    pub(super) gitlab: GitLab,
    pub(super) store: Store,
    clock: Arc<Clock>,
    cause: Cause,
}

/// The test's.
#[derive(Default)]
struct Clock {
    /// Seconds that have passed besides.
    offset: AtomicI64,
    /// Where it stands still, in microseconds; 0 where it does not.
    still: AtomicI64,
}

impl Clock {
    fn now(&self) -> Timestamp {
        match self.still.load(Ordering::Relaxed) {
            0 => clock::wall() + SignedDuration::from_secs(self.offset.load(Ordering::Relaxed)),
            still => Timestamp::from_microsecond(still).unwrap(),
        }
    }
}

pub(super) const AGENT: &str = "a";

pub(super) fn provider() -> ProviderName {
    "gitlab".parse().unwrap()
}

pub(super) fn agent(name: &str) -> AgentName {
    name.parse().unwrap()
}

pub(super) fn token(text: &str) -> Token {
    Token::try_from(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

impl World {
    pub(super) async fn new() -> Self {
        Self::on(ground::sqlite()).await
    }

    pub(super) async fn on(ground: Ground) -> Self {
        let gitlab = GitLab::start(&json!({
            "users": [{"username": "owner"}],
            "groups": [{"path": "company"}],
            "projects": [{"path": "company/app"}],
            "members": [{"of": "company", "user": "owner", "access_level": 50}],
        }));
        let store = ground.initialised().await;
        let cause = ground.cause(&store).await;
        ground.enclave(&store, &cause, "lab").await;
        for name in ["a", "b"] {
            ground.agent(&store, &cause, name, "lab").await;
        }
        Self { ground, gitlab, store, clock: Arc::default(), cause }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn cause(&self) -> Cause {
        Cause { time: self.now(), ..self.cause.clone() }
    }

    /// What happens until [`go_on`](Self::go_on) happens at once, however slow the machine is.
    pub(super) fn stand_still(&self) {
        self.clock.still.store(self.now().as_microsecond(), Ordering::Relaxed);
    }

    pub(super) fn go_on(&self) {
        self.clock.still.store(0, Ordering::Relaxed);
    }

    /// Lets time pass, here and there.
    pub(super) fn pass(&self, seconds: i64) {
        let offset = self.clock.offset.fetch_add(seconds, Ordering::Relaxed) + seconds;
        self.gitlab.shift_time(offset);
    }

    pub(super) fn service(&self) -> Integrations {
        self.service_with(self.store.clone(), FailPoints::default())
    }

    pub(super) fn service_with(&self, store: Store, points: FailPoints) -> Integrations {
        let guard = Guard::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let transport = Transport::new(guard, None).unwrap().with_limit(Duration::from_secs(5));
        let clock = self.clock.clone();
        Integrations::with_points(store, transport, Arc::new(move || clock.now()), points)
    }

    /// A service that ends at the first point that it comes to of which this is true, as if by a crash.
    pub(super) fn crashing(
        &self,
        at: impl Fn(&'static str, When) -> bool + Send + Sync + 'static,
    ) -> (Integrations, Arc<AtomicBool>) {
        let struck = Arc::new(AtomicBool::new(false));
        let hit = struck.clone();
        // A process that has ended does nothing more.
        let points = FailPoints::stopping(move |point, when| {
            hit.load(Ordering::Relaxed) || at(point, when) && !hit.swap(true, Ordering::Relaxed)
        });
        (self.service_with(self.store.clone(), points), struck)
    }

    /// The process that comes after one that has ended.
    pub(super) async fn successor(&self) -> Integrations {
        self.service_with(self.ground.open().await, FailPoints::default())
    }

    pub(super) fn request(&self, mode: Mode, rotate_every: Option<Duration>) -> ProviderRequest {
        ProviderRequest {
            name: "maker".into(),
            instance_url: self.gitlab.url().parse().unwrap(),
            group: "company".parse().unwrap(),
            mode,
            rotate_every,
            token: token(&self.gitlab.token("owner", &["api"])),
        }
    }

    pub(super) async fn maker(&self, mode: Mode) {
        self.service().provider_create(&self.cause(), self.request(mode, None)).await.unwrap();
    }

    pub(super) fn project(&self, mode: Mode) -> Option<ProjectId> {
        let project = || self.gitlab.seeded["projects"]["company/app"].as_u64().unwrap();
        (mode == Mode::ProjectAccessToken).then(|| ProjectId(project()))
    }

    pub(super) async fn link(&self, service: &Integrations, mode: Mode) -> Result<OperationStatus> {
        service.link_minted(&self.cause(), &agent(AGENT), "maker", self.project(mode), None).await
    }

    pub(super) async fn linked(&self, mode: Mode) -> Integrations {
        self.maker(mode).await;
        let service = self.service();
        let status = self.link(&service, mode).await.unwrap();
        assert_eq!(status.state, OperationState::Done, "{status:?}");
        service
    }

    /// The value of an agent's token.
    pub(super) async fn value(&self, name: &str) -> Option<String> {
        ground::opened(&self.store, &self.cause(), name).await.map(|value| value.unwrap())
    }

    pub(super) async fn fingerprint(&self, name: &str) -> Fingerprint {
        Fingerprint::of(self.value(name).await.unwrap().as_bytes())
    }

    /// Lets a service work until there is nothing left to do, and time pass meanwhile.
    pub(super) async fn settle(&self, service: &Integrations) {
        for _ in 0..60 {
            service.schedule().await.unwrap();
            for (operation, lease) in
                service.store().take_operations(&BTreeSet::new(), 8, self.now()).await.unwrap()
            {
                drop(service.drive(operation, lease).await);
            }
            service.remove_due().await.unwrap();
            let left = self.number(
                "SELECT (SELECT COUNT(*) FROM operations WHERE state = 'running') + \
                 (SELECT COUNT(*) FROM minted WHERE state NOT IN ('used', 'gone'))",
            );
            if left.await == 0 {
                return;
            }
            self.pass(11);
        }
        panic!("it does not come to rest: {:?}", self.gitlab.requests().last());
    }

    /// Waits for the operation that a service is at, without any time passing.
    pub(super) async fn until_replaced(&self, value: &str) {
        let replaced = async {
            while self.value(AGENT).await.as_deref() == Some(value) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), replaced).await.expect("another token");
    }

    pub(super) async fn number(&self, sql: &str) -> i64 {
        ground::number(&self.store, sql).await
    }

    /// That GitLab has what the database knows, and nothing else, and that no agent has a dead token.
    pub(super) async fn assert_consistent(&self, what: &str) {
        let live = self.gitlab.live();
        let ids = |list: &Value| -> BTreeSet<i64> {
            list.as_array().unwrap().iter().map(|one| one["id"].as_i64().unwrap()).collect()
        };
        let used = self.externals("kind <> 'account' AND state = 'used'").await;
        assert_eq!(ids(&live["tokens"]), used, "{what}: tokens {live}");
        let accounts: BTreeSet<i64> = live["identities"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["kind"] == "service_account")
            .map(|one| one["id"].as_i64().unwrap())
            .collect();
        assert_eq!(accounts, self.externals("kind = 'account' AND state = 'used'").await, "{what}: {live}");
        if let Some(value) = self.value(AGENT).await {
            let answer = self.gitlab.api("GET", "/personal_access_tokens/self", Some(&value), &Value::Null);
            assert_eq!(answer.status, 200, "{what}: the agent has a dead token");
        }
        assert_eq!(
            self.number("SELECT COUNT(*) FROM minted WHERE value IS NOT NULL").await,
            0,
            "{what}: a value is left in the journal"
        );
    }

    async fn externals(&self, condition: &str) -> BTreeSet<i64> {
        let mut all = BTreeSet::new();
        let count = self.number(&format!("SELECT COUNT(*) FROM minted WHERE {condition}")).await;
        for offset in 0..count {
            let sql = format!(
                "SELECT external_id FROM minted WHERE {condition} ORDER BY id LIMIT 1 OFFSET {offset}"
            );
            all.insert(self.number(&sql).await);
        }
        all
    }

    /// How often something was asked for.
    pub(super) fn asked(&self, method: &str, ending: &str) -> usize {
        let requests = self.gitlab.requests();
        let fits = |request: &&Value| {
            let path = request["path"].as_str().unwrap_or_default();
            request["method"] == method && path.split('?').next().unwrap_or_default().ends_with(ending)
        };
        requests.iter().filter(fits).count()
    }
}
