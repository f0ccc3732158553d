//! Compares what the broker does with what it may do.

use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use dvx_memory::Arena;
use dvx_proto::agent::AgentState;

use super::broker::{Broker, poll};
use super::callers::{CALLERS, Caller};
use super::plane::{Plane, Told};
use super::truth::{Outcome, Question, State, grant};
use crate::api::{Answer, Settings};
use crate::clock::{Monotonic, Now};
use crate::keyring::View;
use http_body_util::BodyExt;

/// What the broker has been told, and when that was confirmed last.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) revision: u64,
    /// The states of which something may be in force: one, unless the database changed while it was read.
    pub(super) states: Vec<Rc<State>>,
    /// The newest state of which something is.
    pub(super) read: u64,
    pub(super) confirmed: Monotonic,
    /// States of which something may be in force that the database does not remember.
    lost: Vec<Rc<State>>,
    /// What the first of the states takes up.
    footprint: usize,
}

/// An answer, taken apart.
pub(super) struct Got {
    pub(super) outcome: Outcome,
    revision: Option<u64>,
    age: Option<u64>,
    /// The body, still where it is.
    pub(super) body: Bytes,
}

impl Known {
    /// After a commit.
    pub(super) fn after(before: Option<&Self>, told: &Told, now: Monotonic) -> Self {
        let before = before.filter(|_| !told.whole);
        let read = before.map_or(0, |before| before.read).max(told.read).max(told.revision);
        let lost = before.map_or_else(Vec::new, |before| before.lost.clone());
        let mut states = told.database.states(told.revision, read).to_vec();
        states.extend(lost.iter().cloned());
        let footprint = states.first().map_or(0, |state| state.footprint());
        Self { revision: told.revision, states, read, confirmed: now, lost, footprint }
    }

    /// A database was put back that is as new as what is in force, and older than some of what was read for it.
    pub(super) fn put_back(&mut self, revision: u64) {
        if self.revision <= revision && self.read > revision {
            self.lost = self.states.clone();
            self.read = revision;
        }
    }

    fn is_exact(&self) -> bool {
        self.states.len() == 1
    }
}

impl Got {
    pub(super) fn new(question: Question, answer: Answer) -> Self {
        let field =
            |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().parse().unwrap());
        let (revision, age, status) = (field("dvx-revision"), field("dvx-age"), answer.status());
        let body = match poll(&mut answer.into_body().frame()) {
            Some(Some(Ok(frame))) => frame.into_data().unwrap(),
            _ => Bytes::new(),
        };
        let text = std::str::from_utf8(&body).unwrap().to_owned();
        let member = |name: &str| {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            value[name].as_str().unwrap().to_owned()
        };
        let outcome = match question {
            _ if !status.is_success() => {
                Outcome::Refused(member("type").trim_start_matches("urn:dvx:problem:").to_owned())
            }
            Question::Whoami => Outcome::Body(member("agent")),
            _ => Outcome::Body(text),
        };
        Self { outcome, revision, age, body }
    }

    /// The number of the value in the answer, if there is one.
    pub(super) fn number(&self, question: Question) -> Option<u64> {
        let Outcome::Body(body) = &self.outcome else { return None };
        if !matches!(question, Question::Credential(_) | Question::Secret(_) | Question::Git(_)) {
            return None;
        }
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        let text = ["token", "value", "password"].iter().find_map(|member| value[member].as_str())?;
        let digits = text.trim_start_matches(|letter: char| !letter.is_ascii_digit());
        digits.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
    }
}

/// Whether one of these may have led to the answer.
pub(super) fn answer(
    known: &[Option<&Known>],
    plane: &Plane,
    caller: &Caller,
    question: Question,
    got: &Got,
    now: Now,
    max_stale: Duration,
) -> Result<(), String> {
    let verdicts = known.iter().map(|known| match known {
        None => expect(got.outcome == Outcome::Refused("upstream-unavailable".to_owned()), || {
            "served before anything was told".to_owned()
        }),
        Some(known) => of(known, caller, question, got, now, max_stale),
    });
    let verdicts: Vec<_> = verdicts.collect();
    // In the middle of a change of rules the callers that it concerns are nobody.
    let in_between = known.len() > 1 && got.outcome == Outcome::Refused("peer-unknown".to_owned());
    if !in_between && verdicts.iter().all(Result::is_err) {
        let why: Vec<_> = verdicts.into_iter().filter_map(Result::err).collect();
        let why = why.join("; before that: ");
        return Err(format!("{caller:?} asks {question:?} and gets {:?}: {why}", got.outcome));
    }
    let is_lost = known.iter().flatten().any(|known| !known.lost.is_empty());
    let Some(number) = got.number(question).filter(|_| plane.promised > 0 && !is_lost) else {
        return Ok(());
    };
    let database = &plane.database;
    let states = database.states(plane.promised, database.revision());
    expect(grant(states, caller, number), || {
        let promised = plane.promised;
        format!("{caller:?} gets value {number}, though an operator was told that {promised} is in force")
    })
}

