//! How to ask for lists, and how to ask once.

use dvx_proto::agent::AgentState;
use dvx_proto::operator::Page;
use dvx_proto::{EnclaveName, Secret};

use super::{Changed, Revision};

/// A part of a list that is sorted by name.
#[derive(Debug, Clone)]
pub struct PageRequest {
    /// Elements behind this name.
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// Which agents to list.
#[derive(Debug, Clone, Default)]
pub struct AgentFilter {
    /// Only those of this enclave.
    pub enclave: Option<EnclaveName>,
    /// Only those in this state.
    pub state: Option<AgentState>,
}

/// Makes a request one that is carried out once, however often it comes.
///
/// The answer is stored in the transaction of the change: of two that race, one waits for the other and gets its
/// answer.
pub struct Once<'a, T> {
    /// What its sender knows it by.
    pub key: &'a str,
    /// SHA-256 of method, path and body: the same key with another request is refused.
    pub request: [u8; 32],
    /// Makes the answer that is stored.
    pub render: &'a (dyn Fn(&Changed<T>) -> StoredAnswer + Send + Sync),
}

/// An answer as it goes to the caller.
#[derive(Debug)]
pub struct StoredAnswer {
    /// HTTP's.
    pub status: u16,
    /// The revision that it names.
    pub revision: Revision,
    /// The body, which may hold a token.
    pub body: Secret,
}

/// What became of a request that may have come before.
pub enum Outcome<T> {
    /// It is carried out now.
    Done(Changed<T>),
    /// It was carried out before: that was the answer.
    Repeated(StoredAnswer),
}

impl PageRequest {
    /// The whole list, so far as it fits in one page.
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// No name is empty.
    pub(crate) fn start(&self) -> &str {
        self.after.as_deref().unwrap_or_default()
    }

    /// One more than the page has shows whether there is another page.
    pub(crate) fn fetch(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    pub(crate) fn cut<T>(&self, mut items: Vec<T>, name: impl Fn(&T) -> String) -> Page<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(name);
        Page { items, next }
    }
}
