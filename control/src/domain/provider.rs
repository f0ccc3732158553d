//! Credential providers: who makes identities for agents.

use std::time::Duration;

use dvx_gitlab::{GroupId, TokenId, UserId};
use dvx_proto::agent::AuthType;
use dvx_proto::{ProviderName, RemoteUrl};
use jiff::Timestamp;

use super::{OrgId, ProviderId};
use crate::crypto::Envelope;

/// What a provider makes for an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A service account of the group, and a token of it.
    ServiceAccount,
    /// An access token of a project, with a user of its own.
    ProjectAccessToken,
}

impl Mode {
    /// As it is stored and written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "service_account",
            Self::ProjectAccessToken => "project_access_token",
        }
    }

    /// The mode of this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::ServiceAccount, Self::ProjectAccessToken].into_iter().find(|mode| mode.as_str() == text)
    }

    /// What an agent's identity is then.
    pub const fn auth_type(self) -> AuthType {
        match self {
            Self::ServiceAccount => AuthType::ServiceAccount,
            Self::ProjectAccessToken => AuthType::ProjectAccessToken,
        }
    }
}

/// A provider that is to be made. Everything in it has been checked with the instance.
#[derive(Debug)]
pub struct NewProvider {
    /// Its unique name.
    pub name: String,
    /// Where.
    pub instance_url: RemoteUrl,
    /// Whose identities it makes.
    pub group: GroupId,
    /// What it makes.
    pub mode: Mode,
    /// How often its token is replaced; none for never.
    pub rotate_every: Option<Duration>,
    /// Its token.
    pub token: ProviderToken,
}

/// A provider's token, checked.
#[derive(Debug)]
pub struct ProviderToken {
    /// Its value.
    pub value: dvx_proto::Token,
    /// Its number, where it is known.
    pub id: Option<TokenId>,
    /// Whose it is.
    pub user: UserId,
    /// When it ends, where it does.
    pub expires_at: Option<Timestamp>,
    /// Whether it may replace itself.
    pub may_rotate: bool,
}

/// A provider as it is stored.
#[derive(Debug, Clone)]
pub struct CredentialProvider {
    /// Its id.
    pub id: ProviderId,
    /// Its organisation.
    pub org: OrgId,
    /// Its name.
    pub name: String,
    /// Of which kind.
    pub provider: ProviderName,
    /// Where.
    pub instance_url: RemoteUrl,
    /// Whose identities it makes.
    pub group: GroupId,
    /// What it makes.
    pub mode: Mode,
    /// How often its token is replaced.
    pub rotate_every: Option<Duration>,
    /// Why it makes nothing; none while it does.
    pub inactive: Option<String>,
    /// Whose its token is.
    pub user: UserId,
    /// Its token's number.
    pub token_id: Option<TokenId>,
    /// When its token ends.
    pub token_expires_at: Option<Timestamp>,
    /// When its token is to be replaced.
    pub next_rotation_at: Option<Timestamp>,
    /// Since when there is one.
    pub created_at: Timestamp,
    /// How many agents it has made identities for.
    pub agents: u64,
    /// How often its token was set.
    pub version: i64,
    /// Its token, encrypted.
    pub envelope: Envelope,
}
