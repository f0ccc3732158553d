//! The enclave API: what travels between a broker and the control plane.
//!
//! A broker authenticates with `Authorization: Bearer` and its enclave's API key; every failure of that is 401,
//! whatever was asked for.
//!
//! - `GET /v1/enclave/watch?revision=N&mark=M`: answers with lines of JSON ([`Frame`]) until one side hangs up. The
//!   request carries the broker's public key in [`PUBLIC_KEY`], made for this one connection, and how long it
//!   serves without word from the control plane in [`MAX_STALE`]. `revision` and `mark` are those of the last commit,
//!   which it has in force; without a revision it has nothing.
//! - `POST /v1/enclave/ack` with [`Ack`]: 204.
//! - `POST /v1/enclave/audit` with lines of the broker's audit log, whole and unchanged, oldest first, at most
//!   [`MAX_AUDIT_LINES`] and [`MAX_AUDIT_BYTES`]: [`AuditReceipt`].
//! - `POST /v1/enclave/credentials/{id}/rejected` with [`Rejection`](crate::agent::Rejection):
//!   [`RejectionAnswer`].
//!
//! # Sealed values
//!
//! HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM. One context for
//! each connection: its encapsulated key is in [`Hello`], its `info` is [`SEAL_INFO`]. Each [`SealedSecret`] is
//! the next message of that context, so none can be left out, repeated or exchanged; its associated data is
//! [`seal_aad`].

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::agent::{AgentState, AuthType};
use crate::operator::Selectors;
use crate::{AgentName, EnclaveName, RemoteUrl, SecretName, UnixUser};

/// The header with the broker's X25519 public key: 32 bytes in base64url without padding.
pub const PUBLIC_KEY: &str = "dvx-public-key";

/// The header with the broker's `max_stale` in seconds.
pub const MAX_STALE: &str = "dvx-max-stale";

/// Every API key begins with this, so that a stray one is recognised.
pub const API_KEY_PREFIX: &str = "dvxe_";

/// The `info` of the HPKE context.
pub const SEAL_INFO: &[u8] = b"dvx enclave watch v1";

/// How often a broker hears from the control plane at the least. A stream on which nothing came for three times
/// this long is dead.
pub const HEARTBEAT_SECONDS: u64 = 15;

/// How often a broker that serves for `max_stale` without word hears from the control plane at the least: what it
/// has would go stale between two heartbeats otherwise.
pub fn heartbeat(max_stale: Duration) -> Duration {
    /// A shorter `max_stale` than a second is not known.
    const SHORTEST: Duration = Duration::from_millis(250);
    (max_stale / 3).clamp(SHORTEST, Duration::from_secs(HEARTBEAT_SECONDS))
}

/// The longest line of a stream: the largest secret, sealed and in base64, and what goes with it.
pub const MAX_FRAME_BYTES: usize = 128 * 1024;

/// The most lines in one batch of audit lines.
pub const MAX_AUDIT_LINES: usize = 1000;

/// The largest batch of audit lines.
pub const MAX_AUDIT_BYTES: usize = 4 * 1024 * 1024;

/// One line of the stream of `GET /v1/enclave/watch`.
///
/// A stream begins with [`Hello`](Frame::Hello). What comes between two [`Commit`](Frame::Commit)s is in force
/// together, when the second one has come. Frames of a type that a broker does not know are ignored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Frame {
    /// The first line.
    Hello(Hello),
    /// An agent as it is now. It replaces what was known of it and of its secrets; those that it has, if it is
    /// served, follow before the commit.
    Agent(AgentDocument),
    /// There is no such agent any more.
    AgentGone {
        /// Its name.
        agent: AgentName,
    },
    /// A secret as it is now.
    Secret(SealedSecret),
    /// There is no such secret any more.
    SecretGone {
        /// Whose it was; the organisation's where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentName>,
        /// Its name.
        name: SecretName,
    },
    /// A secret whose value the control plane cannot read. What was known of it is void.
    SecretUnavailable {
        /// Whose it is; the organisation's where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<AgentName>,
        /// Its name.
        name: SecretName,
    },
    /// All that came since the last commit is in force together, and the broker is at this revision.
    Commit {
        /// Never lower than that of the commit before.
        revision: u64,
        /// What tells this revision from another one of the same number: there is one after a backup of the
        /// database was put back. Unknown where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mark: Option<u64>,
    },
    /// Nothing has changed: the control plane stands by what the broker has.
    Heartbeat {
        /// That of the last commit.
        revision: u64,
    },
    /// A type that this version does not know.
    #[serde(other)]
    Unknown,
}

/// The beginning of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The organisation's id: part of what values are bound to.
    pub organisation: String,
    /// The enclave that the API key belongs to.
    pub enclave: EnclaveName,
    /// What comes up to the first commit.
    pub mode: Mode,
    /// The encapsulated key of this stream's HPKE context: 32 bytes in base64url without padding.
    pub encapsulated_key: String,
    /// The last line of the broker's audit log that the control plane has.
    pub audit_seq: u64,
    /// SHA-256, hex, of that line; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_head: Option<String>,
}

