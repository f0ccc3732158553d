//! Credential providers and their tokens.

use dvx_gitlab::{GroupId, TokenId, UserId};
use dvx_proto::operator::Page;
use dvx_proto::{AgentName, Code, Problem, ProviderName, Secret};
use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::operations::of_provider;
use super::row::{Columns, assembled, micros, stored};
use super::transaction::Write;
use super::{Conflict, Object, Result, Store, StoreError, heads};
use crate::crypto::{Aad, Envelope, Unreadable};
use crate::domain::{
    AgentId, Cause, CredentialProvider, Event, Head, LeaseId, Mode, NewProvider, Operation, OperationId,
    OperationState, OrgId, PageRequest, Place, ProviderId, ProviderToken, SecretId,
};

const SELECT: &str = "SELECT p.id, p.org_id, p.name, p.provider, p.instance_url, p.group_id, p.mode, \
    p.rotate_every, p.status, p.reason, p.user_id, p.token_id, p.token_expires_at, p.next_rotation_at, \
    p.created_at, p.version, p.kek_id, p.wrapped_key, p.value, \
    (SELECT COUNT(*) FROM integrations i WHERE i.credential_provider_id = p.id) AS agents \
    FROM credential_providers p";

/// What a provider's token is bound to: all that decides where it goes.
pub(super) fn aad(row: &Bound<'_>) -> Aad {
    Aad::new("dvx provider token 1")
        .text(row.org)
        .text(row.id)
        .text(row.instance_url)
        .number(row.group)
        .text(row.mode)
        .number(row.version)
}

pub(super) struct Bound<'a> {
    pub(super) org: &'a str,
    pub(super) id: &'a str,
    pub(super) instance_url: &'a str,
    pub(super) group: i64,
    pub(super) mode: &'a str,
    pub(super) version: i64,
}

/// Where the newest version is kept.
fn place(org: &OrgId, id: &ProviderId) -> Result<Place> {
    let corrupt = |_| StoreError::Corrupt("a name");
    let name = "gitlab:token".parse().map_err(|_| StoreError::Corrupt("a name"))?;
    let agent = (AgentId::from(format!("provider/{id}")), "provider".parse::<AgentName>().map_err(corrupt)?);
    Ok(Place { org: org.clone(), agent: Some(agent), name })
}

impl Store {
    /// Makes a credential provider. Where its token is to replace itself at once, that is written down with it, so
    /// that no crash and no caller who hangs up comes between them.
    pub(crate) async fn create_provider(
        &self,
        cause: &Cause,
        new: &NewProvider,
        next_rotation_at: Option<Timestamp>,
        at_once: Option<&ProviderName>,
    ) -> Result<(ProviderId, Option<OperationId>)> {
        let org = &cause.actor.org;
        let id = ProviderId::generate(cause.time);
        let url = new.instance_url.to_string();
        let bound = Bound {
            org: org.as_str(),
            id: id.as_str(),
            instance_url: &url,
            group: stored(new.group.0),
            mode: new.mode.as_str(),
            version: 1,
        };
        let mut write = self.write().await?;
        write.lock(org).await?;
        if let Some(made) = write.made_before(cause).await? {
            return Ok((made.into(), None));
        }
        let kek = write.writing_kek().await?;
        let envelope = Envelope::seal(&kek, &aad(&bound), new.token.value.expose_secret());
        sqlx::query(
            "INSERT INTO credential_providers (id, org_id, name, provider, instance_url, group_id, mode, \
             rotate_every, status, user_id, token_id, token_expires_at, next_rotation_at, created_at, version, \
             kek_id, wrapped_key, value) \
             VALUES ($1, $2, $3, 'gitlab', $4, $5, $6, $7, 'active', $8, $9, $10, $11, $12, 1, $13, $14, $15)",
        )
        .bind(id.as_str())
        .bind(org.as_str())
        .bind(new.name.as_str())
        .bind(url.as_str())
        .bind(bound.group)
        .bind(bound.mode)
        .bind(new.rotate_every.map(|every| stored(every.as_secs())))
        .bind(stored(new.token.user.0))
        .bind(new.token.id.map(|id| stored(id.0)))
        .bind(new.token.expires_at.map(micros))
        .bind(next_rotation_at.map(micros))
        .bind(micros(cause.time))
        .bind(envelope.kek.as_str())
        .bind(envelope.wrapped_key)
        .bind(envelope.value)
        .execute(write.connection())
        .await
        .map_err(super::error::taken(Object::CredentialProvider))?;
        write.write_provider_head(org, &id, 1).await?;
        write.event(cause, Event::allowed("credential-provider.create", new.name.as_str())).await?;
        let rotation = match at_once {
            Some(provider) => Some(write.begin_provider_rotation(cause, &id, provider).await?),
            None => None,
        };
        write.remember_made(cause, id.as_str()).await?;
        write.commit().await?;
        Ok((id, rotation))
    }

