//! How far changes have come.

use dvx_proto::AgentName;
use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::row::{Columns, assembled};
use super::sessions::Live;
use super::shared_time::SharedTime;
use super::{Object, Result, Store, StoreError};
use crate::domain::{EnclaveDelivery, OrgId, Revision};

impl Store {
    /// How far the brokers are that a revision concerns: those of the agent's enclave where one is named, else of
    /// the enclave that the revision is about, else (or where the revision is not kept any more) all.
    pub async fn deliveries(
        &self,
        org: &OrgId,
        revision: Revision,
        agent: Option<&AgentName>,
        now: Timestamp,
    ) -> Result<Vec<EnclaveDelivery>> {
        let enclave = match agent {
            Some(agent) => Some(self.enclave_of(org, agent).await?),
            None => self
                .change(org, revision)
                .await?
                .and_then(|change| change.object.enclave().map(|enclave| enclave.as_str().to_owned())),
        };
        let Live { sql: live, dead, since } = self.live_sessions(now);
        let mut sql = format!(
            "SELECT e.id, e.name, e.acked_revision, e.seen_at, e.max_stale, (SELECT COUNT(*) {live}) AS live, \
             (SELECT MIN(COALESCE(s.acked_revision, 0)) {live}) AS lowest FROM enclaves e WHERE e.org_id = $1"
        );
        if enclave.is_some() {
            sql.push_str(" AND e.id = $4");
        }
        sql.push_str(" ORDER BY e.name");
        let mut statement = sqlx::query(assembled(sql)).bind(org.as_str()).bind(dead).bind(since);
        if let Some(enclave) = enclave {
            statement = statement.bind(enclave);
        }
        let rows = statement.fetch_all(&self.0.reader).await?;
        rows.iter().map(|row| read(row, &self.0.time)).collect()
    }

    async fn enclave_of(&self, org: &OrgId, agent: &AgentName) -> Result<String> {
        let row = sqlx::query("SELECT enclave_id FROM agents WHERE org_id = $1 AND name = $2")
            .bind(org.as_str())
            .bind(agent.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        row.ok_or(StoreError::NotFound(Object::Agent))?.text("enclave_id")
    }
}

fn read(row: &AnyRow, time: &SharedTime) -> Result<EnclaveDelivery> {
    let connected = row.number("live")? > 0;
    let acked =
        if connected { row.optional_number("lowest")? } else { row.optional_number("acked_revision")? };
    Ok(EnclaveDelivery {
        id: row.text("id")?.into(),
        name: row.parsed("name")?,
        connected,
        acked: acked.and_then(|acked| u64::try_from(acked).ok()).filter(|acked| *acked > 0).map(Revision),
        seen_at: row.optional_number("seen_at")?.map(|seen| time.read(seen)).transpose()?,
        max_stale: std::time::Duration::from_secs(row.count("max_stale")?),
    })
}
