//! A person's token of GitHub: what the instance says of it before it is stored.

use dvx_gitlab::{Error, GitHub, GitHubUser, Transport, UserId};
use dvx_proto::{Code, RemoteUrl, Token};
use jiff::Timestamp;
use tokio::time::timeout;

use super::Result;
use super::check::{Asked, CHECK_LIMIT, CheckError, token_page};
use super::pat::Checked;
use crate::domain::Identity;

/// Asks an instance who the token is.
pub(super) async fn check(
    transport: &Transport,
    instance: &RemoteUrl,
    token: &Token,
    now: Timestamp,
) -> Result<Checked> {
    let page = token_page(&super::github(), instance);
    let asked = Asked { instance, token, page: &page, scopes: &["repo"] };
    let github = GitHub::new(transport.clone(), instance)
        .map_err(|error| CheckError::new(Code::BadRequest, format!("{instance} has no API: {error}")))?;
    let answer = timeout(CHECK_LIMIT, github.user(token)).await.unwrap_or(Err(Error::TimedOut));
    let GitHubUser { id, login, scopes, ends_at } = answer.map_err(|error| asked.refused(&error))?;
    asked.unexpired(ends_at, now)?;
    let identity = Identity {
        user: Some(UserId(id)),
        username: Some(login.clone()),
        scopes: scopes.map(|scopes| scopes.iter().map(str::to_owned).collect()),
        ..Identity::default()
    };
    Ok(Checked { display_name: login, expires_at: ends_at, identity })
}
