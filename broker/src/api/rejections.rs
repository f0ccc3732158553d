//! Tokens that their provider is said to have refused, and who waits for newer ones.
//!
//! A report is a hint, never a proof: it leads to one look at the upstream and, for the next caller of the
//! git helper, to one bounded wait.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dvx_proto::limits::{REFRESH_WAIT, REFRESH_WAIT_PAUSE};
use dvx_proto::{AgentName, Fingerprint, ProviderName};

use crate::clock::Monotonic;

/// How long one look at the upstream stands for all reports of the same token.
const RECHECK_PAUSE: Duration = Duration::from_secs(1);

/// The latest report for each credential; as bounded as the credentials are, because only a token that is
/// held now is ever reported.
#[derive(Default)]
pub(crate) struct Rejections(Mutex<HashMap<(AgentName, ProviderName), Report>>);

struct Report {
    fingerprint: Fingerprint,
    /// When the upstream was last asked to look again.
    rechecked_at: Monotonic,
    /// Until when callers wait for a newer token; set by the first that does.
    wait_until: Option<Monotonic>,
}

impl Rejections {
    /// Takes a report about the token that is held now. True if the upstream is to be asked: once, however
    /// many report.
    pub(crate) fn report(
        &self,
        agent: &AgentName,
        provider: &ProviderName,
        fingerprint: Fingerprint,
        now: Monotonic,
    ) -> bool {
        let fresh = Report { fingerprint, rechecked_at: now, wait_until: None };
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match reports.get_mut(&(agent.clone(), provider.clone())) {
            Some(known) if known.fingerprint == fingerprint => {
                let pause_is_over = known.wait_until.is_some_and(|until| now > until + REFRESH_WAIT_PAUSE);
                if pause_is_over {
                    known.wait_until = None;
                }
                let again = now.since(known.rechecked_at) >= RECHECK_PAUSE;
                if again {
                    known.rechecked_at = now;
                }
                again
            }
            Some(other) => {
                *other = fresh;
                true
            }
            None => {
                reports.insert((agent.clone(), provider.clone()), fresh);
                true
            }
        }
    }

    /// The upstream says that the token is good after all: nobody waits for another one.
    pub(crate) fn settle(
        &self,
        agent: &AgentName,
        provider: &ProviderName,
        fingerprint: Fingerprint,
        now: Monotonic,
    ) {
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(report) = reports.get_mut(&(agent.clone(), provider.clone()))
            && report.fingerprint == fingerprint
        {
            report.wait_until = Some(now);
        }
    }

