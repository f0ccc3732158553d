//! Credentials that come to their end, those of credential providers included, and those that the provider
//! refuses. What is replaced by itself is not among the first.

use std::time::Duration;

use dvx_proto::operator::Attention;
use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::row::{Columns, ago, micros};
use super::{Result, Store};
use crate::clock;
use crate::domain::{Cause, Event, OrgId};

/// How many days before the end it is said, last first.
const DAYS: [i64; 3] = [7, 30, 60];

/// So many are looked at in one go.
const BATCH: i64 = 500;

/// What was said is remembered for so long after the end: a clock that goes back says nothing again.
const MEMORY: Duration = Duration::from_secs(30 * DAY);

/// The most that are shown.
const MAX_SHOWN: i64 = 100;

const DAY: u64 = 24 * 60 * 60;

struct Ending {
    credential: String,
    org: OrgId,
    organisation: String,
    name: String,
    agent: Option<String>,
    expires_at: Timestamp,
    days: i64,
}

impl Store {
    /// Says in the audit log which credentials end within 60, 30 and 7 days, each once, and how many that were.
    pub async fn warn_of_expiry(&self, now: Timestamp) -> Result<u64> {
        let mut said = 0;
        loop {
            let endings = self.endings(now).await?;
            for ending in &endings {
                said += u64::from(self.warn(ending, now).await?);
            }
            if i64::try_from(endings.len()).unwrap_or(i64::MAX) < BATCH {
                break;
            }
        }
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM expiry_warnings WHERE expires_at < $1")
            .bind(ago(now, MEMORY))
            .execute(write.connection())
            .await?;
        write.commit().await?;
        Ok(said)
    }

    /// What of an organisation wants somebody to do something: credentials that end within 60 days and those that
    /// the provider refuses, those first that end first. Tokens of credential providers are among them.
    pub async fn attention(&self, org: &OrgId, now: Timestamp) -> Result<Vec<Attention>> {
        let rows = sqlx::query(
            "SELECT s.name, s.expires_at, a.name AS agent, CAST(NULL AS TEXT) AS provider, i.status, i.cause \
             FROM secrets s LEFT JOIN agents a ON a.id = s.agent_id \
             LEFT JOIN integrations i ON i.agent_id = s.agent_id AND i.id = s.id \
             WHERE s.org_id = $1 AND s.credential = 1 AND (i.status = 'invalid' OR \
             (s.expires_at <= $2 AND (i.origin IS NULL OR i.origin <> 'minted'))) \
             UNION ALL SELECT p.provider || ':token', p.token_expires_at, CAST(NULL AS TEXT), p.name, p.status, \
             p.reason FROM credential_providers p WHERE p.org_id = $1 AND (p.status = 'inactive' OR \
             (p.next_rotation_at IS NULL AND p.token_expires_at <= $2)) \
             ORDER BY 2, 1, 3, 4 LIMIT $3",
        )
        .bind(org.as_str())
        .bind(ahead(now, DAYS[2]))
        .bind(MAX_SHOWN)
        .fetch_all(&self.0.reader)
        .await?;
        rows.iter().map(attention).collect()
    }

