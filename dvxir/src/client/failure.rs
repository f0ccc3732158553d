//! Why a request got no answer that helps, sorted by whose fault it is.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dvx_proto::{BrokerAddress, Code, InvalidAddress, InvalidToken};
use thiserror::Error;

use super::response::InvalidAnswer;
use crate::environment::{BROKER_URL, BROKER_USER, TOKEN_FILE};
use crate::error::{Exit, Failure, io_cause};

/// Why a request got no answer that helps.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error("no address of a broker")]
    Address(#[from] InvalidAddress),
    #[error("cannot read {}", path.display())]
    TokenFile { path: PathBuf, source: io::Error },
    #[error("no token in {}", path.display())]
    TokenFileContent { path: PathBuf, source: InvalidToken },
    #[error("cannot connect to {address}")]
    Connect { address: BrokerAddress, source: io::Error },
    #[error("{} is served by user {uid}", path.display())]
    Untrusted { path: PathBuf, uid: u32, user: String },
    #[error("no answer from {address}")]
    Exchange { address: BrokerAddress, source: io::Error },
    #[error("no answer from {address} within {after:?}")]
    Timeout { address: BrokerAddress, after: Duration },
    #[error("no usable answer from {address}")]
    Malformed { address: BrokerAddress, source: InvalidAnswer },
    #[error("refused with status {status}")]
    Problem {
        status: u16,
        code: Option<Code>,
        detail: Option<String>,
        hint: Option<String>,
        retry_after_seconds: Option<u64>,
    },
}

impl ClientError {
    /// Whether the connection broke off, rather than something having been said on it.
    pub(super) fn is_interrupted_exchange(&self) -> bool {
        matches!(self, Self::Exchange { .. })
    }

    /// The status of the broker's answer, where there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Problem { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What the user is told. `task` is what was tried, such as `cannot get the credential for gitlab`.
    pub(crate) fn into_failure(self, task: &str) -> Failure {
        match self {
            Self::Address(error) => Failure::new(Exit::Usage, BROKER_URL, error.to_string()).with_hint(None),
            Self::TokenFile { path, source } => token_file(&path, &io_cause(&source)),
            Self::TokenFileContent { path, source } => token_file(&path, &source.to_string()),
            Self::Connect { address, source } => connect(&address, &source),
            Self::Untrusted { path, uid, user } => Failure::new(
                Exit::Refused,
                format!("the socket {} is not to be trusted", path.display()),
                format!("user {uid} serves it, and not root, {user} or the caller"),
            )
            .with_hint(format!("if that user runs the broker, name it in {}", BROKER_USER)),
            Self::Exchange { address, source } => {
                let cause = match source.kind() {
                    io::ErrorKind::UnexpectedEof => "it closed the connection without an answer".to_owned(),
                    _ => io_cause(&source),
                };
                Failure::new(
                    Exit::Unreachable,
                    format!("no answer from the broker at {}", place(&address)),
                    cause,
                )
            }
            Self::Timeout { address, after } => Failure::new(
                Exit::Unreachable,
                format!("no answer from the broker at {}", place(&address)),
                format!("not within {} s", after.as_secs()),
            ),
            Self::Malformed { address, source } => Failure::new(
                Exit::Other,
                format!("what is at {} is not a broker that this version understands", place(&address)),
                source.to_string(),
            ),
            Self::Problem { status, code, detail, hint, retry_after_seconds } => {
                let why = detail.unwrap_or_else(|| format!("the broker answered {status}"));
                let wait = || retry_after_seconds.map(|seconds| format!("try again in {seconds} s"));
                let hint = hint.or_else(wait).or_else(|| own_hint(code));
                Failure::new(Exit::for_status(status), task, why).with_hint(hint)
            }
        }
    }
}

fn token_file(path: &std::path::Path, why: &str) -> Failure {
    Failure::new(Exit::Refused, format!("cannot use the agent token in {}", path.display()), why)
        .with_hint(format!("{} names another file; without it, the Unix socket needs no token", TOKEN_FILE))
}

fn connect(address: &BrokerAddress, source: &io::Error) -> Failure {
    let hint = match (source.kind(), address) {
        (io::ErrorKind::PermissionDenied, BrokerAddress::Unix(_)) => {
            "the socket, or a directory above it, is closed to this user".to_owned()
        }
        (io::ErrorKind::TimedOut, _) => {
            "the broker is there and takes no connections; its log may say why".to_owned()
        }
        _ => "is dvx-broker running? systemctl status dvx-broker".to_owned(),
    };
    let why = match source.kind() {
        io::ErrorKind::TimedOut => "its queue of new connections stays full".to_owned(),
        _ => io_cause(source),
    };
    Failure::new(Exit::Unreachable, format!("cannot connect to the broker at {}", place(address)), why)
        .with_hint(hint)
}

/// A broker's address as a person looks for it.
fn place(address: &BrokerAddress) -> String {
    match address {
        BrokerAddress::Unix(path) => path.display().to_string(),
        BrokerAddress::Loopback(address) => format!("http://{address}"),
    }
}

/// What to do about a problem when the broker does not say it.
fn own_hint(code: Option<Code>) -> Option<String> {
    let hint = match code? {
        Code::TokenMissing | Code::TokenInvalid => {
            "dvxir init links ~/.dvx/token to the agent's token; without DVX_BROKER_URL it asks the Unix socket"
        }
        Code::PeerUnknown => "dvxir runs as the agent's own user; dvx-broker's configuration names it",
        Code::UpstreamUnavailable => "dvx-broker status says what it is waiting for",
        _ => return None,
    };
    Some(hint.to_owned())
}
