//! Credential providers: privileged identities that mint one identity for each agent.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ProviderName, RemoteUrl, Secret};

/// Body of `POST /api/v1/credential-providers`.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateCredentialProvider {
    /// Its name, of which there is one in the organisation.
    pub name: String,
    /// Whose identities it mints: `gitlab`.
    pub provider: ProviderName,
    /// Where; the provider's public instance unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_url: Option<RemoteUrl>,
    /// The token that it mints with: of an Owner of the group, with the scope `api`.
    #[serde(serialize_with = "super::exposed")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
    pub token: Secret,
    /// The group, by its number or full path.
    pub group_id: String,
    /// What it mints.
    pub provisioning_mode: ProvisioningMode,
    /// How often its own token is replaced by a new one; never where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_every_seconds: Option<u64>,
}

/// Body of `POST /api/v1/credential-providers/{id}/rotate`.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RotateCredentialProvider {
    /// The token that takes the place of the one it has.
    #[serde(serialize_with = "super::exposed")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, write_only))]
    pub token: Secret,
}

/// What a credential provider mints for an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProvisioningMode {
    /// A service account of the group, with a token.
    ServiceAccount,
    /// A token of one project, with a user of its own.
    ProjectAccessToken,
}

impl ProvisioningMode {
    /// Every mode.
    pub const ALL: [Self; 2] = [Self::ServiceAccount, Self::ProjectAccessToken];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "service_account",
            Self::ProjectAccessToken => "project_access_token",
        }
    }
}

/// A credential provider, as it is listed: without its token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CredentialProvider {
    /// Unlike that of every provider there ever was.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whose identities it mints.
    pub provider: ProviderName,
    /// Where.
    pub instance_url: RemoteUrl,
    /// The group's number.
    pub group_id: u64,
    /// What it mints.
    pub provisioning_mode: ProvisioningMode,
    /// How often its own token is replaced; never where it is null.
    pub rotate_every_seconds: Option<u64>,
    /// Whether it links agents.
    pub status: CredentialProviderStatus,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When its own token ends.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub token_expires_at: Option<Timestamp>,
    /// When its own token is replaced next.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub next_rotation_at: Option<Timestamp>,
    /// How many agents have an identity of it.
    #[serde(default)]
    pub agents: u64,
    /// Since when there is one.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
}

/// Whether a credential provider links agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum CredentialProviderStatus {
    /// It does.
    Active,
    /// Not until it is rotated.
    Inactive,
}
