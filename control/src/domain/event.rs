//! What is remembered of who did what.

use dvx_proto::AgentName;
use dvx_proto::operator::AuditEvent;
use jiff::Timestamp;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was done.
    Allowed,
    /// It was refused.
    Denied,
}

impl Decision {
    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
        }
    }
}

/// An event of the control plane. Who, when and in which request is said by its [`Cause`](super::Cause).
#[derive(Debug, Clone)]
pub struct Event {
    /// `<object>.<verb>`.
    pub action: &'static str,
    /// What was acted on.
    pub subject: Option<String>,
    /// The agent that it is about.
    pub agent: Option<String>,
    /// How it ended.
    pub decision: Decision,
    /// Why. Never a value.
    pub reason: Option<String>,
}

impl Event {
    /// Something that was done.
    pub fn allowed(action: &'static str, subject: impl Into<String>) -> Self {
        let subject = Some(subject.into());
        Self { action, subject, agent: None, decision: Decision::Allowed, reason: None }
    }

    /// Something that was refused.
    pub fn denied(action: &'static str, subject: Option<String>, reason: impl Into<String>) -> Self {
        Self { action, subject, agent: None, decision: Decision::Denied, reason: Some(reason.into()) }
    }

    /// Says which agent it is about.
    #[must_use]
    pub fn about(mut self, agent: impl Into<String>) -> Self {
        self.agent = Some(agent.into());
        self
    }

    /// Says why.
    #[must_use]
    pub fn because(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }
}

/// Which events to look at. Bounds on the time include `since` and leave out `until`.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only those about this agent.
    pub agent: Option<AgentName>,
    /// Only those at or after this time.
    pub since: Option<Timestamp>,
    /// Only those before this time.
    pub until: Option<Timestamp>,
    /// Only those with a higher number.
    pub after: u64,
    /// At most so many, those with the lowest numbers.
    pub limit: u32,
}

/// A line of a broker's audit log that has been read and found well-formed.
#[derive(Debug, Clone)]
pub struct BrokerLine {
    /// The line, without its newline.
    pub line: String,
    /// SHA-256 of the line.
    pub hash: [u8; 32],
    /// Its number.
    pub seq: u64,
    /// SHA-256 of the line before, as the line says.
    pub prev: [u8; 32],
    /// What is told of it. Its `number` and `enclave` are filled in when it is stored.
    pub event: AuditEvent,
}

/// The last line that there is of a broker's audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainHead {
    /// Its number.
    pub seq: u64,
    /// Its SHA-256.
    pub head: [u8; 32],
}

/// What became of a batch of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ingested {
    /// The last line that there is now.
    pub seq: u64,
    /// How many lines were new.
    pub stored: u64,
    /// How many events about the chain were raised.
    pub raised: u64,
}
