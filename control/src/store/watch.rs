//! What streams ask for beyond what everybody does.

use dvx_proto::{AgentName, SecretName};
use jiff::Timestamp;

use super::row::{Columns, PARAMETERS, assembled, placeholders};
use super::{Result, Store, agents};
use crate::domain::{AgentRecord, EnclaveId, OrgId, SessionId};

/// A page of an enclave's agents.
pub(super) const AGENTS: &str = "SELECT id, enclave_id, name, unix_user, gid, unit, cgroup, state, reason \
    FROM agents WHERE enclave_id = $1 AND name > $2 ORDER BY name LIMIT $3";

/// Rows of one statement, each with two parameters.
const BATCH: usize = PARAMETERS / 2;

impl Store {
    /// An enclave's agent by its name, which is how brokers know it.
    pub(crate) async fn agent_of_enclave(
        &self,
        enclave: &EnclaveId,
        agent: &AgentName,
    ) -> Result<Option<AgentRecord>> {
        let row = sqlx::query(
            "SELECT id, enclave_id, name, unix_user, gid, unit, cgroup, state, reason FROM agents \
             WHERE enclave_id = $1 AND name = $2",
        )
        .bind(enclave.as_str())
        .bind(agent.as_str())
        .fetch_optional(&self.0.reader)
        .await?;
        row.as_ref().map(agents::record).transpose()
    }

    /// Notes that brokers have gone.
    pub(crate) async fn end_sessions(&self, gone: &[(EnclaveId, SessionId)], now: Timestamp) -> Result<()> {
        for batch in gone.chunks(BATCH) {
            let mut write = self.write().await?;
            let values = placeholders(batch.len(), 2);
            let seen = batch.len() * 2 + 1;
            let update = format!(
                "WITH v (enclave_id, id) AS (VALUES {values}) UPDATE enclaves SET seen_at = ${seen} FROM v \
                 WHERE enclaves.id = v.enclave_id"
            );
            let delete = format!("DELETE FROM sessions WHERE (enclave_id, id) IN (VALUES {values})");
            for (sql, bind_time) in [(update, true), (delete, false)] {
                let mut statement = sqlx::query(assembled(sql)).persistent(false);
                for (enclave, session) in batch {
                    statement = statement.bind(enclave.as_str()).bind(session.as_str());
                }
                if bind_time {
                    statement = statement.bind(self.0.time.stored(now));
                }
                statement.execute(write.connection()).await?;
            }
            write.commit().await?;
        }
        Ok(())
    }

    /// Some of an enclave's agents, those behind a name, sorted by name.
    pub(crate) async fn agents_of_enclave(
        &self,
        enclave: &EnclaveId,
        after: Option<&AgentName>,
        limit: u32,
    ) -> Result<Vec<AgentRecord>> {
        let rows = sqlx::query(AGENTS)
            .bind(enclave.as_str())
            .bind(after.map_or("", AgentName::as_str))
            .bind(i64::from(limit))
            .fetch_all(&self.0.reader)
            .await?;
        rows.iter().map(agents::record).collect()
    }

    /// The names of some of an organisation's secrets, those behind a name. No value is read.
    pub(crate) async fn org_secret_names(
        &self,
        org: &OrgId,
        after: Option<&SecretName>,
        limit: u32,
    ) -> Result<Vec<SecretName>> {
        let rows = sqlx::query(
            "SELECT name FROM secrets WHERE org_id = $1 AND agent_id = '' AND name > $2 ORDER BY name LIMIT $3",
        )
        .bind(org.as_str())
        .bind(after.map_or("", SecretName::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.0.reader)
        .await?;
        rows.iter().map(|row| row.parsed("name")).collect()
    }

    /// Ends the sessions of processes that are dead. What their brokers were sent last was not later than the
    /// process was heard of last.
    pub(crate) async fn end_sessions_of_the_dead(&self) -> Result<()> {
        let (dead, replicas) = self.dead("sessions.replica", 1);
        let bind = |sql: String| sqlx::query(assembled(sql)).bind(replicas.clone());
        let any = format!("SELECT 1 FROM sessions WHERE {dead} LIMIT 1");
        if bind(any).fetch_optional(&self.0.reader).await?.is_none() {
            return Ok(());
        }
        let mut write = self.write().await?;
        let update = format!(
            "UPDATE enclaves SET seen_at = last.seen_at FROM sessions JOIN replicas last ON last.id = sessions.replica \
             WHERE sessions.enclave_id = enclaves.id AND {dead} \
             AND (enclaves.seen_at IS NULL OR enclaves.seen_at < last.seen_at)"
        );
        bind(update).execute(write.connection()).await?;
        bind(format!("DELETE FROM sessions WHERE {dead}")).execute(write.connection()).await?;
        write.commit().await
    }
}
