//! Who a token belongs to.

use dvx_proto::operator::Role;

use super::row::Columns;
use super::{Result, Store, StoreError};
use crate::crypto::HashedToken;
use crate::domain::{Actor, EnclaveIdentity, OrgId, Organisation};

impl Store {
    /// The operator that has this token.
    pub async fn operator_by_token(&self, token: &HashedToken) -> Result<Option<Actor>> {
        let row = sqlx::query(
            "SELECT p.name, p.role, o.id AS org_id, o.name AS organisation \
             FROM operators p JOIN organisations o ON o.id = p.org_id WHERE p.token_hash = $1",
        )
        .bind(token.as_bytes())
        .fetch_optional(&self.0.reader)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Actor {
            org: row.text("org_id")?.into(),
            organisation: row.text("organisation")?,
            name: row.text("name")?,
            role: Some(role(&row.text("role")?)?),
        }))
    }

    /// The enclave that has this API key.
    pub async fn enclave_by_key(&self, key: &HashedToken) -> Result<Option<EnclaveIdentity>> {
        let row = sqlx::query(
            "SELECT e.id, e.name, o.id AS org_id, o.name AS organisation \
             FROM enclaves e JOIN organisations o ON o.id = e.org_id WHERE e.key_hash = $1",
        )
        .bind(key.as_bytes())
        .fetch_optional(&self.0.reader)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(EnclaveIdentity {
            id: row.text("id")?.into(),
            name: row.parsed("name")?,
            org: row.text("org_id")?.into(),
            organisation: row.text("organisation")?,
        }))
    }

    /// The organisation of this name.
    pub async fn organisation(&self, name: &str) -> Result<Option<Organisation>> {
        let row = sqlx::query("SELECT id, name, revision FROM organisations WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.0.reader)
            .await?;
        row.as_ref().map(organisation).transpose()
    }

    /// Every organisation, with its newest revision.
    pub async fn organisations(&self) -> Result<Vec<Organisation>> {
        let rows = sqlx::query("SELECT id, name, revision FROM organisations ORDER BY name")
            .fetch_all(&self.0.reader)
            .await?;
        rows.iter().map(organisation).collect()
    }

    /// The newest revision of an organisation.
    pub async fn revision(&self, org: &OrgId) -> Result<crate::domain::Revision> {
        let row = sqlx::query("SELECT revision FROM organisations WHERE id = $1")
            .bind(org.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        row.ok_or(StoreError::NotFound(super::Object::Organisation))?.revision("revision")
    }
}

fn organisation(row: &sqlx::any::AnyRow) -> Result<Organisation> {
    Ok(Organisation {
        id: row.text("id")?.into(),
        name: row.text("name")?,
        revision: row.revision("revision")?,
    })
}

pub(super) fn role(text: &str) -> Result<Role> {
    let role = Role::ALL.into_iter().find(|role| role.as_str() == text);
    role.ok_or(StoreError::Corrupt("a role that there is not"))
}
