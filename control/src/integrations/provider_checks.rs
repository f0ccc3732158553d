//! Checking the token of a credential provider.

use dvx_gitlab::{Error, GitLab, GroupId, GroupRef, Need};
use dvx_proto::Token;

use super::{IntegrationError, Result};
use crate::domain::ProviderToken;

/// Whether a token may make identities in a group, and what is known of it then.
pub(super) async fn check(
    gitlab: &GitLab,
    token: Token,
    group: &GroupRef,
) -> Result<(GroupId, ProviderToken)> {
    let session = gitlab.with_token(&token);
    let info = session.token_self().await?;
    if !info.scopes.suffice_for(Need::Write) {
        return Err(IntegrationError::ScopeMissing("api"));
    }
    let user = session.user().await?;
    let group = match session.group(group).await {
        Ok(group) => group,
        Err(Error::NotFound { .. }) => return Err(IntegrationError::NotOwner),
        Err(error) => return Err(error.into()),
    };
    match session.require_owner(group.id).await {
        Ok(()) => {}
        Err(Error::NotOwner) => return Err(IntegrationError::NotOwner),
        Err(error) => return Err(error.into()),
    }
    let may_rotate = info.scopes.suffice_for(Need::RotateItself);
    let expires_at = info.ends_at();
    Ok((group.id, ProviderToken { value: token, id: Some(info.id), user: user.id, expires_at, may_rotate }))
}
