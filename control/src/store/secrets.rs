//! Secrets, as they are set, listed, and opened for brokers.

mod open;
mod stored;

use dvx_proto::operator::{Page, Scope, SecretInfo};
use dvx_proto::{AgentName, SecretName};
use sqlx::any::AnyRow;

use super::row::{Columns, micros, stored as number};
use super::transaction::Write;
use super::{Object, Result, Store, StoreError};
use crate::crypto::Envelope;
use crate::domain::{
    AgentId, Cause, Changed, ChangedObject, EnclaveId, Event, Head, NewSecret, OrgId, PageRequest, Place,
    Revision, SecretId, SecretSet, StoredSecret,
};

pub(super) use open::Reported;
pub(super) use stored::{COLUMNS, FROM, aad, metadata, read, read_all};

/// The agent that a secret is of.
pub(super) struct Owner {
    pub(super) enclave: EnclaveId,
    pub(super) id: AgentId,
    pub(super) name: AgentName,
}

impl Store {
    /// Sets a secret of an agent, or of the organisation. That of a credential links the agent to its provider.
    ///
    /// The name and what is known of it must have been checked: see [`NewSecret`].
    pub async fn set_secret(
        &self,
        cause: &Cause,
        agent: Option<&AgentName>,
        secret: NewSecret,
    ) -> Result<Changed<SecretSet>> {
        let org = &cause.actor.org;
        let mut write = self.write().await?;
        write.lock(org).await?;
        let owner = write.owner(org, agent).await?;
        if let Some(owner) = &owner {
            write.refuse_minted(owner, &secret.name).await?;
        }
        let event = Event::allowed("secret.set", secret.name.as_str());
        let (revision, value, _) = write.set(cause, owner, secret, event).await?;
        write.commit().await?;
        Ok(Changed { revision, value })
    }

    /// Deletes a secret. What is kept says that there is none, so that its row cannot come back.
    pub async fn delete_secret(
        &self,
        cause: &Cause,
        agent: Option<&AgentName>,
        name: &SecretName,
    ) -> Result<Changed<()>> {
        let org = &cause.actor.org;
        let mut write = self.write().await?;
        write.lock(org).await?;
        let owner = write.owner(org, agent).await?;
        if let Some(owner) = &owner {
            write.refuse_minted(owner, name).await?;
        }
        let revision = write.delete(cause, owner, name, "secret.delete").await?;
        write.commit().await?;
        Ok(Changed { revision, value: () })
    }

    /// A page of the secrets of an agent, or of the organisation. No value is read.
    pub async fn secrets(
        &self,
        org: &OrgId,
        agent: Option<&AgentName>,
        page: &PageRequest,
    ) -> Result<Page<SecretInfo>> {
        let id = match agent {
            Some(agent) => self.agent_id(org, agent).await?.as_str().to_owned(),
            None => String::new(),
        };
        let rows = sqlx::query(
            "SELECT name, agent_accessible, version, display_name, auth_type, instance_url, expires_at, updated_at \
             FROM secrets WHERE org_id = $1 AND agent_id = $2 AND name > $3 ORDER BY name LIMIT $4",
        )
        .bind(org.as_str())
        .bind(id)
        .bind(page.start())
        .bind(page.fetch())
        .fetch_all(&self.0.reader)
        .await?;
        let scope = if agent.is_some() { Scope::Agent } else { Scope::Org };
        let items = rows.iter().map(|row| listed(row, scope)).collect::<Result<Vec<_>>>()?;
        Ok(page.cut(items, |secret| secret.name.to_string()))
    }

