//! Credential providers, from their making to their end.

use std::time::Duration;

use dvx_gitlab::{GroupRef, Jitter, rotate_at};
use dvx_proto::operator::Page;
use dvx_proto::{RemoteUrl, Token};
use jiff::Timestamp;

use super::{IntegrationError, Integrations, Result, provider_checks};
use crate::domain::{Cause, CredentialProvider, Debt, Mode, NewProvider, OrgId, PageRequest, ProviderToken};
use crate::store::{Conflict, Object, StoreError};

/// A credential provider as an operator describes it.
#[derive(Debug)]
pub struct ProviderRequest {
    /// Its unique name.
    pub name: String,
    /// Where.
    pub instance_url: RemoteUrl,
    /// Whose identities it makes.
    pub group: GroupRef,
    /// What it makes.
    pub mode: Mode,
    /// How often its token is replaced; none for never.
    pub rotate_every: Option<Duration>,
    /// Its token.
    pub token: Token,
}

impl Integrations {
    /// Makes a credential provider, after its token has been checked. A token that may replaces itself at once,
    /// so that whoever had it before has nothing any more.
    pub async fn provider_create(
        &self,
        cause: &Cause,
        request: ProviderRequest,
    ) -> Result<CredentialProvider> {
        let ProviderRequest { name, instance_url, group, mode, rotate_every, token } = request;
        // Looked at first: what the same request has made meanwhile must not refuse it.
        let is_taken = self.0.store.provider(&cause.actor.org, &name).await?.is_some();
        if let Some(made) = self.0.store.made_before(cause).await? {
            self.rest(&cause.actor.org, self.0.store.provider_under_way(&made.clone().into()).await?).await?;
            return self.found(&cause.actor.org, &made).await;
        }
        if is_taken {
            return Err(IntegrationError::NameTaken);
        }
        let gitlab = self.gitlab(&instance_url);
        let (group, token) = provider_checks::check(&gitlab, token, &group).await?;
        let provider = super::gitlab();
        let at_once = Some(&provider).filter(|_| rotate_every.is_some() && token.may_rotate);
        let next = self.next_rotation(rotate_every, &token);
        let new = NewProvider { name, instance_url, group, mode, rotate_every, token };
        let created = self.0.store.create_provider(cause, &new, next, at_once).await;
        let (id, rotation) = created.map_err(|error| match error {
            StoreError::Conflict(Conflict::Taken(Object::CredentialProvider)) => IntegrationError::NameTaken,
            error => error.into(),
        })?;
        drop(new);
        // How it went is said by the provider's state.
        self.rest(&cause.actor.org, rotation).await?;
        self.found(&cause.actor.org, id.as_str()).await
    }

    /// The credential providers, sorted by name.
    pub async fn provider_list(&self, org: &OrgId, page: &PageRequest) -> Result<Page<CredentialProvider>> {
        Ok(self.0.store.providers(org, page).await?)
    }

    /// Gives a credential provider, by its id or name, another token, after that has been checked. Agents keep
    /// theirs.
    pub async fn provider_rotate(&self, cause: &Cause, id: &str, token: Token) -> Result<CredentialProvider> {
        let provider = self.found(&cause.actor.org, id).await?;
        if self.0.store.made_before(cause).await?.is_some() {
            return Ok(provider);
        }
        let gitlab = self.gitlab(&provider.instance_url);
        let (_, token) = provider_checks::check(&gitlab, token, &GroupRef::from(provider.group)).await?;
        // It is not to say anything about the new token.
        self.rest(&provider.org, self.0.store.provider_under_way(&provider.id).await?).await?;
        let next = self.next_rotation(provider.rotate_every, &token);
        self.0.store.replace_provider_token(cause, &provider, &token, next, None).await?;
        self.0.wake.notify_one();
        self.found(&cause.actor.org, provider.id.as_str()).await
    }

    /// Deletes a credential provider, by its id or name. Its token stays as it is at the provider.
    pub async fn provider_delete(&self, cause: &Cause, id: &str) -> Result<()> {
        let provider = self.found(&cause.actor.org, id).await?;
        self.rest(&provider.org, self.0.store.provider_under_way(&provider.id).await?).await?;
        Ok(self.0.store.delete_provider(cause, &provider).await?)
    }

    /// What is still to be removed at providers.
    pub async fn debts(&self, org: &OrgId, page: &PageRequest) -> Result<Page<Debt>> {
        Ok(self.0.store.debts(org, page, self.now()).await?)
    }

    async fn found(&self, org: &OrgId, id: &str) -> Result<CredentialProvider> {
        self.0.store.provider(org, id).await?.ok_or(IntegrationError::NoProvider)
    }

    /// When a provider's token is to be replaced: as said, at four fifths of its life at the latest.
    pub(super) fn next_rotation(&self, every: Option<Duration>, token: &ProviderToken) -> Option<Timestamp> {
        let every = every.filter(|_| token.may_rotate)?;
        let now = self.now();
        let said = now.checked_add(every).unwrap_or(Timestamp::MAX);
        let latest = token.expires_at.map(|ends| rotate_at(now, ends, Jitter::NONE));
        Some(latest.map_or(said, |latest| latest.min(said)))
    }
}
