//! What GitLab answers, as far as it is used. Members that are not named here are ignored.

use dvx_proto::Token;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;

use crate::access::AccessLevel;
use crate::classify::not_gitlab;
use crate::error::Error;
use crate::ids::{GroupId, ProjectId, TokenId, UserId};
use crate::lifetime::ends_at;
use crate::scope::Scopes;
use crate::text::is_name;

/// The user that a token belongs to: `GET /user`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct User {
    /// Its number.
    pub id: UserId,
    /// Its unique name.
    pub username: String,
    /// Its name as people write it.
    #[serde(default)]
    pub name: String,
    /// `active`, `blocked` and so on.
    #[serde(default)]
    pub state: Option<String>,
    /// Whether it is a service account or the user of a project's or group's token.
    #[serde(default)]
    pub bot: bool,
    /// Whether it is external, as service accounts are: it sees only what it is a member of, and public things.
    #[serde(default)]
    pub external: bool,
    /// Whether it administers the instance; GitLab says this to administrators only.
    #[serde(default)]
    pub is_admin: bool,
}

impl User {
    /// The same, if its name is one; it is kept and shown.
    pub(crate) fn checked(self, presented: &Token) -> Result<Self, Error> {
        if is_name(&self.username, presented) {
            Ok(self)
        } else {
            Err(not_gitlab("a user without a usual name"))
        }
    }
}

/// A personal, project or group access token without its value.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TokenInfo {
    /// Its number.
    pub id: TokenId,
    /// Its name, which need not be unique.
    pub name: String,
    /// What it may do.
    #[serde(default)]
    pub scopes: Scopes,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether it is neither revoked nor expired.
    pub active: bool,
    /// Its last date, which is no usable day any more: see [`TokenInfo::ends_at`]. Absent for a token that does
    /// not end.
    pub expires_at: Option<Date>,
    /// When it was made.
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    /// Whose it is.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// The role of a project's or group's token.
    #[serde(default)]
    pub access_level: Option<AccessLevel>,
}

impl TokenInfo {
    /// When the token ends, if ever: at 00:00 UTC of its last date.
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.expires_at.map(ends_at)
    }
}

/// A token that was just made. GitLab shows its value this once.
#[derive(Debug)]
pub struct MintedToken {
    /// Its description.
    pub info: TokenInfo,
    /// Its value.
    pub token: Token,
}

/// The one member that is secret. It is read apart from the others, since serde would keep copies of values
/// that it flattens.
#[derive(Deserialize)]
pub(crate) struct TokenValue {
    pub(crate) token: Token,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Group {
    /// Its number.
    pub id: GroupId,
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// Its path with those of the groups around it.
    pub full_path: String,
    /// The group around it; none for a top-level group.
    pub parent_id: Option<GroupId>,
}

/// A user in a group, by itself or through another group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// The user.
    pub id: UserId,
    /// What it may do there.
    pub access_level: AccessLevel,
    /// The last date of the membership.
    #[serde(default)]
    pub expires_at: Option<Date>,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Project {
    /// Its number.
    pub id: ProjectId,
    /// Its path with those of the groups around it.
    pub path_with_namespace: String,
}

/// A service account: a user that no person logs in as.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServiceAccount {
    /// Its number, which is that of a user.
    pub id: UserId,
    /// Its unique name.
    pub username: String,
    /// Its name as people write it.
    #[serde(default)]
    pub name: String,
}
