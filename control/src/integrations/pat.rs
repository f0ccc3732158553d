//! Linking an agent with a person's token, and undoing that.

use dvx_gitlab::{Error, GitLab, Need, Transport, User};
use dvx_proto::agent::AuthType;
use dvx_proto::{AgentName, ProviderName, RemoteUrl, Secret, SecretName, Token};
use jiff::Timestamp;
use tokio::time::timeout;

use super::check::{Asked, CHECK_LIMIT, CheckError, token_page};
use super::{IntegrationError, Integrations, Result, github, gitlab};
use crate::domain::{Cause, Identity, Metadata, NewSecret, Origin, Revision, UnlinkOutcome};

/// What is known of a token that is good.
pub(super) struct Checked {
    pub(super) display_name: String,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) identity: Identity,
}

impl Integrations {
    /// Links an agent with a token, after the provider said that it is good.
    pub async fn link_pat(
        &self,
        cause: &Cause,
        agent: &AgentName,
        provider: &ProviderName,
        token: Token,
        instance_url: Option<RemoteUrl>,
    ) -> Result<Revision> {
        let name: SecretName =
            format!("{provider}:token").parse().map_err(|_| IntegrationError::UnknownProvider)?;
        self.rest(&cause.actor.org, self.store().under_way(&cause.actor.org, agent, provider).await?).await?;
        // Nobody's token is sent anywhere for an agent that cannot have it. It is looked at first: what the same
        // request has made meanwhile must not refuse it.
        let before = self.store().integration(&cause.actor.org, agent, provider).await?;
        if self.store().made_before(cause).await?.is_some() {
            return Ok(self.store().revision(&cause.actor.org).await?);
        }
        if before.is_some_and(|before| before.origin != Origin::Manual) {
            return Err(IntegrationError::AlreadyLinked);
        }
        let instance = match instance_url {
            Some(instance) => instance,
            None => public_instance(provider)?,
        };
        let transport = self.transport();
        let Checked { display_name, expires_at, identity } = match provider.as_str() {
            "gitlab" => check(transport, &instance, &token, self.now()).await?,
            "github" => super::github::check(transport, &instance, &token, self.now()).await?,
            _ => return Err(IntegrationError::UnknownProvider),
        };
        let metadata = Metadata {
            agent_accessible: false,
            display_name: Some(display_name),
            auth_type: Some(AuthType::Pat),
            instance_url: Some(instance),
            expires_at,
        };
        let value = Secret::from(token.expose_secret().to_vec());
        let secret = NewSecret { name, value, metadata };
        Ok(self.store().link_pat(cause, agent, secret, &identity).await?)
    }

    /// Takes a token away that we did not make: here, which is all that we can do.
    pub(super) async fn unlink_pat(
        &self,
        cause: &Cause,
        agent: &AgentName,
        provider: &ProviderName,
    ) -> Result<UnlinkOutcome> {
        let listed = self.store().integrations(&cause.actor.org, agent).await?;
        let instance =
            listed.into_iter().find(|one| one.provider == *provider).and_then(|one| one.instance_url);
        let revision =
            self.store().unlink_pat(cause, agent, provider).await?.ok_or(IntegrationError::NotLinked)?;
        let instance = instance.map_or_else(|| public_instance(provider), Ok)?;
        let page = token_page(provider, &instance);
        let warning = Some(format!("the token itself stays valid until its owner revokes it: {page}"));
        let missing = self.await_brokers(&cause.actor.org, agent, revision).await?;
        Ok(UnlinkOutcome { revision, warning, missing })
    }
}

/// Where a provider is unless somebody says so.
pub(crate) fn public_instance(provider: &ProviderName) -> Result<RemoteUrl> {
    let url = if *provider == gitlab() {
        "https://gitlab.com"
    } else if *provider == github() {
        "https://github.com"
    } else {
        return Err(IntegrationError::UnknownProvider);
    };
    url.parse().map_err(|_| IntegrationError::UnknownProvider)
}

/// Asks an instance of GitLab who the token is and what it may do.
async fn check(
    transport: &Transport,
    instance: &RemoteUrl,
    token: &Token,
    now: Timestamp,
) -> Result<Checked> {
    let page = token_page(&gitlab(), instance);
    let asked = Asked { instance, token, page: &page, scopes: Need::Read.sufficient() };
    let gitlab = GitLab::new(transport.clone(), instance.clone());
    let all = timeout(CHECK_LIMIT, ask(&gitlab, asked, now)).await;
    Ok(all.unwrap_or_else(|_| Err(asked.refused(&Error::TimedOut)))?)
}

async fn ask(gitlab: &GitLab, asked: Asked<'_>, now: Timestamp) -> Result<Checked, CheckError> {
    let session = gitlab.with_token(asked.token);
    let User { id, username, .. } = session.user().await.map_err(|error| asked.refused(&error))?;
    let mut identity = Identity { user: Some(id), username: Some(username.clone()), ..Identity::default() };
    let mut expires_at = None;
    match session.token_self().await {
        Ok(info) => {
            if info.revoked {
                return Err(asked.refused(&Error::Revoked));
            }
            expires_at = info.ends_at();
            asked.unexpired(expires_at, now)?;
            let scopes: Vec<String> = info.scopes.iter().map(str::to_owned).collect();
            // A fine-grained token has none: its rights are elsewhere.
            if !info.scopes.is_empty() && !info.scopes.suffice_for(Need::Read) {
                return Err(asked.too_few_scopes(&scopes));
            }
            identity.token = Some(info.id);
            identity.scopes = Some(scopes);
        }
        // The token may not read about itself, or the instance is too old to tell.
        Err(
            Error::InsufficientScope { .. }
            | Error::NotPermitted { .. }
            | Error::NotFound { .. }
            | Error::Forbidden,
        ) => {}
        Err(error) => return Err(asked.refused(&error)),
    }
    Ok(Checked { display_name: username, expires_at, identity })
}