    /// Those of an organisation, sorted by name.
    pub(crate) async fn providers(
        &self,
        org: &OrgId,
        page: &PageRequest,
    ) -> Result<Page<CredentialProvider>> {
        let sql = format!("{SELECT} WHERE p.org_id = $1 AND p.name > $2 ORDER BY p.name LIMIT $3");
        let rows = sqlx::query(assembled(sql))
            .bind(org.as_str())
            .bind(page.start())
            .bind(page.fetch())
            .fetch_all(&self.0.reader)
            .await?;
        let providers = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok(page.cut(providers, |provider| provider.name.clone()))
    }

    /// One, by its id or name.
    pub(crate) async fn provider(&self, org: &OrgId, id: &str) -> Result<Option<CredentialProvider>> {
        let sql = format!(
            "{SELECT} WHERE p.org_id = $1 AND (p.id = $2 OR p.name = $2) ORDER BY p.id <> $2 LIMIT 1"
        );
        let row =
            sqlx::query(assembled(sql)).bind(org.as_str()).bind(id).fetch_optional(&self.0.reader).await?;
        row.as_ref().map(read).transpose()
    }

    /// Those whose token is to be replaced.
    pub(crate) async fn providers_due(&self, now: Timestamp) -> Result<Vec<CredentialProvider>> {
        let sql = format!(
            "{SELECT} WHERE p.status = 'active' AND p.next_rotation_at <= $1 AND NOT EXISTS (SELECT 1 FROM \
             operations o WHERE o.credential_provider_id = p.id AND o.state = 'running') LIMIT 100"
        );
        let rows = sqlx::query(assembled(sql)).bind(micros(now)).fetch_all(&self.0.reader).await?;
        rows.iter().map(read).collect()
    }

    /// Decrypts a provider's token.
    pub(crate) async fn open_provider(
        &self,
        provider: &CredentialProvider,
    ) -> Result<Result<Secret, Unreadable>> {
        let place = place(&provider.org, &provider.id)?;
        let row = sqlx::query(
            "SELECT secret_id, version, deleted, mac FROM secret_heads \
             WHERE org_id = $1 AND agent_id = $2 AND name = $3",
        )
        .bind(provider.org.as_str())
        .bind(place.agent_id())
        .bind(place.name.as_str())
        .fetch_optional(&self.0.reader)
        .await?;
        let Some(row) = row else { return Ok(Err(Unreadable)) };
        let head = Head {
            secret: row.text("secret_id")?.into(),
            version: row.number("version")?,
            deleted: row.flag("deleted")?,
            mac: row.blob("mac")?,
        };
        let Ok(key) = self.head_key(&provider.org).await? else { return Ok(Err(Unreadable)) };
        let version = u64::try_from(provider.version).unwrap_or(0);
        if !heads::current(&head, version, provider.id.as_str()) || !head.authentic(&key, &place) {
            return Ok(Err(Unreadable));
        }
        let Some(kek) = self.kek(&provider.envelope.kek).await? else { return Ok(Err(Unreadable)) };
        let url = provider.instance_url.to_string();
        Ok(provider.envelope.open(&kek, &aad(&provider.bound(&url, provider.version))))
    }

