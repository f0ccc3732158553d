//! What is wrong with a configuration file.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::trust::Untrusted;
use super::values::Kind;

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
        matches!(self.cause, Cause::Missing(_) | Cause::Incomplete(_))
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
    /// `${NAME}` of a variable that is not set.
    #[error("needs the environment variable {name}, which is not set")]
    Unset { name: String },
    /// A key that other keys ask for.
    #[error("missing; {0}")]
    Incomplete(&'static str),
}

fn one_of(keys: &[&str]) -> String {
    match keys {
        [] => "none here".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
