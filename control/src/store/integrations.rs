//! Where agents' credentials come from.

use std::time::Duration;

use dvx_gitlab::{AccessLevel, ProjectId, TokenId, UserId};
use dvx_proto::{AgentName, ProviderName, SecretName};
use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::row::{Columns, ago, assembled, micros, stored};
use super::secrets::Owner;
use super::transaction::Write;
use super::{Conflict, Object, Result, Store, StoreError};
use crate::domain::{
    AgentId, Cause, Changed, Event, Identity, IntegrationRecord, NewSecret, OrgId, Origin, Revision,
    SecretId, SecretSet,
};

const SELECT: &str = "SELECT i.id, i.agent_id, i.provider, i.status, i.origin, i.credential_provider_id, \
    i.project_id, i.access_level, i.user_id, i.username, i.token_id, i.scopes, i.minted_at, i.rotate_at, \
    i.cause, i.checked_at, a.org_id, a.name AS agent FROM integrations i JOIN agents a ON a.id = i.agent_id";

impl Store {
    /// Links an agent with a token that was checked. One that was merely set by hand is replaced.
    pub async fn link_pat(
        &self,
        cause: &Cause,
        agent: &AgentName,
        secret: NewSecret,
        identity: &Identity,
    ) -> Result<Revision> {
        let org = &cause.actor.org;
        let provider = secret.name.provider().ok_or(StoreError::Corrupt("a token without a provider"))?;
        let mut write = self.write().await?;
        let revision = write.lock(org).await?;
        if write.made_before(cause).await?.is_some() {
            return Ok(revision);
        }
        let owner = write.owner(org, Some(agent)).await?.ok_or(StoreError::NotFound(Object::Agent))?;
        if let Some(found) = write.integration(&owner, &provider).await?
            && found.origin != Origin::Manual
        {
            return Err(Conflict::Linked.into());
        }
        write.refuse_running(&owner, &provider).await?;
        let event = Event::allowed("integration.link", secret.name.as_str());
        let changed = write.set_linked(cause, owner, secret, Origin::Pat, identity, event).await?;
        write.remember_made(cause, provider.as_str()).await?;
        write.commit().await?;
        Ok(changed.revision)
    }

    /// Takes a token away that was linked or set by hand, and ends what runs to replace it; none where there is none
    /// of these.
    pub(crate) async fn unlink_pat(
        &self,
        cause: &Cause,
        agent: &AgentName,
        provider: &ProviderName,
    ) -> Result<Option<Revision>> {
        let mut write = self.write().await?;
        write.lock(&cause.actor.org).await?;
        let owner = write.owner(&cause.actor.org, Some(agent)).await?;
        let owner = owner.ok_or(StoreError::NotFound(super::Object::Agent))?;
        let Some(found) = write.integration(&owner, provider).await? else { return Ok(None) };
        if found.origin == Origin::Minted {
            return Ok(None);
        }
        write.abandon(&owner.id, provider, Duration::ZERO, cause).await?;
        let name = token_name(provider)?;
        let revision = write.delete(cause, Some(owner), &name, "integration.unlink").await?;
        write.commit().await?;
        Ok(Some(revision))
    }

