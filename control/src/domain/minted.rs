//! What was made at a provider, or may have been.

use dvx_gitlab::{ProjectId, TokenId, UserId};
use jiff::Timestamp;

use super::{AgentId, MintedId, OperationId, OrgId, ProviderId};
use crate::crypto::Envelope;

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MintedKind {
    /// A service account.
    Account,
    /// A token of a service account.
    AccountToken,
    /// A token of a project, with the user that it brings along.
    ProjectToken,
}

impl MintedKind {
    /// All.
    pub const ALL: [Self; 3] = [Self::Account, Self::AccountToken, Self::ProjectToken];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::AccountToken => "account-token",
            Self::ProjectToken => "project-token",
        }
    }

    /// For people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Account => "service account",
            Self::AccountToken => "token of a service account",
            Self::ProjectToken => "project access token",
        }
    }
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MintedState {
    /// It is going to be made, or was: nobody knows until it is looked up.
    Intended,
    /// It was made.
    Made,
    /// An agent uses it.
    Used,
    /// It is to go.
    Doomed,
    /// It was told to go, and is not known to be gone.
    Going,
    /// It is gone, or never was.
    Gone,
}

impl MintedState {
    /// All.
    pub const ALL: [Self; 6] =
        [Self::Intended, Self::Made, Self::Used, Self::Doomed, Self::Going, Self::Gone];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Made => "made",
            Self::Used => "used",
            Self::Doomed => "doomed",
            Self::Going => "going",
            Self::Gone => "gone",
        }
    }
}

/// One thing as it is stored.
#[derive(Debug, Clone)]
pub struct Minted {
    /// Its id.
    pub id: MintedId,
    /// Its organisation.
    pub org: OrgId,
    /// What it was made by.
    pub operation: OperationId,
    /// Who made it.
    pub credential_provider: ProviderId,
    /// For whom.
    pub agent: AgentId,
    /// That agent's name, which may be gone.
    pub agent_name: String,
    /// What it is.
    pub kind: MintedKind,
    /// The name by which it is found.
    pub name: String,
    /// A project token's project.
    pub project: Option<ProjectId>,
    /// An account token's account.
    pub account: Option<UserId>,
    /// Its number, once that is known.
    pub external: Option<u64>,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// How it stands.
    pub state: MintedState,
    /// How often its removal failed, or was not seen.
    pub attempts: u32,
    /// Since when it is to go.
    pub doomed_at: Option<Timestamp>,
    /// A token's value, encrypted, until it is published.
    pub envelope: Option<Envelope>,
}

impl Minted {
    /// A token's number.
    pub fn token_id(&self) -> Option<TokenId> {
        self.external.map(TokenId)
    }

    /// An account's number.
    pub fn user_id(&self) -> Option<UserId> {
        self.external.map(UserId)
    }
}