    /// One secret as it is stored.
    pub async fn stored_secret(
        &self,
        org: &OrgId,
        agent: Option<&AgentId>,
        name: &SecretName,
    ) -> Result<Option<StoredSecret>> {
        let sql = format!("SELECT {COLUMNS} {FROM} WHERE s.org_id = $1 AND s.agent_id = $2 AND s.name = $3");
        let row = sqlx::query(super::row::assembled(sql))
            .bind(org.as_str())
            .bind(agent.map_or("", AgentId::as_str))
            .bind(name.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        Ok(row.as_ref().map(read).transpose()?.flatten())
    }

    /// Some of the secrets of an agent as they are stored, sorted by name.
    pub async fn agent_secrets(
        &self,
        org: &OrgId,
        agent: &AgentId,
        page: &PageRequest,
    ) -> Result<Vec<StoredSecret>> {
        let rows = sqlx::query(super::row::assembled(page_sql()))
            .bind(org.as_str())
            .bind(agent.as_str())
            .bind(page.start())
            .bind(i64::from(page.limit))
            .fetch_all(&self.0.reader)
            .await?;
        read_all(&rows)
    }

    /// The credential of this id, if it is of an agent of this enclave or of the organisation.
    pub async fn credential_name(
        &self,
        enclave: &EnclaveId,
        org: &OrgId,
        id: &SecretId,
    ) -> Result<Option<(Option<AgentName>, SecretName)>> {
        let row = sqlx::query(
            "SELECT s.name, a.name AS agent FROM secrets s LEFT JOIN agents a ON a.id = s.agent_id \
             WHERE s.id = $1 AND s.org_id = $2 AND s.credential = 1 AND (s.agent_id = '' OR a.enclave_id = $3)",
        )
        .bind(id.as_str())
        .bind(org.as_str())
        .bind(enclave.as_str())
        .fetch_optional(&self.0.reader)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let agent = match row.optional_text("agent")? {
            Some(_) => Some(row.parsed("agent")?),
            None => None,
        };
        Ok(Some((agent, row.parsed("name")?)))
    }
}

/// A page of an agent's secrets.
pub(super) fn page_sql() -> String {
    format!(
        "SELECT {COLUMNS} {FROM} WHERE s.org_id = $1 AND s.agent_id = $2 AND s.name > $3 ORDER BY s.name LIMIT $4"
    )
}

fn place(org: &OrgId, owner: Option<&Owner>, name: &SecretName) -> Place {
    let agent = owner.map(|owner| (owner.id.clone(), owner.name.clone()));
    Place { org: org.clone(), agent, name: name.clone() }
}

/// One more than whatever is known of it: versions never come again, also after deletion.
fn next_version(row: Option<&(SecretId, i64)>, head: Option<&Head>) -> i64 {
    let row = row.map_or(0, |(_, version)| *version);
    row.max(head.map_or(0, |head| head.version)).saturating_add(1).max(1)
}

fn info(scope: Scope, secret: &NewSecret, version: i64, now: jiff::Timestamp) -> SecretInfo {
    let metadata = &secret.metadata;
    SecretInfo {
        name: secret.name.clone(),
        scope,
        agent_accessible: metadata.agent_accessible,
        version: u64::try_from(version).unwrap_or(0),
        updated_at: now,
        display_name: metadata.display_name.clone(),
        auth_type: metadata.auth_type,
        instance_url: metadata.instance_url.clone(),
        expires_at: metadata.expires_at,
    }
}

fn listed(row: &AnyRow, scope: Scope) -> Result<SecretInfo> {
    let metadata = stored::metadata(row)?;
    Ok(SecretInfo {
        name: row.parsed("name")?,
        scope,
        agent_accessible: metadata.agent_accessible,
        version: row.count("version")?,
        updated_at: row.time("updated_at")?,
        display_name: metadata.display_name,
        auth_type: metadata.auth_type,
        instance_url: metadata.instance_url,
        expires_at: metadata.expires_at,
    })
}

impl Write<'_> {
    /// Sets a secret of an agent, or of the organisation.
    pub(super) async fn set(
        &mut self,
        cause: &Cause,
        owner: Option<Owner>,
        secret: NewSecret,
        event: Event,
    ) -> Result<(Revision, SecretSet, SecretId)> {
        let place = place(&cause.actor.org, owner.as_ref(), &secret.name);
        let before = self.existing(&place).await?;
        let head = self.read_head(&place).await?;
        let version = next_version(before.as_ref(), head.as_ref());
        let created = before.is_none();
        let id = before.map_or_else(|| SecretId::generate(cause.time), |(id, _)| id);
        self.put(cause, &place, &id, version, &secret).await?;
        let new = Head { secret: id.clone(), version, deleted: false, mac: Vec::new() };
        self.write_head(&place, new).await?;
        self.link(cause, owner.as_ref(), &secret, &id).await?;
        let scope = if owner.is_some() { Scope::Agent } else { Scope::Org };
        let revision = self.secret_changed(cause, owner, &secret.name, event).await?;
        let info = info(scope, &secret, version, cause.time);
        Ok((revision, SecretSet { info, created }, id))
    }

    /// Deletes a secret of an agent, or of the organisation.
    pub(super) async fn delete(
        &mut self,
        cause: &Cause,
        owner: Option<Owner>,
        name: &SecretName,
        action: &'static str,
    ) -> Result<Revision> {
        let place = place(&cause.actor.org, owner.as_ref(), name);
        let (id, version) = self.existing(&place).await?.ok_or(StoreError::NotFound(Object::Secret))?;
        let head = self.read_head(&place).await?;
        let version = next_version(Some(&(id.clone(), version)), head.as_ref());
        sqlx::query("DELETE FROM secrets WHERE org_id = $1 AND agent_id = $2 AND name = $3")
            .bind(place.org.as_str())
            .bind(place.agent_id())
            .bind(name.as_str())
            .execute(self.connection())
            .await?;
        sqlx::query("DELETE FROM integrations WHERE agent_id = $1 AND id = $2")
            .bind(place.agent_id())
            .bind(id.as_str())
            .execute(self.connection())
            .await?;
        self.write_head(&place, Head { secret: id, version, deleted: true, mac: Vec::new() }).await?;
        self.secret_changed(cause, owner, name, Event::allowed(action, name.as_str())).await
    }

