//! How an operation begins.

use std::time::Duration;

use dvx_gitlab::{AccessLevel, ProjectId};
use dvx_proto::{AgentName, ProviderName};

use super::{data, of_provider};
use crate::domain::{AgentId, Cause, Notes, OperationId, OperationKind, Origin, ProviderId, Step};
use crate::store::integrations::active;
use crate::store::leases::ahead;
use crate::store::row::{Columns, micros};
use crate::store::transaction::Write;
use crate::store::{Conflict, Object, Result, Store, StoreError};

/// Why an agent gets an identity, or another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It has none.
    Link,
    /// It is provisioned anew: the one that it had is gone.
    Again,
    /// Its token is to be replaced.
    Rotate,
}

/// For whom, where and by whom.
#[derive(Clone)]
pub(crate) struct Wanted<'a> {
    pub(crate) agent: &'a AgentName,
    pub(crate) provider: &'a ProviderName,
    pub(crate) maker: &'a ProviderId,
    pub(crate) notes: Notes,
    /// Not before this has passed.
    pub(crate) delay: Duration,
}

impl Store {
    /// Writes down that an agent is to get an identity, or another token.
    pub(crate) async fn begin(&self, cause: &Cause, wish: Wish, wanted: Wanted<'_>) -> Result<OperationId> {
        let Wanted { agent, provider, maker: credential_provider, mut notes, delay } = wanted;
        let org = &cause.actor.org;
        let mut write = self.write().await?;
        write.lock(org).await?;
        if let Some(id) = write.made_before(cause).await? {
            return Ok(id.into());
        }
        let owner = write.owner(org, Some(agent)).await?.ok_or(StoreError::NotFound(Object::Agent))?;
        write.refuse_running(&owner, provider).await?;
        write.refuse_revoked(&owner.id).await?;
        let found = write.integration(&owner, provider).await?;
        let minted = found.as_ref().filter(|found| found.origin == Origin::Minted);
        let (kind, step) = match wish {
            Wish::Link if found.as_ref().is_some_and(|found| found.origin != Origin::Manual) => {
                return Err(Conflict::Linked.into());
            }
            Wish::Link => (OperationKind::Link, Step::Account),
            Wish::Again => (OperationKind::Link, Step::Account),
            Wish::Rotate => (OperationKind::Rotate, Step::Token),
        };
        if wish != Wish::Link {
            let Some(found) = minted else { return Err(Conflict::NotMinted.into()) };
            notes.project = found.identity.project.map(|ProjectId(id)| id);
            notes.access_level = found.identity.access_level.map(AccessLevel::number);
        }
        if wish == Wish::Rotate {
            notes.account = write.used_account(&owner.id, credential_provider).await?;
        }
        // Without an account there is one to be made; a project's token has none.
        let step = if notes.project.is_some() {
            Step::Token
        } else if notes.account.is_none() {
            Step::Account
        } else {
            step
        };
        notes.actor.clone_from(&cause.actor.name);
        let id = OperationId::generate(cause.time);
        let agent = Some((owner.id.as_str(), owner.name.as_str()));
        let key = active(&owner.id, provider);
        let new =
            NewOperation { id: &id, kind, agent, provider, credential_provider, key, step, notes: &notes };
        write.insert_operation(cause, new, delay).await?;
        write.remember_made(cause, id.as_str()).await?;
        write.commit().await?;
        Ok(id)
    }

    /// Writes down that a credential provider's token is to replace itself.
    pub(crate) async fn begin_provider_rotation(
        &self,
        cause: &Cause,
        credential_provider: &ProviderId,
        provider: &ProviderName,
    ) -> Result<OperationId> {
        let mut write = self.write().await?;
        write.lock(&cause.actor.org).await?;
        if let Some(running) = write.running(&of_provider(credential_provider)).await? {
            return Err(Conflict::UnderWay(running).into());
        }
        let id = write.begin_provider_rotation(cause, credential_provider, provider).await?;
        write.commit().await?;
        Ok(id)
    }
}

struct NewOperation<'a> {
    id: &'a OperationId,
    kind: OperationKind,
    agent: Option<(&'a str, &'a str)>,
    provider: &'a ProviderName,
    credential_provider: &'a ProviderId,
    key: String,
    step: Step,
    notes: &'a Notes,
}

impl Write<'_> {
    /// The same in a transaction, where none can be under way.
    pub(in crate::store) async fn begin_provider_rotation(
        &mut self,
        cause: &Cause,
        credential_provider: &ProviderId,
        provider: &ProviderName,
    ) -> Result<OperationId> {
        let id = OperationId::generate(cause.time);
        let notes = Notes { actor: cause.actor.name.clone(), ..Notes::default() };
        let new = NewOperation {
            id: &id,
            kind: OperationKind::ProviderRotate,
            agent: None,
            provider,
            credential_provider,
            key: of_provider(credential_provider),
            step: Step::RotateSelf,
            notes: &notes,
        };
        self.insert_operation(cause, new, Duration::ZERO).await?;
        Ok(id)
    }

    async fn insert_operation(
        &mut self,
        cause: &Cause,
        new: NewOperation<'_>,
        delay: Duration,
    ) -> Result<()> {
        sqlx::query(
            "INSERT INTO operations (id, org_id, kind, agent_id, agent, provider, credential_provider_id, active, \
             state, step, data, attempts, next_at, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'running', $9, $10, 0, $11, $12, $12)",
        )
        .bind(new.id.as_str())
        .bind(cause.actor.org.as_str())
        .bind(new.kind.as_str())
        .bind(new.agent.map(|(id, _)| id))
        .bind(new.agent.map(|(_, name)| name))
        .bind(new.provider.as_str())
        .bind(new.credential_provider.as_str())
        .bind(new.key)
        .bind(new.step.as_str())
        .bind(data(new.notes))
        .bind(ahead(cause.time, delay))
        .bind(micros(cause.time))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    async fn refuse_revoked(&mut self, agent: &AgentId) -> Result<()> {
        let row = sqlx::query("SELECT state FROM agents WHERE id = $1")
            .bind(agent.as_str())
            .fetch_one(self.connection())
            .await?;
        if row.text("state")? == "revoked" { Err(Conflict::Revoked.into()) } else { Ok(()) }
    }
}
