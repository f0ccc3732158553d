//! Secrets, and what goes with those that are credentials.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::exposed;
use crate::agent::AuthType;
use crate::{RemoteUrl, Secret, SecretName};

/// Body of `PUT /api/v1/secrets/{name}` and `PUT /api/v1/agents/{agent}/secrets/{name}`.
///
/// A secret of the name `<provider>:token` that its agent must not access is a credential: the other members
/// are about it, and are refused for any other secret.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// At most 64 KiB of UTF-8.
    #[serde(serialize_with = "exposed")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, max_length = 65536, write_only))]
    pub value: Secret,
    /// Whether agents get the value by name.
    #[serde(default = "accessible")]
    pub agent_accessible: bool,
    /// Who the token is at the provider; the provider's name unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// What kind of identity that is; `pat` unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_type: Option<AuthType>,
    /// Where the token may be sent; the provider's public instance unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_url: Option<RemoteUrl>,
    /// When the token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub expires_at: Option<Timestamp>,
}

const fn accessible() -> bool {
    true
}

/// A secret, as it is listed: everything but its value, which never comes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// Whose it is.
    pub scope: Scope,
    /// Whether agents get the value by name.
    pub agent_accessible: bool,
    /// How often it was set.
    pub version: u64,
    /// When it was last set.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub updated_at: Timestamp,
    /// Who the token is at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// What kind of identity that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_type: Option<AuthType>,
    /// Where the token may be sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_url: Option<RemoteUrl>,
    /// When the token ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub expires_at: Option<Timestamp>,
}

/// Whose a secret is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Every agent's of the organisation that has none of this name itself.
    Org,
    /// One agent's.
    Agent,
}

impl Scope {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Org => "org",
            Self::Agent => "agent",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_accessible_unless_said_otherwise_and_misspelt_members_are_refused() {
        let set: SetSecret = serde_json::from_str(r#"{"value":"glpat-1"}"#).unwrap();
        assert!(set.agent_accessible && set.display_name.is_none());
        assert!(serde_json::from_str::<SetSecret>(r#"{"value":"x","accessible":false}"#).is_err());
        assert!(!format!("{set:?}").contains("glpat"));
    }
}
