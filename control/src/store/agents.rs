//! Agents and their states.

mod listed;
mod state;

use dvx_proto::agent::AgentState;
use dvx_proto::enclave::AgentDocument;
use dvx_proto::operator::{
    Agent, CreateAgent, Integration, IntegrationOrigin, IntegrationStatus, Page, Selectors,
};
use dvx_proto::{AgentName, UnixUser};
use sqlx::any::AnyRow;

use super::error::taken;
use super::row::{Columns, assembled, micros, stored};
use super::transaction::Write;
use super::{Conflict, Object, Result, Store, StoreError};
use crate::domain::{
    AgentFilter, AgentId, AgentRecord, Cause, Changed, ChangedObject, EnclaveId, Event, Once, OrgId, Outcome,
    PageRequest, Rule,
};

#[cfg(test)]
pub(super) use listed::SELECT as LISTING;
pub(super) use listed::state as parse_state;

impl Store {
    /// Makes an agent, unless a broker could not tell it from another one of its enclave.
    pub async fn create_agent(
        &self,
        cause: &Cause,
        create: &CreateAgent,
        once: Option<Once<'_, Agent>>,
    ) -> Result<Outcome<Agent>> {
        let rule = Rule::parse(&create.unix_user, &create.selectors)?;
        let org = &cause.actor.org;
        let mut write = self.write().await?;
        write.lock(org).await?;
        if let Some(answer) = write.repeated(cause, once.as_ref()).await? {
            return Ok(Outcome::Repeated(answer));
        }
        let enclave = write.enclave_id(org, &create.enclave).await?;
        write.refuse_overlap(&enclave, &create.name, &create.unix_user, &rule).await?;
        let id = AgentId::generate(cause.time);
        write.insert_agent(cause, &id, &enclave, create).await?;
        write
            .event(cause, Event::allowed("agent.create", create.name.as_str()).about(create.name.as_str()))
            .await?;
        let object = ChangedObject::Agent { enclave, id: id.clone(), agent: create.name.clone() };
        let revision = write.bump(org, cause.time, &object).await?;
        write.stamp(&id, revision).await?;
        let value = write.agent(org, &create.name).await?;
        let changed = Changed { revision, value };
        write.remember(cause, once.as_ref(), &changed).await?;
        write.commit().await?;
        Ok(Outcome::Done(changed))
    }

    /// A page of the agents.
    pub async fn agents(&self, org: &OrgId, filter: &AgentFilter, page: &PageRequest) -> Result<Page<Agent>> {
        let mut sql = format!("{} AND a.name > $2", listed::SELECT);
        let mut next = 4;
        if filter.enclave.is_some() {
            sql.push_str(" AND a.enclave_id = (SELECT id FROM enclaves WHERE org_id = $1 AND name = $4)");
            next += 1;
        }
        if filter.state.is_some() {
            sql.push_str(&format!(" AND a.state = ${next}"));
        }
        sql.push_str(" ORDER BY a.name LIMIT $3");
        let mut statement =
            sqlx::query(assembled(sql)).bind(org.as_str()).bind(page.start()).bind(page.fetch());
        if let Some(enclave) = &filter.enclave {
            statement = statement.bind(enclave.as_str());
        }
        if let Some(state) = filter.state {
            statement = statement.bind(state.as_str());
        }
        let rows = statement.fetch_all(&self.0.reader).await?;
        let items = rows.iter().map(listed::read).collect::<Result<Vec<_>>>()?;
        Ok(page.cut(items, |agent| agent.name.to_string()))
    }

