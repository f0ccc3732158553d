//! What has changed since a revision.

use sqlx::any::AnyRow;

use super::row::{Columns, stored};
use super::{Object, Result, Store, StoreError};
use crate::domain::{Change, ChangedObject, Changes, OrgId, Revision};

impl Store {
    /// The changes after a revision, at most so many.
    pub async fn changes_since(&self, org: &OrgId, revision: Revision, limit: u32) -> Result<Changes> {
        let bounds = sqlx::query("SELECT revision, pruned FROM organisations WHERE id = $1")
            .bind(org.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        let bounds = bounds.ok_or(StoreError::NotFound(Object::Organisation))?;
        if revision < bounds.revision("pruned")? || revision > bounds.revision("revision")? {
            return Ok(Changes::Unknown);
        }
        let rows = sqlx::query(
            "SELECT revision, time, kind, enclave_id, agent_id, agent, secret FROM changes \
             WHERE org_id = $1 AND revision > $2 ORDER BY revision LIMIT $3",
        )
        .bind(org.as_str())
        .bind(stored(revision.0))
        .bind(i64::from(limit))
        .fetch_all(&self.0.reader)
        .await?;
        let changes = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        // Some may have gone between the two looks.
        if changes.first().is_some_and(|change| change.revision.0 != revision.0 + 1) {
            return Ok(Changes::Unknown);
        }
        Ok(Changes::Since(changes))
    }

    /// One change; none where it is not kept any more.
    pub async fn change(&self, org: &OrgId, revision: Revision) -> Result<Option<Change>> {
        let row = sqlx::query(
            "SELECT revision, time, kind, enclave_id, agent_id, agent, secret FROM changes \
             WHERE org_id = $1 AND revision = $2",
        )
        .bind(org.as_str())
        .bind(stored(revision.0))
        .fetch_optional(&self.0.reader)
        .await?;
        row.as_ref().map(read).transpose()
    }
}

fn read(row: &AnyRow) -> Result<Change> {
    let missing = || StoreError::Corrupt("a change without what it is about");
    let enclave = row.optional_text("enclave_id")?.map(Into::into);
    let agent = match row.optional_text("agent_id")? {
        Some(id) => Some((id.into(), row.parsed("agent")?)),
        None => None,
    };
    let object = match row.text("kind")?.as_str() {
        "agent" => {
            let (id, agent) = agent.ok_or_else(missing)?;
            ChangedObject::Agent { enclave: enclave.ok_or_else(missing)?, id, agent }
        }
        "agent-gone" => {
            let (id, agent) = agent.ok_or_else(missing)?;
            ChangedObject::AgentGone { enclave: enclave.ok_or_else(missing)?, id, agent }
        }
        "enclave-gone" => ChangedObject::EnclaveGone { enclave: enclave.ok_or_else(missing)? },
        "secret" => {
            let agent = enclave.zip(agent).map(|(enclave, (id, agent))| (enclave, id, agent));
            ChangedObject::Secret { agent, name: row.parsed("secret")? }
        }
        _ => return Err(StoreError::Corrupt("a change of a kind that there is not")),
    };
    Ok(Change { revision: row.revision("revision")?, mark: row.count("time")?, object })
}
