//! Failures as the user sees them.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::output::harmless;

/// Exit statuses that every command shares.
pub(crate) mod exit {
    /// Anything that has no status of its own.
    pub(crate) const OTHER: u8 = 1;
    /// The command line, or what was given with it, cannot be meant.
    pub(crate) const USAGE: u8 = 2;
    /// There is no such thing.
    pub(crate) const NOT_FOUND: u8 = 3;
    /// The control plane refused the caller, or the caller must not trust what is there.
    pub(crate) const REFUSED: u8 = 4;
    /// A control plane or broker cannot be reached, is not ready, or has not confirmed.
    pub(crate) const NOT_READY: u8 = 5;
    /// A credential's end has come.
    pub(crate) const EXPIRED: u8 = 6;
    /// Asked too often.
    pub(crate) const RATE_LIMITED: u8 = 7;
    /// Added to the number of a signal, as shells do.
    pub(crate) const SIGNALLED: u8 = 128;

    /// The exit for an answer of the control plane.
    pub(crate) const fn for_status(status: u16) -> u8 {
        match status {
            400 => USAGE,
            401 | 403 => REFUSED,
            404 => NOT_FOUND,
            410 => EXPIRED,
            429 => RATE_LIMITED,
            502..=504 => NOT_READY,
            _ => OTHER,
        }
    }
}

/// `dvx: <what>: <why>`, where it helps some lines of a log, and where something can be done about it
/// `hint: …`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    exit: u8,
    what: String,
    why: String,
    log: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { exit: exit::OTHER, what: what.into(), why: why.to_string(), log: Vec::new(), hint: None }
    }

    /// A failure of the system, without the number that Rust adds to its text.
    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> Self {
        Self::new(what, cause(error))
    }

    #[must_use]
    pub(crate) fn with_exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    #[must_use]
    pub(crate) fn with_log(mut self, log: Vec<String>) -> Self {
        self.log = log;
        self
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// For a note, where it is no failure of the whole.
    pub(crate) fn one_line(&self) -> String {
        format!("{}: {}", self.what, self.why)
    }

    pub(crate) fn exit(&self) -> u8 {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "dvx: {}: {}", harmless(&self.what), harmless(self.why.trim_end_matches('.')))?;
        for line in &self.log {
            writeln!(f, "  {line}")?;
        }
        match &self.hint {
            Some(hint) => writeln!(f, "hint: {}", harmless(hint)),
            None => Ok(()),
        }
    }
}

/// The system's text for an error: `no such file or directory`.
pub(crate) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text);
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_line_a_log_and_a_hint() {
        let error = io::Error::from_raw_os_error(2);
        let failure =
            Failure::io("cannot open x", &error).with_log(vec!["ERROR y".into()]).with_hint("make x");
        assert_eq!(
            failure.to_string(),
            "dvx: cannot open x: no such file or directory\n  ERROR y\nhint: make x\n"
        );
    }
}