    /// One agent.
    pub async fn agent(&self, org: &OrgId, name: &AgentName) -> Result<Agent> {
        let row = sqlx::query(assembled(format!("{} AND a.name = $2", listed::SELECT)))
            .bind(org.as_str())
            .bind(name.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        listed::read(&row.ok_or(StoreError::NotFound(Object::Agent))?)
    }

    pub(super) async fn agent_id(&self, org: &OrgId, name: &AgentName) -> Result<AgentId> {
        let row = sqlx::query("SELECT id FROM agents WHERE org_id = $1 AND name = $2")
            .bind(org.as_str())
            .bind(name.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        Ok(row.ok_or(StoreError::NotFound(Object::Agent))?.text("id")?.into())
    }

    /// Deletes an agent and its secrets. What it did stays in the audit log.
    pub async fn delete_agent(&self, cause: &Cause, name: &AgentName) -> Result<Changed<()>> {
        let org = &cause.actor.org;
        let mut write = self.write().await?;
        write.lock(org).await?;
        let row = sqlx::query("DELETE FROM agents WHERE org_id = $1 AND name = $2 RETURNING id, enclave_id")
            .bind(org.as_str())
            .bind(name.as_str())
            .fetch_optional(write.connection())
            .await?;
        let row = row.ok_or(StoreError::NotFound(Object::Agent))?;
        let (id, enclave) = (AgentId::from(row.text("id")?), EnclaveId::from(row.text("enclave_id")?));
        for sql in [
            "DELETE FROM secrets WHERE org_id = $1 AND agent_id = $2",
            "DELETE FROM secret_heads WHERE org_id = $1 AND agent_id = $2",
        ] {
            sqlx::query(sql).bind(org.as_str()).bind(id.as_str()).execute(write.connection()).await?;
        }
        write.event(cause, Event::allowed("agent.delete", name.as_str()).about(name.as_str())).await?;
        let object = ChangedObject::AgentGone { enclave, id, agent: name.clone() };
        let revision = write.bump(org, cause.time, &object).await?;
        write.commit().await?;
        Ok(Changed { revision, value: () })
    }

    /// The providers that an agent is linked to.
    pub async fn integrations(&self, org: &OrgId, agent: &AgentName) -> Result<Vec<Integration>> {
        let id = self.agent_id(org, agent).await?;
        let rows = sqlx::query(
            "SELECT i.id, i.provider, i.status, s.display_name, s.auth_type, s.instance_url, s.expires_at, \
             s.agent_accessible, i.origin, i.scopes, i.cause, p.name AS credential_provider \
             FROM integrations i JOIN secrets s ON s.id = i.id \
             LEFT JOIN credential_providers p ON p.id = i.credential_provider_id \
             WHERE i.agent_id = $1 ORDER BY i.provider",
        )
        .bind(id.as_str())
        .fetch_all(&self.0.reader)
        .await?;
        rows.iter().map(integration).collect()
    }
}

fn integration(row: &AnyRow) -> Result<Integration> {
    let provider: dvx_proto::ProviderName = row.parsed("provider")?;
    let metadata = super::secrets::metadata(row)?;
    Ok(Integration {
        id: row.text("id")?,
        display_name: metadata.display_name.unwrap_or_else(|| provider.to_string()),
        provider,
        auth_type: metadata.auth_type.unwrap_or(dvx_proto::agent::AuthType::Pat),
        instance_url: metadata.instance_url,
        expires_at: metadata.expires_at,
        status: if row.text("status")? == "active" {
            IntegrationStatus::Active
        } else {
            IntegrationStatus::Invalid
        },
        cause: row.optional_text("cause")?,
        origin: match row.text("origin")?.as_str() {
            "pat" => IntegrationOrigin::Pat,
            "minted" => IntegrationOrigin::Minted,
            _ => IntegrationOrigin::Manual,
        },
        scopes: row
            .optional_text("scopes")?
            .map(|scopes| scopes.split_whitespace().map(str::to_owned).collect()),
        credential_provider: row.optional_text("credential_provider")?,
    })
}

/// Reads a row with an agent's own columns.
pub(super) fn record(row: &AnyRow) -> Result<AgentRecord> {
    Ok(AgentRecord {
        id: row.text("id")?.into(),
        enclave: row.text("enclave_id")?.into(),
        document: AgentDocument {
            agent: row.parsed("name")?,
            unix_user: row.parsed("unix_user")?,
            selectors: listed::selectors(row)?,
            state: parse_state(&row.text("state")?)?,
            reason: row.optional_text("reason")?,
        },
    })
}

impl Write<'_> {
    pub(super) async fn agent(&mut self, org: &OrgId, name: &AgentName) -> Result<Agent> {
        let row = sqlx::query(assembled(format!("{} AND a.name = $2", listed::SELECT)))
            .bind(org.as_str())
            .bind(name.as_str())
            .fetch_optional(self.connection())
            .await?;
        listed::read(&row.ok_or(StoreError::NotFound(Object::Agent))?)
    }

    async fn refuse_overlap(
        &mut self,
        enclave: &EnclaveId,
        name: &AgentName,
        user: &UnixUser,
        rule: &Rule,
    ) -> Result<()> {
        let rows = sqlx::query(
            "SELECT name, unix_user, gid, unit, cgroup FROM agents WHERE enclave_id = $1 AND unix_user = $2 \
             ORDER BY name",
        )
        .bind(enclave.as_str())
        .bind(user.as_str())
        .fetch_all(self.connection())
        .await?;
        for row in &rows {
            let other: AgentName = row.parsed("name")?;
            let their = Rule::parse(user, &listed::selectors(row)?)?;
            // One of the same name is a conflict of names, which is said elsewhere.
            if other != *name && !rule.excludes(&their) {
                return Err(Conflict::Overlap(other).into());
            }
        }
        Ok(())
    }

    async fn insert_agent(
        &mut self,
        cause: &Cause,
        id: &AgentId,
        enclave: &EnclaveId,
        create: &CreateAgent,
    ) -> Result<()> {
        let Selectors { gid, unit, cgroup } = &create.selectors;
        sqlx::query(
            "INSERT INTO agents (id, org_id, enclave_id, name, unix_user, gid, unit, cgroup, acts_as, state, \
             created_at, revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0)",
        )
        .bind(id.as_str())
        .bind(cause.actor.org.as_str())
        .bind(enclave.as_str())
        .bind(create.name.as_str())
        .bind(create.unix_user.as_str())
        .bind(gid.map(i64::from))
        .bind(unit.as_deref())
        .bind(cgroup.as_deref())
        .bind(create.acts_as.as_deref())
        .bind(AgentState::Active.as_str())
        .bind(micros(cause.time))
        .execute(self.connection())
        .await
        .map_err(taken(Object::Agent))?;
        Ok(())
    }

    /// Says at which revision an agent was changed last.
    pub(super) async fn stamp(&mut self, id: &AgentId, revision: crate::domain::Revision) -> Result<()> {
        sqlx::query("UPDATE agents SET revision = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(stored(revision.0))
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
