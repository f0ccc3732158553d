//! How many connections there may be, for each user and in all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The limits on connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionLimits {
    pub(crate) per_uid: u32,
    pub(crate) total: u32,
}

/// Counts open connections. The map holds only users that have one, so it is as bounded as they are.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Mutex<State>>);

struct State {
    limits: ConnectionLimits,
    total: u32,
    by_user: HashMap<Option<u32>, u32>,
}

/// One open connection; it is counted until this is dropped.
pub(crate) struct Admission {
    gate: Gate,
    user: Option<u32>,
}

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// That of the caller's user.
    User,
    /// That of all who are nobody's agent.
    Strangers,
    /// That of the whole broker.
    Broker,
}

impl Gate {
    pub(crate) fn new(limits: ConnectionLimits) -> Self {
        Self(Arc::new(Mutex::new(State { limits, total: 0, by_user: HashMap::new() })))
    }

    /// Lets a connection of this user in. Whoever is nobody's agent, or could not be named, is to be counted as
    /// none: they have one user's share together, since there may be any number of them.
    pub(crate) fn admit(&self, user: Option<u32>) -> Result<Admission, Full> {
        let mut state = self.state();
        if state.total >= state.limits.total {
            return Err(Full::Broker);
        }
        let limit = state.limits.per_uid;
        let count = state.by_user.entry(user).or_default();
        if *count >= limit {
            return Err(user.map_or(Full::Strangers, |_| Full::User));
        }
        *count += 1;
        state.total += 1;
        Ok(Admission { gate: self.clone(), user })
    }

    /// Connections that are open now stay, even above a limit that became lower.
    pub(crate) fn set_limits(&self, limits: ConnectionLimits) {
        self.state().limits = limits;
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
        if let Some(count) = state.by_user.get_mut(&self.user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_at_its_limit_leaves_the_others_in() {
        let gate = Gate::new(ConnectionLimits { per_uid: 2, total: 4 });
        let held: Vec<_> = (0..2).map(|_| gate.admit(Some(1)).ok()).collect();
        assert_eq!(gate.admit(Some(1)).err(), Some(Full::User));
        let other = gate.admit(Some(2)).ok();
        assert!(other.is_some());
        drop(held);
        assert!(gate.admit(Some(1)).is_ok());
    }

    #[test]
    fn whoever_is_nobodys_agent_shares() {
        let gate = Gate::new(ConnectionLimits { per_uid: 2, total: 8 });
        let _held: Vec<_> = (0..2).map(|_| gate.admit(None).ok()).collect();
        assert_eq!(gate.admit(None).err(), Some(Full::Strangers));
        assert!(gate.admit(Some(1)).is_ok());
    }

    #[test]
    fn the_total_is_a_limit_of_its_own_and_the_map_shrinks() {
        let gate = Gate::new(ConnectionLimits { per_uid: 2, total: 2 });
        let held = (gate.admit(Some(1)), gate.admit(None));
        assert_eq!(gate.admit(Some(3)).err(), Some(Full::Broker));
        drop(held);
        assert_eq!(gate.open(), 0);
        assert!(gate.state().by_user.is_empty());
    }
}
