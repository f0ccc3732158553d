//! The operator API of the control plane, under [`PREFIX`]: what travels between `dvx` and `dvx-control`.
//!
//! Errors are problem documents. Unknown members are ignored in answers and refused in requests, where a
//! misspelt one would be silently without effect. Lists come in pages ([`Page`]). Creating an operator, an enclave
//! or an agent may carry an [`IDEMPOTENCY_KEY`] header: the same request with the same key is carried out once,
//! and answered alike.
//!
//! Every change has a revision of its organisation, and answers of changes carry it in the [`REVISION`] header.
//! Whether the brokers have a revision in force is asked at `GET /api/v1/deliveries/{revision}`
//! ([`Delivery`]).

mod audit;
mod integration;
mod operation;
mod provider;
mod secret;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use crate::agent::AgentState;
use crate::{AgentName, EnclaveName, OperatorName, Secret, UnixUser};

pub use audit::{AuditEvent, LineDetails};
pub use integration::{
    Attention, Integration, IntegrationOrigin, IntegrationStatus, LinkIntegration, Unlinked,
};
pub use operation::{Debt, Operation, OperationState};
pub use provider::{
    CreateCredentialProvider, CredentialProvider, CredentialProviderStatus, ProvisioningMode,
    RotateCredentialProvider,
};
pub use secret::{Scope, SecretInfo, SetSecret};

/// Where the operator API begins.
pub const PREFIX: &str = "/api/v1";

/// The header that makes creating something safe to repeat: 1 to 128 visible ASCII characters.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The header in which a change names its revision.
pub const REVISION: &str = "dvx-revision";

/// Every operator token begins with this, so that a stray one is recognised.
pub const OPERATOR_TOKEN_PREFIX: &str = "dvxo_";

/// How many elements a page has unless `limit` says otherwise.
pub const DEFAULT_PAGE: u32 = 100;

/// The most elements of a page.
pub const MAX_PAGE: u32 = 1000;

/// The longest that `wait_seconds` may ask to wait.
pub const MAX_WAIT_SECONDS: u32 = 30;

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads everything but values.
    Auditor,
    /// Also writes everything but operators and enclaves.
    Operator,
    /// Everything.
    Admin,
}

impl Role {
    /// Every role, weakest first.
    pub const ALL: [Self; 3] = [Self::Auditor, Self::Operator, Self::Admin];

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auditor => "auditor",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// The elements, sorted by name (audit events: by their number).
    pub items: Vec<T>,
    /// The value of `after` with which the next page begins; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Answer of `GET /api/v1/whoami`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Whoami {
    /// The operator; `uid:0` and the like where the kernel names the caller.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Where.
    pub organisation: String,
}

/// Answer of `GET /api/v1/overview`: the organisation in numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Overview {
    /// The control plane's version.
    pub version: String,
    /// The organisation.
    pub organisation: String,
    /// Its newest revision.
    pub revision: u64,
    /// How many agents are served.
    pub active: u64,
    /// How many are isolated.
    pub isolated: u64,
    /// How many are revoked.
    pub revoked: u64,
    /// Credentials that want somebody to do something, the first hundred.
    #[serde(default)]
    pub attention: Vec<Attention>,
}

/// Body of `POST /api/v1/operators`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateOperator {
    /// Its name.
    pub name: OperatorName,
    /// What it may do.
    pub role: Role,
}

/// Answer of `POST /api/v1/operators`. The token is shown this once.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedOperator {
    /// Its name.
    pub name: OperatorName,
    /// What it may do.
    pub role: Role,
    /// What it authenticates with.
    #[serde(serialize_with = "exposed")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub token: Secret,
}

/// An operator, as it is listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Operator {
    /// Its name.
    pub name: OperatorName,
    /// What it may do.
    pub role: Role,
    /// Since when there is one.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
}

/// Body of `POST /api/v1/enclaves`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateEnclave {
    /// Its name; the broker's configuration has the same.
    pub name: EnclaveName,
}

/// Answer of `POST /api/v1/enclaves`. The key is shown this once.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreatedEnclave {
    /// Its name.
    pub name: EnclaveName,
    /// What its broker authenticates with.
    #[serde(serialize_with = "exposed")]
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub api_key: Secret,
}