    /// An agent's integration.
    pub async fn integration(
        &self,
        org: &OrgId,
        agent: &AgentName,
        provider: &ProviderName,
    ) -> Result<Option<IntegrationRecord>> {
        let id = self.agent_id(org, agent).await?;
        let row = sqlx::query(assembled(format!("{SELECT} WHERE i.agent_id = $1 AND i.provider = $2")))
            .bind(id.as_str())
            .bind(provider.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// Takes an agent's token away, with all that is known of it, ends what runs for it, and dooms what was made.
    pub(crate) async fn unlink(
        &self,
        cause: &Cause,
        agent: &AgentName,
        provider: &ProviderName,
        grace: Duration,
    ) -> Result<Option<(AgentId, Revision)>> {
        let org = &cause.actor.org;
        let mut write = self.write().await?;
        write.lock(org).await?;
        let owner = write.owner(org, Some(agent)).await?.ok_or(StoreError::NotFound(Object::Agent))?;
        let id = owner.id.clone();
        let found = write.integration(&owner, provider).await?;
        let ended = write.abandon(&id, provider, grace, cause).await?;
        if found.is_none() && !ended {
            return Ok(None);
        }
        let name = token_name(provider)?;
        let revision = match found {
            Some(_) => write.delete(cause, Some(owner), &name, "integration.unlink").await?,
            None => {
                let event = Event::allowed("integration.unlink", name.as_str()).about(agent.as_str());
                write.event(cause, event).await?;
                write.lock(org).await?
            }
        };
        write.commit().await?;
        Ok(Some((id, revision)))
    }

    /// Integrations whose token is to be replaced by now.
    pub(crate) async fn integrations_due(&self, now: Timestamp) -> Result<Vec<IntegrationRecord>> {
        self.integrations_where("i.rotate_at <= $1 AND a.state <> 'revoked'", now).await
    }

    /// Integrations of agents that were provisioned anew: what had been made for them is gone.
    pub(crate) async fn integrations_bereft(&self, now: Timestamp) -> Result<Vec<IntegrationRecord>> {
        let bereft = "a.state <> 'revoked' AND NOT EXISTS (SELECT 1 FROM minted m WHERE m.agent_id = a.id AND \
            m.state IN ('used', 'made', 'intended')) AND i.created_at <= $1";
        self.integrations_where(bereft, now).await
    }

    async fn integrations_where(&self, condition: &str, now: Timestamp) -> Result<Vec<IntegrationRecord>> {
        let sql = format!(
            "{SELECT} WHERE i.origin = 'minted' AND {condition} AND NOT EXISTS (SELECT 1 FROM operations o \
             WHERE o.agent_id = a.id AND o.state = 'running') LIMIT 100"
        );
        let rows = sqlx::query(assembled(sql)).bind(micros(now)).fetch_all(&self.0.reader).await?;
        rows.iter().map(read).collect()
    }

    /// Puts off the next attempt to replace a token.
    pub(crate) async fn postpone_rotation(&self, id: &SecretId, until: Timestamp) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE integrations SET rotate_at = $2 WHERE id = $1")
            .bind(id.as_str())
            .bind(micros(until))
            .execute(write.connection())
            .await?;
        write.commit().await
    }

    /// Whether it is this caller's turn to ask the provider about a token: false where that was asked just now.
    pub(crate) async fn begin_check(&self, id: &SecretId, apart: Duration, now: Timestamp) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query(
            "UPDATE integrations SET checked_at = $2 WHERE id = $1 \
             AND (checked_at IS NULL OR checked_at <= $3 OR checked_at > $2)",
        )
        .bind(id.as_str())
        .bind(micros(now))
        .bind(ago(now, apart))
        .execute(write.connection())
        .await?;
        write.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    /// Writes down that a token does not work, once.
    pub(crate) async fn invalidate(
        &self,
        cause: &Cause,
        integration: &IntegrationRecord,
        ailment: &str,
        hint: &str,
    ) -> Result<()> {
        let mut write = self.write().await?;
        write.lock(&integration.org).await?;
        let done = sqlx::query(
            "UPDATE integrations SET status = 'invalid', cause = $2, rotate_at = NULL WHERE id = $1 \
             AND (status <> 'invalid' OR cause IS NULL OR cause <> $2)",
        )
        .bind(integration.id.as_str())
        .bind(ailment)
        .execute(write.connection())
        .await?;
        if done.rows_affected() > 0 {
            let subject = Some(integration.provider.to_string());
            let event = Event::denied("integration.invalid", subject, format!("{ailment}: {hint}"));
            write.event(cause, event.about(integration.agent.1.as_str())).await?;
        }
        write.commit().await
    }

    /// The integration of a credential.
    pub async fn integration_of(&self, org: &OrgId, id: &SecretId) -> Result<Option<IntegrationRecord>> {
        let row = sqlx::query(assembled(format!("{SELECT} WHERE i.id = $1 AND a.org_id = $2")))
            .bind(id.as_str())
            .bind(org.as_str())
            .fetch_optional(&self.0.reader)
            .await?;
        row.as_ref().map(read).transpose()
    }
}

pub(super) fn read(row: &AnyRow) -> Result<IntegrationRecord> {
    let count =
        |column| Ok::<_, StoreError>(row.optional_number(column)?.and_then(|n| u64::try_from(n).ok()));
    let origin = row.text("origin")?;
    let ailment = if row.text("status")? == "active" {
        None
    } else {
        Some(row.optional_text("cause")?.unwrap_or_else(|| "unknown".into()))
    };
    let scopes = row.optional_text("scopes")?;
    Ok(IntegrationRecord {
        id: row.text("id")?.into(),
        org: row.text("org_id")?.into(),
        agent: (row.text("agent_id")?.into(), row.parsed("agent")?),
        provider: row.parsed("provider")?,
        origin: Origin::ALL.into_iter().find(|known| known.as_str() == origin).unwrap_or(Origin::Manual),
        ailment,
        checked_at: row.optional_time("checked_at")?,
        identity: Identity {
            credential_provider: row.optional_text("credential_provider_id")?.map(Into::into),
            project: count("project_id")?.map(ProjectId),
            access_level: count("access_level")?
                .and_then(|level| u8::try_from(level).ok())
                .and_then(AccessLevel::from_number),
            user: count("user_id")?.map(UserId),
            username: row.optional_text("username")?,
            token: count("token_id")?.map(TokenId),
            scopes: scopes.map(|scopes| scopes.split_whitespace().map(str::to_owned).collect()),
            minted_at: row.optional_time("minted_at")?,
            rotate_at: row.optional_time("rotate_at")?,
        },
    })
}

impl Write<'_> {
    pub(super) async fn integration(
        &mut self,
        owner: &Owner,
        provider: &ProviderName,
    ) -> Result<Option<IntegrationRecord>> {
        let row = sqlx::query(assembled(format!("{SELECT} WHERE i.agent_id = $1 AND i.provider = $2")))
            .bind(owner.id.as_str())
            .bind(provider.as_str())
            .fetch_optional(self.connection())
            .await?;
        row.as_ref().map(read).transpose()
    }

