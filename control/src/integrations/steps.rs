//! The steps of an operation for an agent: each can be done again, and says what comes next. Those that make
//! something are in [`making`](super::making).

use std::time::Duration;

use dvx_gitlab::{AccessLevel, Jitter, ProjectId, UserId, rotate_at};
use dvx_proto::AgentName;
use jiff::SignedDuration;

use super::fail_points::When;
use super::session::Ready;
use super::{IntegrationError, Integrations, Result};
use crate::domain::{
    AgentId, Identity, LeaseId, Metadata, Minted, MintedId, NewSecret, Operation, OperationKind, Step,
};
use crate::store::{Made, token_name};

/// What tokens for agents may do.
pub(super) const SCOPES: [&str; 3] = ["api", "write_repository", "self_rotate"];
/// How long a token that was replaced stays good.
pub(super) const OVERLAP: Duration = Duration::from_secs(60);
/// How long a first token waits for brokers.
const FIRST_DELIVERY: SignedDuration = SignedDuration::from_secs(30);
/// How long a step looks for deliveries before it lets go of the operation.
const LOOK: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);
/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// This step, which is written down already.
    Step(Step),
    /// Nothing for a while, and why.
    Wait(Duration, String),
    /// Nothing.
    Done,
}

/// An operation, and the lease on it.
pub(super) struct Turn {
    pub(super) operation: Operation,
    pub(super) lease: LeaseId,
}

impl Turn {
    pub(super) fn agent(&self) -> Result<(&AgentId, &AgentName)> {
        let agent = self.operation.agent.as_ref();
        agent.map(|(id, name)| (id, name)).ok_or(IntegrationError::NoOperation)
    }

    pub(super) fn level(&self) -> AccessLevel {
        let level = self.operation.notes.access_level.and_then(AccessLevel::from_number);
        level.unwrap_or(AccessLevel::DEVELOPER)
    }
}

impl Integrations {
    pub(super) async fn publish(&self, turn: &mut Turn, ready: &Ready) -> Result<Next> {
        let minted = self.noted(turn.operation.notes.token.as_ref()).await?;
        let Some(minted) = minted.filter(|minted| minted.envelope.is_some()) else {
            return self.go(turn, Step::Token).await;
        };
        let Ok(value) = self.0.store.open_minted(&minted).await? else {
            return Err(IntegrationError::Unreadable);
        };
        let account = self.noted(turn.operation.notes.account.as_ref()).await?;
        let now = self.now();
        let (username, user) = match &account {
            Some(account) => (account.name.clone(), account.user_id()),
            None => (minted.name.clone(), None),
        };
        let secret = NewSecret {
            name: token_name(&turn.operation.provider)?,
            value,
            metadata: Metadata {
                agent_accessible: false,
                display_name: Some(username.clone()),
                auth_type: Some(ready.provider.mode.auth_type()),
                instance_url: Some(ready.provider.instance_url.clone()),
                expires_at: minted.expires_at,
            },
        };
        let identity = Identity {
            credential_provider: Some(ready.provider.id.clone()),
            project: turn.operation.notes.project.map(ProjectId),
            access_level: Some(turn.level()),
            user,
            username: Some(username),
            token: minted.token_id(),
            scopes: Some(SCOPES.into_iter().map(str::to_owned).collect()),
            minted_at: Some(now),
            rotate_at: minted.expires_at.map(|ends| rotate_at(now, ends, jitter(&minted.id))),
        };
        self.0.points.reach("publish", When::Before)?;
        let store = &self.0.store;
        let revision = store.publish(&turn.operation, &turn.lease, secret, &identity, now).await?;
        self.0.points.reach("publish", When::After)?;
        turn.operation.revision = Some(revision.ok_or(IntegrationError::Lost)?);
        turn.operation.step = Step::Deliver;
        Ok(Next::Step(Step::Deliver))
    }

    pub(super) async fn deliver(&self, turn: &mut Turn) -> Result<Next> {
        self.0.points.reach("deliver", When::Before)?;
        let since = turn.operation.created_at.duration_until(self.now());
        let rounds = LOOK.as_millis() / POLL.as_millis();
        for _ in 0..rounds {
            let missing = self.missing(turn).await?;
            let enough = turn.operation.kind == OperationKind::Link && since > FIRST_DELIVERY;
            if missing.is_empty() || enough {
                self.0.points.reach("deliver", When::After)?;
                return self.go(turn, Step::Retire).await;
            }
            if self.is_stopping() {
                return Err(IntegrationError::Lost);
            }
            tokio::time::sleep(POLL).await;
        }
        let missing = self.missing(turn).await?;
        Ok(Next::Wait(Duration::from_secs(1), format!("brokers have not confirmed: {}", missing.join(", "))))
    }

    async fn missing(&self, turn: &Turn) -> Result<Vec<String>> {
        let (_, agent) = turn.agent()?;
        let Some(revision) = turn.operation.revision else { return Ok(Vec::new()) };
        let now = self.now();
        let enclaves = self.0.store.deliveries(&turn.operation.org, revision, Some(agent), now).await?;
        let missing = enclaves.into_iter().filter(|enclave| enclave.missing(revision, now));
        Ok(missing.map(|enclave| enclave.name.to_string()).collect())
    }

    pub(super) async fn retire(&self, turn: &mut Turn) -> Result<Next> {
        self.0.points.reach("retire", When::Before)?;
        let held = self.0.store.retire(&turn.operation, &turn.lease, OVERLAP, self.now()).await?;
        self.0.points.reach("retire", When::After)?;
        if held { Ok(Next::Done) } else { Err(IntegrationError::Lost) }
    }

    pub(super) async fn noted(&self, id: Option<&MintedId>) -> Result<Option<Minted>> {
        match id {
            Some(id) => Ok(self.0.store.minted(id).await?),
            None => Ok(None),
        }
    }

    pub(super) async fn account_user(&self, turn: &Turn) -> Result<Option<UserId>> {
        let account = self.noted(turn.operation.notes.account.as_ref()).await?;
        Ok(account.and_then(|account| account.user_id()))
    }

    /// The provider has said no, so there is nothing to look for.
    pub(super) async fn not_made(&self, turn: &Turn, minted: &Minted) -> Result<()> {
        let held = self.0.store.not_made(&turn.operation, &turn.lease, &minted.id, self.now()).await?;
        if held { Ok(()) } else { Err(IntegrationError::Lost) }
    }

    pub(super) async fn record(
        &self,
        turn: &mut Turn,
        id: &MintedId,
        made: Made<'_>,
        next: Step,
    ) -> Result<Next> {
        let held = self.0.store.made(&turn.operation, &turn.lease, id, made, next, self.now()).await?;
        if !held {
            return Err(IntegrationError::Lost);
        }
        turn.operation.step = next;
        Ok(Next::Step(next))
    }

    pub(super) async fn go(&self, turn: &mut Turn, step: Step) -> Result<Next> {
        let Operation { id, notes, .. } = &turn.operation;
        if !self.0.store.advance(id, &turn.lease, step, notes, self.now()).await? {
            return Err(IntegrationError::Lost);
        }
        turn.operation.step = step;
        Ok(Next::Step(step))
    }
}

/// Spreads what was made together. A token keeps its number, whatever its row is read by.
fn jitter(id: &MintedId) -> Jitter {
    let hash = id.as_str().bytes().fold(5381_u32, |hash, byte| hash.wrapping_mul(33) ^ u32::from(byte));
    Jitter::new(f64::from(hash % 1000) / 1000.0)
}
