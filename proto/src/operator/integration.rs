//! Links of agents to providers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use crate::agent::AuthType;
use crate::{AgentName, EnclaveName, ProviderName, RemoteUrl, Secret, SecretName};

/// The link of an agent to a provider: one element of `GET /api/v1/agents/{agent}/integrations`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Integration {
    /// Unlike that of every integration there ever was.
    pub id: String,
    /// The provider.
    pub provider: ProviderName,
    /// Who the agent is there.
    pub display_name: String,
    /// What kind of identity that is.
    pub auth_type: AuthType,
    /// Where.
    pub instance_url: Option<RemoteUrl>,
    /// When its token ends.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub expires_at: Option<Timestamp>,
    /// Whether its token is thought to be good.
    pub status: IntegrationStatus,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// How the token came here.
    #[serde(default)]
    pub origin: IntegrationOrigin,
    /// What the token may do, as the provider names it; absent where the provider does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// The credential provider that minted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_provider: Option<String>,
}

/// How an integration's token came here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum IntegrationOrigin {
    /// Somebody set the secret; nobody has asked the provider about it.
    #[default]
    Manual,
    /// It was linked with a token of somebody's, after the provider said that it is good.
    Pat,
    /// A credential provider minted it.
    Minted,
}

/// Whether an integration's token is thought to be good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum IntegrationStatus {
    /// It is.
    Active,
    /// The provider refuses it.
    Invalid,
}

/// Body of `POST /api/v1/agents/{agent}/integrations/{provider}`: either a token, or a credential provider that
/// mints one.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct LinkIntegration {
    /// The token.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "maybe_exposed")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, write_only))]
    pub token: Option<Secret>,
    /// Where the token is from; the provider's public instance unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_url: Option<RemoteUrl>,
    /// The id or name of the credential provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_provider: Option<String>,
    /// The project that a project access token is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<u64>,
    /// What the identity may do in its group or project, 10 to 50; 30 (Developer) unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_level: Option<u8>,
}

/// Answer of `DELETE /api/v1/agents/{agent}/integrations/{provider}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Unlinked {
    /// What is left for somebody to do, or to wait for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The enclaves whose brokers had not confirmed after ten seconds: there the token may still be served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<EnclaveName>,
}

/// A credential that ends within 60 days and is not replaced by itself, or that the provider refuses: an agent's,
/// the organisation's, or a credential provider's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attention {
    /// The agent; absent for a credential of the organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// The credential provider whose token it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_provider: Option<String>,
    /// The secret's name; that of a credential provider has no other than those of agents.
    pub credential: SecretName,
    /// When it ends.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub expires_at: Option<Timestamp>,
    /// Why the provider refuses it, where it does, or why a credential provider is inactive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

fn maybe_exposed<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => super::exposed(secret, serializer),
        None => serializer.serialize_none(),
    }
}