    /// What we made is not set or deleted by hand: it would be left over at the provider.
    pub(super) async fn refuse_minted(&mut self, owner: &Owner, name: &SecretName) -> Result<()> {
        let Some(provider) = name.provider() else { return Ok(()) };
        match self.integration(owner, &provider).await? {
            Some(found) if found.origin == Origin::Minted => Err(Conflict::Linked.into()),
            _ => Ok(()),
        }
    }

    /// Nothing may come in between an operation's steps.
    pub(super) async fn refuse_running(&mut self, owner: &Owner, provider: &ProviderName) -> Result<()> {
        match self.running(&active(&owner.id, provider)).await? {
            Some(running) => Err(Conflict::UnderWay(running).into()),
            None => Ok(()),
        }
    }

    /// Sets the secret of a credential together with what is known of the identity.
    pub(super) async fn set_linked(
        &mut self,
        cause: &Cause,
        owner: Owner,
        secret: NewSecret,
        origin: Origin,
        identity: &Identity,
        event: Event,
    ) -> Result<Changed<SecretSet>> {
        let agent = owner.id.clone();
        let (revision, set, id) = self.set(cause, Some(owner), secret, event).await?;
        let time = |time: Option<Timestamp>| time.map(micros);
        let scopes = identity.scopes.as_ref().map(|scopes| scopes.join(" "));
        sqlx::query(
            "UPDATE integrations SET origin = $3, credential_provider_id = $4, project_id = $5, \
             access_level = $6, user_id = $7, username = $8, token_id = $9, scopes = $10, minted_at = $11, \
             rotate_at = $12, cause = NULL, checked_at = NULL, status = 'active' WHERE agent_id = $1 AND id = $2",
        )
        .bind(agent.as_str())
        .bind(id.as_str())
        .bind(origin.as_str())
        .bind(identity.credential_provider.as_ref().map(|id| id.as_str()))
        .bind(identity.project.map(|id| stored(id.0)))
        .bind(identity.access_level.map(|level| i64::from(level.number())))
        .bind(identity.user.map(|id| stored(id.0)))
        .bind(identity.username.as_deref())
        .bind(identity.token.map(|id| stored(id.0)))
        .bind(scopes)
        .bind(time(identity.minted_at))
        .bind(time(identity.rotate_at))
        .execute(self.connection())
        .await?;
        Ok(Changed { revision, value: set })
    }
}

/// What is set while an operation on an agent's identity at a provider runs.
pub(super) fn active(agent: &AgentId, provider: &ProviderName) -> String {
    format!("{agent}/{provider}")
}

/// The name of a provider's token among an agent's secrets.
pub(crate) fn token_name(provider: &ProviderName) -> Result<SecretName> {
    format!("{provider}:token").parse().map_err(|_| StoreError::Corrupt("a provider's name"))
}
