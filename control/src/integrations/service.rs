//! What operators and brokers ask for.

use std::time::Duration;

use dvx_gitlab::{AccessLevel, ProjectId};
use dvx_proto::enclave::Verdict;
use dvx_proto::{AgentName, EnclaveName, Fingerprint, ProviderName};

use super::{IntegrationError, Integrations, Result};
use crate::clock;
use crate::domain::{
    Cause, EnclaveIdentity, Mode, Notes, Operation, OperationId, OperationKind, OperationState,
    OperationStatus, OrgId, Origin, Revision, SecretId, UnlinkOutcome,
};
use crate::store::{Conflict, StoreError, Wanted, Wish};

/// How long whoever asks for something is kept waiting for its end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long brokers have to let go of a token before it is removed at the provider.
const ACKS: Duration = Duration::from_secs(10);
/// How long removing it may take while somebody waits.
const REMOVAL: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

impl Integrations {
    /// Makes an identity for an agent. Answers when it is there, or after a few seconds with what is being done.
    pub async fn link_minted(
        &self,
        cause: &Cause,
        agent: &AgentName,
        credential_provider: &str,
        project: Option<ProjectId>,
        access_level: Option<AccessLevel>,
    ) -> Result<OperationStatus> {
        let org = &cause.actor.org;
        if let Some(begun) = self.0.store.made_before(cause).await? {
            return self.awaited(org, begun.into()).await;
        }
        let provider =
            self.0.store.provider(org, credential_provider).await?.ok_or(IntegrationError::NoProvider)?;
        if let Some(reason) = provider.inactive {
            return Err(IntegrationError::Inactive(reason));
        }
        match (provider.mode, project) {
            (Mode::ProjectAccessToken, None) => return Err(IntegrationError::ProjectNeeded),
            (Mode::ServiceAccount, Some(_)) => return Err(IntegrationError::ProjectRefused),
            _ => {}
        }
        let notes = Notes {
            project: project.map(|id| id.0),
            access_level: access_level.map(AccessLevel::number),
            ..Notes::default()
        };
        // Asked for again, after whoever asked first did not wait.
        let same = |running: &Operation| {
            running.kind == OperationKind::Link
                && running.credential_provider == provider.id
                && (running.notes.project, running.notes.access_level) == (notes.project, notes.access_level)
                && running.notes.cause.is_none()
        };
        let (notes, delay) = (notes.clone(), Duration::ZERO);
        let wanted = Wanted { agent, provider: &provider.provider, maker: &provider.id, notes, delay };
        let id = self.begun(cause, Wish::Link, wanted, same).await?;
        self.awaited(org, id).await
    }

    /// Begins what is wanted, after what is under way about the same agent has come to its end, be it in another
    /// process or left behind by one. What is the same as what is wanted is not begun again.
    async fn begun(
        &self,
        cause: &Cause,
        wish: Wish,
        wanted: Wanted<'_>,
        same: impl Fn(&Operation) -> bool,
    ) -> Result<OperationId> {
        loop {
            match self.0.store.begin(cause, wish, wanted.clone()).await {
                Err(StoreError::Conflict(Conflict::UnderWay(id))) => {
                    let running = self.0.store.operation(&cause.actor.org, &id).await?;
                    if running.is_some_and(|running| running.is_running() && same(&running)) {
                        self.0.store.remember_made(cause, id.as_str()).await?;
                        return Ok(id);
                    }
                    if !self.at_its_end(&cause.actor.org, &id).await? {
                        return Err(IntegrationError::Busy(id));
                    }
                }
                begun => return begun.map_err(plain),
            }
        }
    }

    /// Waits for the end of what is under way, if anything is; not for ever.
    pub(super) async fn rest(&self, org: &OrgId, under_way: Option<OperationId>) -> Result<()> {
        match under_way {
            Some(id) => self.at_its_end(org, &id).await.map(drop),
            None => Ok(()),
        }
    }

