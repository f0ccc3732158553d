//! Service accounts of a group, and their tokens.

use super::{NewToken, Removed, Session};
use crate::error::{Error, Missing};
use crate::ids::{GroupId, TokenId, UserId};
use crate::types::{MintedToken, ServiceAccount, TokenInfo};

impl Session<'_> {
    /// Makes a service account: `POST /groups/:id/service_accounts`. It has access to nothing until it is a
    /// member of something. GitLab makes at most 10 in a minute for a user, and counts those that were not made.
    ///
    /// When the answer is lost, [`find_service_account`](Self::find_service_account) tells what became of it.
    pub async fn create_service_account(
        &self,
        group: GroupId,
        username: &str,
        name: &str,
    ) -> Result<ServiceAccount, Error> {
        let target = format!("/groups/{group}/service_accounts");
        let body = serde_json::json!({ "username": username, "name": name });
        owners_only(self.create("/groups/:id/service_accounts", &target, &body).await)
    }

    /// All service accounts of a group, but not those of groups in it: `GET /groups/:id/service_accounts`.
    pub async fn service_accounts(&self, group: GroupId) -> Result<Vec<ServiceAccount>, Error> {
        let path = format!("/groups/{group}/service_accounts");
        owners_only(self.list("/groups/:id/service_accounts", &path).await)
    }

    /// The service account of this name, whose letters' case does not matter to GitLab. The list has no filter,
    /// so it is read from the newest on until the name comes up.
    ///
    /// While others are deleted, the list moves under the reader. What was made before the search began and is
    /// among the hundred newest is found all the same.
    pub async fn find_service_account(
        &self,
        group: GroupId,
        username: &str,
    ) -> Result<Option<ServiceAccount>, Error> {
        let path = format!("/groups/{group}/service_accounts");
        let named =
            |account: ServiceAccount| account.username.eq_ignore_ascii_case(username).then_some(account);
        owners_only(self.search("/groups/:id/service_accounts", &path, named).await)
    }

    /// Deletes a service account and what it made: `DELETE /groups/:id/service_accounts/:user_id` with
    /// `hard_delete`, without which one that owns a group alone stays.
    ///
    /// GitLab does it later, and says yes even where a setting keeps the caller from deleting: only the list
    /// tells when it is gone. Until then its name is taken, and its tokens live unless they are revoked.
    pub async fn delete_service_account(&self, group: GroupId, user: UserId) -> Result<Removed, Error> {
        let target = format!("/groups/{group}/service_accounts/{user}?hard_delete=true");
        owners_only(self.delete("/groups/:id/service_accounts/:user_id", &target, &[Missing::User]).await)
    }

    /// Makes a token for a service account of exactly this group:
    /// `POST /groups/:id/service_accounts/:user_id/personal_access_tokens`.
    pub async fn create_service_account_token(
        &self,
        group: GroupId,
        user: UserId,
        token: &NewToken,
    ) -> Result<MintedToken, Error> {
        let target = format!("/groups/{group}/service_accounts/{user}/personal_access_tokens");
        let route = "/groups/:id/service_accounts/:user_id/personal_access_tokens";
        owners_only(self.mint(route, &target, token).await)
    }

    /// The tokens of a service account, the dead ones too. GitLab has this since 17.11.
    pub async fn service_account_tokens(
        &self,
        group: GroupId,
        user: UserId,
    ) -> Result<Vec<TokenInfo>, Error> {
        let path = format!("/groups/{group}/service_accounts/{user}/personal_access_tokens");
        let route = "/groups/:id/service_accounts/:user_id/personal_access_tokens";
        owners_only(self.list(route, &path).await)
    }

    /// Revokes a token of a service account; it is dead at once. GitLab has this since 17.11, and an older one
    /// answers [`Missing::Other`].
    pub async fn revoke_service_account_token(
        &self,
        group: GroupId,
        user: UserId,
        token: TokenId,
    ) -> Result<Removed, Error> {
        let target = format!("/groups/{group}/service_accounts/{user}/personal_access_tokens/{token}");
        let route = "/groups/:id/service_accounts/:user_id/personal_access_tokens/:token_id";
        owners_only(self.delete(route, &target, &[Missing::User, Missing::Token]).await)
    }
}

/// Whoever sees the group and is refused without a further reason is not its Owner.
fn owners_only<T>(outcome: Result<T, Error>) -> Result<T, Error> {
    outcome.map_err(|error| match error {
        Error::NotPermitted { message } if message.as_str() == "403 Forbidden" => Error::NotOwner,
        error => error,
    })
}