    /// Gives a provider another token; it is active then. With an operation, that one ends with it: `false` where
    /// it is somebody else's meanwhile. Without, what runs to replace the token is given up.
    pub(crate) async fn replace_provider_token(
        &self,
        cause: &Cause,
        provider: &CredentialProvider,
        token: &ProviderToken,
        next_rotation_at: Option<Timestamp>,
        operation: Option<(&Operation, &LeaseId)>,
    ) -> Result<bool> {
        let mut write = self.write().await?;
        write.lock(&provider.org).await?;
        if let Some((operation, lease)) = operation {
            if !write.holds(&operation.id, lease).await? {
                return Ok(false);
            }
            write.end(&operation.id, OperationState::Done, None, cause.time).await?;
        } else if write.made_before(cause).await?.is_some() {
            return Ok(true);
        } else if let Some(running) = write.running(&of_provider(&provider.id)).await? {
            let problem =
                Problem::new(Code::Conflict, "the credential provider was given another token meanwhile");
            write.end(&running, OperationState::Failed, Some(&problem), cause.time).await?;
        }
        let row = sqlx::query("SELECT version FROM credential_providers WHERE id = $1")
            .bind(provider.id.as_str())
            .fetch_optional(write.connection())
            .await?;
        let row = row.ok_or(StoreError::NotFound(Object::CredentialProvider))?;
        let version = row.number("version")?.saturating_add(1);
        let kek = write.writing_kek().await?;
        let url = provider.instance_url.to_string();
        let envelope =
            Envelope::seal(&kek, &aad(&provider.bound(&url, version)), token.value.expose_secret());
        sqlx::query(
            "UPDATE credential_providers SET status = 'active', reason = NULL, user_id = $2, token_id = $3, \
             token_expires_at = $4, next_rotation_at = $5, version = $6, kek_id = $7, wrapped_key = $8, \
             value = $9 WHERE id = $1",
        )
        .bind(provider.id.as_str())
        .bind(stored(token.user.0))
        .bind(token.id.map(|id| stored(id.0)))
        .bind(token.expires_at.map(micros))
        .bind(next_rotation_at.map(micros))
        .bind(version)
        .bind(envelope.kek.as_str())
        .bind(envelope.wrapped_key)
        .bind(envelope.value)
        .execute(write.connection())
        .await?;
        write.write_provider_head(&provider.org, &provider.id, version).await?;
        write.event(cause, Event::allowed("credential-provider.rotate", provider.name.as_str())).await?;
        write.remember_made(cause, provider.id.as_str()).await?;
        // What could not be removed for want of a token can be now.
        sqlx::query(
            "UPDATE minted SET due_at = $2 WHERE credential_provider_id = $1 AND state IN ('doomed', 'going') \
             AND due_at > $2 AND last_error IS NOT NULL",
        )
        .bind(provider.id.as_str())
        .bind(micros(cause.time))
        .execute(write.connection())
        .await?;
        write.commit().await?;
        Ok(true)
    }

    /// Makes a provider inactive, if its token is still the one of this version. Where nobody may present that
    /// token again, it is taken away.
    pub(crate) async fn deactivate_provider(
        &self,
        cause: &Cause,
        provider: &CredentialProvider,
        reason: &str,
        forget_token: bool,
    ) -> Result<()> {
        let mut write = self.write().await?;
        let forgotten = if forget_token { ", value = $4" } else { ", value = COALESCE(value, $4)" };
        let sql = format!(
            "UPDATE credential_providers SET status = 'inactive', reason = $3{forgotten} \
             WHERE id = $1 AND version = $2"
        );
        let done = sqlx::query(assembled(sql))
            .bind(provider.id.as_str())
            .bind(provider.version)
            .bind(reason)
            .bind(Vec::<u8>::new())
            .execute(write.connection())
            .await?;
        if done.rows_affected() > 0 && (provider.inactive.is_none() || forget_token) {
            let event =
                Event::denied("credential-provider.inactive", Some(provider.name.clone()), reason.to_owned());
            write.event(cause, event).await?;
        }
        write.commit().await
    }