    /// Until when an answer with this token is to be held back for a newer one, if at all. All who ask about
    /// one token wait until the same moment, and once it has passed nobody waits for that token until it is
    /// reported again a minute later.
    pub(crate) fn wait_until(
        &self,
        agent: &AgentName,
        provider: &ProviderName,
        held: Fingerprint,
        now: Monotonic,
    ) -> Option<Monotonic> {
        let mut reports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let report = reports.get_mut(&(agent.clone(), provider.clone()))?;
        if report.fingerprint != held {
            return None;
        }
        let until = *report.wait_until.get_or_insert(now + REFRESH_WAIT);
        (now < until).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> (AgentName, ProviderName) {
        ("a".parse().unwrap(), "gitlab".parse().unwrap())
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::since_boot(Duration::from_secs(seconds))
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Report,
        Ask,
        Settle,
        Rotate,
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn there_is_one_look_a_second_and_one_wait_a_minute(
            steps in prop::collection::vec((0_u64..25_000, prop::sample::select(vec![
                Step::Report, Step::Report, Step::Ask, Step::Ask, Step::Settle, Step::Rotate,
            ])), 1..80)
        ) {
            let ((agent, provider), rejections) = (names(), Rejections::default());
            let (mut now, mut token) = (at(100), 0_u64);
            let (mut looked, mut reported, mut waited): (Option<Monotonic>, bool, Option<Monotonic>) = (None, false, None);
            for (milliseconds, step) in steps {
                now = now + Duration::from_millis(milliseconds);
                let held = Fingerprint::of(&token.to_be_bytes());
                match step {
                    Step::Rotate => {
                        token += 1;
                        (looked, reported, waited) = (None, false, None);
                    }
                    Step::Settle => {
                        rejections.settle(&agent, &provider, held, now);
                        waited = reported.then_some(now);
                    }
                    Step::Report => {
                        let due = looked.is_none_or(|last| now.since(last) >= RECHECK_PAUSE);
                        prop_assert_eq!(rejections.report(&agent, &provider, held, now), due);
                        looked = if due { Some(now) } else { looked };
                        reported = true;
                    }
                    Step::Ask => match rejections.wait_until(&agent, &provider, held, now) {
                        None => prop_assert!(!reported || waited.is_some()),
                        Some(until) => {
                            prop_assert!(reported && until > now && until.since(now) <= REFRESH_WAIT);
                            let again = waited.is_some_and(|before| before != until);
                            prop_assert!(!again || waited.is_some_and(|before| now.since(before) > REFRESH_WAIT_PAUSE));
                            waited = Some(until);
                        }
                    },
                }
            }
        }
    }

    #[test]
    fn a_thousand_reports_lead_to_one_look() {
        let (agent, provider) = names();
        let token = Fingerprint::of(b"a");
        let rejections = Rejections::default();
        let looks = (0..1000).filter(|_| rejections.report(&agent, &provider, token, at(1))).count();
        assert_eq!(looks, 1);
        assert!(rejections.report(&agent, &provider, Fingerprint::of(b"b"), at(1)));
    }

    #[test]
    fn all_who_wait_for_one_token_wait_until_the_same_moment() {
        let (agent, provider) = names();
        let token = Fingerprint::of(b"a");
        let rejections = Rejections::default();
        assert_eq!(rejections.wait_until(&agent, &provider, token, at(0)), None);
        rejections.report(&agent, &provider, token, at(1));
        assert_eq!(rejections.wait_until(&agent, &provider, token, at(5)), Some(at(15)));
        assert_eq!(rejections.wait_until(&agent, &provider, token, at(14)), Some(at(15)));
        assert_eq!(rejections.wait_until(&agent, &provider, Fingerprint::of(b"b"), at(14)), None);
    }

    #[test]
    fn nobody_waits_any_longer_once_the_token_is_known_to_be_good() {
        let (agent, provider) = names();
        let token = Fingerprint::of(b"a");
        let rejections = Rejections::default();
        rejections.report(&agent, &provider, token, at(0));
        assert_eq!(rejections.wait_until(&agent, &provider, token, at(0)), Some(at(10)));
        rejections.settle(&agent, &provider, Fingerprint::of(b"b"), at(1));
        assert_eq!(rejections.wait_until(&agent, &provider, token, at(1)), Some(at(10)));
        rejections.settle(&agent, &provider, token, at(1));
        assert_eq!(rejections.wait_until(&agent, &provider, token, at(1)), None);
        rejections.report(&agent, &provider, token, at(30));
        assert_eq!(rejections.wait_until(&agent, &provider, token, at(30)), None, "not within a minute");
    }

    #[test]
    fn a_wait_in_vain_is_not_repeated_within_a_minute() {
        let (agent, provider) = names();
        let token = Fingerprint::of(b"a");
        let rejections = Rejections::default();
        rejections.report(&agent, &provider, token, at(0));
        assert_eq!(rejections.wait_until(&agent, &provider, token, at(0)), Some(at(10)));
        rejections.report(&agent, &provider, token, at(20));
        assert_eq!(rejections.wait_until(&agent, &provider, token, at(20)), None);
        assert_eq!(rejections.wait_until(&agent, &provider, token, at(71)), None);
        rejections.report(&agent, &provider, token, at(71));
        assert_eq!(rejections.wait_until(&agent, &provider, token, at(71)), Some(at(81)));
    }
}
