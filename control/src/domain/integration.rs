//! Integrations: what an agent's identity at a provider is, and where it comes from.

use dvx_gitlab::{AccessLevel, ProjectId, TokenId, UserId};
use dvx_proto::{AgentName, ProviderName};
use jiff::Timestamp;

use super::{AgentId, OrgId, ProviderId, SecretId};

/// Where an identity comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A token was set by hand, unchecked.
    Manual,
    /// A person's token, checked.
    Pat,
    /// Made by a credential provider.
    Minted,
}

impl Origin {
    /// All.
    pub const ALL: [Self; 3] = [Self::Manual, Self::Pat, Self::Minted];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Pat => "pat",
            Self::Minted => "minted",
        }
    }
}

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ailment {
    /// It has reached its end.
    Expired,
    /// It was revoked.
    Revoked,
    /// There is a newer one of the same identity that we did not make.
    RotatedElsewhere,
    /// Its user was blocked.
    Blocked,
    /// It lacks a scope.
    Scope,
    /// The provider does not say why.
    Unknown,
}

impl Ailment {
    /// All.
    pub const ALL: [Self; 6] =
        [Self::Expired, Self::Revoked, Self::RotatedElsewhere, Self::Blocked, Self::Scope, Self::Unknown];

    /// As it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::RotatedElsewhere => "rotated-elsewhere",
            Self::Blocked => "blocked",
            Self::Scope => "scope",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of an identity besides what is known of its secret.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The credential provider that made it.
    pub credential_provider: Option<ProviderId>,
    /// The project that it is for.
    pub project: Option<ProjectId>,
    /// Its role.
    pub access_level: Option<AccessLevel>,
    /// Its user.
    pub user: Option<UserId>,
    /// Its user's name.
    pub username: Option<String>,
    /// Its token's number.
    pub token: Option<TokenId>,
    /// What the token may do; none where that is not known.
    pub scopes: Option<Vec<String>>,
    /// When we made the token.
    pub minted_at: Option<Timestamp>,
    /// When we replace it.
    pub rotate_at: Option<Timestamp>,
}

/// An integration as it is stored.
#[derive(Debug, Clone)]
pub struct IntegrationRecord {
    /// Its id, which is that of its secret.
    pub id: SecretId,
    /// Its organisation.
    pub org: OrgId,
    /// The agent.
    pub agent: (AgentId, AgentName),
    /// The provider.
    pub provider: ProviderName,
    /// Where it comes from.
    pub origin: Origin,
    /// Why it does not work; none while it does.
    pub ailment: Option<String>,
    /// When it was looked at last.
    pub checked_at: Option<Timestamp>,
    /// What else is known.
    pub identity: Identity,
}
