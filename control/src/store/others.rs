//! Which other replicas are dead.
//!
//! No two clocks are compared, nor one clock before and after it was set: a replica is dead whose heartbeat stood
//! still while we looked at it, second after second. While the database does not answer, nobody looks, and nobody
//! is dead because of that.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many looks without a heartbeat.
const SILENT: u32 = 5;
/// Heartbeats are a second apart; what is looked at more often is no more silent for it.
const APART: Duration = Duration::from_millis(900);

/// What this process has seen of the others.
#[derive(Default)]
pub(super) struct Others(Mutex<Seen>);

#[derive(Default)]
struct Seen {
    looked: Option<Instant>,
    /// The last heartbeat of each, and how often it was the same.
    heartbeats: HashMap<String, (i64, u32)>,
}

impl Others {
    /// Looks at the last heartbeats of all others.
    pub(super) fn look(&self, heartbeats: Vec<(String, i64)>, now: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked.is_some_and(|looked| now.saturating_duration_since(looked) < APART) {
            return;
        }
        seen.looked = Some(now);
        let before = std::mem::take(&mut seen.heartbeats);
        seen.heartbeats = heartbeats
            .into_iter()
            .map(|(id, at)| match before.get(&id) {
                Some((last, silent)) if *last == at => (id, (at, silent.saturating_add(1))),
                _ => (id, (at, 0)),
            })
            .collect();
    }

    /// The ids of the dead, in one text.
    pub(super) fn dead(&self) -> String {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let dead = seen.heartbeats.iter().filter(|(_, (_, silent))| *silent >= SILENT);
        dead.map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn after(looks: impl IntoIterator<Item = (u64, Vec<(&'static str, i64)>)>) -> String {
        let (others, begin) = (Others::default(), clock::monotonic());
        for (second, heartbeats) in looks {
            let heartbeats = heartbeats.into_iter().map(|(id, at)| (id.to_owned(), at)).collect();
            others.look(heartbeats, begin + Duration::from_secs(second));
        }
        others.dead()
    }

    #[test]
    fn whoever_says_nothing_for_five_looks_is_dead() {
        assert_eq!(after((0..5).map(|second| (second, vec![("a", 7)]))), "");
        assert_eq!(after((0..6).map(|second| (second, vec![("a", 7), ("b", second as i64)]))), "a");
    }

    #[test]
    fn a_clock_that_jumps_kills_nobody() {
        let clocks = [9, 8, 1_000_000, 3, 2, 1];
        assert_eq!(after((0..).zip(clocks.map(|at| vec![("a", at)]))), "");
    }

    #[test]
    fn looks_that_come_at_once_count_once_and_a_pause_kills_nobody() {
        assert_eq!(after((0..20).map(|_| (3, vec![("a", 7)]))), "");
        assert_eq!(after([(0, vec![("a", 7)]), (600, vec![("a", 7)])]), "");
    }

    #[test]
    fn whoever_comes_back_is_alive() {
        let silent = (0..10).map(|second| (second, vec![("a", 7)]));
        assert_eq!(after(silent.chain([(10, vec![("a", 8)])])), "");
    }
}
