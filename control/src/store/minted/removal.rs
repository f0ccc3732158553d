//! What is to go, until it is gone.

use std::time::Duration;

use dvx_proto::operator::Page;
use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::kind;
use crate::domain::{AgentId, Debt, LeaseId, Minted, MintedState, OrgId, PageRequest};
use crate::store::leases::ahead;
use crate::store::row::{Columns, assembled, micros};
use crate::store::{Result, Store};

/// How long brokers have to forget a token whose agent is gone before it is taken from them.
const GRACE: Duration = Duration::from_secs(3);

/// That an agent has a minted identity of the same provider.
const LINKED: &str = "EXISTS (SELECT 1 FROM integrations i JOIN agents a ON a.id = i.agent_id \
    JOIN credential_providers p ON p.id = m.credential_provider_id \
    WHERE i.agent_id = m.agent_id AND i.provider = p.provider AND i.origin = 'minted' AND a.state <> 'revoked')";

/// What nobody can want any more.
fn orphaned() -> String {
    format!(
        "(m.state = 'used' AND NOT {LINKED}) OR (m.state IN ('intended', 'made') AND NOT EXISTS \
         (SELECT 1 FROM operations o WHERE o.id = m.operation_id AND o.state = 'running'))"
    )
}

/// A token that was replaced, while the agent may still use it. Needs `now` as `$2`.
const OVERLAPPING: &str = "m.state = 'doomed' AND m.attempts = 0 AND m.due_at > $2 AND EXISTS (SELECT 1 FROM \
    integrations i WHERE i.agent_id = m.agent_id AND i.credential_provider_id = m.credential_provider_id)";

impl Store {
    /// Dooms what nobody can want any more: what was made for agents that are gone, revoked or have another
    /// identity, and what operations have left behind. How many.
    pub(crate) async fn doom_orphans(&self, now: Timestamp) -> Result<u64> {
        let orphaned = orphaned();
        // What was replaced a moment ago is not kept for an agent that is gone.
        let kept = format!("m.state = 'doomed' AND m.attempts = 0 AND m.due_at > $1 AND NOT {LINKED}");
        let soon = ahead(now, GRACE);
        let found = format!("SELECT m.id FROM minted m WHERE ({kept}) OR {orphaned} LIMIT 1");
        if sqlx::query(assembled(found)).bind(soon).fetch_optional(&self.0.reader).await?.is_none() {
            return Ok(0);
        }
        let mut write = self.write().await?;
        let sql =
            format!("UPDATE minted SET due_at = $1 WHERE id IN (SELECT m.id FROM minted m WHERE {kept})");
        sqlx::query(assembled(sql)).bind(soon).execute(write.connection()).await?;
        let doomed = write.doom(&orphaned, "", GRACE, now).await?;
        write.commit().await?;
        Ok(doomed)
    }

    /// What is to go and due, each with a lease. Tokens come before their accounts.
    pub(crate) async fn take_doomed(&self, limit: u32, now: Timestamp) -> Result<Vec<(Minted, LeaseId)>> {
        let condition = "state IN ('doomed', 'going') AND NOT (kind = 'account' AND EXISTS (SELECT 1 FROM \
            minted t WHERE t.account_id = minted.external_id AND t.credential_provider_id = \
            minted.credential_provider_id AND t.state = 'doomed' AND t.attempts = 0))";
        self.minted_taken(condition, limit, now).await
    }

    /// The same, of one agent, due or not.
    pub(crate) async fn take_doomed_of(
        &self,
        agent: &AgentId,
        now: Timestamp,
    ) -> Result<Vec<(Minted, LeaseId)>> {
        let mut write = self.write().await?;
        sqlx::query(
            "UPDATE minted SET due_at = $2 WHERE agent_id = $1 AND state = 'doomed' AND attempts = 0 \
             AND due_at > $2",
        )
        .bind(agent.as_str())
        .bind(micros(now))
        .execute(write.connection())
        .await?;
        write.commit().await?;
        self.take_doomed(64, now).await
    }

    async fn minted_taken(
        &self,
        condition: &str,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<(Minted, LeaseId)>> {
        let mut taken = Vec::new();
        for (id, lease) in self.take("minted", "due_at", condition, limit, now).await? {
            if let Some(minted) = self.minted(&id.into()).await? {
                taken.push((minted, lease));
            }
        }
        Ok(taken)
    }

    /// Writes down how a removal went, and lets go of it.
    pub(crate) async fn settle(
        &self,
        minted: &Minted,
        lease: &LeaseId,
        state: MintedState,
        wait: Duration,
        error: Option<&str>,
        now: Timestamp,
    ) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query(
            "UPDATE minted SET state = $3, attempts = attempts + 1, due_at = $4, last_error = $5, holder = NULL, \
             held_until = NULL WHERE id = $1 AND holder = $2",
        )
        .bind(minted.id.as_str())
        .bind(lease.as_str())
        .bind(state.as_str())
        .bind(ahead(now, wait))
        .bind(error)
        .execute(write.connection())
        .await?;
        write.commit().await
    }

    /// What is to be removed, by its id: all that keeps a credential provider that no agent uses.
    pub(crate) async fn debts(&self, org: &OrgId, page: &PageRequest, now: Timestamp) -> Result<Page<Debt>> {
        let orphaned = orphaned();
        let sql = format!(
            "SELECT m.id, m.agent, m.kind, m.name, m.state, COALESCE(m.doomed_at, $2) AS since, m.attempts, \
             m.due_at, m.last_error, p.name AS credential_provider FROM minted m \
             LEFT JOIN credential_providers p ON p.id = m.credential_provider_id WHERE m.org_id = $1 \
             AND m.id > $3 AND ((m.state IN ('doomed', 'going') AND NOT ({OVERLAPPING})) OR {orphaned}) \
             ORDER BY m.id LIMIT $4"
        );
        let rows = sqlx::query(assembled(sql))
            .bind(org.as_str())
            .bind(micros(now))
            .bind(page.start())
            .bind(page.fetch())
            .fetch_all(&self.0.reader)
            .await?;
        let debts = rows.iter().map(debt).collect::<Result<Vec<_>>>()?;
        Ok(page.cut(debts, |debt| debt.id.to_string()))
    }

    /// Whether anything of an agent is still to be removed, and what stands in the way.
    pub(crate) async fn left_of(&self, agent: &AgentId) -> Result<Option<String>> {
        let row = sqlx::query(
            "SELECT last_error FROM minted WHERE agent_id = $1 AND (state = 'doomed' OR (state = 'going' AND \
             last_error IS NOT NULL)) ORDER BY last_error IS NULL LIMIT 1",
        )
        .bind(agent.as_str())
        .fetch_optional(&self.0.reader)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(row.optional_text("last_error")?.unwrap_or_else(|| "it has not been tried yet".into())))
    }
}

fn debt(row: &AnyRow) -> Result<Debt> {
    let waits_for = match row.text("state")?.as_str() {
        "going" => "it was told to go, and is looked for until it is gone",
        _ => "it is about to be removed",
    };
    Ok(Debt {
        id: row.text("id")?.into(),
        agent: row.text("agent")?,
        credential_provider: row.optional_text("credential_provider")?.unwrap_or_default(),
        kind: kind(row)?.words(),
        name: row.text("name")?,
        since: row.time("since")?,
        attempts: u32::try_from(row.number("attempts")?).unwrap_or(0),
        next_at: row.time("due_at")?,
        why: row.optional_text("last_error")?.unwrap_or_else(|| waits_for.to_owned()),
    })
}
