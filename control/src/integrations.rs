//! Identities of agents at providers: linking, making, replacing, mending and undoing them.
//!
//! What takes several calls is an operation in the journal, and what a call makes is in the table `minted`
//! before the call. So whoever comes after a crash knows what there may be, and finishes it or removes it.

mod at_work;
mod check;
mod engine;
mod error;
mod fail_points;
mod github;
mod making;
mod names;
mod pat;
mod problem;
mod provider_checks;
mod providers;
mod reconcile;
mod removal;
mod repair;
mod service;
mod session;
mod steps;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use dvx_gitlab::{GitLab, Transport};
use dvx_proto::{ProviderName, RemoteUrl};
use jiff::Timestamp;
use tokio::sync::{Notify, RwLock};

use crate::store::Store;
use at_work::AtWork;
use fail_points::FailPoints;
use repair::Probes;

pub use check::CheckError;
pub use error::IntegrationError;
pub use fail_points::{POINTS, When};
pub(crate) use pat::public_instance;
pub use providers::ProviderRequest;

type Result<T, E = IntegrationError> = std::result::Result<T, E>;

/// Why a token is replaced that has nothing wrong with it but its age.
const DUE: &str = "due";

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The service. Clones share everything.
#[derive(Clone)]
pub struct Integrations(Arc<Inner>);

struct Inner {
    store: Store,
    transport: Transport,
    clock: Clock,
    points: FailPoints,
    probes: Probes,
    at_work: AtWork,
    /// There is something to do.
    wake: Notify,
    /// Shared by whoever is at a step: the process ends between steps if it can.
    work: RwLock<()>,
    stopping: AtomicBool,
}

impl Integrations {
    /// A service that connects by `transport` and reads the time from `clock`.
    pub fn new(store: Store, transport: Transport, clock: Clock) -> Self {
        Self::with_points(store, transport, clock, FailPoints::of_environment())
    }

    fn with_points(store: Store, transport: Transport, clock: Clock, points: FailPoints) -> Self {
        let (probes, at_work, wake) = (Probes::default(), AtWork::default(), Notify::new());
        let (work, stopping) = (RwLock::default(), AtomicBool::new(false));
        Self(Arc::new(Inner { store, transport, clock, points, probes, at_work, wake, work, stopping }))
    }

    /// Where everything is kept.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        (self.0.clock)()
    }

    /// The instance there. Nothing is sent yet.
    pub fn gitlab(&self, url: &RemoteUrl) -> GitLab {
        GitLab::new(self.0.transport.clone(), url.clone())
    }

    /// How providers are reached.
    pub fn transport(&self) -> &Transport {
        &self.0.transport
    }
}

/// The provider whose identities we can make.
fn gitlab() -> ProviderName {
    known("gitlab")
}

/// A provider of which we know only tokens of persons.
fn github() -> ProviderName {
    known("github")
}

#[expect(clippy::expect_used, reason = "only names written here come this way")]
fn known(name: &str) -> ProviderName {
    name.parse().expect("a provider's name")
}
