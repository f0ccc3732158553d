//! Calling a provider's instance with its token.

use std::time::Duration;

use dvx_gitlab::{GitLab, Session};
use dvx_proto::{Secret, Token};
use zeroize::Zeroizing;

use super::{IntegrationError, Integrations, Result};
use crate::domain::{Cause, CredentialProvider, OrgId, ProviderId};

/// All calls of one step together, of which each may take half a minute.
pub(super) const STEP_LIMIT: Duration = Duration::from_secs(90);

/// A credential provider, ready to be used.
pub(super) struct Ready {
    pub(super) provider: CredentialProvider,
    gitlab: GitLab,
    token: Token,
}

impl Ready {
    pub(super) fn session(&self) -> Session<'_> {
        self.gitlab.with_token(&self.token)
    }
}

/// Makes a token of a stored value.
pub(super) fn token(secret: &Secret) -> Result<Token> {
    let bytes = Zeroizing::new(secret.expose_secret().to_vec());
    Token::try_from(bytes).map_err(|_| IntegrationError::Unreadable)
}

/// Ends calls that take too long together.
pub(super) async fn limited<T>(
    limit: Duration,
    calls: impl Future<Output = Result<T, dvx_gitlab::Error>>,
) -> Result<T> {
    match tokio::time::timeout(limit, calls).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(IntegrationError::TimedOut(limit)),
    }
}

impl Integrations {
    /// The provider with its token. One that is inactive is used for nothing but removals.
    pub(super) async fn ready(&self, org: &OrgId, id: &ProviderId, for_removal: bool) -> Result<Ready> {
        let provider = self.0.store.provider(org, id.as_str()).await?.ok_or(IntegrationError::NoProvider)?;
        if let Some(reason) = provider.inactive.as_ref().filter(|_| !for_removal) {
            return Err(IntegrationError::Inactive(reason.clone()));
        }
        let secret = self.0.store.open_provider(&provider).await?;
        // One that was taken away for a reason does not open.
        let closed =
            || provider.inactive.clone().map_or(IntegrationError::Unreadable, IntegrationError::Inactive);
        let token = token(&secret.map_err(|_| closed())?)?;
        Ok(Ready { gitlab: self.gitlab(&provider.instance_url), provider, token })
    }

    /// Looks at a failure of a call that was made with a provider's token: whether it says that the token is no
    /// good any more. Then the provider is inactive, unless it has got another token meanwhile.
    pub(super) async fn blame(&self, ready: &Ready, error: &IntegrationError) -> Result<Blame> {
        use dvx_gitlab::Error;
        let IntegrationError::Provider(error) = error else { return Ok(Blame::Other) };
        let reason = match error {
            Error::InvalidToken => "its token is not known at the instance",
            Error::Expired => "its token has expired",
            Error::Revoked => "its token was revoked",
            Error::Blocked { .. } => "the user of its token is blocked",
            Error::InsufficientScope { .. } => "its token lacks the scope api",
            Error::NotOwner => "its token's user is not an Owner of the group any more",
            _ => return Ok(Blame::Other),
        };
        let provider = &ready.provider;
        let now = self.0.store.provider(&provider.org, provider.id.as_str()).await?;
        if now.is_some_and(|now| now.version != provider.version) {
            return Ok(Blame::OldToken);
        }
        let cause = Cause::system(provider.org.clone(), String::new(), self.now());
        self.0.store.deactivate_provider(&cause, provider, reason, false).await?;
        Ok(Blame::Token)
    }
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// Not the token's.
    Other,
    /// The token had been replaced: the same again with the new one.
    OldToken,
    /// The token's.
    Token,
}
