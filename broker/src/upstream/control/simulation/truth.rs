//! What operators have said: the control plane's database at each of its revisions, and what follows from that
//! for an agent that asks. Written after the contract, not after the broker.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use dvx_proto::Fingerprint;
use dvx_proto::agent::AgentState;
use jiff::Timestamp;

use super::callers::{Caller, uid_of};
use crate::simulation::Dice;

pub(super) const AGENTS: [&str; 4] = ["amber", "birch", "cedar", "dahlia"];
pub(super) const NAMES: [&str; 5] = ["KEY", "OTHER", "gitlab:token", "github:token", "forge:token"];
pub(super) const HOSTS: [&str; 3] = ["gitlab.com", "github.com", "git.example"];
const USERS: [&str; 7] = ["agent1", "agent2", "agent3", "agent5", "agent5", "1001", "late"];
const UNITS: [Option<&str>; 5] = [None, None, None, Some("a.service"), Some("b.service")];

/// The database at one revision.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) agents: BTreeMap<&'static str, Agent>,
    pub(super) organisation: Secrets,
}

#[derive(Clone)]
pub(super) struct Agent {
    /// Another one of the same name is another agent.
    pub(super) id: u64,
    pub(super) user: &'static str,
    pub(super) gid: Option<u32>,
    pub(super) unit: Option<&'static str>,
    pub(super) state: AgentState,
    pub(super) secrets: Secrets,
}

pub(super) type Secrets = BTreeMap<&'static str, Stored>;

#[derive(Clone)]
pub(super) struct Stored {
    /// No two values have the same.
    pub(super) number: u64,
    pub(super) accessible: bool,
    /// The control plane cannot read it.
    pub(super) damaged: bool,
    pub(super) host: Option<&'static str>,
    pub(super) expires: Option<Timestamp>,
}

/// What a revision is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Target {
    Agent(&'static str),
    Secret(Option<&'static str>, &'static str),
    /// Another enclave's business.
    Elsewhere,
}

