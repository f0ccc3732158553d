//! What is going to be made, until it is.

use std::time::Duration;

use dvx_gitlab::UserId;
use dvx_proto::Token;
use jiff::Timestamp;

use super::aad;
use crate::crypto::Envelope;
use crate::domain::{LeaseId, MintedId, MintedKind, Operation, OperationId, Step};
use crate::store::row::{micros, stored};
use crate::store::transaction::Write;
use crate::store::{Result, Store, StoreError};

/// What is going to be made.
pub(crate) struct Intention<'a> {
    pub(crate) id: &'a MintedId,
    pub(crate) kind: MintedKind,
    pub(crate) name: &'a str,
    pub(crate) account: Option<UserId>,
}

/// What was made.
pub(crate) struct Made<'a> {
    pub(crate) external: u64,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) token: Option<&'a Token>,
}

impl Store {
    /// Writes down that something is going to be made, and that the operation uses it. What `instead` names is
    /// to go: nobody knows what became of it.
    pub(crate) async fn intend(
        &self,
        operation: &Operation,
        lease: &LeaseId,
        intention: Intention<'_>,
        instead: Option<&MintedId>,
        now: Timestamp,
    ) -> Result<bool> {
        let Some((agent, name)) = &operation.agent else {
            return Err(StoreError::Corrupt("an operation without an agent"));
        };
        let mut write = self.write().await?;
        if !write.advance(&operation.id, lease, operation.step, &operation.notes, now).await? {
            return Ok(false);
        }
        if let Some(instead) = instead {
            write.doom("m.id = $1", instead.as_str(), Duration::ZERO, now).await?;
        }
        sqlx::query(
            "INSERT INTO minted (id, org_id, operation_id, credential_provider_id, agent_id, agent, kind, name, \
             project_id, account_id, state, attempts, due_at, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'intended', 0, $11, $11)",
        )
        .bind(intention.id.as_str())
        .bind(operation.org.as_str())
        .bind(operation.id.as_str())
        .bind(operation.credential_provider.as_str())
        .bind(agent.as_str())
        .bind(name.as_str())
        .bind(intention.kind.as_str())
        .bind(intention.name)
        .bind(operation.notes.project.map(stored))
        .bind(intention.account.map(|id| stored(id.0)))
        .bind(micros(now))
        .execute(write.connection())
        .await?;
        write.commit().await?;
        Ok(true)
    }

    /// Writes down what was made, and goes on. Where the operation is somebody else's meanwhile, what was made
    /// is to go.
    pub(crate) async fn made(
        &self,
        operation: &Operation,
        lease: &LeaseId,
        id: &MintedId,
        made: Made<'_>,
        next: Step,
        now: Timestamp,
    ) -> Result<bool> {
        let mut write = self.write().await?;
        write.lock(&operation.org).await?;
        if !write.advance(&operation.id, lease, next, &operation.notes, now).await? {
            write.made_too_late(id, made.external, now).await?;
            write.commit().await?;
            return Ok(false);
        }
        let envelope = match made.token {
            Some(token) => {
                let kek = write.writing_kek().await?;
                Some(Envelope::seal(&kek, &aad(operation.org.as_str(), id.as_str()), token.expose_secret()))
            }
            None => None,
        };
        sqlx::query(
            "UPDATE minted SET external_id = $2, expires_at = $3, state = 'made', kek_id = $4, wrapped_key = $5, \
             value = $6 WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(stored(made.external))
        .bind(made.expires_at.map(micros))
        .bind(envelope.as_ref().map(|envelope| envelope.kek.as_str().to_owned()))
        .bind(envelope.as_ref().map(|envelope| envelope.wrapped_key.clone()))
        .bind(envelope.map(|envelope| envelope.value))
        .execute(write.connection())
        .await?;
        write.commit().await?;
        Ok(true)
    }

    /// Gives what is going to be made another name.
    pub(crate) async fn rename_intention(
        &self,
        operation: &OperationId,
        lease: &LeaseId,
        id: &MintedId,
        name: &str,
    ) -> Result<bool> {
        let mut write = self.write().await?;
        if !write.holds(operation, lease).await? {
            return Ok(false);
        }
        sqlx::query("UPDATE minted SET name = $2 WHERE id = $1 AND state = 'intended'")
            .bind(id.as_str())
            .bind(name)
            .execute(write.connection())
            .await?;
        write.commit().await?;
        Ok(true)
    }

    /// Forgets what was going to be made and was refused, and that the operation uses it.
    pub(crate) async fn not_made(
        &self,
        operation: &Operation,
        lease: &LeaseId,
        id: &MintedId,
        now: Timestamp,
    ) -> Result<bool> {
        let mut write = self.write().await?;
        let held = write.holds(&operation.id, lease).await?;
        if held {
            sqlx::query("UPDATE minted SET state = 'gone' WHERE id = $1 AND state = 'intended'")
                .bind(id.as_str())
                .execute(write.connection())
                .await?;
            write.note(&operation.id, &operation.notes, now).await?;
        }
        write.commit().await?;
        Ok(held)
    }
}

impl Write<'_> {
    /// Writes down what was made by whoever had lost the operation. A token of which nobody has the value is to
    /// go. An account was found by its name meanwhile, unless the operation was given up.
    async fn made_too_late(&mut self, id: &MintedId, external: u64, now: Timestamp) -> Result<()> {
        sqlx::query(
            "UPDATE minted SET external_id = $2, state = 'doomed', due_at = $3, doomed_at = $3, attempts = 0, \
             holder = NULL, held_until = NULL, kek_id = NULL, wrapped_key = NULL, value = NULL \
             WHERE id = $1 AND (kind <> 'account' OR state IN ('doomed', 'going', 'gone'))",
        )
        .bind(id.as_str())
        .bind(stored(external))
        .bind(micros(now))
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
