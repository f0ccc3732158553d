//! Why a request got no answer that helps, sorted by whose fault it is.

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use dvx_proto::{Code, ControlAddress, Problem};
use thiserror::Error;

use crate::failure::{Failure, cause, exit};
use crate::settings::{CA_FILE, CONTROL_USER};

/// Why a request got no answer that helps.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error("cannot use the certificates in {}", path.display())]
    CaFile { path: PathBuf, why: String },
    #[error("cannot connect to {address}")]
    Connect { address: ControlAddress, source: io::Error },
    #[error("{} is served by user {uid}", path.display())]
    Untrusted { path: PathBuf, uid: u32, user: String },
    #[error("{address} has a certificate that is not trusted")]
    Certificate { address: ControlAddress, why: String },
    #[error("{address} has a certificate of another time")]
    Dated { address: ControlAddress, why: String },
    #[error("no secure connection to {address}")]
    Tls { address: ControlAddress, source: io::Error },
    #[error("no answer from {address}")]
    Exchange { address: ControlAddress, source: hyper::Error },
    #[error("no answer from {address} within {after:?}")]
    Timeout { address: ControlAddress, after: Duration },
    #[error("no usable answer from {address}")]
    Malformed { address: ControlAddress, why: String },
    #[error("refused with status {status}")]
    Problem { status: u16, problem: Option<Problem>, retry_after_seconds: Option<u64> },
    #[error("the request cannot be put into words")]
    Unspeakable,
}

impl ClientError {
    /// Whether the connection broke off, so that nobody knows what became of the request.
    pub(super) fn is_connection_loss(&self) -> bool {
        matches!(self, Self::Exchange { source, .. } if !source.is_parse())
    }

    /// As if the control plane had answered with this.
    pub(crate) fn problem(problem: Problem) -> Self {
        Self::Problem { status: problem.status, problem: Some(problem), retry_after_seconds: None }
    }

    /// The status of the answer, where there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Problem { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What the user is told. `task` is what was tried, such as `cannot list the agents`.
    pub(crate) fn into_failure(self, task: &str) -> Failure {
        match self {
            Self::CaFile { path, why } => {
                Failure::new(format!("cannot use the certificates in {}", path.display()), why)
                    .with_exit(exit::USAGE)
                    .with_hint(format!("--ca-file of dvx login or {CA_FILE} names it"))
            }
            Self::Connect { address, source } => connect(&address, &source),
            Self::Untrusted { path, uid, user } => Failure::new(
                format!("the socket {} is not to be trusted", path.display()),
                format!("user {uid} serves it, and not root, {user} or the caller"),
            )
            .with_exit(exit::REFUSED)
            .with_hint(format!("if that user runs the control plane, name it in {CONTROL_USER}")),
            Self::Certificate { address, why } => {
                Failure::new(format!("the certificate of {} is not trusted", place(&address)), why)
                    .with_exit(exit::REFUSED)
                    .with_hint(format!(
                        "if it has an authority of its own, name that in {CA_FILE} or by dvx login --ca-file"
                    ))
            }
            Self::Dated { address, why } => Failure::new(
                format!("the certificate of {} is not trusted", place(&address)),
                why,
            )
            .with_exit(exit::REFUSED)
            .with_hint(
                "renew it (cert_file of dvx-control, which reads it again on SIGHUP), unless the clock \
                         of this machine is wrong",
            ),
            Self::Tls { address, source } => {
                Failure::io(format!("no secure connection to {}", place(&address)), &source)
                    .with_exit(exit::NOT_READY)
            }
            Self::Exchange { address, source } => exchange(&address, &source),
            Self::Timeout { address, after } => Failure::new(
                format!("no answer from the control plane at {}", place(&address)),
                format!("not within {} s", after.as_secs()),
            )
            .with_exit(exit::NOT_READY),
            Self::Malformed { address, why } => Failure::new(
                format!(
                    "what is at {} is not a control plane that this version understands",
                    place(&address)
                ),
                why,
            ),
            Self::Problem { status, problem, retry_after_seconds } => {
                refusal(task, status, problem, retry_after_seconds)
            }
            Self::Unspeakable => Failure::new(task, "the request cannot be put into words"),
        }
    }
}

