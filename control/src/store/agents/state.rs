//! Isolating, restoring, revoking.

use dvx_proto::AgentName;
use dvx_proto::agent::AgentState;
use dvx_proto::operator::Agent;

use crate::domain::{AgentId, Cause, Changed, ChangedObject, Event};
use crate::store::row::Columns;
use crate::store::{Conflict, Object, Result, Store, StoreError};

impl Store {
    /// Keeps an agent from being served until it is restored. Again it replaces the reason.
    pub async fn isolate_agent(
        &self,
        cause: &Cause,
        name: &AgentName,
        reason: &str,
    ) -> Result<Changed<Agent>> {
        self.change_state(cause, name, "agent.isolate", AgentState::Isolated, Some(reason)).await
    }

    /// Serves an isolated agent again.
    pub async fn restore_agent(&self, cause: &Cause, name: &AgentName) -> Result<Changed<Agent>> {
        self.change_state(cause, name, "agent.restore", AgentState::Active, None).await
    }

    /// Keeps an agent from being served until it is provisioned anew.
    pub async fn revoke_agent(
        &self,
        cause: &Cause,
        name: &AgentName,
        reason: &str,
    ) -> Result<Changed<Agent>> {
        self.change_state(cause, name, "agent.revoke", AgentState::Revoked, Some(reason)).await
    }

    /// Serves an agent again, in whatever state it is.
    pub async fn reprovision_agent(&self, cause: &Cause, name: &AgentName) -> Result<Changed<Agent>> {
        self.change_state(cause, name, "agent.reprovision", AgentState::Active, None).await
    }

    async fn change_state(
        &self,
        cause: &Cause,
        name: &AgentName,
        action: &'static str,
        to: AgentState,
        reason: Option<&str>,
    ) -> Result<Changed<Agent>> {
        let org = &cause.actor.org;
        let mut write = self.write().await?;
        write.lock(org).await?;
        let row = sqlx::query("SELECT id, enclave_id, state FROM agents WHERE org_id = $1 AND name = $2")
            .bind(org.as_str())
            .bind(name.as_str())
            .fetch_optional(write.connection())
            .await?;
        let row = row.ok_or(StoreError::NotFound(Object::Agent))?;
        let from = super::parse_state(&row.text("state")?)?;
        if from == AgentState::Revoked && !matches!(action, "agent.revoke" | "agent.reprovision") {
            return Err(Conflict::Revoked.into());
        }
        let (id, enclave) = (AgentId::from(row.text("id")?), row.text("enclave_id")?.into());
        sqlx::query("UPDATE agents SET state = $2, reason = $3 WHERE id = $1")
            .bind(id.as_str())
            .bind(to.as_str())
            .bind(reason)
            .execute(write.connection())
            .await?;
        let event = Event::allowed(action, name.as_str()).about(name.as_str());
        write.event(cause, event.because(reason.map(str::to_owned))).await?;
        let object = ChangedObject::Agent { enclave, id: id.clone(), agent: name.clone() };
        let revision = write.bump(org, cause.time, &object).await?;
        write.stamp(&id, revision).await?;
        let value = write.agent(org, name).await?;
        write.commit().await?;
        Ok(Changed { revision, value })
    }
}