/// What comes up to the first commit of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Everything; what is not in it is gone.
    Snapshot,
    /// What has changed since the revision that the broker named.
    Resume,
}

/// An agent as brokers know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentDocument {
    /// Its name.
    pub agent: AgentName,
    /// The Unix user, by name or number, under which it runs.
    pub unix_user: UnixUser,
    /// What else must match.
    #[serde(flatten)]
    pub selectors: Selectors,
    /// Whether it is served.
    pub state: AgentState,
    /// Why it is not, as an operator put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A secret, its value sealed for one broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedSecret {
    /// Whose it is; the organisation's where absent. An agent's own wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentName>,
    /// Its name. `<provider>:token` that agents must not access is a credential.
    pub name: SecretName,
    /// Whether agents get the value by name.
    pub agent_accessible: bool,
    /// The revision at which it is sent: that of the commit that follows. Part of what the value is bound to.
    pub revision: u64,
    /// The id under which the control plane knows the credential, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
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
    pub expires_at: Option<Timestamp>,
    /// The next message of the stream's HPKE context, ciphertext and tag: base64url without padding.
    pub sealed: String,
}

/// Body of `POST /v1/enclave/ack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// What the broker has in force now.
    pub revision: u64,
    /// What it could not take over. Absent means nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<Degraded>,
}

/// Something that a broker could not take over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Degraded {
    /// What it is.
    pub what: String,
    /// Why. Never a value.
    pub why: String,
}

/// Answer of `POST /v1/enclave/audit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReceipt {
    /// The last line that the control plane has, those of this batch included.
    pub seq: u64,
}

/// Answer of `POST /v1/enclave/credentials/{id}/rejected`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectionAnswer {
    /// What became of the report.
    pub verdict: Verdict,
}

/// What the control plane knows about a token that a provider has refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The provider says that it is good: there is nothing to wait for.
    Good,
    /// It is dead. If there will be another, it comes by the stream.
    Dead,
    /// Nothing is known.
    #[serde(other)]
    Unknown,
}

/// The associated data of a sealed value: a version, then organisation, enclave, agent (empty for secrets of the
/// organisation) and name, each as its length in 4 bytes and its bytes, then the revision in 8 bytes. Numbers
/// are big-endian.
pub fn seal_aad(
    organisation: &str,
    enclave: &EnclaveName,
    agent: Option<&AgentName>,
    name: &SecretName,
    revision: u64,
) -> Vec<u8> {
    let mut aad = b"dvx-seal-1".to_vec();
    for part in [organisation, enclave.as_str(), agent.map_or("", AgentName::as_str), name.as_str()] {
        // Names are short; an organisation's id is one of ours.
        aad.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        aad.extend_from_slice(part.as_bytes());
    }
    aad.extend_from_slice(&revision.to_be_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_lines_with_a_type() {
        let frame = Frame::AgentGone { agent: "a".parse().unwrap() };
        assert_eq!(serde_json::to_string(&frame).unwrap(), r#"{"type":"agent-gone","agent":"a"}"#);
        let frame: Frame = serde_json::from_str(r#"{"type":"commit","revision":7}"#).unwrap();
        assert!(matches!(frame, Frame::Commit { revision: 7, mark: None }));
        let frame: Frame = serde_json::from_str(r#"{"type":"weather"}"#).unwrap();
        assert!(matches!(frame, Frame::Unknown));
    }

    #[test]
    fn nothing_goes_stale_between_two_heartbeats() {
        for (max_stale, expected) in [(1, 333), (3, 1000), (45, 15_000), (3600, 15_000)] {
            let heartbeat = heartbeat(Duration::from_secs(max_stale));
            assert_eq!(heartbeat.as_millis(), expected, "{max_stale}");
        }
    }

    #[test]
    fn associated_data_tells_every_part_apart() {
        let enclave = |name: &str| name.parse::<EnclaveName>().unwrap();
        let agent = |name: &str| name.parse::<AgentName>().unwrap();
        let name = |name: &str| name.parse::<SecretName>().unwrap();
        let base = seal_aad("o", &enclave("e"), Some(&agent("a")), &name("n"), 1);
        for other in [
            seal_aad("p", &enclave("e"), Some(&agent("a")), &name("n"), 1),
            seal_aad("o", &enclave("f"), Some(&agent("a")), &name("n"), 1),
            seal_aad("o", &enclave("e"), Some(&agent("b")), &name("n"), 1),
            seal_aad("o", &enclave("e"), None, &name("n"), 1),
            seal_aad("o", &enclave("e"), Some(&agent("a")), &name("m"), 1),
            seal_aad("o", &enclave("e"), Some(&agent("a")), &name("n"), 2),
            seal_aad("oe", &enclave("e"), Some(&agent("a")), &name("n"), 1),
        ] {
            assert_ne!(base, other);
        }
        assert_ne!(
            seal_aad("o", &enclave("ea"), None, &name("n"), 1),
            seal_aad("o", &enclave("e"), Some(&agent("a")), &name("n"), 1)
        );
    }
}
