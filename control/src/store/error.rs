//! What can go wrong, by whose fault.

use std::fmt;

use dvx_memory::MemoryError;
use dvx_proto::{AgentName, Code, Problem};
use thiserror::Error;

use crate::crypto::KekId;
use crate::domain::{InvalidSelector, OperationId};

/// Why something was not done.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The caller named something that is not there.
    #[error("there is no such {0}")]
    NotFound(Object),
    /// The caller asked for something that does not go with what is there.
    #[error("{0}")]
    Conflict(Conflict),
    /// The caller gave a selector that is none.
    #[error("{0}")]
    Selector(InvalidSelector),
    /// The configuration: not a database.
    #[error("not the URL of a database; expected sqlite:///PATH or postgres://…")]
    Url,
    /// The configuration: what others could replace.
    #[error("{path}: {why}")]
    Place {
        /// The directory or file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is a database, but `init` has not been run.
    #[error("the database is empty; run dvx-control init")]
    NotInitialised,
    /// The KEK is not the one that the values are encrypted with.
    #[error("the KEK ({given}) is not the one of this database ({expected})")]
    KekWrong {
        /// The one in the file.
        given: KekId,
        /// The one in force.
        expected: KekId,
    },
    /// The KEK was replaced, and values are encrypted with another one by now.
    #[error("the KEK {given} was replaced by {current}; install the new key file")]
    KekReplaced {
        /// The one that we have.
        given: KekId,
        /// The one in force.
        current: KekId,
    },
    /// Another rekey to another key is under way.
    #[error("a rekey to another key ({0}) is under way; repeat it with that key")]
    RekeyUnderWay(KekId),
    /// Some replicas have not taken over the next KEK.
    #[error("{0} running replicas have not taken over the new key; repeat the rekey")]
    ReplicasBehind(u64),
    /// The KEK is replaced, but the database's files still hold what was encrypted under the old one.
    #[error("the new key is in force, but traces of the old one are still being read; repeat the rekey")]
    StillRead,
    /// The schema is newer than this program.
    #[error(
        "the database has schema {found}, which this version cannot use (it knows {known}); upgrade dvx-control"
    )]
    SchemaTooNew {
        /// The newest migration that is there.
        found: i64,
        /// The newest migration that this program has.
        known: i64,
    },
    /// A key cannot be kept.
    #[error("memory for keys")]
    Memory(#[from] MemoryError),
    /// Ours, or that of whoever edited the database.
    #[error("the database has something that cannot be: {0}")]
    Corrupt(&'static str),
    /// The database does not answer, or not as it should.
    #[error("the database failed")]
    Unavailable(#[source] sqlx::Error),
}

/// What a caller can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// An organisation.
    Organisation,
    /// An operator.
    Operator,
    /// An enclave.
    Enclave,
    /// An agent.
    Agent,
    /// A secret.
    Secret,
    /// A credential provider.
    CredentialProvider,
}

/// What is in the way.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Conflict {
    /// The name.
    #[error("there is another {0} of this name")]
    Taken(Object),
    /// An agent of the same enclave that matches the same peers.
    #[error(
        "agent {0} of this enclave matches the same user; give each a unit or a cgroup that the other's excludes"
    )]
    Overlap(AgentName),
    /// Nobody could administer the organisation any more.
    #[error("this is the last admin of the organisation")]
    LastAdmin,
    /// Only `reprovision` brings a revoked agent back.
    #[error("the agent is revoked; reprovision it")]
    Revoked,
    /// The idempotency key came with another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// An agent has a token that was linked.
    #[error("the agent is already linked; unlink it first")]
    Linked,
    /// Only what we made can be replaced by us.
    #[error("the token was not made by a credential provider, so it cannot be replaced by one")]
    NotMinted,
    /// Agents have identities from it.
    #[error("agents use this credential provider: {}", names(.0))]
    ProviderUsed(Vec<AgentName>),
    /// Not all of what it made is gone.
    #[error("{} still to be removed at the provider", owed(*.0))]
    ProviderOwes(u64),
    /// An operation on the same agent runs.
    #[error("operation {0} on the same agent is under way")]
    UnderWay(OperationId),
    /// `init` again.
    #[error("the organisation is already initialised")]
    AlreadyInitialised,
}

impl Conflict {
    /// What whoever asked is told.
    pub(crate) fn problem(&self) -> Problem {
        let code = match self {
            Self::KeyReused => Code::IdempotencyMismatch,
            _ => Code::Conflict,
        };
        let problem = Problem::new(code, self.to_string());
        match self.hint() {
            Some(hint) => problem.with_hint(hint),
            None => problem,
        }
    }

    /// What to do.
    const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::KeyReused => Some("make a new key for each new request"),
            Self::Linked => Some("dvx agent integration PROVIDER unlink AGENT does that"),
            Self::ProviderUsed(_) => Some("unlink these agents first"),
            Self::ProviderOwes(_) => {
                Some("that is tried again and again; dvx credential-provider debts says what is in the way")
            }
            _ => None,
        }
    }
}

fn owed(count: u64) -> String {
    match count {
        1 => "1 thing that it made is".to_owned(),
        count => format!("{count} things that it made are"),
    }
}

fn names(agents: &[AgentName]) -> String {
    agents.iter().map(AgentName::as_str).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Organisation => "organisation",
            Self::Operator => "operator",
            Self::Enclave => "enclave",
            Self::Agent => "agent",
            Self::Secret => "secret",
            Self::CredentialProvider => "credential provider",
        })
    }
}

impl StoreError {
    /// Whether the same again may succeed: another transaction was in the way.
    pub fn is_transient(&self) -> bool {
        let Self::Unavailable(sqlx::Error::Database(error)) = self else { return false };
        // PostgreSQL: serialization_failure, deadlock_detected, lock_not_available. SQLite: SQLITE_BUSY and its
        // extensions.
        matches!(error.code().as_deref(), Some("40001" | "40P01" | "55P03" | "5" | "261" | "517"))
    }

    /// Whether it is the operator's of this installation to put right, at the start.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Url
                | Self::Place { .. }
                | Self::NotInitialised
                | Self::KekWrong { .. }
                | Self::KekReplaced { .. }
                | Self::SchemaTooNew { .. }
        )
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(error)
    }
}

impl From<Conflict> for StoreError {
    fn from(conflict: Conflict) -> Self {
        Self::Conflict(conflict)
    }
}

impl From<InvalidSelector> for StoreError {
    fn from(invalid: InvalidSelector) -> Self {
        Self::Selector(invalid)
    }
}

/// Turns a violated uniqueness into what it means here.
pub(super) fn taken(object: Object) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| match &error {
        sqlx::Error::Database(inner) if inner.is_unique_violation() => Conflict::Taken(object).into(),
        _ => error.into(),
    }
}
