//! All that an enclave's broker is to know, as it was at one revision.

use dvx_proto::{AgentName, SecretName};
use sqlx::{Any, Transaction};

use super::row::{Columns, assembled};
use super::{Object, Result, Store, StoreError, agents, secrets};
use crate::domain::{AgentRecord, EnclaveId, EnclaveIdentity, OrgId, Revision, StoredSecret};

/// Reads one state of the database, in pages. It holds a connection, of which there are few: give it up soon.
pub struct Snapshot {
    transaction: Transaction<'static, Any>,
    org: OrgId,
    enclave: EnclaveId,
    revision: Revision,
}

impl Store {
    /// Begins to read a snapshot. Others write on meanwhile; it does not see that.
    pub async fn snapshot(&self, enclave: &EnclaveIdentity) -> Result<Snapshot> {
        let mut transaction = self.0.snapshots.begin_with(self.0.backend.begin_snapshot()).await?;
        let row = sqlx::query("SELECT revision FROM organisations WHERE id = $1")
            .bind(enclave.org.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        let revision = row.ok_or(StoreError::NotFound(Object::Organisation))?.revision("revision")?;
        Ok(Snapshot { transaction, org: enclave.org.clone(), enclave: enclave.id.clone(), revision })
    }
}

impl Snapshot {
    /// The revision that it is of.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The agents behind a name, sorted by name.
    pub async fn agents(&mut self, after: Option<&AgentName>, limit: u32) -> Result<Vec<AgentRecord>> {
        let rows = sqlx::query(
            "SELECT id, enclave_id, name, unix_user, gid, unit, cgroup, state, reason FROM agents \
             WHERE enclave_id = $1 AND name > $2 ORDER BY name LIMIT $3",
        )
        .bind(self.enclave.as_str())
        .bind(after.map_or("", AgentName::as_str))
        .bind(i64::from(limit))
        .fetch_all(&mut *self.transaction)
        .await?;
        rows.iter().map(agents::record).collect()
    }

    /// The secrets of active agents behind one of them, sorted by agent and name. An empty page is the end; a short
    /// one need not be.
    pub async fn agent_secrets(
        &mut self,
        after: Option<(&AgentName, &SecretName)>,
        limit: u32,
    ) -> Result<Vec<StoredSecret>> {
        let (agent, name) = after.map_or(("", ""), |(agent, name)| (agent.as_str(), name.as_str()));
        let rows = sqlx::query(assembled(secrets_sql()))
            .bind(self.enclave.as_str())
            .bind(agent)
            .bind(name)
            .bind(i64::from(limit))
            .fetch_all(&mut *self.transaction)
            .await?;
        secrets::read_all(&rows)
    }

    /// The organisation's secrets behind a name, sorted by name. An empty page is the end; a short one need not be.
    pub async fn org_secrets(&mut self, after: Option<&SecretName>, limit: u32) -> Result<Vec<StoredSecret>> {
        let sql = format!(
            "SELECT {} {} WHERE s.org_id = $1 AND s.agent_id = '' AND s.name > $2 ORDER BY s.name LIMIT $3",
            secrets::COLUMNS,
            secrets::FROM
        );
        let rows = sqlx::query(assembled(sql))
            .bind(self.org.as_str())
            .bind(after.map_or("", SecretName::as_str))
            .bind(i64::from(limit))
            .fetch_all(&mut *self.transaction)
            .await?;
        secrets::read_all(&rows)
    }

    /// Gives the connection back.
    pub async fn end(self) -> Result<()> {
        Ok(self.transaction.rollback().await?)
    }
}

/// From the agents, in their order, to the few secrets of each.
pub(super) fn secrets_sql() -> String {
    format!(
        "SELECT {} FROM agents a JOIN secrets s ON s.org_id = a.org_id AND s.agent_id = a.id \
         LEFT JOIN secret_heads h ON h.org_id = s.org_id AND h.agent_id = s.agent_id AND h.name = s.name \
         WHERE a.enclave_id = $1 AND a.state = 'active' AND a.name >= $2 \
         AND (a.name > $2 OR s.name > $3) ORDER BY a.name, s.name LIMIT $4",
        secrets::COLUMNS
    )
}
