//! The journal.

mod begin;

use std::collections::BTreeSet;
use std::time::Duration;

use dvx_proto::{AgentName, Problem, ProviderName};
use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::integrations::active;
use super::leases::ahead;
use super::row::{Columns, assembled, micros};
use super::transaction::Write;
use super::{Result, Store, StoreError};
use crate::domain::{
    Actor, Cause, Event, LeaseId, Notes, Operation, OperationId, OperationKind, OperationState, OrgId,
    ProviderId, Step,
};

pub(crate) use begin::{Wanted, Wish};

const SELECT: &str = "SELECT id, org_id, kind, agent_id, agent, provider, credential_provider_id, state, step, \
    data, attempts, next_at, last_error, problem, revision, created_at FROM operations";

const RUNNING: &str = "SELECT id FROM operations WHERE active = $1";

/// What is set while a credential provider's token is being replaced.
pub(super) fn of_provider(provider: &ProviderId) -> String {
    format!("provider/{provider}")
}

impl Store {
    /// What is under way about an agent's identity.
    pub(crate) async fn under_way(
        &self,
        org: &OrgId,
        agent: &AgentName,
        provider: &ProviderName,
    ) -> Result<Option<OperationId>> {
        self.running(&active(&self.agent_id(org, agent).await?, provider)).await
    }

    /// What is under way about a credential provider's token.
    pub(crate) async fn provider_under_way(&self, provider: &ProviderId) -> Result<Option<OperationId>> {
        self.running(&of_provider(provider)).await
    }

    async fn running(&self, key: &str) -> Result<Option<OperationId>> {
        let row = sqlx::query(RUNNING).bind(key).fetch_optional(&self.0.reader).await?;
        row.map(|row| Ok(row.text("id")?.into())).transpose()
    }