/// What an agent asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    Whoami,
    Credentials,
    Credential(&'static str),
    Secrets,
    Secret(&'static str),
    Git(&'static str),
    Rejected(&'static str, Fingerprint),
}

/// What it gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    Refused(String),
    Body(String),
}

impl Stored {
    /// Of a few lengths, and every seventh with what JSON escapes, which no token may have.
    pub(super) fn text(&self) -> String {
        let filling = "x".repeat(usize::try_from(self.number % 4 * 45).unwrap());
        if self.number % 7 == 3 {
            format!("\"a\tvalue\" {}-{filling}", self.number)
        } else {
            format!("glpat-{:06}-{filling}", self.number)
        }
    }

    fn is_token(&self) -> bool {
        self.number % 7 != 3
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.text().as_bytes())
    }

    fn end(&self) -> String {
        self.expires.map_or("null".to_owned(), |end| format!("\"{end:.0}\""))
    }

    pub(super) fn token_body(&self) -> String {
        format!(r#"{{"token":"{}","expires_at":{}}}"#, self.text(), self.end())
    }

    fn git_body(&self) -> String {
        let (text, end, fingerprint) = (self.text(), self.end(), self.fingerprint());
        format!(
            r#"{{"username":"oauth2","password":"{text}","expires_at":{end},"fingerprint":"{fingerprint}"}}"#
        )
    }

    pub(super) fn secret_body(&self, name: &str) -> String {
        format!(r#"{{"name":"{name}","value":{}}}"#, serde_json::to_string(&self.text()).unwrap())
    }

    /// What the broker must keep of it in protected memory, in units of that.
    fn footprint(&self, name: &str) -> usize {
        let room = |body: String| body.len().next_multiple_of(64);
        match provider_of(name) {
            _ if self.damaged => 0,
            _ if self.accessible => room(self.secret_body(name)),
            Some(_) if self.is_token() => room(self.token_body()) + room(self.git_body()),
            Some(_) | None => 0,
        }
    }

    fn instance(&self, provider: &str) -> Option<&'static str> {
        self.host.or(match provider {
            "gitlab" => Some("gitlab.com"),
            "github" => Some("github.com"),
            _ => None,
        })
    }
}

fn provider_of(name: &str) -> Option<&str> {
    name.strip_suffix(":token")
}

impl Agent {
    pub(super) fn is_served(&self) -> bool {
        self.state == AgentState::Active
    }

    /// Whether a caller is this agent; nothing where that depends on when the user was looked up.
    pub(super) fn is(&self, caller: &Caller) -> Option<bool> {
        let selected = self.gid.is_none_or(|gid| caller.groups.contains(&gid))
            && self.unit.is_none_or(|unit| caller.unit == Some(unit));
        match uid_of(self.user) {
            Ok(uid) => Some(uid == Some(caller.uid) && selected),
            Err(uid) if uid == caller.uid && selected => None,
            Err(_) => Some(false),
        }
    }

    /// Whether some process could be both.
    fn overlaps(&self, other: &Self) -> bool {
        let uid = |agent: &Self| uid_of(agent.user).unwrap_or_else(Some);
        let apart = self.unit.zip(other.unit).is_some_and(|(unit, other)| unit != other);
        uid(self).is_some() && uid(self) == uid(other) && !apart
    }
}

impl State {
    /// What is found under a name: the agent's own wins, whatever it is.
    fn find<'s>(&'s self, agent: &'s Agent, name: &str) -> Option<&'s Stored> {
        agent.secrets.get(name).or_else(|| self.organisation.get(name))
    }

    fn credential<'s>(&'s self, agent: &'s Agent, provider: &str) -> Option<&'s Stored> {
        let name = format!("{provider}:token");
        self.find(agent, &name).filter(|stored| !stored.accessible && !stored.damaged && stored.is_token())
    }

    fn secret<'s>(&'s self, agent: &'s Agent, name: &str) -> Option<&'s Stored> {
        self.find(agent, name).filter(|stored| stored.accessible && !stored.damaged)
    }

    pub(super) fn credentials<'s>(
        &'s self,
        agent: &'s Agent,
    ) -> impl Iterator<Item = (&'static str, &'s Stored)> {
        let providers = ["forge", "github", "gitlab"].into_iter();
        providers.filter_map(|provider| Some((provider, self.credential(agent, provider)?)))
    }

    pub(super) fn secrets<'s>(
        &'s self,
        agent: &'s Agent,
    ) -> impl Iterator<Item = (&'static str, &'s Stored)> {
        let mut names = NAMES;
        names.sort_unstable();
        names.into_iter().filter_map(|name| Some((name, self.secret(agent, name)?)))
    }

    /// What each secret of an agent in service, and of the organisation, takes up.
    pub(super) fn footprint(&self) -> usize {
        let served = self.agents.values().filter(|agent| agent.is_served()).map(|agent| &agent.secrets);
        let all = served.chain([&self.organisation]);
        all.flatten().map(|(name, stored)| stored.footprint(name)).sum()
    }

    /// All that a caller may be told.
    pub(super) fn outcomes(
        &self,
        caller: &Caller,
        question: Question,
        fresh: bool,
        now: Timestamp,
    ) -> Vec<Outcome> {
        let refused = |code: &str| Outcome::Refused(code.to_owned());
        let (mut outcomes, mut sure) = (Vec::new(), false);
        for (name, agent) in &self.agents {
            let is = agent.is(caller);
            if is == Some(false) {
                continue;
            }
            let in_the_way = |(other, it): (&&str, &Agent)| *other != *name && agent.overlaps(it);
            sure |= is == Some(true) && !self.agents.iter().any(in_the_way);
            outcomes.push(match agent.state {
                _ if matches!(question, Question::Whoami) => self.answer(name, agent, question, now),
                AgentState::Isolated => refused("agent-isolated"),
                AgentState::Revoked => refused("agent-revoked"),
                AgentState::Active if !fresh => refused("upstream-unavailable"),
                AgentState::Active => self.answer(name, agent, question, now),
            });
        }
        if !sure {
            outcomes.push(refused("peer-unknown"));
        }
        outcomes
    }

    fn answer(&self, name: &str, agent: &Agent, question: Question, now: Timestamp) -> Outcome {
        let none = || Outcome::Refused("not-found".to_owned());
        let expired = || Outcome::Refused("credential-expired".to_owned());
        let ends = |stored: &Stored| {
            let margin = jiff::SignedDuration::from_secs(60);
            stored.expires.is_some_and(|end| end.duration_since(now) <= margin)
        };
        match question {
            Question::Whoami => Outcome::Body(name.to_owned()),
            Question::Credentials => {
                let row = |(provider, _): (&str, &Stored)| {
                    format!(r#"{{"provider":"{provider}","display_name":"{provider}","auth_type":"pat"}}"#)
                };
                let rows: Vec<_> = self.credentials(agent).map(row).collect();
                Outcome::Body(format!("[{}]", rows.join(",")))
            }
            Question::Secrets => {
                let rows: Vec<_> =
                    self.secrets(agent).map(|(name, _)| format!(r#"{{"name":"{name}"}}"#)).collect();
                Outcome::Body(format!("[{}]", rows.join(",")))
            }
            Question::Secret(name) => {
                self.secret(agent, name).map_or_else(none, |stored| Outcome::Body(stored.secret_body(name)))
            }
            Question::Credential(provider) => match self.credential(agent, provider) {
                None => none(),
                Some(stored) if ends(stored) => expired(),
                Some(stored) => Outcome::Body(stored.token_body()),
            },
            Question::Git(host) => {
                let mut linked = self.credentials(agent);
                match linked.find(|(provider, stored)| stored.instance(provider) == Some(host)) {
                    None => none(),
                    Some((_, stored)) if ends(stored) => expired(),
                    Some((_, stored)) => Outcome::Body(stored.git_body()),
                }
            }
            Question::Rejected(provider, _) => match self.credential(agent, provider) {
                None => none(),
                Some(_) => Outcome::Body(String::new()),
            },
        }
    }
}

/// Whether a caller was an agent that was served in one of these states, and that agent, or the organisation, had
/// the value in one of them.
pub(super) fn grant(states: &[Rc<State>], caller: &Caller, number: u64) -> bool {
    let has = |secrets: &Secrets| secrets.values().any(|stored| stored.number == number);
    let had = |id: u64| {
        let own = |state: &State| state.agents.values().any(|agent| agent.id == id && has(&agent.secrets));
        states.iter().any(|state| has(&state.organisation) || own(state))
    };
    let agents = states.iter().flat_map(|state| state.agents.values());
    let mut callers = agents.filter(|agent| agent.is_served() && agent.is(caller) != Some(false));
    callers.any(|agent| had(agent.id))
}

/// What an operator does.
pub(super) fn operate(dice: &mut Dice, state: &mut State, number: u64, now: Timestamp) -> Target {
    let name = dice.pick(&AGENTS);
    match (dice.below(24), state.agents.get_mut(name)) {
        (0, _) => return Target::Elsewhere,
        (1, Some(_)) => drop(state.agents.remove(name)),
        (2, Some(agent)) => agent.state = AgentState::Isolated,
        (3, Some(agent)) if dice.percent(40) => agent.state = AgentState::Revoked,
        (3..7, Some(agent)) => agent.state = AgentState::Active,
        (7..9, Some(agent)) => *agent = new_agent(dice, number),
        (9..12, _) => return set(dice, &mut state.organisation, None, number, now),
        (_, Some(agent)) => return set(dice, &mut agent.secrets, Some(name), number, now),
        (_, None) => drop(state.agents.insert(name, new_agent(dice, number))),
    }
    Target::Agent(name)
}

/// Another one of the same name is another agent, and inherits nothing.
fn new_agent(dice: &mut Dice, id: u64) -> Agent {
    Agent {
        id,
        user: dice.pick(&USERS),
        gid: dice.pick(&[None, None, None, None, Some(50)]),
        unit: dice.pick(&UNITS),
        state: AgentState::Active,
        secrets: Secrets::new(),
    }
}

/// Sets, rotates or removes one.
fn set(
    dice: &mut Dice,
    secrets: &mut Secrets,
    owner: Option<&'static str>,
    number: u64,
    now: Timestamp,
) -> Target {
    let name = dice.pick(&NAMES);
    if dice.percent(25) && secrets.remove(name).is_some() {
        return Target::Secret(owner, name);
    }
    let usual = provider_of(name).is_none();
    let in_a_while = now + Duration::from_secs(dice.between(0..400));
    let stored = Stored {
        number,
        accessible: if dice.percent(10) { !usual } else { usual },
        damaged: dice.percent(5),
        host: dice.pick(&[None, None, None, Some("git.example")]),
        expires: dice.percent(20).then_some(in_a_while),
    };
    secrets.insert(name, stored);
    Target::Secret(owner, name)
}

/// A database and all that it ever was.
#[derive(Clone)]
pub(super) struct Database {
    /// That of revision 1 comes first.
    history: Vec<Rc<State>>,
    changes: Vec<Target>,
    /// What each revision is known by.
    marks: Vec<u64>,
    /// Changes up to here are forgotten.
    pub(super) pruned: u64,
}

impl Database {
    pub(super) fn new() -> Self {
        Self { history: vec![Rc::default()], changes: vec![Target::Elsewhere], marks: vec![0], pruned: 0 }
    }

    pub(super) fn revision(&self) -> u64 {
        self.history.len() as u64
    }

    pub(super) fn now(&self) -> &Rc<State> {
        self.history.last().unwrap()
    }

    /// Those of these revisions.
    pub(super) fn states(&self, first: u64, last: u64) -> &[Rc<State>] {
        let last = usize::try_from(last).unwrap().min(self.history.len());
        &self.history[usize::try_from(first).unwrap() - 1..last]
    }

    pub(super) fn mark(&self, revision: u64) -> u64 {
        self.marks[usize::try_from(revision).unwrap() - 1]
    }

    pub(super) fn change(&mut self, mark: u64, change: impl FnOnce(&mut State) -> Target) -> Target {
        let mut state = State::clone(self.now());
        let target = change(&mut state);
        self.history.push(Rc::new(state));
        self.changes.push(target);
        self.marks.push(mark);
        target
    }

    /// What has changed after one revision, up to another.
    pub(super) fn since(&self, seen: u64, newest: u64) -> &[Target] {
        &self.changes[usize::try_from(seen).unwrap()..usize::try_from(newest).unwrap()]
    }
}
