//! What was decided, one JSON object a line, each line chained to the one before by its SHA-256.
//!
//! A line is written before the secret that it is about leaves; where it cannot be written nothing is served.
//! Requests that come together have their lines written together.
//! `prev` of a line is the hash of the line before, so that nothing can be changed, taken out or put in without
//! [`verify`] seeing it. Two things it cannot see: that lines are missing at the very end, and a change of the
//! last line, since nothing follows that vouches for it. Lines that have been copied elsewhere do.

mod feed;
mod file;
mod group;
mod line;
mod tail;
pub(crate) mod verify;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dvx_proto::agent::Transport;
use dvx_proto::{EnclaveName, Fingerprint};
use jiff::Timestamp;
use thiserror::Error;

pub(crate) use self::feed::{Batch, Feed, Known, Most, Reader};
pub(crate) use self::group::{Entry, Unwritten};
use crate::causes::causes;
use crate::config::AuditSink;
use file::LogFile;
use group::{Group, Round};
use line::Chain;

/// A decision.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event<'a> {
    pub(crate) time: Timestamp,
    pub(crate) agent: Option<&'a str>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) pid: Option<u32>,
    pub(crate) cgroup: Option<&'a str>,
    pub(crate) transport: Transport,
    pub(crate) action: Action,
    /// The provider or the secret that was asked for.
    pub(crate) subject: Option<&'a str>,
    pub(crate) decision: Verdict,
    pub(crate) reason: Option<&'a str>,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) revision: Option<u64>,
    pub(crate) request_id: &'a str,
}

/// What a caller asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    CredentialList,
    CredentialGet,
    CredentialGit,
    CredentialRoute,
    CredentialRejected,
    SecretList,
    SecretGet,
    TokenIssue,
    Whoami,
    Unknown,
}

impl Action {
    /// Every action, in the order of their numbers.
    pub(crate) const ALL: [Self; 10] = [
        Self::CredentialList,
        Self::CredentialGet,
        Self::CredentialGit,
        Self::CredentialRoute,
        Self::CredentialRejected,
        Self::SecretList,
        Self::SecretGet,
        Self::TokenIssue,
        Self::Whoami,
        Self::Unknown,
    ];

    /// The name in the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::CredentialList => "credential.list",
            Self::CredentialGet => "credential.get",
            Self::CredentialGit => "credential.git",
            Self::CredentialRoute => "credential.route",
            Self::CredentialRejected => "credential.rejected",
            Self::SecretList => "secret.list",
            Self::SecretGet => "secret.get",
            Self::TokenIssue => "token.issue",
            Self::Whoami => "whoami",
            Self::Unknown => "unknown",
        }
    }
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Served,
    Denied,
    Expired,
    Limited,
    Unavailable,
}

impl Verdict {
    /// Every verdict, in the order of their numbers.
    pub(crate) const ALL: [Self; 5] =
        [Self::Served, Self::Denied, Self::Expired, Self::Limited, Self::Unavailable];

    /// The name in the log.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Limited => "limited",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why a decision cannot be recorded.
#[derive(Debug, Error)]
pub(crate) enum AuditError {
    #[error("cannot {action} the audit file {}", .path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the audit file {} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    #[error("the audit file {} belongs to uid {owner}; expected the user that the broker runs as", .path.display())]
    Owner { path: PathBuf, owner: u32 },
    #[error("the audit file {} is open to other users (mode {mode:04o}); expected 0600: chmod go-rwx", .path.display())]
    Mode { path: PathBuf, mode: u32 },
    #[error("the audit file {} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("the last line of the audit file {} is not an audit line; move the file away", .0.display())]
    NotALog(PathBuf),
    #[error("the new audit file {} does not go on from the old one; move it away", .0.display())]
    NotOurs(PathBuf),
    #[error("cannot write to the audit file {}: there is not enough room", .0.display())]
    Full(PathBuf),
    #[error("cannot write audit lines to stderr")]
    Stderr(#[source] io::Error),
}

/// Lines wait for each other up to this much: some hundred.
const MOST_BYTES: usize = 32 * 1024;

/// The audit log.
pub(crate) struct Audit {
    /// Held for one write, never across an await.
    state: Mutex<State>,
}

struct State {
    sink: Sink,
    chain: Chain,
    round: Round,
    /// Of the lines that wait.
    group: Option<Group>,
    /// Why the last lines could not be written.
    failure: Option<String>,
    /// Who copies the lines, if anybody does.
    feed: Option<Arc<Feed>>,
}

enum Sink {
    File(LogFile),
    Stderr,
}

impl Audit {
    /// Opens the log and finds the end of its chain. A chain on stderr starts anew.
    pub(crate) fn open(sink: &AuditSink, enclave: &EnclaveName) -> Result<Self, AuditError> {
        let mut chain = Chain::new(enclave);
        let sink = match sink {
            AuditSink::Stderr => Sink::Stderr,
            AuditSink::File(path) => {
                let (file, end) = LogFile::open(path, enclave)?;
                if let Some(end) = end {
                    chain.resume(&end);
                }
                Sink::File(file)
            }
        };
        Ok(Self {
            state: Mutex::new(State {
                sink,
                chain,
                round: Round::default(),
                group: None,
                failure: None,
                feed: None,
            }),
        })
    }

