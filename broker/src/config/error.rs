//! What is wrong with a configuration file.

use std::fmt;
use std::path::{Path, PathBuf};

use dvx_proto::{AgentName, InvalidName};
use thiserror::Error;

use super::trust::Untrusted;
use super::values::Kind;
use crate::policy::RuleError;

/// One error: where it is and what it is. Displayed as `file:line: key: cause`.
#[derive(Debug)]
pub(crate) struct ConfigError {
    file: PathBuf,
    /// Counted from 1.
    line: Option<usize>,
    key: Option<String>,
    cause: Cause,
}

impl ConfigError {
    pub(super) fn of_file(file: &Path, cause: Cause) -> Self {
        Self { file: file.to_owned(), line: None, key: None, cause }
    }

    pub(super) fn new(file: &Path, line: usize, key: Option<String>, cause: Cause) -> Self {
        Self { file: file.to_owned(), line: Some(line), key, cause }
    }

    pub(super) fn is_syntax(&self) -> bool {
        matches!(self.cause, Cause::Syntax(_))
    }

    pub(super) fn is_missing(&self) -> bool {
        matches!(self.cause, Cause::Missing(_))
    }

    pub(super) fn line(&self) -> Option<usize> {
        self.line
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.cause)
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong.
#[derive(Debug, Error)]
pub(super) enum Cause {
    /// The file as a whole.
    #[error("{0}")]
    File(Untrusted),
    /// A file that a key names.
    #[error("{} {cause}", .path.display())]
    Named { path: PathBuf, cause: Untrusted },
    /// An API key that is none.
    #[error("{} is not an enclave's API key; expected the one line that `dvx enclave create` printed", .0.display())]
    NotAKey(PathBuf),
    /// Certificates that cannot be used.
    #[error("{} has no certificate that can be used: {why}", .path.display())]
    Certificates { path: PathBuf, why: String },
    /// Not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// A key that nothing reads.
    #[error("unknown key; expected {}", one_of(.expected))]
    Unknown { expected: Vec<&'static str> },
    /// A key that has to be there.
    #[error("missing; expected {}", .0.expected)]
    Missing(Kind),
    /// A value of another type, or not one of those that make sense.
    #[error("{given} is not {}; expected {}", .kind.noun, .kind.expected)]
    Invalid { given: String, kind: Kind },
    /// A value that cannot be the name of what it names.
    #[error("{0}")]
    Name(#[from] InvalidName),
    /// `${NAME}` of a variable that is not set.
    #[error("{given} needs the environment variable {name}, which is not set")]
    Unset { given: String, name: String },
    /// A user that this machine does not know.
    #[error("{0} is not a user of this machine; expected a name that getent(1) finds, or uid instead")]
    NoUser(String),
    /// A key that does not go with another.
    #[error("{0}")]
    Conflict(&'static str),
    /// An agent's name for the second time.
    #[error("\"{name}\" is the name of the agent on line {line} already; expected a name of its own")]
    Duplicate { name: AgentName, line: usize },
    /// Two agents that one process could be.
    #[error(
        "\"{second}\" overlaps \"{first}\" on line {line}: one process could be both; expected another user, or \
         on each a unit or a cgroup that excludes the other's"
    )]
    Overlap { first: AgentName, second: AgentName, line: usize },
    /// Agents that cannot be in force for another reason.
    #[error("{0}")]
    Rule(RuleError),
    /// An upstream that is known by name only.
    #[error("{0:?} is not available in this version; expected \"control\" or \"directory\"")]
    Unavailable(&'static str),
}

fn one_of(keys: &[&str]) -> String {
    match keys {
        [] => "none here".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
