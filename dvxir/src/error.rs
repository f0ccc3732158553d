//! How a run ends: exit codes, and the lines that say what went wrong.

use std::error::Error;
use std::io;

use crate::output::note;

/// The exit codes, on which scripts and agents branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Success,
    /// Something that is none of the others.
    Other,
    /// The command line cannot be meant.
    Usage,
    /// The broker has no such thing for this agent.
    NotFound,
    /// The broker refused the caller, or the caller must not trust the broker.
    Refused,
    /// The broker cannot be reached, or is not ready.
    Unreachable,
    /// The credential's end has come.
    Expired,
    /// Asked too often.
    RateLimited,
}

impl Exit {
    /// The number that the process ends with.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Other => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Refused => 4,
            Self::Unreachable => 5,
            Self::Expired => 6,
            Self::RateLimited => 7,
        }
    }

    /// The exit for an answer of the broker. Codes that this version does not know count by their status.
    pub(crate) const fn for_status(status: u16) -> Self {
        match status {
            401 | 403 => Self::Refused,
            404 => Self::NotFound,
            410 => Self::Expired,
            429 => Self::RateLimited,
            502..=504 => Self::Unreachable,
            _ => Self::Other,
        }
    }
}

/// A failure as its user sees it: `dvxir: <what>: <why>` and perhaps a second line `hint: …`.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
    why: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { exit, what: what.into(), why: why.into(), hint: None }
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Tells the user; gives what the process is to end with.
    pub(crate) fn report(&self) -> Exit {
        note(&format!("{}: {}", self.what, self.why.trim_end_matches('.')), self.hint.as_deref());
        self.exit
    }
}

/// What the operating system says, in our style: lower case and without its number.
pub(crate) fn io_cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// An error and its causes, joined by colons.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        match error.downcast_ref::<io::Error>() {
            Some(error) => text.push_str(&io_cause(error)),
            None => text.push_str(&error.to_string()),
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_the_exit_of_its_status() {
        for code in dvx_proto::Code::ALL {
            let expected = match code.status() {
                401 | 403 => 4,
                404 => 3,
                410 => 6,
                429 => 7,
                503 => 5,
                _ => 1,
            };
            assert_eq!(Exit::for_status(code.status()).code(), expected, "{code}");
        }
    }

    #[test]
    fn what_the_system_says_is_put_into_our_style() {
        assert_eq!(io_cause(&io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(io_cause(&io::Error::other("The end")), "the end");
    }
}