/// An enclave, as it is listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Enclave {
    /// Its name.
    pub name: EnclaveName,
    /// Since when there is one.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// Whether its broker is connected now.
    pub connected: bool,
    /// When its broker was last heard of.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub seen_at: Option<Timestamp>,
    /// The newest revision that its broker has in force.
    pub revision: Option<u64>,
    /// How many changes that concern this enclave its broker has not confirmed.
    pub lag: u64,
    /// How many agents belong to it.
    pub agents: u64,
    /// What its broker could not take over, as it said itself.
    #[serde(default)]
    pub degraded: Vec<crate::enclave::Degraded>,
}

/// Body of `POST /api/v1/agents`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateAgent {
    /// Its name, unlike that of every other agent of the organisation.
    pub name: AgentName,
    /// Where it runs.
    pub enclave: EnclaveName,
    /// The Unix user, by name or number, under which it runs there.
    pub unix_user: UnixUser,
    /// Selectors that must match as well.
    #[serde(default, flatten)]
    pub selectors: Selectors,
    /// The user on whose behalf it acts: 1 to 255 bytes of text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(pattern = r"^[!-~]([ -~]{0,253}[!-~])?$"))]
    pub acts_as: Option<String>,
}

/// What must match besides the user; the broker checks them as it checks those of its own configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Selectors {
    /// Any of the peer's groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// The systemd system unit.
    #[cfg_attr(feature = "openapi", schema(pattern = r"^[A-Za-z0-9_@-]{1,64}[.](service|scope)$"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The cgroup, or one above it.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = r"^(/[A-Za-z0-9_@-]{1,32}([.](service|scope|slice))?){1,4}$")
    )]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

/// An agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Agent {
    /// Unlike that of every agent there ever was.
    pub id: String,
    /// Its name.
    pub name: AgentName,
    /// Where it runs.
    pub enclave: EnclaveName,
    /// Under which user.
    pub unix_user: UnixUser,
    /// What else must match.
    #[serde(flatten)]
    pub selectors: Selectors,
    /// The user on whose behalf it acts.
    pub acts_as: Option<String>,
    /// Whether it is served.
    pub state: AgentState,
    /// Why it is not, as an operator put it.
    pub reason: Option<String>,
    /// Since when there is one.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    /// How many credentials it has of its own.
    pub credentials: u64,
    /// The end of the one that ends first.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub next_expiry: Option<Timestamp>,
    /// The revision of its last change, its secrets' included.
    pub revision: u64,
}

/// Body of `POST /api/v1/agents/{name}/isolate` and `…/revoke`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// For the audit log and for whoever finds the agent refused: 1 to [`MAX_REASON_BYTES`] bytes of text.
    #[cfg_attr(feature = "openapi", schema(pattern = r"^[!-~]([ -~]{0,998}[!-~])?$"))]
    pub reason: String,
}

/// The longest [`Reason`].
pub const MAX_REASON_BYTES: usize = 1000;

/// Answer of `GET /api/v1/deliveries/{revision}`: how far a change has come.
///
/// With `agent=NAME` it is about that agent's enclave, else about all that the revision concerns. With
/// `wait_seconds=N` it comes when every broker has confirmed, at the latest after that time.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Delivery {
    /// The revision that was asked about.
    pub revision: u64,
    /// Whether every broker that may serve has it in force. An enclave whose broker has never connected, or was
    /// last heard of longer ago than it would serve without word from the control plane, serves nothing.
    pub complete: bool,
    /// The enclaves whose brokers have not confirmed.
    pub missing: Vec<MissingDelivery>,
}

/// An enclave that a change has not reached.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MissingDelivery {
    /// The enclave.
    pub enclave: EnclaveName,
    /// Whether its broker is connected.
    pub connected: bool,
    /// When its broker was last heard of.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub seen_at: Option<Timestamp>,
}

fn exposed<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    let text = std::str::from_utf8(secret.expose_secret());
    serializer.serialize_str(text.map_err(|_| serde::ser::Error::custom("the value is not UTF-8"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_lie_flat_in_an_agent() {
        let json = r#"{"name":"a","enclave":"e","unix_user":"u","unit":"a.service"}"#;
        let create: CreateAgent = serde_json::from_str(json).unwrap();
        assert_eq!(create.selectors.unit.as_deref(), Some("a.service"));
        assert_eq!(serde_json::to_string(&create).unwrap(), json);
    }
}
