//! Who asks too often: how many requests an agent is granted, and that none is refused who has room left.

use std::collections::{BTreeMap, VecDeque};

use super::judge::expect;
use super::truth::State;
use super::*;
use crate::api::Settings;

/// The limit on requests, and those of the last second.
#[derive(Default)]
pub(super) struct Pace {
    pub(super) per_second: Option<u32>,
    /// By name, each request that may have been that agent's.
    asked: BTreeMap<&'static str, VecDeque<Monotonic>>,
    /// By user and unit, each that was let through under these settings: with others a caller may be another agent.
    granted: BTreeMap<(u32, Option<&'static str>), VecDeque<Monotonic>>,
    settings: Option<Arc<Settings>>,
}

/// All that a caller may be.
fn agents<'s>(
    known: &'s [Option<&Known>],
    caller: &'s Caller,
) -> impl Iterator<Item = (&'static str, &'s State)> {
    let states = known.iter().copied().flatten().flat_map(|known| &known.states);
    states.flat_map(move |state| {
        let is = move |(name, agent): (&&'static str, &truth::Agent)| {
            (agent.is(caller) != Some(false)).then_some((*name, &**state))
        };
        state.agents.iter().filter_map(is)
    })
}

impl Pace {
    pub(super) fn new(per_second: Option<u32>) -> Self {
        Self { per_second, ..Self::default() }
    }

    /// A request is made.
    pub(super) fn ask(&mut self, known: &[Option<&Known>], caller: &Caller, now: Monotonic) {
        let names: std::collections::BTreeSet<_> = agents(known, caller).map(|(name, _)| name).collect();
        for name in names {
            lately(self.asked.entry(name).or_default(), now).push_back(now);
        }
    }

    /// One was refused since the agent had asked too often.
    pub(super) fn refused(
        &mut self,
        known: &[Option<&Known>],
        caller: &Caller,
        now: Monotonic,
    ) -> Result<(), String> {
        let Some(limit) = self.per_second else { return Err("there is no limit".to_owned()) };
        let most = agents(known, caller)
            .map(|(name, _)| lately(self.asked.entry(name).or_default(), now).len())
            .max();
        // This one is among them.
        expect(most.is_some_and(|most| most > limit as usize), || {
            format!(
                "{caller:?} is refused after {most:?} requests within a second, where {limit} are allowed"
            )
        })
    }

    /// One was let through: at most what may come at once, and what comes back within a second.
    pub(super) fn granted(
        &mut self,
        settings: &Arc<Settings>,
        caller: &Caller,
        now: Monotonic,
    ) -> Result<(), String> {
        let Some(limit) = self.per_second else { return Ok(()) };
        if self.settings.as_ref().is_none_or(|before| !Arc::ptr_eq(before, settings)) {
            self.settings = Some(settings.clone());
            self.granted.clear();
        }
        let lately = lately(self.granted.entry((caller.uid, caller.unit)).or_default(), now);
        lately.push_back(now);
        expect(lately.len() <= 2 * limit as usize, || {
            format!("{caller:?} had {} answers within a second, where {limit} are allowed", lately.len())
        })
    }
}

/// Those of the last second.
fn lately(times: &mut VecDeque<Monotonic>, now: Monotonic) -> &mut VecDeque<Monotonic> {
    while times.front().is_some_and(|time| now.since(*time) > Duration::from_secs(1)) {
        times.pop_front();
    }
    times
}
