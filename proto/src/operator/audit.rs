//! The audit log, as operators read it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Role;

/// One element of `GET /api/v1/audit`: an action of the control plane, or a decision of a broker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AuditEvent {
    /// Its place in the order of arrival; the value of `after` that continues behind it.
    pub number: u64,
    /// When it happened.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub time: Timestamp,
    /// Who acted: an operator, `uid:0`, `enclave:lab-1`, `system`; for decisions of a broker the agent.
    pub actor: String,
    /// With which role, where it is an operator.
    pub role: Option<Role>,
    /// `<object>.<verb>`.
    pub action: String,
    /// What was acted on.
    pub subject: Option<String>,
    /// The agent that it is about.
    pub agent: Option<String>,
    /// `allowed` or `denied`; a broker's own words for its decisions.
    pub decision: String,
    /// Why.
    pub reason: Option<String>,
    /// Of the request that brought it about.
    pub request_id: Option<String>,
    /// The enclave whose broker decided; absent for events of the control plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enclave: Option<String>,
    /// The broker's own number of its line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What else its line says.
    #[serde(flatten)]
    pub line: LineDetails,
}

/// What a broker's audit line has besides: who the kernel said the caller is, and what was served. Absent from
/// events of the control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LineDetails {
    /// The caller's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// Its process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Where that process is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// How it was connected: `unix` or `tcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<String>,
    /// Of the token or value that was served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The revision that the broker decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// SHA-256, hex, of the line before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<String>,
}
