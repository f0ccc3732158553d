//! The broker's agent API: its routes and what travels on them.
//!
//! Requests ignore members that they do not know, and so do the readers of answers: agents and brokers are
//! upgraded at different times.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AgentName, EnclaveName, Fingerprint, ProviderName, SecretName, Token};

/// The `service` of [`Discovery`].
pub const SERVICE: &str = "dvx-broker";

/// The audience of agent tokens.
pub const AUDIENCE: &str = "dvx-broker";

/// The user name that goes with a token in Basic authentication. GitLab does not look at it.
pub const GIT_USERNAME: &str = "oauth2";

/// The relation type of the `Link` fields that [`Route::Credentials`] answers with: one for each linked
/// instance, so that a client can set up git for it.
pub const INSTANCE_RELATION: &str = "urn:dvx:rel:instance";

/// What an agent can ask for. Names in a path that cannot exist are `None`: such a thing is not found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `GET /v1/agent/discover`
    Discover,
    /// `GET /v1/agent/whoami`
    Whoami,
    /// `POST /v1/agent/token`
    IssueToken,
    /// `GET /v1/agent/credentials`
    Credentials,
    /// `GET /v1/agent/credentials/{provider}`
    Credential(Option<ProviderName>),
    /// `POST /v1/agent/credentials/{provider}/rejected`
    Rejected(Option<ProviderName>),
    /// `GET /v1/agent/secrets`
    Secrets,
    /// `GET /v1/agent/secrets/{name}`
    Secret(Option<SecretName>),
    /// `POST /v1/agent/git-credential`
    GitCredential,
}

/// One row of the API: a method and a path with `{}` where a name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteSpec {
    /// The only method that the path takes.
    pub method: &'static str,
    /// The path.
    pub path: &'static str,
}

/// Every route, in the order of [`Route`].
pub const ROUTES: &[RouteSpec] = &[
    RouteSpec { method: "GET", path: "/v1/agent/discover" },
    RouteSpec { method: "GET", path: "/v1/agent/whoami" },
    RouteSpec { method: "POST", path: "/v1/agent/token" },
    RouteSpec { method: "GET", path: "/v1/agent/credentials" },
    RouteSpec { method: "GET", path: "/v1/agent/credentials/{}" },
    RouteSpec { method: "POST", path: "/v1/agent/credentials/{}/rejected" },
    RouteSpec { method: "GET", path: "/v1/agent/secrets" },
    RouteSpec { method: "GET", path: "/v1/agent/secrets/{}" },
    RouteSpec { method: "POST", path: "/v1/agent/git-credential" },
];

impl Route {
    /// The route at a path. The path is taken as it stands: nothing is unescaped or normalised.
    pub fn at(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v1/agent/")?;
        Some(match rest {
            "discover" => Self::Discover,
            "whoami" => Self::Whoami,
            "token" => Self::IssueToken,
            "credentials" => Self::Credentials,
            "secrets" => Self::Secrets,
            "git-credential" => Self::GitCredential,
            _ => {
                if let Some(name) = rest.strip_prefix("secrets/") {
                    return (!name.contains('/')).then(|| Self::Secret(name.parse().ok()));
                }
                let name = rest.strip_prefix("credentials/")?;
                match name.split_once('/') {
                    None => Self::Credential(name.parse().ok()),
                    Some((name, "rejected")) => Self::Rejected(name.parse().ok()),
                    Some(_) => return None,
                }
            }
        })
    }

    /// The row of [`ROUTES`] that this route is.
    pub fn spec(&self) -> RouteSpec {
        let row = match self {
            Self::Discover => 0,
            Self::Whoami => 1,
            Self::IssueToken => 2,
            Self::Credentials => 3,
            Self::Credential(_) => 4,
            Self::Rejected(_) => 5,
            Self::Secrets => 6,
            Self::Secret(_) => 7,
            Self::GitCredential => 8,
        };
        ROUTES.get(row).copied().unwrap_or(RouteSpec { method: "", path: "" })
    }
}

/// Answer of `GET /v1/agent/discover`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovery {
    /// [`SERVICE`].
    pub service: String,
    /// The broker's version.
    pub version: String,
    /// The versions of this API that the broker speaks.
    pub api: Vec<String>,
    /// The transports that it listens on.
    pub transports: Vec<Transport>,
}

/// How a caller is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// A Unix socket, whose peer the kernel names.
    Unix,
    /// Loopback TCP.
    Tcp,
}

impl Transport {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unix => "unix",
            Self::Tcp => "tcp",
        }
    }
}

