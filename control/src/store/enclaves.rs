//! Enclaves.

use dvx_proto::EnclaveName;
use dvx_proto::operator::{CreatedEnclave, Enclave, Page};
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::error::taken;
use super::row::{Columns, assembled, micros};
use super::sessions::Live;
use super::shared_time::SharedTime;
use super::transaction::Write;
use super::{Object, Result, Store, StoreError};
use crate::crypto::PlainToken;
use crate::domain::{Cause, Changed, ChangedObject, EnclaveId, Event, Once, OrgId, Outcome, PageRequest};

/// How an enclave is listed: $1 is the organisation, $2 and $3 are those of [`Live`].
///
/// A revision that is about no enclave is about all.
fn listing(live: &str, rest: &str) -> AssertSqlSafe<String> {
    assembled(format!(
        "SELECT e.name, e.created_at, e.seen_at, e.degraded, e.acked_revision, \
         (SELECT COUNT(*) {live}) AS live, (SELECT MIN(COALESCE(s.acked_revision, 0)) {live}) AS lowest, \
         (SELECT COUNT(*) FROM agents a WHERE a.enclave_id = e.id) AS agents, \
         (SELECT COUNT(*) FROM changes c WHERE c.org_id = e.org_id AND c.enclave_id = e.id \
         AND c.revision > COALESCE(e.acked_revision, 0)) \
         + (SELECT COUNT(*) FROM changes c WHERE c.org_id = e.org_id AND c.enclave_id IS NULL \
         AND c.revision > COALESCE(e.acked_revision, 0)) AS lag \
         FROM enclaves e WHERE e.org_id = $1 {rest}"
    ))
}

impl Store {
    /// Makes an enclave. Its API key is in the answer, and nowhere else ever.
    pub async fn create_enclave(
        &self,
        cause: &Cause,
        name: &EnclaveName,
        once: Option<Once<'_, CreatedEnclave>>,
    ) -> Result<Outcome<CreatedEnclave>> {
        let mut write = self.write().await?;
        let revision = write.lock(&cause.actor.org).await?;
        if let Some(answer) = write.repeated(cause, once.as_ref()).await? {
            return Ok(Outcome::Repeated(answer));
        }
        let key = PlainToken::enclave();
        sqlx::query(
            "INSERT INTO enclaves (id, org_id, name, key_hash, created_at, max_stale, degraded) \
             VALUES ($1, $2, $3, $4, $5, 0, '[]')",
        )
        .bind(EnclaveId::generate(cause.time).as_str())
        .bind(cause.actor.org.as_str())
        .bind(name.as_str())
        .bind(key.hashed().as_bytes())
        .bind(micros(cause.time))
        .execute(write.connection())
        .await
        .map_err(taken(Object::Enclave))?;
        write.event(cause, Event::allowed("enclave.create", name.as_str())).await?;
        let changed =
            Changed { revision, value: CreatedEnclave { name: name.clone(), api_key: key.into_secret() } };
        write.remember(cause, once.as_ref(), &changed).await?;
        write.commit().await?;
        Ok(Outcome::Done(changed))
    }

    /// A page of the enclaves, with how their brokers are.
    pub async fn enclaves(&self, org: &OrgId, page: &PageRequest, now: Timestamp) -> Result<Page<Enclave>> {
        let Live { sql, dead, since } = self.live_sessions(now);
        let rows = sqlx::query(listing(&sql, "AND e.name > $4 ORDER BY e.name LIMIT $5"))
            .bind(org.as_str())
            .bind(dead)
            .bind(since)
            .bind(page.start())
            .bind(page.fetch())
            .fetch_all(&self.0.reader)
            .await?;
        let items = rows.iter().map(|row| listed(row, &self.0.time)).collect::<Result<Vec<_>>>()?;
        Ok(page.cut(items, |enclave| enclave.name.to_string()))
    }

    /// One enclave.
    pub async fn enclave(&self, org: &OrgId, name: &EnclaveName, now: Timestamp) -> Result<Enclave> {
        let Live { sql, dead, since } = self.live_sessions(now);
        let row = sqlx::query(listing(&sql, "AND e.name = $4"))
            .bind(org.as_str())
            .bind(dead)
            .bind(since)
            .bind(name.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        listed(&row.ok_or(StoreError::NotFound(Object::Enclave))?, &self.0.time)
    }

    /// Deletes an enclave, its agents and their secrets. Its API key is dead at once.
    pub async fn delete_enclave(&self, cause: &Cause, name: &EnclaveName) -> Result<Changed<()>> {
        let org = &cause.actor.org;
        let mut write = self.write().await?;
        write.lock(org).await?;
        let enclave = write.enclave_id(org, name).await?;
        for agent in write.agents_of(&enclave).await? {
            write.event(cause, Event::allowed("agent.delete", agent.as_str()).about(agent.as_str())).await?;
        }
        for table in ["secrets", "secret_heads"] {
            let sql = format!(
                "DELETE FROM {table} WHERE org_id = $1 AND agent_id IN (SELECT id FROM agents WHERE enclave_id = $2)"
            );
            sqlx::query(assembled(sql))
                .bind(org.as_str())
                .bind(enclave.as_str())
                .execute(write.connection())
                .await?;
        }
        for sql in ["DELETE FROM agents WHERE enclave_id = $1", "DELETE FROM enclaves WHERE id = $1"] {
            sqlx::query(sql).bind(enclave.as_str()).execute(write.connection()).await?;
        }
        write.event(cause, Event::allowed("enclave.delete", name.as_str())).await?;
        let revision = write.bump(org, cause.time, &ChangedObject::EnclaveGone { enclave }).await?;
        write.commit().await?;
        Ok(Changed { revision, value: () })
    }
}

impl Write<'_> {
    pub(super) async fn enclave_id(&mut self, org: &OrgId, name: &EnclaveName) -> Result<EnclaveId> {
        let row = sqlx::query("SELECT id FROM enclaves WHERE org_id = $1 AND name = $2")
            .bind(org.as_str())
            .bind(name.as_str())
            .fetch_optional(self.connection())
            .await?;
        Ok(row.ok_or(StoreError::NotFound(Object::Enclave))?.text("id")?.into())
    }

    async fn agents_of(&mut self, enclave: &EnclaveId) -> Result<Vec<String>> {
        let rows = sqlx::query("SELECT name FROM agents WHERE enclave_id = $1 ORDER BY name")
            .bind(enclave.as_str())
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(|row| row.text("name")).collect()
    }
}

fn listed(row: &AnyRow, time: &SharedTime) -> Result<Enclave> {
    let connected = row.number("live")? > 0;
    let revision = match row.optional_number("lowest")?.filter(|_| connected) {
        Some(lowest) => Some(lowest),
        None => row.optional_number("acked_revision")?,
    };
    Ok(Enclave {
        name: row.parsed("name")?,
        created_at: row.time("created_at")?,
        connected,
        seen_at: row.optional_number("seen_at")?.map(|seen| time.read(seen)).transpose()?,
        revision: revision.and_then(|revision| u64::try_from(revision).ok()).filter(|revision| *revision > 0),
        lag: row.count("lag")?,
        agents: row.count("agents")?,
        degraded: serde_json::from_str(&row.text("degraded")?).unwrap_or_default(),
    })
}