fn of(
    known: &Known,
    caller: &Caller,
    question: Question,
    got: &Got,
    now: Now,
    max_stale: Duration,
) -> Result<(), String> {
    let age = now.mono.since(known.confirmed);
    let fresh = age <= max_stale;
    if let Outcome::Body(_) = &got.outcome
        && !matches!(question, Question::Whoami)
    {
        expect(fresh, || format!("served at an age of {age:?}"))?;
        let source = (got.revision, got.age);
        let expected = (Some(known.revision), Some(age.as_secs()));
        expect(source == expected, || format!("revision and age are {source:?}, not {expected:?}"))?;
    }
    let allowed = |state: &Rc<State>| state.outcomes(caller, question, fresh, now.wall);
    if known.states.iter().any(|state| allowed(state).contains(&got.outcome)) {
        return Ok(());
    }
    // Of a mixture only this can be said, and of one with what the database has lost not even that.
    let granted = !known.lost.is_empty()
        || got.number(question).is_none_or(|number| grant(&known.states, caller, number));
    let mixed = !known.is_exact() && granted;
    expect(mixed, || format!("at revision {} it is {:?}", known.revision, allowed(&known.states[0])))
}

/// What was in force at some time, without holding on to it.
#[derive(Default)]
pub(super) struct Seen(Option<(Weak<View>, Weak<Settings>, Option<u64>)>);

impl Seen {
    /// Whether it is another than the last time, or another is told to be.
    pub(super) fn is_news(&mut self, broker: &Broker, known: Option<&Known>) -> bool {
        let (view, settings) = (broker.keyring.load(), broker.settings.load_full());
        let (view, settings) = (Arc::downgrade(&view), Arc::downgrade(&settings));
        let read = known.map(|known| known.read);
        let same = self.0.as_ref().is_some_and(|(seen_view, seen_settings, seen_read)| {
            seen_view.ptr_eq(&view) && seen_settings.ptr_eq(&settings) && *seen_read == read
        });
        self.0 = Some((view, settings, read));
        !same
    }
}

/// Whether all that could be asked for is what was told.
pub(super) fn everything(broker: &Broker, known: Option<&Known>) -> Result<(), String> {
    let view = broker.keyring.load();
    let Some(known) = known else {
        return expect(view.snapshot.agents.is_empty(), || {
            "something is in force that nobody told".to_owned()
        });
    };
    let (found, revision) = (view.snapshot.revision, known.revision);
    expect(found == revision, || format!("revision {found} is in force, not {revision}"))?;
    let Some(state) = known.states.first().filter(|_| known.is_exact()) else { return Ok(()) };
    let mut expected: Vec<_> =
        state.agents.iter().flat_map(|(name, agent)| listed(state, name, agent)).collect();
    let mut found: Vec<String> = Vec::new();
    for (name, entry) in &view.snapshot.agents {
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        let mut add = |what: &str, body: &[u8]| found.push(format!("{name} {what} {}", text(body)));
        add(entry.state.as_str(), b"");
        for (provider, credential) in &entry.credentials {
            add(provider.as_str(), credential.body.expose_secret());
        }
        for (secret, value) in &entry.secrets {
            add(secret.as_str(), value.body.expose_secret());
        }
    }
    expected.sort_unstable();
    found.sort_unstable();
    expect(found == expected, || {
        let only = |one: &[String], other: &[String]| {
            one.iter().filter(|line| !other.contains(line)).cloned().collect::<Vec<_>>()
        };
        let (found, expected) = (only(&found, &expected), only(&expected, &found));
        format!("at revision {revision} {found:#?} is in force instead of {expected:#?}")
    })
}

fn listed(state: &State, name: &str, agent: &super::truth::Agent) -> Vec<String> {
    let mut all = vec![format!("{name} {} ", agent.state.as_str())];
    if agent.state == AgentState::Active {
        let credentials =
            state.credentials(agent).map(|(provider, it)| format!("{name} {provider} {}", it.token_body()));
        let secrets =
            state.secrets(agent).map(|(secret, it)| format!("{name} {secret} {}", it.secret_body(secret)));
        all.extend(credentials.chain(secrets));
    }
    all
}

/// Whether the callers are who they were told to be.
pub(super) fn rules(broker: &Broker, known: Option<&Known>) -> Result<(), String> {
    let rules = broker.settings.load().rules.clone();
    for caller in &CALLERS {
        let peer = caller.peer();
        let Ok(rule) = rules.agent_for(peer.identity.as_ref().unwrap()) else { continue };
        let is = |state: &Rc<State>| {
            state.agents.get(rule.name.as_str()).is_some_and(|agent| agent.is(caller) != Some(false))
        };
        let told = known.is_some_and(|known| known.states.iter().any(is));
        expect(told, || format!("{caller:?} passes for {}", rule.name))?;
    }
    Ok(())
}

/// Whether protected memory holds what it must and nothing else, and what is free of it is blank.
pub(super) fn memory(arena: &Arena, known: Option<&Known>) -> Result<(), String> {
    let expected = known.map_or(0, |known| known.footprint);
    if known.is_none_or(Known::is_exact) {
        let used = arena.usage().used_bytes;
        expect(used == expected, || format!("{used} bytes of protected memory are in use, not {expected}"))?;
    }
    blank(arena)
}

/// Whether what is free is blank.
pub(super) fn blank(arena: &Arena) -> Result<(), String> {
    let free: Vec<_> = (0..4).map(|_| arena.allocate(2048).unwrap()).collect();
    let blank = free.iter().all(|slot| slot.expose_secret().iter().all(|byte| *byte == 0));
    expect(blank, || "something was left in memory that was given back".to_owned())
}

pub(super) fn expect(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