/// Answer of `GET /v1/agent/whoami`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whoami {
    /// The agent that the caller is.
    pub agent: AgentName,
    /// The enclave of the broker.
    pub enclave: EnclaveName,
    /// The caller's user.
    pub uid: u32,
    /// How the caller is connected.
    pub transport: Transport,
    /// Whether the agent is served.
    pub state: AgentState,
}

/// Whether an agent is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// It is.
    Active,
    /// It is not, until an operator restores it.
    Isolated,
    /// It is not, and never will be again.
    Revoked,
}

impl AgentState {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Isolated => "isolated",
            Self::Revoked => "revoked",
        }
    }
}

/// Answer of `POST /v1/agent/token`, as a client reads it.
#[derive(Debug, Deserialize)]
pub struct AgentToken {
    /// A JWT; see [`Claims`].
    pub token: Token,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// The claims of an agent token (RFC 7519).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The enclave.
    pub iss: EnclaveName,
    /// The agent.
    pub sub: AgentName,
    /// [`AUDIENCE`].
    pub aud: String,
    /// The user for whom it was made.
    pub uid: u32,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// When it ends, in seconds since 1970.
    pub exp: u64,
    /// Unlike any other token's.
    pub jti: String,
}

/// How a provider knows the identity behind a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuthType {
    /// A person's personal access token.
    Pat,
    /// A service account's token.
    ServiceAccount,
    /// A project's token, with a bot user of its own.
    ProjectAccessToken,
}

impl AuthType {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pat => "pat",
            Self::ServiceAccount => "service_account",
            Self::ProjectAccessToken => "project_access_token",
        }
    }
}

/// One element of the answer of `GET /v1/agent/credentials`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialSummary {
    /// The provider.
    pub provider: ProviderName,
    /// Who the credential is at the provider.
    pub display_name: String,
    /// What kind of identity that is.
    pub auth_type: AuthType,
}

/// Answer of `GET /v1/agent/credentials/{provider}`, as a client reads it.
#[derive(Debug, Deserialize)]
pub struct Credential {
    /// The token.
    pub token: Token,
    /// When it ends, where that is known.
    pub expires_at: Option<Timestamp>,
}

/// Body of `POST /v1/agent/credentials/{provider}/rejected`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The fingerprint of the token that the provider refused.
    pub fingerprint: Fingerprint,
}

/// One element of the answer of `GET /v1/agent/secrets`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSummary {
    /// The secret's name.
    pub name: SecretName,
}

/// Answer of `GET /v1/agent/secrets/{name}`, as a client reads it.
#[derive(Debug, Deserialize)]
pub struct SecretValue {
    /// The secret's name.
    pub name: SecretName,
    /// Its value.
    pub value: crate::Secret,
}

/// Body of `POST /v1/agent/git-credential`: attributes of git's credential protocol (gitcredentials(7)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitCredentialRequest {
    /// `https`, or `http` to loopback.
    pub protocol: String,
    /// The host, with its port where that is not the scheme's own.
    pub host: String,
    /// The path, where git was told to give it (`credential.useHttpPath`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The server's challenges.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wwwauth: Vec<String>,
}

/// Answer of `POST /v1/agent/git-credential`, as a client reads it.
#[derive(Debug, Deserialize)]
pub struct GitCredential {
    /// [`GIT_USERNAME`].
    pub username: String,
    /// The token.
    pub password: Token,
    /// When it ends, where that is known.
    pub expires_at: Option<Timestamp>,
    /// The token's fingerprint.
    pub fingerprint: Fingerprint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_a_route_of_its_own() {
        for (row, spec) in ROUTES.iter().enumerate() {
            let route = Route::at(&spec.path.replace("{}", "gitlab")).unwrap();
            assert_eq!(ROUTES.iter().position(|other| *other == route.spec()), Some(row), "{}", spec.path);
        }
    }

    #[test]
    fn paths_are_taken_as_they_stand() {
        for path in [
            "",
            "/",
            "/v1/agent",
            "/v1/agent/",
            "/v1/agent/credentials/",
            "//v1/agent/whoami",
            "/v1/agent/whoami/",
            "/v1/agent/../agent/whoami",
            "/v1/agent/credentials/a/b",
            "/v1/agent/secrets/a/b",
            "/V1/agent/whoami",
        ] {
            let route = Route::at(path);
            assert!(matches!(route, None | Some(Route::Credential(None))), "{path}: {route:?}");
        }
        assert_eq!(Route::at("/v1/agent/credentials/GitLab"), Some(Route::Credential(None)));
        assert_eq!(Route::at("/v1/agent/secrets/%2e%2e"), Some(Route::Secret(None)));
    }
}
