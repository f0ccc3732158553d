//! How many connections there may be, from each peer and in all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The limits on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionLimits {
    pub(crate) per_peer: u32,
    pub(crate) total: u32,
}

/// Who shares a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// Everybody of one user on this machine.
    Uid(u32),
    /// Everybody at one address.
    Address(IpAddr),
}

/// Counts open connections. The map holds only peers that have one, so it is as bounded as they are.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Mutex<State>>);

struct State {
    limits: ConnectionLimits,
    total: u32,
    by_peer: HashMap<Key, u32>,
}

/// One open connection; it is counted until this is dropped.
pub(crate) struct Admission {
    gate: Gate,
    key: Key,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// That of the one peer.
    Peer,
    /// That of all together.
    All,
}

impl Gate {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self(Arc::new(Mutex::new(State { limits, total: 0, by_peer: HashMap::new() })))
    }

    /// Lets a connection of this peer in.
    pub(crate) fn admit(&self, key: Key) -> Result<Admission, Full> {
        let mut state = self.state();
        if state.total >= state.limits.total {
            return Err(Full::All);
        }
        let limit = state.limits.per_peer;
        let count = state.by_peer.entry(key).or_default();
        if *count >= limit {
            return Err(Full::Peer);
        }
        *count += 1;
        state.total += 1;
        Ok(Admission { gate: self.clone(), key })
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> u32 {
        self.state().total
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.total = state.total.saturating_sub(1);
        if let Some(count) = state.by_peer.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.by_peer.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_at_its_limit_leaves_the_others_in() {
        let gate = Gate::new(ConnectionLimits { per_peer: 2, total: 4 });
        let held: Vec<_> = (0..2).map(|_| gate.admit(Key::Uid(1)).ok()).collect();
        assert_eq!(gate.admit(Key::Uid(1)).err(), Some(Full::Peer));
        let other = gate.admit(Key::Uid(2)).ok();
        assert!(other.is_some());
        drop(held);
        assert!(gate.admit(Key::Uid(1)).is_ok());
    }

    #[test]
    fn the_total_is_a_limit_of_its_own_and_the_map_shrinks() {
        let gate = Gate::new(ConnectionLimits { per_peer: 2, total: 2 });
        let held = (gate.admit(Key::Uid(1)), gate.admit(Key::Address([127, 0, 0, 1].into())));
        assert_eq!(gate.admit(Key::Uid(3)).err(), Some(Full::All));
        drop(held);
        assert_eq!(gate.open(), 0);
        assert!(gate.state().by_peer.is_empty());
    }
}