    async fn endings(&self, now: Timestamp) -> Result<Vec<Ending>> {
        let rows = sqlx::query(
            "SELECT s.id, s.org_id, o.name AS organisation, s.name, s.expires_at, a.name AS agent, \
             CASE WHEN s.expires_at <= $2 THEN 7 WHEN s.expires_at <= $3 THEN 30 ELSE 60 END AS days \
             FROM secrets s JOIN organisations o ON o.id = s.org_id LEFT JOIN agents a ON a.id = s.agent_id \
             LEFT JOIN integrations i ON i.agent_id = s.agent_id AND i.id = s.id \
             WHERE s.credential = 1 AND s.expires_at > $1 AND s.expires_at <= $4 \
             AND (i.origin IS NULL OR i.origin <> 'minted') \
             AND NOT EXISTS (SELECT 1 FROM expiry_warnings w WHERE w.credential_id = s.id \
             AND w.expires_at = s.expires_at \
             AND w.days = CASE WHEN s.expires_at <= $2 THEN 7 WHEN s.expires_at <= $3 THEN 30 ELSE 60 END) \
             UNION ALL SELECT p.id, p.org_id, o.name, p.name, p.token_expires_at, CAST(NULL AS TEXT), \
             CASE WHEN p.token_expires_at <= $2 THEN 7 WHEN p.token_expires_at <= $3 THEN 30 ELSE 60 END \
             FROM credential_providers p JOIN organisations o ON o.id = p.org_id \
             WHERE p.next_rotation_at IS NULL AND p.token_expires_at > $1 AND p.token_expires_at <= $4 \
             AND NOT EXISTS (SELECT 1 FROM expiry_warnings w WHERE w.credential_id = p.id \
             AND w.expires_at = p.token_expires_at AND w.days = CASE WHEN p.token_expires_at <= $2 THEN 7 \
             WHEN p.token_expires_at <= $3 THEN 30 ELSE 60 END) LIMIT $5",
        )
        .bind(micros(now))
        .bind(ahead(now, DAYS[0]))
        .bind(ahead(now, DAYS[1]))
        .bind(ahead(now, DAYS[2]))
        .bind(BATCH)
        .fetch_all(&self.0.reader)
        .await?;
        rows.iter().map(ending).collect()
    }

    /// False where another replica has said it.
    async fn warn(&self, ending: &Ending, now: Timestamp) -> Result<bool> {
        let mut write = self.write().await?;
        write.lock(&ending.org).await?;
        let first = sqlx::query(
            "INSERT INTO expiry_warnings (credential_id, expires_at, days) VALUES ($1, $2, $3) \
             ON CONFLICT (credential_id, expires_at, days) DO NOTHING",
        )
        .bind(ending.credential.as_str())
        .bind(micros(ending.expires_at))
        .bind(ending.days)
        .execute(write.connection())
        .await?;
        if first.rows_affected() == 0 {
            return Ok(false);
        }
        let left = clock::since(ending.expires_at, now).as_secs() / DAY;
        let reason = format!("it ends at {}, {left} days from now", ending.expires_at);
        let mut event = Event::allowed("credential.expiring", ending.name.as_str()).because(Some(reason));
        event.agent.clone_from(&ending.agent);
        let cause = Cause::system(ending.org.clone(), ending.organisation.clone(), now);
        write.event(&cause, event).await?;
        write.commit().await?;
        Ok(true)
    }
}

/// So many days from now, as it is stored.
fn ahead(now: Timestamp, days: i64) -> i64 {
    const MICROS: i64 = 1_000_000;
    micros(now).saturating_add(days.saturating_mul(i64::try_from(DAY).unwrap_or(0)).saturating_mul(MICROS))
}

fn ending(row: &AnyRow) -> Result<Ending> {
    Ok(Ending {
        credential: row.text("id")?,
        org: row.text("org_id")?.into(),
        organisation: row.text("organisation")?,
        name: row.text("name")?,
        agent: row.optional_text("agent")?,
        expires_at: row.time("expires_at")?,
        days: row.number("days")?,
    })
}

fn attention(row: &AnyRow) -> Result<Attention> {
    let is_invalid = matches!(row.optional_text("status")?.as_deref(), Some("invalid" | "inactive"));
    let cause = row.optional_text("cause")?;
    let agent = match row.optional_text("agent")? {
        Some(_) => Some(row.parsed("agent")?),
        None => None,
    };
    Ok(Attention {
        agent,
        credential_provider: row.optional_text("provider")?,
        credential: row.parsed("name")?,
        expires_at: row.optional_time("expires_at")?,
        refused: is_invalid.then(|| cause.unwrap_or_else(|| "unknown".to_owned())),
    })
}
