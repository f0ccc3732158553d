//! Why a connection to the control plane ended, in the words of logs and readiness.

use std::io;
use std::time::Duration;

use dvx_proto::enclave::{HEARTBEAT_SECONDS, MAX_FRAME_BYTES};
use dvx_proto::{AgentName, EnclaveName, SecretName};
use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;
use thiserror::Error;

use super::seal::SealError;

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("no secure connection")]
    Tls(#[source] io::Error),
    #[error(
        "the control plane's certificate expired at {0}; renew it there, unless this machine's clock is wrong"
    )]
    Expired(Timestamp),
    #[error("the control plane's certificate is not valid before {0}; is this machine's clock wrong?")]
    NotYetValid(Timestamp),
    #[error(
        "the socket is served by uid {0}; expected root, the broker's own user, or dvx-control (DVX_CONTROL_USER names another)"
    )]
    Stranger(u32),
    #[error("no answer in time")]
    Slow,
    #[error("not the HTTP that was expected")]
    Http(#[from] hyper::Error),
    #[error("the control plane refuses the API key ({0})")]
    Key(u16),
    #[error("the answer is a redirect ({0}), and those are not followed")]
    Redirect(u16),
    #[error("the answer is {0}")]
    Status(u16),
    #[error("the answer is not what it should be")]
    Answer(#[from] serde_json::Error),
    #[error("the answer is longer than it should be")]
    Long,
    #[error("nothing came for {} s", SILENCE.as_secs())]
    Silence,
    #[error("the stream has ended")]
    Ended(#[source] Option<hyper::Error>),
    #[error("what came was not taken over")]
    Violation(#[from] Violation),
}

impl Trouble {
    /// Why there is no TLS. A date is told alone: what rustls adds to it is another text each second.
    pub(super) fn of_tls(error: io::Error) -> Self {
        let date = |time: &UnixTime| {
            let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
            Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
        };
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
                not_after, ..
            })) => Self::Expired(date(not_after)),
            Some(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
                not_before,
                ..
            })) => Self::NotYetValid(date(not_before)),
            _ => Self::Tls(error),
        }
    }
}

/// A stream on which nothing came for so long is dead.
pub(super) const SILENCE: Duration = Duration::from_secs(3 * HEARTBEAT_SECONDS);

/// What a control plane must not send. What was in force before stays.
#[derive(Debug, Error)]
pub(super) enum Violation {
    #[error("a line is longer than {MAX_FRAME_BYTES} bytes")]
    LongLine,
    #[error("a line is not a frame")]
    NotAFrame,
    #[error("a frame is out of order: {0}")]
    Order(&'static str),
    #[error("the API key is that of enclave {found}; expected {expected}, as the configuration has it")]
    Enclave { found: EnclaveName, expected: EnclaveName },
    #[error("the control plane is that of another organisation; a restart of the broker takes it over")]
    Organisation,
    #[error(
        "revision {found} is older than {held}, which is in force; a restart of the broker takes it over"
    )]
    Older { found: u64, held: u64 },
    #[error("secret {name} is of revision {sealed} in a commit of {commit}")]
    Revision { name: SecretName, sealed: u64, commit: u64 },
    #[error("{} does not open: {source}", subject(.agent.as_ref(), .name))]
    Sealed { agent: Option<AgentName>, name: SecretName, source: SealError },
    #[error("the stream cannot be opened: {0}")]
    Key(SealError),
    #[error("a commit has more than {0} changes")]
    TooMany(usize),
}

/// A secret, in words.
pub(super) fn subject(agent: Option<&AgentName>, name: &SecretName) -> String {
    match agent {
        Some(agent) => format!("agent {agent}, secret {name}"),
        None => format!("organisation, secret {name}"),
    }
}
