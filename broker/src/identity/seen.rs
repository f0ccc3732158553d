//! Tokens that need no more arithmetic.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use dvx_proto::AgentName;

use super::Verified;

/// The latest tokens of each agent, by the SHA-256 of their text. None outlives its own end: times are
/// compared whenever it is used.
#[derive(Default)]
pub(super) struct Seen {
    tokens: HashMap<[u8; 32], Arc<Verified>>,
    by_agent: HashMap<AgentName, VecDeque<[u8; 32]>>,
    /// What each user's agents made us calculate in the second that is named.
    calculated: HashMap<u32, (u64, u32)>,
}

/// An agent uses one or two at a time. One that asks for many pushes out its own only.
pub(super) const PER_AGENT: usize = 32;

/// A signature takes a hundred times as long as anything else that an agent can ask for. Agents use a new token
/// every few minutes, so this is generous, and yet a hundredth of our time.
pub(super) const CALCULATIONS_PER_SECOND: u32 = 64;

impl Seen {
    /// Whether another signature may be made or checked for an agent of this user in this second.
    pub(super) fn may_calculate(&mut self, uid: u32, second: u64) -> bool {
        let (of, count) = self.calculated.entry(uid).or_insert((second, 0));
        if *of != second {
            (*of, *count) = (second, 0);
        }
        *count = count.saturating_add(1);
        *count <= CALCULATIONS_PER_SECOND
    }

    pub(super) fn get(&self, digest: &[u8; 32]) -> Option<Arc<Verified>> {
        self.tokens.get(digest).cloned()
    }

    pub(super) fn remember(&mut self, digest: [u8; 32], verified: Arc<Verified>) {
        let agent = verified.agent.clone();
        if self.tokens.insert(digest, verified).is_some() {
            return;
        }
        let latest = self.by_agent.entry(agent).or_default();
        latest.push_back(digest);
        if latest.len() > PER_AGENT
            && let Some(oldest) = latest.pop_front()
        {
            self.tokens.remove(&oldest);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }
}