    /// Tells of every line from now on.
    pub(crate) fn feed(&self) -> Arc<Feed> {
        let State { sink, chain, feed, .. } = &mut *self.state();
        let new = || match sink {
            Sink::File(file) => Feed::of_file(file.path(), chain.enclave()),
            Sink::Stderr => Feed::in_memory(),
        };
        Arc::clone(feed.get_or_insert_with(new))
    }

    /// Writes one line at once, with those that wait. After an error nothing may be served; the chain is as if the
    /// event had not been.
    pub(crate) fn record(&self, event: &Event<'_>) -> Result<(), Unwritten> {
        let state = &mut *self.state();
        state.chain.add(event);
        state.write()
    }

    /// Takes a line. Nothing may be served before it is [`settled`](Self::settled).
    pub(crate) fn enter(&self, event: &Event<'_>) -> Entry {
        let state = &mut *self.state();
        state.chain.add(event);
        state.round.count();
        // stderr takes one line at a time: it cannot be taken back.
        let waits = state.round.is_crowded()
            && matches!(state.sink, Sink::File(_))
            && state.chain.lines().len() < MOST_BYTES;
        if waits {
            Entry::Waiting(state.group.get_or_insert_default().clone())
        } else {
            Entry::Settled(state.write())
        }
    }

    /// Until the line is in the log. After an error nothing may be served; the chain is as if the events of all lines
    /// that were to be written with it had not been.
    pub(crate) async fn settled(&self, entry: Entry) -> Result<(), Unwritten> {
        let group = match entry {
            Entry::Settled(outcome) => return outcome,
            Entry::Waiting(group) => group,
        };
        group::after_those_that_are_ready().await;
        let state = &mut *self.state();
        group.outcome().unwrap_or_else(|| state.write())
    }

    /// Is told when the serving thread has nothing left to do. Lines that still wait are of requests whose client went
    /// away before they were settled.
    pub(crate) fn pause(&self) {
        let state = &mut *self.state();
        state.round.end();
        if !state.chain.lines().is_empty() {
            let _nobody_waits: Result<(), Unwritten> = state.write();
        }
    }

    /// Goes on in the file that has the configured name now, after a rotation by renaming. On an error the
    /// lines keep going where they went.
    pub(crate) fn reopen(&self) -> Result<(), AuditError> {
        self.state().reopen()
    }

    /// Where lines go: a path, or `stderr`.
    pub(crate) fn sink(&self) -> String {
        match &self.state().sink {
            Sink::File(file) => file.path().display().to_string(),
            Sink::Stderr => "stderr".to_owned(),
        }
    }

    /// Why nothing can be recorded, where that is so. A file that was deleted is made anew first.
    pub(crate) fn health(&self) -> Option<String> {
        let state = &mut *self.state();
        if let Sink::File(file) = &state.sink
            && file.is_deleted()
            && let Err(error) = state.reopen()
        {
            return Some(causes(&error));
        }
        state.failure.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics, and the chain moves on in one step after lines were written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Writes the lines that there are.
    fn write(&mut self) -> Result<(), Unwritten> {
        let lines = self.chain.lines();
        let written = match &mut self.sink {
            Sink::File(file) => file.append(lines),
            Sink::Stderr => io::Write::write_all(&mut io::stderr().lock(), lines).map_err(AuditError::Stderr),
        };
        let outcome = match written {
            Ok(()) => {
                if let Some(feed) = &self.feed {
                    feed.written(&self.chain);
                }
                self.chain.written();
                self.failure = None;
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "audit lines not written");
                self.chain.take_back();
                self.failure = Some(causes(&error));
                Err(Unwritten)
            }
        };
        if let Some(group) = self.group.take() {
            group.settle(outcome);
        }
        outcome
    }

    fn reopen(&mut self) -> Result<(), AuditError> {
        if !self.chain.lines().is_empty() {
            // They belong before what comes next. Who waits for them is told what became of them.
            let _outcome: Result<(), Unwritten> = self.write();
        }
        match &mut self.sink {
            Sink::File(file) => file.reopen(self.chain.head()),
            Sink::Stderr => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