    /// Carries an operation on, or waits for whoever does; whether it has come to its end.
    async fn at_its_end(&self, org: &OrgId, id: &OperationId) -> Result<bool> {
        let begin = clock::monotonic();
        drop(self.spawn(id.clone()));
        while begin.elapsed() < PATIENCE && !self.is_stopping() {
            if !self.0.store.operation(org, id).await?.is_some_and(|operation| operation.is_running()) {
                return Ok(true);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }

    /// Takes an agent's identity away: here at once, then at the provider as far as it answers.
    pub async fn unlink(
        &self,
        cause: &Cause,
        agent: &AgentName,
        provider: &ProviderName,
    ) -> Result<UnlinkOutcome> {
        let store = &self.0.store;
        let org = &cause.actor.org;
        let before = store.integration(org, agent, provider).await?;
        if before.is_some_and(|before| before.origin != Origin::Minted) {
            return self.unlink_pat(cause, agent, provider).await;
        }
        let done = store.unlink(cause, agent, provider, ACKS).await?;
        let (id, revision) = done.ok_or(IntegrationError::NotLinked)?;
        let missing = self.await_brokers(org, agent, revision).await?;
        // Whatever is not done by then is done in the background.
        if let Ok(Err(error)) = tokio::time::timeout(REMOVAL, self.remove_of(&id)).await {
            tracing::warn!(error = crate::causes::causes(&error), "an identity is not removed yet");
        }
        let warning = store.left_of(&id).await?.map(|why| {
            format!(
                "the identity is not deleted at the provider yet ({why}); that is tried again, see dvx \
                 credential-provider debts"
            )
        });
        self.0.wake.notify_one();
        Ok(UnlinkOutcome { revision, warning, missing })
    }

    /// Replaces an agent's token by a new one.
    pub async fn rotate(
        &self,
        cause: &Cause,
        agent: &AgentName,
        provider: &ProviderName,
    ) -> Result<OperationStatus> {
        let org = &cause.actor.org;
        if let Some(begun) = self.0.store.made_before(cause).await? {
            return self.awaited(org, begun.into()).await;
        }
        let mut found = self.0.store.integration(org, agent, provider).await?;
        if found.is_none() {
            // It may be about to be linked.
            self.rest(org, self.0.store.under_way(org, agent, provider).await?).await?;
            found = self.0.store.integration(org, agent, provider).await?;
        }
        let found = found.ok_or(IntegrationError::NotLinked)?;
        let maker = found.identity.credential_provider.filter(|_| found.origin == Origin::Minted);
        let maker = maker.ok_or(IntegrationError::NotMinted)?;
        let same = |running: &Operation| running.kind == OperationKind::Rotate;
        let (maker, notes) = (&maker, Notes::default());
        let wanted = Wanted { agent, provider, maker, notes, delay: Duration::ZERO };
        let id = self.begun(cause, Wish::Rotate, wanted, same).await?;
        self.awaited(org, id).await
    }

    /// How an operation stands.
    pub async fn operation(&self, org: &OrgId, id: &OperationId) -> Result<OperationStatus> {
        let operation = self.0.store.operation(org, id).await?;
        operation.map(status).ok_or(IntegrationError::NoOperation)
    }

    /// A provider has refused the token with this fingerprint: asks the provider, and mends what can be mended.
    ///
    /// Whether the credential is one of the enclave's has been checked.
    pub async fn rejected(
        &self,
        enclave: &EnclaveIdentity,
        credential: &SecretId,
        fingerprint: Fingerprint,
    ) -> Result<Verdict> {
        self.look_into(&enclave.org, credential, fingerprint).await
    }

    /// Carries an operation on in the background.
    pub(super) fn spawn(&self, id: OperationId) -> tokio::task::JoinHandle<Result<()>> {
        let service = self.clone();
        tokio::spawn(async move { service.carry_on(&id).await })
    }

    /// Carries an operation on for as long as somebody waits. It goes on after that.
    pub(super) async fn to_its_end(&self, id: OperationId) -> Result<()> {
        match tokio::time::timeout(PATIENCE, self.spawn(id)).await {
            Ok(Ok(Err(error))) if !matches!(error, IntegrationError::Lost) => Err(error),
            _ => Ok(()),
        }
    }

    async fn awaited(&self, org: &OrgId, id: OperationId) -> Result<OperationStatus> {
        let begin = clock::monotonic();
        self.to_its_end(id.clone()).await?;
        loop {
            let status = self.operation(org, &id).await?;
            // Whoever carried it on, it is told as if it had failed here.
            if let Some(problem) = status.problem {
                return Err(IntegrationError::Failed(Box::new(problem)));
            }
            let is_over = status.state != OperationState::Running || self.is_stopping();
            if is_over || begin.elapsed() >= PATIENCE {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The enclaves whose brokers may still have what came before a revision, after a while.
    pub(super) async fn await_brokers(
        &self,
        org: &OrgId,
        agent: &AgentName,
        revision: Revision,
    ) -> Result<Vec<EnclaveName>> {
        let begin = clock::monotonic();
        loop {
            let now = self.now();
            let enclaves = match self.0.store.deliveries(org, revision, Some(agent), now).await {
                Ok(enclaves) => enclaves,
                // The agent went meanwhile.
                Err(StoreError::NotFound(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let missing = enclaves.into_iter().filter(|enclave| enclave.missing(revision, now));
            let missing: Vec<EnclaveName> = missing.map(|enclave| enclave.name).collect();
            if missing.is_empty() || begin.elapsed() >= ACKS {
                return Ok(missing);
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// What the store says in words of its own.
fn plain(error: StoreError) -> IntegrationError {
    match error {
        StoreError::Conflict(Conflict::Linked) => IntegrationError::AlreadyLinked,
        StoreError::Conflict(Conflict::NotMinted) => IntegrationError::NotMinted,
        StoreError::Conflict(Conflict::UnderWay(id)) => IntegrationError::Busy(id),
        StoreError::Conflict(Conflict::Revoked) => IntegrationError::NotActive,
        error => error.into(),
    }
}

fn status(operation: Operation) -> OperationStatus {
    let progress = match operation.state {
        OperationState::Running => match &operation.last_error {
            Some(why) => format!("{}: {why}", operation.step.doing()),
            None => operation.step.doing().to_owned(),
        },
        OperationState::Done => "done".to_owned(),
        OperationState::Failed => "given up".to_owned(),
    };
    OperationStatus {
        id: operation.id,
        kind: operation.kind,
        agent: operation.agent.map(|(_, agent)| agent),
        state: operation.state,
        progress,
        problem: operation.problem,
        revision: operation.revision,
        created_at: operation.created_at,
    }
}
