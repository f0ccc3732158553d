//! Checking the token of a credential provider.

use dvx_gitlab::{Error, GitLab, GroupId, GroupRef, Missing, Need};
use dvx_proto::Token;
use tokio::time::timeout;

use super::check::{Asked, CHECK_LIMIT, token_page};
use super::{Result, gitlab};
use crate::domain::ProviderToken;

/// Whether a token may make identities in a group, and what is known of it then.
pub(super) async fn check(
    instance: &GitLab,
    token: Token,
    group: &GroupRef,
) -> Result<(GroupId, ProviderToken)> {
    let page = token_page(&gitlab(), instance.url());
    let found = {
        let scopes = Need::Write.sufficient();
        let asked = Asked { instance: instance.url(), token: &token, page: &page, scopes };
        let all = timeout(CHECK_LIMIT, ask(instance, asked, group)).await;
        all.unwrap_or_else(|_| Err(asked.refused(&Error::TimedOut).into()))?
    };
    let Found { group, user, info } = found;
    let may_rotate = info.scopes.suffice_for(Need::RotateItself);
    let (id, expires_at) = (Some(info.id), info.ends_at());
    Ok((group, ProviderToken { value: token, id, user, expires_at, may_rotate }))
}

struct Found {
    group: GroupId,
    user: dvx_gitlab::UserId,
    info: dvx_gitlab::TokenInfo,
}

async fn ask(instance: &GitLab, asked: Asked<'_>, group: &GroupRef) -> Result<Found> {
    let refused = |error: Error| asked.refused(&error);
    let session = instance.with_token(asked.token);
    let user = session.user().await.map_err(refused)?.id;
    let info = session.token_self().await.map_err(refused)?;
    if !info.active {
        return Err(refused(if info.revoked { Error::Revoked } else { Error::Expired }).into());
    }
    if !info.scopes.suffice_for(Need::Write) {
        let scopes: Vec<String> = info.scopes.iter().map(str::to_owned).collect();
        return Err(asked.too_few_scopes(&scopes).into());
    }
    // Whoever cannot see a group does not own it.
    let hidden = |error: Error| match error {
        Error::NotFound { what: Missing::Group | Missing::Other } | Error::NotPermitted { .. } => {
            refused(Error::NotOwner)
        }
        error => refused(error),
    };
    let group = session.group(group).await.map_err(hidden)?.id;
    session.require_owner(group).await.map_err(hidden)?;
    Ok(Found { group, user, info })
}