    /// An operation of an organisation.
    pub(crate) async fn operation(&self, org: &OrgId, id: &OperationId) -> Result<Option<Operation>> {
        let row = sqlx::query(assembled(format!("{SELECT} WHERE id = $1 AND org_id = $2")))
            .bind(id.as_str())
            .bind(org.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Operations that are due, except these, each with the lease to carry it on.
    pub(crate) async fn take_operations(
        &self,
        except: &BTreeSet<OperationId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<(Operation, LeaseId)>> {
        let except: Vec<String> =
            except.iter().filter(|id| is_plain(id)).map(|id| format!("'{id}'")).collect();
        let which = match &except[..] {
            [] => "state = 'running'".to_owned(),
            except => format!("state = 'running' AND id NOT IN ({})", except.join(", ")),
        };
        self.taken(&which, limit, now).await
    }

    /// This operation, if it is due.
    pub(crate) async fn take_operation(
        &self,
        id: &OperationId,
        now: Timestamp,
    ) -> Result<Option<(Operation, LeaseId)>> {
        if !is_plain(id) {
            return Ok(None);
        }
        Ok(self.taken(&format!("state = 'running' AND id = '{id}'"), 1, now).await?.pop())
    }

    async fn taken(&self, which: &str, limit: u32, now: Timestamp) -> Result<Vec<(Operation, LeaseId)>> {
        let mut operations = Vec::new();
        for (id, lease) in self.take("operations", "next_at", which, limit, now).await? {
            let row = sqlx::query(assembled(format!("{SELECT} WHERE id = $1")))
                .bind(id)
                .fetch_one(&self.0.reader)
                .await?;
            operations.push((read(&row)?, lease));
        }
        Ok(operations)
    }

    /// Goes on to a step. False where the operation is not this lease's any more.
    pub(crate) async fn advance(
        &self,
        operation: &OperationId,
        lease: &LeaseId,
        step: Step,
        notes: &Notes,
        now: Timestamp,
    ) -> Result<bool> {
        let mut write = self.write().await?;
        let held = write.advance(operation, lease, step, notes, now).await?;
        write.commit().await?;
        Ok(held)
    }

    /// Lets go of an operation until later.
    pub(crate) async fn postpone(
        &self,
        operation: &OperationId,
        lease: &LeaseId,
        attempts: u32,
        wait: Duration,
        error: Option<&str>,
        now: Timestamp,
    ) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query(
            "UPDATE operations SET attempts = $3, next_at = $4, last_error = $5, holder = NULL, \
             held_until = NULL, updated_at = $6 WHERE id = $1 AND holder = $2",
        )
        .bind(operation.as_str())
        .bind(lease.as_str())
        .bind(i64::from(attempts))
        .bind(ahead(now, wait))
        .bind(error)
        .bind(micros(now))
        .execute(write.connection())
        .await?;
        write.commit().await
    }

    /// Ends an operation. What it made and nobody uses is to go. `event` says how it ended, where nothing else
    /// does.
    pub(crate) async fn end(
        &self,
        operation: &Operation,
        lease: &LeaseId,
        state: OperationState,
        event: Option<Event>,
        problem: Option<&Problem>,
        now: Timestamp,
    ) -> Result<bool> {
        let mut write = self.write().await?;
        write.lock(&operation.org).await?;
        if !write.holds(&operation.id, lease).await? {
            return Ok(false);
        }
        write.end(&operation.id, state, problem, now).await?;
        if let Some(event) = event {
            write.event(&operation.cause(now), event).await?;
        }
        write.commit().await?;
        Ok(true)
    }
}

impl Operation {
    /// What its changes are put down to.
    pub(crate) fn cause(&self, now: Timestamp) -> Cause {
        let name = self.notes.actor.clone();
        let actor = Actor { org: self.org.clone(), organisation: String::new(), name, role: None };
        Cause { actor, request_id: None, time: now, repeatable: None }
    }
}

impl Write<'_> {
    pub(super) async fn running(&mut self, key: &str) -> Result<Option<OperationId>> {
        let row = sqlx::query(RUNNING).bind(key).fetch_optional(self.connection()).await?;
        row.map(|row| Ok(row.text("id")?.into())).transpose()
    }

    pub(super) async fn advance(
        &mut self,
        operation: &OperationId,
        lease: &LeaseId,
        step: Step,
        notes: &Notes,
        now: Timestamp,
    ) -> Result<bool> {
        let done = sqlx::query(
            "UPDATE operations SET step = $3, data = $4, attempts = 0, last_error = NULL, updated_at = $5 \
             WHERE id = $1 AND holder = $2 AND state = 'running'",
        )
        .bind(operation.as_str())
        .bind(lease.as_str())
        .bind(step.as_str())
        .bind(data(notes))
        .bind(micros(now))
        .execute(self.connection())
        .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Keeps what else an operation knows, whichever step failed how often.
    pub(super) async fn note(
        &mut self,
        operation: &OperationId,
        notes: &Notes,
        now: Timestamp,
    ) -> Result<()> {
        sqlx::query("UPDATE operations SET data = $2, updated_at = $3 WHERE id = $1")
            .bind(operation.as_str())
            .bind(data(notes))
            .bind(micros(now))
            .execute(self.connection())
            .await?;
        Ok(())
    }

    /// Ends an operation, whoever carries it on.
    pub(super) async fn end(
        &mut self,
        operation: &OperationId,
        state: OperationState,
        problem: Option<&Problem>,
        now: Timestamp,
    ) -> Result<()> {
        sqlx::query(
            "UPDATE operations SET state = $2, active = NULL, holder = NULL, held_until = NULL, \
             last_error = $3, problem = $4, updated_at = $5 WHERE id = $1",
        )
        .bind(operation.as_str())
        .bind(state.as_str())
        .bind(problem.map(|problem| problem.detail.as_ref()))
        // Like notes, this always becomes JSON.
        .bind(problem.and_then(|problem| serde_json::to_string(problem).ok()))
        .bind(micros(now))
        .execute(self.connection())
        .await?;
        self.doom_leftovers(operation, now).await
    }
}

/// An id is a UUID: letters of no meaning to SQL.
fn is_plain(id: &OperationId) -> bool {
    id.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Notes are plain structures of texts and numbers, which always become JSON.
fn data(notes: &Notes) -> String {
    serde_json::to_string(notes).unwrap_or_default()
}

fn read(row: &AnyRow) -> Result<Operation> {
    fn known<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str, text: &str) -> Result<T> {
        let found = all.iter().copied().find(|one| name(*one) == text);
        found.ok_or(StoreError::Corrupt("a word in the journal that there is not"))
    }
    let agent = match row.optional_text("agent_id")? {
        Some(id) => Some((id.into(), row.parsed("agent")?)),
        None => None,
    };
    let revision = row.optional_number("revision")?;
    Ok(Operation {
        id: row.text("id")?.into(),
        org: row.text("org_id")?.into(),
        kind: known(&OperationKind::ALL, OperationKind::as_str, &row.text("kind")?)?,
        agent,
        provider: row.parsed("provider")?,
        credential_provider: row.text("credential_provider_id")?.into(),
        state: known(&OperationState::ALL, OperationState::as_str, &row.text("state")?)?,
        step: known(&Step::ALL, Step::as_str, &row.text("step")?)?,
        notes: serde_json::from_str(&row.text("data")?)
            .map_err(|_| StoreError::Corrupt("notes in the journal that cannot be read"))?,
        attempts: u32::try_from(row.number("attempts")?).unwrap_or(0),
        next_at: row.time("next_at")?,
        last_error: row.optional_text("last_error")?,
        // One of a newer version that this one does not read is told in words.
        problem: row.optional_text("problem")?.and_then(|text| serde_json::from_str(&text).ok()),
        revision: revision.and_then(|revision| u64::try_from(revision).ok()).map(crate::domain::Revision),
        created_at: row.time("created_at")?,
    })
}
