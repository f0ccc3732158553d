//! A database of its own for each test.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dvx_proto::agent::AuthType;
use dvx_proto::operator::{CreateAgent, CreatedEnclave, Role, Selectors};
use dvx_proto::{AgentName, Secret};
use dvx_tests::Postgres;

use crate::clock;
use crate::crypto::Kek;
use crate::domain::{Actor, Cause, Metadata, NewSecret, Outcome};
use crate::store::Store;

/// A database, and the KEK that it will be encrypted with.
pub(super) struct Ground {
    pub(super) url: String,
    pub(super) kek: Kek,
    _directory: Option<tempfile::TempDir>,
    _server: Option<Arc<Postgres>>,
}

/// A file of SQLite.
pub(super) fn sqlite() -> Ground {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", directory.path().join("control.db").display());
    Ground { url, kek: Kek::generate(), _directory: Some(directory), _server: None }
}

/// A database of PostgreSQL, where there is one.
pub(super) fn postgres(test: &str) -> Option<Ground> {
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
    pub(super) async fn initialised(&self) -> Store {
        let admin = "admin".parse().unwrap();
        Store::init(&self.url, self.kek.clone(), "default", &admin, clock::wall()).await.unwrap();
        self.open().await
    }

    pub(super) async fn open(&self) -> Store {
        Store::open(&self.url, self.kek.clone(), clock::wall()).await.unwrap()
    }

    pub(super) async fn cause(&self, store: &Store) -> Cause {
        let organisation = store.organisation("default").await.unwrap().unwrap();
        let (org, organisation) = (organisation.id, organisation.name);
        let actor = Actor { org, organisation, name: "admin".into(), role: Some(Role::Admin) };
        Cause { actor, request_id: Some("r-1".into()), time: clock::wall() }
    }

    pub(super) async fn enclave(&self, store: &Store, cause: &Cause, name: &str) -> CreatedEnclave {
        match store.create_enclave(cause, &name.parse().unwrap(), None).await.unwrap() {
            Outcome::Done(changed) => changed.value,
            Outcome::Repeated(_) => panic!("nothing was asked before"),
        }
    }

    pub(super) async fn agent(&self, store: &Store, cause: &Cause, name: &str, enclave: &str) -> AgentName {
        store.create_agent(cause, &create(name, enclave), None).await.unwrap();
        name.parse().unwrap()
    }
}

/// An agent under a user of its own.
pub(super) fn create(name: &str, enclave: &str) -> CreateAgent {
    CreateAgent {
        name: name.parse().unwrap(),
        enclave: enclave.parse().unwrap(),
        unix_user: format!("u-{name}").parse().unwrap(),
        selectors: Selectors::default(),
        acts_as: None,
    }
}

/// A token of GitLab.
pub(super) fn credential(token: &str) -> NewSecret {
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
