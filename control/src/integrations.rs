//! Identities of agents at providers: linking, making, replacing, mending and undoing them.
//!
//! What takes several calls is an operation in the journal, and what a call makes is in the table `minted`
//! before the call. So whoever comes after a crash knows what there may be, and finishes it or removes it.

mod check;
mod error;
mod github;
mod pat;
mod provider_checks;

use std::sync::Arc;

use dvx_gitlab::{AccessLevel, GitLab, GroupRef, ProjectId, Transport};
use dvx_proto::enclave::Verdict;
use dvx_proto::{AgentName, Fingerprint, ProviderName, RemoteUrl, Token};
use jiff::Timestamp;

use crate::domain::{
    Cause, Changed, CredentialProvider, Debt, EnclaveIdentity, Mode, OperationId, OperationStatus, OrgId,
    Origin, SecretId, UnlinkOutcome,
};
use crate::store::Store;

pub use check::CheckError;
pub use error::IntegrationError;
pub(crate) use pat::public_instance;

type Result<T, E = IntegrationError> = std::result::Result<T, E>;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The service. Clones share everything.
#[derive(Clone)]
pub struct Integrations(Arc<Inner>);

struct Inner {
    store: Store,
    transport: Transport,
    clock: Clock,
}

/// A credential provider as an operator describes it.
#[derive(Debug)]
pub struct ProviderRequest {
    /// Its unique name.
    pub name: String,
    /// Where.
    pub instance_url: RemoteUrl,
    /// Whose identities it makes.
    pub group: GroupRef,
    /// What it makes.
    pub mode: Mode,
    /// How often its token is replaced; none for never.
    pub rotate_every: Option<std::time::Duration>,
    /// Its token.
    pub token: Token,
}

impl Integrations {
    /// A service that connects by `transport` and reads the time from `clock`.
    pub fn new(store: Store, transport: Transport, clock: Clock) -> Self {
        Self(Arc::new(Inner { store, transport, clock }))
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

    /// Makes an identity for an agent. Answers when it is there, or after a few seconds with what is being done.
    pub async fn link_minted(
        &self,
        _cause: &Cause,
        _agent: &AgentName,
        _credential_provider: &str,
        _project: Option<ProjectId>,
        _access_level: Option<AccessLevel>,
    ) -> Result<OperationStatus> {
        Err(IntegrationError::NoProvider)
    }

    /// Takes an agent's identity away: here at once, then at the provider as far as it answers.
    pub async fn unlink(
        &self,
        cause: &Cause,
        agent: &AgentName,
        provider: &ProviderName,
    ) -> Result<UnlinkOutcome> {
        let found = self.store().integration(&cause.actor.org, agent, provider).await?;
        match found.ok_or(IntegrationError::NotLinked)?.origin {
            Origin::Manual | Origin::Pat => self.unlink_pat(cause, agent, provider).await,
            Origin::Minted => Err(IntegrationError::NotLinked),
        }
    }

    /// Replaces an agent's token by a new one.
    pub async fn rotate(
        &self,
        _cause: &Cause,
        _agent: &AgentName,
        _provider: &ProviderName,
    ) -> Result<OperationStatus> {
        Err(IntegrationError::NotLinked)
    }

    /// How an operation stands.
    pub async fn operation(&self, _org: &OrgId, _id: &OperationId) -> Result<OperationStatus> {
        Err(IntegrationError::NoOperation)
    }

    /// Makes a credential provider, after its token has been checked.
    pub async fn provider_create(
        &self,
        _cause: &Cause,
        request: ProviderRequest,
    ) -> Result<CredentialProvider> {
        let gitlab = self.gitlab(&request.instance_url);
        provider_checks::check(&gitlab, request.token, &request.group).await?;
        Err(IntegrationError::NoProvider)
    }

    /// The credential providers, sorted by name.
    pub async fn provider_list(&self, _org: &OrgId) -> Result<Vec<CredentialProvider>> {
        Ok(Vec::new())
    }

    /// Gives a credential provider, by its id or name, another token, after that has been checked.
    pub async fn provider_rotate(
        &self,
        _cause: &Cause,
        _id: &str,
        _token: Token,
    ) -> Result<CredentialProvider> {
        Err(IntegrationError::NoProvider)
    }

    /// Deletes a credential provider, by its id or name.
    pub async fn provider_delete(&self, _cause: &Cause, _id: &str) -> Result<()> {
        Err(IntegrationError::NoProvider)
    }

    /// What is still to be removed at providers.
    pub async fn debts(&self, _org: &OrgId) -> Result<Vec<Debt>> {
        Ok(Vec::new())
    }

    /// A provider has refused the token with this fingerprint: asks the provider, and mends what can be mended.
    ///
    /// Whether the credential is one of the enclave's has been checked.
    pub async fn rejected(
        &self,
        _enclave: &EnclaveIdentity,
        _credential: &SecretId,
        _fingerprint: Fingerprint,
    ) -> Result<Verdict> {
        Ok(Verdict::Unknown)
    }

    /// Works off what is due: operations, removals, rotations. Ends never.
    pub async fn run(&self) {
        std::future::pending().await
    }
}

/// What came of linking a person's token: the revision that has it.
pub type Linked = Changed<dvx_proto::operator::SecretInfo>;

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
