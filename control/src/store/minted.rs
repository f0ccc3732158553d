//! What was made at providers, from before it is made until it is gone.

mod making;
mod removal;

pub(crate) use making::{Intention, Made};

use std::time::Duration;

use dvx_gitlab::{ProjectId, UserId};
use dvx_proto::{Code, Problem, ProviderName, Secret};
use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::leases::ahead;
use super::row::{Columns, assembled, micros, stored};
use super::transaction::Write;
use super::{Object, Result, Store, StoreError};
use crate::crypto::{Aad, Envelope, Unreadable};
use crate::domain::{
    AgentId, Cause, Event, Identity, LeaseId, Minted, MintedId, MintedKind, MintedState, NewSecret,
    Operation, OperationId, OrgId, Origin, ProviderId, Revision, Step,
};

const COLUMNS: &str = "m.id, m.org_id, m.operation_id, m.credential_provider_id, m.agent_id, m.agent, m.kind, \
    m.name, m.project_id, m.account_id, m.external_id, m.expires_at, m.state, m.attempts, m.doomed_at, m.kek_id, \
    m.wrapped_key, m.value";

/// What a minted token's value is bound to.
pub(super) fn aad(org: &str, id: &str) -> Aad {
    Aad::new("dvx minted token 1").text(org).text(id)
}