fn connect(address: &ControlAddress, source: &io::Error) -> Failure {
    let why = match (source.kind(), address) {
        (ErrorKind::TimedOut, ControlAddress::Unix(_)) => {
            "its queue of new connections stays full".to_owned()
        }
        (ErrorKind::TimedOut, ControlAddress::Https { .. }) => "it does not answer".to_owned(),
        _ => cause(source),
    };
    let hint = match (source.kind(), address) {
        (ErrorKind::PermissionDenied, ControlAddress::Unix(_)) => {
            "the socket, or a directory above it, is closed to this user"
        }
        (_, ControlAddress::Unix(_)) => {
            "is dvx-control running here? if it is elsewhere, dvx login or DVX_CONTROL_URL says where"
        }
        (_, ControlAddress::Https { .. }) => "is dvx-control running there, and the address right?",
    };
    Failure::new(format!("cannot connect to the control plane at {}", place(address)), why)
        .with_exit(exit::NOT_READY)
        .with_hint(hint)
}

fn exchange(address: &ControlAddress, source: &hyper::Error) -> Failure {
    if source.is_parse() || source.is_parse_too_large() {
        let what =
            format!("what is at {} is not a control plane that this version understands", place(address));
        return Failure::new(what, "its answer is not HTTP/1.1");
    }
    let inner = std::error::Error::source(source).and_then(|inner| inner.downcast_ref::<io::Error>());
    let why = match inner {
        Some(error) if error.kind() != ErrorKind::UnexpectedEof => cause(error),
        _ => "it closed the connection without an answer".to_owned(),
    };
    Failure::new(format!("no answer from the control plane at {}", place(address)), why)
        .with_exit(exit::NOT_READY)
}

fn refusal(task: &str, status: u16, problem: Option<Problem>, retry_after_seconds: Option<u64>) -> Failure {
    let code = problem.as_ref().and_then(Problem::code);
    let (detail, hint) = problem.map_or((None, None), |problem| (Some(problem.detail), problem.hint));
    let why = detail.map_or_else(|| format!("the control plane answered {status}"), Into::into);
    let wait = || retry_after_seconds.map(|seconds| format!("try again in {seconds} s"));
    let hint = hint.map(Into::into).or_else(wait).or_else(|| own_hint(code));
    let failure = Failure::new(task, why).with_exit(exit::for_status(status));
    match hint {
        Some(hint) => failure.with_hint(hint),
        None => failure,
    }
}

/// A control plane's address as a person looks for it.
fn place(address: &ControlAddress) -> String {
    match address {
        ControlAddress::Unix(path) => path.display().to_string(),
        ControlAddress::Https { .. } => address.to_string(),
    }
}

/// What to do about a problem when the control plane does not say it.
fn own_hint(code: Option<Code>) -> Option<String> {
    let hint = match code? {
        Code::TokenMissing | Code::TokenInvalid => "dvx login takes a token, or DVX_OPERATOR_TOKEN has it",
        Code::RoleForbidden => "dvx whoami shows your role; an admin can make an operator with another one",
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_the_exit_of_its_status() {
        for code in Code::ALL {
            let problem = Some(Problem::new(*code, "Why."));
            let failure = ClientError::Problem { status: code.status(), problem, retry_after_seconds: None }
                .into_failure("cannot do it");
            let expected = match code.status() {
                400 => 2,
                401 | 403 => 4,
                404 => 3,
                410 => 6,
                429 => 7,
                503 => 5,
                _ => 1,
            };
            assert_eq!(failure.exit(), expected, "{code}");
            assert!(failure.to_string().starts_with("dvx: cannot do it: Why\n"), "{failure}");
        }
    }

    #[test]
    fn an_answer_of_something_else_is_told_by_its_status() {
        let error = ClientError::Problem { status: 502, problem: None, retry_after_seconds: Some(7) };
        let failure = error.into_failure("cannot do it");
        assert_eq!(
            failure.to_string(),
            "dvx: cannot do it: the control plane answered 502\nhint: try again in 7 s\n"
        );
        assert_eq!(failure.exit(), 5);
    }
}
