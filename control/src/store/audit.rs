//! What is remembered.

use dvx_proto::operator::AuditEvent;
use sqlx::any::AnyRow;

use super::row::{Columns, assembled, micros, stored};
use super::{Result, Store, auth};
use crate::domain::{AuditQuery, Cause, Event, OrgId};

impl Store {
    /// Remembers something that changed nothing, such as a refusal.
    pub async fn append_event(&self, cause: &Cause, event: Event) -> Result<()> {
        let mut write = self.write().await?;
        write.event(cause, event).await?;
        write.commit().await
    }

    /// Events of an organisation, in the order of their numbers. Whoever asks for those after the last one it has
    /// misses none.
    pub async fn events(&self, org: &OrgId, query: &AuditQuery) -> Result<Vec<AuditEvent>> {
        let mut sql = String::from(
            "SELECT number, time, actor, role, action, subject, agent, decision, reason, request_id, enclave, seq, \
             line FROM audit_events WHERE org_id = $1 AND number > $2",
        );
        let mut next = 4;
        let mut condition = |text: &str| {
            sql.push_str(&format!(" AND {text} ${next}"));
            next += 1;
        };
        if query.agent.is_some() {
            condition("agent =");
        }
        if query.since.is_some() {
            condition("time >=");
        }
        if query.until.is_some() {
            condition("time <");
        }
        sql.push_str(" ORDER BY number LIMIT $3");
        let mut statement = sqlx::query(assembled(sql))
            .bind(org.as_str())
            .bind(stored(query.after))
            .bind(i64::from(query.limit));
        if let Some(agent) = &query.agent {
            statement = statement.bind(agent.as_str());
        }
        for time in [query.since, query.until].into_iter().flatten() {
            statement = statement.bind(micros(time));
        }
        let rows = statement.fetch_all(&self.0.reader).await?;
        rows.iter().map(read).collect()
    }

    /// The number of an organisation's newest event.
    pub async fn newest_event(&self, org: &OrgId) -> Result<u64> {
        let row = sqlx::query("SELECT events FROM organisations WHERE id = $1")
            .bind(org.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        row.map_or(Ok(0), |row| row.count("events"))
    }
}

fn read(row: &AnyRow) -> Result<AuditEvent> {
    let line = row.optional_text("line")?;
    Ok(AuditEvent {
        number: row.count("number")?,
        time: row.time("time")?,
        actor: row.text("actor")?,
        role: row.optional_text("role")?.map(|role| auth::role(&role)).transpose()?,
        action: row.text("action")?,
        subject: row.optional_text("subject")?,
        agent: row.optional_text("agent")?,
        decision: row.text("decision")?,
        reason: row.optional_text("reason")?,
        request_id: row.optional_text("request_id")?,
        enclave: row.optional_text("enclave")?,
        seq: row.optional_number("seq")?.and_then(|seq| u64::try_from(seq).ok()),
        // A line that was edited in the database tells nothing more than its row.
        line: line.as_deref().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default(),
    })
}