    pub(super) async fn owner(&mut self, org: &OrgId, agent: Option<&AgentName>) -> Result<Option<Owner>> {
        let Some(agent) = agent else { return Ok(None) };
        let row = sqlx::query("SELECT id, enclave_id FROM agents WHERE org_id = $1 AND name = $2")
            .bind(org.as_str())
            .bind(agent.as_str())
            .fetch_optional(self.connection())
            .await?;
        let row = row.ok_or(StoreError::NotFound(Object::Agent))?;
        let (id, enclave) = (row.text("id")?.into(), row.text("enclave_id")?.into());
        Ok(Some(Owner { enclave, id, name: agent.clone() }))
    }

    async fn existing(&mut self, place: &Place) -> Result<Option<(SecretId, i64)>> {
        let row =
            sqlx::query("SELECT id, version FROM secrets WHERE org_id = $1 AND agent_id = $2 AND name = $3")
                .bind(place.org.as_str())
                .bind(place.agent_id())
                .bind(place.name.as_str())
                .fetch_optional(self.connection())
                .await?;
        row.map(|row| Ok((row.text("id")?.into(), row.number("version")?))).transpose()
    }

    async fn put(
        &mut self,
        cause: &Cause,
        place: &Place,
        id: &SecretId,
        version: i64,
        secret: &NewSecret,
    ) -> Result<()> {
        let kek = self.writing_kek().await?;
        let metadata = &secret.metadata;
        let aad = aad(place, id, metadata, secret.is_credential(), version);
        let Envelope { kek, wrapped_key, value } = Envelope::seal(&kek, &aad, secret.value.expose_secret());
        sqlx::query(
            "INSERT INTO secrets (org_id, agent_id, name, id, agent_accessible, version, display_name, auth_type, \
             instance_url, expires_at, updated_at, credential, kek_id, wrapped_key, value) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
             ON CONFLICT (org_id, agent_id, name) DO UPDATE SET agent_accessible = excluded.agent_accessible, \
             version = excluded.version, display_name = excluded.display_name, auth_type = excluded.auth_type, \
             instance_url = excluded.instance_url, expires_at = excluded.expires_at, \
             updated_at = excluded.updated_at, credential = excluded.credential, kek_id = excluded.kek_id, \
             wrapped_key = excluded.wrapped_key, value = excluded.value",
        )
        .bind(place.org.as_str())
        .bind(place.agent_id())
        .bind(place.name.as_str())
        .bind(id.as_str())
        .bind(i64::from(metadata.agent_accessible))
        .bind(version)
        .bind(metadata.display_name.as_deref())
        .bind(metadata.auth_type.map(|kind| kind.as_str()))
        .bind(metadata.instance_url.as_ref().map(ToString::to_string))
        .bind(metadata.expires_at.map(micros))
        .bind(micros(cause.time))
        .bind(i64::from(secret.is_credential()))
        .bind(kek.as_str())
        .bind(wrapped_key)
        .bind(value)
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Keeps the integration of a credential; takes it away where the secret is none any more.
    async fn link(
        &mut self,
        cause: &Cause,
        owner: Option<&Owner>,
        secret: &NewSecret,
        id: &SecretId,
    ) -> Result<()> {
        let Some(owner) = owner else { return Ok(()) };
        let Some(provider) = secret.name.provider() else { return Ok(()) };
        if !secret.is_credential() {
            sqlx::query("DELETE FROM integrations WHERE agent_id = $1 AND provider = $2")
                .bind(owner.id.as_str())
                .bind(provider.as_str())
                .execute(self.connection())
                .await?;
            return Ok(());
        }
        sqlx::query(
            "INSERT INTO integrations (agent_id, provider, id, status, created_at) \
             VALUES ($1, $2, $3, 'active', $4) ON CONFLICT (agent_id, provider) DO UPDATE SET \
             id = excluded.id, status = excluded.status, origin = 'manual', rotate_at = NULL, scopes = NULL, cause = NULL",
        )
        .bind(owner.id.as_str())
        .bind(provider.as_str())
        .bind(id.as_str())
        .bind(micros(cause.time))
        .execute(self.connection())
        .await?;
        Ok(())
    }

    async fn secret_changed(
        &mut self,
        cause: &Cause,
        owner: Option<Owner>,
        name: &SecretName,
        mut event: Event,
    ) -> Result<Revision> {
        if let Some(owner) = &owner {
            event = event.about(owner.name.as_str());
        }
        self.event(cause, event).await?;
        let id = owner.as_ref().map(|owner| owner.id.clone());
        let agent = owner.map(|owner| (owner.enclave, owner.id, owner.name));
        let object = ChangedObject::Secret { agent, name: name.clone() };
        let revision = self.bump(&cause.actor.org, cause.time, &object).await?;
        if let Some(id) = id {
            sqlx::query("UPDATE agents SET revision = $2 WHERE id = $1")
                .bind(id.as_str())
                .bind(number(revision.0))
                .execute(self.connection())
                .await?;
        }
        Ok(revision)
    }
}