impl Store {
    /// One thing.
    pub(crate) async fn minted(&self, id: &MintedId) -> Result<Option<Minted>> {
        let row = sqlx::query(assembled(format!("SELECT {COLUMNS} FROM minted m WHERE m.id = $1")))
            .bind(id.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// The token that an agent uses.
    pub(crate) async fn used_token(
        &self,
        agent: &AgentId,
        credential_provider: &ProviderId,
    ) -> Result<Option<Minted>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM minted m WHERE m.agent_id = $1 AND m.credential_provider_id = $2 \
             AND m.kind <> 'account' AND m.state = 'used' ORDER BY m.id DESC LIMIT 1"
        );
        let row = sqlx::query(assembled(sql))
            .bind(agent.as_str())
            .bind(credential_provider.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Whether something of this name is not known to be gone.
    pub(crate) async fn name_is_used(&self, org: &OrgId, name: &str) -> Result<bool> {
        let row =
            sqlx::query("SELECT id FROM minted WHERE org_id = $1 AND name = $2 AND state <> 'gone' LIMIT 1")
                .bind(org.as_str())
                .bind(name)
                .fetch_optional(&self.0.reader)
                .await?;
        Ok(row.is_some())
    }

    /// Whether another row than this one is about the same account.
    pub(crate) async fn account_is_known(&self, minted: &Minted, user: UserId) -> Result<bool> {
        let row = sqlx::query(
            "SELECT id FROM minted WHERE credential_provider_id = $1 AND kind = 'account' AND external_id = $2 \
             AND id <> $3 LIMIT 1",
        )
        .bind(minted.credential_provider.as_str())
        .bind(stored(user.0))
        .bind(minted.id.as_str())
        .fetch_optional(&self.0.reader)
        .await?;
        Ok(row.is_some())
    }

    /// The value of a token that was made and is not published.
    pub(crate) async fn open_minted(&self, minted: &Minted) -> Result<Result<Secret, Unreadable>> {
        let Some(envelope) = &minted.envelope else { return Ok(Err(Unreadable)) };
        let Some(kek) = self.kek(&envelope.kek).await? else { return Ok(Err(Unreadable)) };
        Ok(envelope.open(&kek, &aad(minted.org.as_str(), minted.id.as_str())))
    }

    /// Gives an agent the token that an operation made, and goes on to its delivery: all at once. `None` where
    /// the operation is not this lease's any more.
    pub(crate) async fn publish(
        &self,
        operation: &Operation,
        lease: &LeaseId,
        secret: NewSecret,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Option<Revision>> {
        let cause = operation.cause(now);
        let mut write = self.write().await?;
        write.lock(&operation.org).await?;
        if !write.advance(&operation.id, lease, Step::Deliver, &operation.notes, now).await? {
            return Ok(None);
        }
        let Some((id, agent)) = &operation.agent else {
            return Err(StoreError::Corrupt("an operation without an agent"));
        };
        let owner = write.owner(&operation.org, Some(agent)).await?;
        // One of the same name can be another one.
        let owner = owner.filter(|owner| owner.id == *id).ok_or(StoreError::NotFound(Object::Agent))?;
        let action = match operation.kind {
            crate::domain::OperationKind::Link => "integration.link",
            _ => "integration.rotate",
        };
        let event = Event::allowed(action, secret.name.as_str()).because(operation.notes.cause.clone());
        let changed = write.set_linked(&cause, owner, secret, Origin::Minted, identity, event).await?;
        for used in [&operation.notes.account, &operation.notes.token].into_iter().flatten() {
            sqlx::query(
                "UPDATE minted SET state = 'used', kek_id = NULL, wrapped_key = NULL, value = NULL WHERE id = $1",
            )
            .bind(used.as_str())
            .execute(write.connection())
            .await?;
        }
        sqlx::query("UPDATE operations SET revision = $2 WHERE id = $1")
            .bind(operation.id.as_str())
            .bind(stored(changed.revision.0))
            .execute(write.connection())
            .await?;
        write.commit().await?;
        Ok(Some(changed.revision))
    }

    /// Lets go of all that an agent had before what the operation gave it, and ends the operation.
    pub(crate) async fn retire(
        &self,
        operation: &Operation,
        lease: &LeaseId,
        overlap: Duration,
        now: Timestamp,
    ) -> Result<bool> {
        let Some((agent, _)) = &operation.agent else {
            return Err(StoreError::Corrupt("an operation without an agent"));
        };
        let mut write = self.write().await?;
        if !write.holds(&operation.id, lease).await? {
            return Ok(false);
        }
        let kept = |id: &Option<MintedId>| id.as_ref().map_or(String::new(), ToString::to_string);
        sqlx::query(
            "UPDATE minted SET state = 'doomed', due_at = $2, doomed_at = $3, attempts = 0 \
             WHERE agent_id = $1 AND state = 'used' AND id <> $4 AND id <> $5 AND credential_provider_id IN \
             (SELECT id FROM credential_providers WHERE provider = $6)",
        )
        .bind(agent.as_str())
        .bind(ahead(now, overlap))
        .bind(micros(now))
        .bind(kept(&operation.notes.account))
        .bind(kept(&operation.notes.token))
        .bind(operation.provider.as_str())
        .execute(write.connection())
        .await?;
        write.end(&operation.id, crate::domain::OperationState::Done, None, now).await?;
        write.commit().await?;
        Ok(true)
    }
}

impl Write<'_> {
    /// Dooms what a condition names; `$1` is `key`.
    pub(super) async fn doom(
        &mut self,
        condition: &str,
        key: &str,
        grace: Duration,
        now: Timestamp,
    ) -> Result<u64> {
        // Some conditions have no key.
        let sql = format!(
            "UPDATE minted SET state = 'doomed', due_at = $2, doomed_at = $3, attempts = 0, holder = NULL, \
             held_until = NULL, kek_id = NULL, wrapped_key = NULL, value = NULL WHERE id IN \
             (SELECT m.id FROM minted m WHERE ({condition}) AND m.state IN ('intended', 'made', 'used') \
             AND ($1 = '' OR $1 <> ''))"
        );
        let done = sqlx::query(assembled(sql))
            .bind(key)
            .bind(ahead(now, grace))
            .bind(micros(now))
            .execute(self.connection())
            .await?;
        Ok(done.rows_affected())
    }

    /// Dooms what an operation made that nobody uses.
    pub(super) async fn doom_leftovers(&mut self, operation: &OperationId, now: Timestamp) -> Result<()> {
        let unused = "m.operation_id = $1 AND m.state <> 'used'";
        self.doom(unused, operation.as_str(), Duration::ZERO, now).await.map(drop)
    }

    /// The service account that an agent uses.
    pub(super) async fn used_account(
        &mut self,
        agent: &AgentId,
        credential_provider: &ProviderId,
    ) -> Result<Option<MintedId>> {
        let row = sqlx::query(
            "SELECT id FROM minted WHERE agent_id = $1 AND credential_provider_id = $2 AND kind = 'account' \
             AND state = 'used' ORDER BY id DESC LIMIT 1",
        )
        .bind(agent.as_str())
        .bind(credential_provider.as_str())
        .fetch_optional(self.connection())
        .await?;
        Ok(row.map(|row| row.text("id")).transpose()?.map(Into::into))
    }

    /// Ends what runs for an agent, and dooms all that was made for it.
    pub(super) async fn abandon(
        &mut self,
        agent: &AgentId,
        provider: &ProviderName,
        grace: Duration,
        cause: &Cause,
    ) -> Result<bool> {
        let running = self.running(&super::integrations::active(agent, provider)).await?;
        let ended = running.is_some();
        if let Some(id) = running {
            let failed = crate::domain::OperationState::Failed;
            let problem = Problem::new(Code::Conflict, "the agent was unlinked meanwhile");
            self.end(&id, failed, Some(&problem), cause.time).await?;
        }
        // Nothing is made at any other.
        if provider.as_str() == "gitlab" {
            self.doom("m.agent_id = $1", agent.as_str(), grace, cause.time).await?;
        }
        Ok(ended)
    }
}

fn read(row: &AnyRow) -> Result<Minted> {
    let number =
        |column| Ok::<_, StoreError>(row.optional_number(column)?.and_then(|n| u64::try_from(n).ok()));
    let (kind, state) = (kind(row)?, row.text("state")?);
    let state = MintedState::ALL.into_iter().find(|known| known.as_str() == state);
    let envelope = match (
        row.optional_text("kek_id")?,
        row.optional_blob("wrapped_key")?,
        row.optional_blob("value")?,
    ) {
        (Some(kek), Some(wrapped_key), Some(value)) => Some(Envelope { kek: kek.into(), wrapped_key, value }),
        _ => None,
    };
    Ok(Minted {
        id: row.text("id")?.into(),
        org: row.text("org_id")?.into(),
        operation: row.text("operation_id")?.into(),
        credential_provider: row.text("credential_provider_id")?.into(),
        agent: row.text("agent_id")?.into(),
        agent_name: row.text("agent")?,
        kind,
        name: row.text("name")?,
        project: number("project_id")?.map(ProjectId),
        account: number("account_id")?.map(UserId),
        external: number("external_id")?,
        expires_at: row.optional_time("expires_at")?,
        state: state.ok_or(StoreError::Corrupt("a state of something minted that there is not"))?,
        attempts: u32::try_from(row.number("attempts")?).unwrap_or(0),
        doomed_at: row.optional_time("doomed_at")?,
        envelope,
    })
}

fn kind(row: &AnyRow) -> Result<MintedKind> {
    let kind = row.text("kind")?;
    let known = MintedKind::ALL.into_iter().find(|known| known.as_str() == kind);
    known.ok_or(StoreError::Corrupt("a kind of something minted that there is not"))
}