    /// Deletes a provider that no agent uses and that has nothing left to remove.
    pub(crate) async fn delete_provider(&self, cause: &Cause, provider: &CredentialProvider) -> Result<()> {
        let mut write = self.write().await?;
        write.lock(&provider.org).await?;
        let rows = sqlx::query(
            "SELECT a.name FROM integrations i JOIN agents a ON a.id = i.agent_id \
             WHERE i.credential_provider_id = $1 UNION SELECT o.agent FROM operations o \
             WHERE o.credential_provider_id = $1 AND o.state = 'running' AND o.agent IS NOT NULL ORDER BY 1",
        )
        .bind(provider.id.as_str())
        .fetch_all(write.connection())
        .await?;
        let agents = rows.iter().map(|row| row.parsed("name")).collect::<Result<Vec<AgentName>>>()?;
        if !agents.is_empty() {
            return Err(Conflict::ProviderUsed(agents).into());
        }
        let row =
            sqlx::query("SELECT COUNT(*) FROM minted WHERE credential_provider_id = $1 AND state <> 'gone'")
                .bind(provider.id.as_str())
                .fetch_one(write.connection())
                .await?;
        let left = super::transaction::only_number(&row)?;
        if left > 0 {
            return Err(Conflict::ProviderOwes(u64::try_from(left).unwrap_or(0)).into());
        }
        for sql in [
            "UPDATE operations SET state = 'failed', active = NULL WHERE credential_provider_id = $1 AND state = 'running'",
            "DELETE FROM minted WHERE credential_provider_id = $1",
            "DELETE FROM credential_providers WHERE id = $1",
        ] {
            sqlx::query(sql).bind(provider.id.as_str()).execute(write.connection()).await?;
        }
        sqlx::query("DELETE FROM secret_heads WHERE org_id = $1 AND agent_id = $2")
            .bind(provider.org.as_str())
            .bind(format!("provider/{}", provider.id))
            .execute(write.connection())
            .await?;
        write.event(cause, Event::allowed("credential-provider.delete", provider.name.as_str())).await?;
        write.commit().await
    }
}

impl CredentialProvider {
    fn bound<'a>(&'a self, instance_url: &'a str, version: i64) -> Bound<'a> {
        Bound {
            org: self.org.as_str(),
            id: self.id.as_str(),
            instance_url,
            group: stored(self.group.0),
            mode: self.mode.as_str(),
            version,
        }
    }
}

impl Write<'_> {
    async fn write_provider_head(&mut self, org: &OrgId, id: &ProviderId, version: i64) -> Result<()> {
        let secret = SecretId::from(id.as_str().to_owned());
        self.write_head(&place(org, id)?, Head { secret, version, deleted: false, mac: Vec::new() }).await
    }
}

fn read(row: &AnyRow) -> Result<CredentialProvider> {
    let number =
        |column| Ok::<_, StoreError>(row.optional_number(column)?.and_then(|n| u64::try_from(n).ok()));
    let inactive = if row.text("status")? == "active" {
        None
    } else {
        Some(row.optional_text("reason")?.unwrap_or_else(|| "it was made inactive".into()))
    };
    Ok(CredentialProvider {
        id: row.text("id")?.into(),
        org: row.text("org_id")?.into(),
        name: row.text("name")?,
        provider: row.parsed("provider")?,
        instance_url: row.parsed("instance_url")?,
        group: GroupId(row.count("group_id")?),
        mode: Mode::parse(&row.text("mode")?).ok_or(StoreError::Corrupt("a mode that there is not"))?,
        rotate_every: number("rotate_every")?.map(std::time::Duration::from_secs),
        inactive,
        user: UserId(row.count("user_id")?),
        token_id: number("token_id")?.map(TokenId),
        token_expires_at: row.optional_time("token_expires_at")?,
        next_rotation_at: row.optional_time("next_rotation_at")?,
        created_at: row.time("created_at")?,
        agents: row.count("agents")?,
        version: row.number("version")?,
        envelope: Envelope {
            kek: row.text("kek_id")?.into(),
            wrapped_key: row.blob("wrapped_key")?,
            value: row.blob("value")?,
        },
    })
}
