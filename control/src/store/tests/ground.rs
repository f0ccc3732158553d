//! A database of its own for each test.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use dvx_proto::agent::AuthType;
use dvx_proto::operator::{AuditEvent, CreateAgent, CreatedEnclave, Role, Selectors};
use dvx_proto::{AgentName, Secret};
use dvx_tests::Postgres;

use crate::clock;
use crate::crypto::{Kek, Unreadable};
use crate::domain::{Actor, AgentId, AuditQuery, Cause, Metadata, NewSecret, Outcome};
use crate::store::Store;
use crate::store::row::assembled;
use crate::store::transaction::only_number;

/// A database, and the KEK that it will be encrypted with.
pub(crate) struct Ground {
    pub(crate) url: String,
    pub(crate) kek: Kek,
    _directory: Option<tempfile::TempDir>,
    _server: Option<Arc<Postgres>>,
}

/// A file of SQLite.
pub(crate) fn sqlite() -> Ground {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("control.db").display());
    Ground { url, kek: Kek::generate(), _directory: Some(directory), _server: None }
}

/// A database that the test made itself.
pub(crate) fn at(url: String) -> Ground {
    Ground { url, kek: Kek::generate(), _directory: None, _server: None }
}

/// A database of PostgreSQL, where there is one.
pub(crate) fn postgres(test: &str) -> Option<Ground> {
    let server = server(test)?;
    let name = format!("dvx{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let url = server.create_database(&name);
    Some(Ground { url, kek: Kek::generate(), _directory: None, _server: Some(server) })
}

/// The server that the tests share that run at the same time; it ends with the last of them.
fn server(test: &str) -> Option<Arc<Postgres>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return Some(server);
    }
    let server = Arc::new(Postgres::start(test)?);
    *shared = Arc::downgrade(&server);
    Some(server)
}

static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Ground {
    pub(crate) async fn initialised(&self) -> Store {
        let admin = "admin".parse().unwrap();
        Store::init(&self.url, self.kek.clone(), "default", &admin, clock::wall()).await.unwrap();
        self.open().await
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.url, self.kek.clone(), clock::wall()).await.unwrap()
    }

    pub(crate) async fn cause(&self, store: &Store) -> Cause {
        let organisation = store.organisation("default").await.unwrap().unwrap();
        let (org, organisation) = (organisation.id, organisation.name);
        let actor = Actor { org, organisation, name: "admin".into(), role: Some(Role::Admin) };
        Cause { actor, request_id: Some("r-1".into()), time: clock::wall(), repeatable: None }
    }

    pub(crate) async fn enclave(&self, store: &Store, cause: &Cause, name: &str) -> CreatedEnclave {
        match store.create_enclave(cause, &name.parse().unwrap(), None).await.unwrap() {
            Outcome::Done(changed) => changed.value,
            Outcome::Repeated(_) => panic!("nothing was asked before"),
        }
    }

    pub(crate) async fn agent(&self, store: &Store, cause: &Cause, name: &str, enclave: &str) -> AgentName {
        store.create_agent(cause, &create(name, enclave), None).await.unwrap();
        name.parse().unwrap()
    }
}

/// An agent under a user of its own.
pub(crate) fn create(name: &str, enclave: &str) -> CreateAgent {
    CreateAgent {
        name: name.parse().unwrap(),
        enclave: enclave.parse().unwrap(),
        unix_user: format!("u-{name}").parse().unwrap(),
        selectors: Selectors::default(),
        acts_as: None,
    }
}

/// A token of GitLab.
pub(crate) fn credential(token: &str) -> NewSecret {
    NewSecret {
        name: "gitlab:token".parse().unwrap(),
        value: Secret::from(token.as_bytes().to_vec()),
        metadata: Metadata {
            agent_accessible: false,
            display_name: Some("my-user".into()),
            auth_type: Some(AuthType::Pat),
            instance_url: Some("https://gitlab.example.com".parse().unwrap()),
            expires_at: Some("2030-01-01T00:00:00Z".parse().unwrap()),
        },
    }
}

impl Ground {
    /// A store with the enclave `lab`, the agents `a` and `b` in it, and a token for each.
    pub(crate) async fn furnished(&self) -> (Store, Cause) {
        let store = self.initialised().await;
        let cause = self.cause(&store).await;
        self.enclave(&store, &cause, "lab").await;
        for name in ["a", "b"] {
            let agent = self.agent(&store, &cause, name, "lab").await;
            store.set_secret(&cause, Some(&agent), credential(&format!("glpat-{name}"))).await.unwrap();
        }
        (store, cause)
    }

    /// Another process on the same database.
    pub(crate) async fn replica(&self) -> Store {
        self.open().await
    }
}

/// A secret that agents may read.
pub(crate) fn plain(name: &str, value: &str) -> NewSecret {
    NewSecret {
        name: name.parse().unwrap(),
        value: Secret::from(value.as_bytes().to_vec()),
        metadata: Metadata {
            agent_accessible: true,
            display_name: None,
            auth_type: None,
            instance_url: None,
            expires_at: None,
        },
    }
}

/// Lets a replica look at another one, whose heartbeats from this second on are these.
pub(crate) fn watch(store: &Store, other: &Store, from: u64, heartbeats: impl IntoIterator<Item = i64>) {
    let id = other.replica().to_string();
    for (second, at) in (from..).zip(heartbeats) {
        store.0.others.look(vec![(id.clone(), at)], clock::monotonic() + Duration::from_secs(second));
    }
}

/// What an operator's own connection to the database does. How many rows it touched.
pub(crate) async fn execute(store: &Store, sql: &str) -> u64 {
    let done = sqlx::query(assembled(sql.to_owned())).execute(&store.0.writer).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}")).rows_affected()
}

/// A statement's only number.
pub(crate) async fn number(store: &Store, sql: &str) -> i64 {
    let row = sqlx::query(assembled(sql.to_owned())).fetch_one(&store.0.reader).await;
    only_number(&row.unwrap_or_else(|error| panic!("{sql}: {error}"))).unwrap()
}

/// The value of an agent's token, if it opens.
pub(crate) async fn opened(store: &Store, cause: &Cause, agent: &str) -> Option<Result<String, Unreadable>> {
    let org = &cause.actor.org;
    let id = store.agent_id(org, &agent.parse().unwrap()).await.unwrap();
    opened_as(store, cause, Some(&id), "gitlab:token").await
}

/// The value of any secret, if it opens.
pub(crate) async fn opened_as(
    store: &Store,
    cause: &Cause,
    agent: Option<&AgentId>,
    name: &str,
) -> Option<Result<String, Unreadable>> {
    let stored = store.stored_secret(&cause.actor.org, agent, &name.parse().unwrap()).await.unwrap()?;
    let value = store.open_secret(&stored, cause.time).await.unwrap();
    Some(value.map(|value| String::from_utf8(value.expose_secret().to_vec()).unwrap()))
}

/// Every event of the organisation with this action.
pub(crate) async fn events(store: &Store, cause: &Cause, action: &str) -> Vec<AuditEvent> {
    let query = AuditQuery { limit: 10_000, ..AuditQuery::default() };
    let events = store.events(&cause.actor.org, &query).await.unwrap();
    events.into_iter().filter(|event| event.action == action).collect()
}
