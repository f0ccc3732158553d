//! Secrets as they are stored: what is known of them, and a value that only the KEK opens.

use dvx_proto::agent::AuthType;
use dvx_proto::operator::SecretInfo;
use dvx_proto::{AgentName, RemoteUrl, Secret, SecretName};
use jiff::Timestamp;

use super::{AgentId, OrgId, SecretId};
use crate::crypto::Envelope;

/// Whose a secret is, and what it is called.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The organisation.
    pub org: OrgId,
    /// The agent; `None` for secrets of the organisation.
    pub agent: Option<(AgentId, AgentName)>,
    /// Its name.
    pub name: SecretName,
}

impl Place {
    /// The agent's id as it stands in the database.
    pub(crate) fn agent_id(&self) -> &str {
        self.agent.as_ref().map_or("", |(id, _)| id.as_str())
    }
}

/// What is known of a secret besides its value. All of it is bound to the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Whether agents get the value by name.
    pub agent_accessible: bool,
    /// Who the token is at the provider.
    pub display_name: Option<String>,
    /// What kind of identity that is.
    pub auth_type: Option<AuthType>,
    /// Where the token may be sent.
    pub instance_url: Option<RemoteUrl>,
    /// When the token ends.
    pub expires_at: Option<Timestamp>,
}

/// A secret to be set.
#[derive(Debug)]
pub struct NewSecret {
    /// Its name.
    pub name: SecretName,
    /// Its value.
    pub value: Secret,
    /// What is known of it.
    pub metadata: Metadata,
}

impl NewSecret {
    /// Whether it is a credential: a provider's token that agents must not access.
    pub fn is_credential(&self) -> bool {
        !self.metadata.agent_accessible && self.name.provider().is_some()
    }
}

/// What came of setting a secret.
#[derive(Debug, Clone)]
pub struct SecretSet {
    /// The secret, as it is listed.
    pub info: SecretInfo,
    /// Whether there was none.
    pub created: bool,
}

/// A secret as it is stored. [`Store::open_secret`](crate::store::Store::open_secret) makes a value of it.
#[derive(Debug, Clone)]
pub struct StoredSecret {
    /// Its id; that of a credential is told to brokers.
    pub id: SecretId,
    /// Whose it is.
    pub place: Place,
    /// What is known of it.
    pub metadata: Metadata,
    /// Whether it is a credential.
    pub credential: bool,
    /// How often it was set, says the row.
    pub version: u64,
    /// The value, encrypted.
    pub envelope: Envelope,
    /// What is kept of the newest version apart from the row.
    pub(crate) head: Option<Head>,
    /// The row has something that cannot be: it does not open.
    pub(crate) malformed: bool,
}

/// The newest version of a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) secret: SecretId,
    pub(crate) version: i64,
    pub(crate) deleted: bool,
    pub(crate) mac: Vec<u8>,
}
