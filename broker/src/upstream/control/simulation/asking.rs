//! Agents that ask.

use super::*;
use crate::policy::AgentRule;

/// A request whose answer is held back.
pub(super) struct Waiting {
    caller: &'static Caller,
    question: Question,
    since: Monotonic,
    /// Who it was when it asked.
    agent: Option<AgentRule>,
    /// What the client has not sent yet.
    rest: Option<Rest>,
    answer: Asked,
}

/// What comes of a request at once.
enum Looked {
    /// It came too early.
    Refused,
    Answered(Answer),
    Waiting,
}

impl Simulation<'_> {
    /// Mostly somebody who is an agent, and what that agent has.
    pub(super) fn question(&mut self) -> (&'static Caller, Question) {
        let state = self.plane.database.now().clone();
        let is_one =
            |caller: &&'static Caller| state.agents.values().any(|agent| agent.is(caller) == Some(true));
        let agents: Vec<_> = CALLERS.iter().filter(is_one).collect();
        let caller = match agents.len() {
            1.. if self.dice.percent(75) => self.dice.pick(&agents),
            _ => &CALLERS[self.dice.below(CALLERS.len())],
        };
        let agent = state.agents.values().find(|agent| agent.is(caller) == Some(true));
        let Some(agent) = agent.filter(|_| self.dice.percent(80)) else {
            return (caller, self.any_question());
        };
        let credentials: Vec<_> = state.credentials(agent).map(|(provider, _)| provider).collect();
        let secrets: Vec<_> = state.secrets(agent).map(|(name, _)| name).collect();
        let question = match self.dice.below(10) {
            0..3 if !credentials.is_empty() => Question::Credential(self.dice.pick(&credentials)),
            3..6 if !secrets.is_empty() => Question::Secret(self.dice.pick(&secrets)),
            6..8 => Question::Git(self.dice.pick(&HOSTS)),
            8 if !credentials.is_empty() => {
                let (provider, stored) = state.credentials(agent).next().unwrap();
                Question::Rejected(provider, stored.fingerprint())
            }
            _ => self.any_question(),
        };
        (caller, question)
    }

    fn any_question(&mut self) -> Question {
        match self.dice.below(16) {
            0 => Question::Whoami,
            1 => Question::Credentials,
            2 => Question::Secrets,
            3..7 => Question::Credential(self.dice.pick(&PROVIDERS)),
            7..10 => Question::Secret(self.dice.pick(&NAMES)),
            10..14 => Question::Git(self.dice.pick(&HOSTS)),
            _ => self.rejection(),
        }
    }

    /// A report about a token that is held, if there is one.
    pub(super) fn rejection(&mut self) -> Question {
        let state = self.plane.database.now().clone();
        let Some(agent) = state.agents.get(self.dice.pick(&AGENTS)) else { return Question::Whoami };
        let held: Vec<_> = state.credentials(agent).collect();
        if held.is_empty() {
            return Question::Whoami;
        }
        let (provider, stored) = held[self.dice.below(held.len())];
        Question::Rejected(provider, stored.fingerprint())
    }

    pub(super) fn ask(&mut self) -> Result<(), String> {
        if self.dice.percent(3)
            && let Question::Rejected(provider, fingerprint) = self.rejection()
        {
            // The control plane says that it is good after all.
            let agent: AgentName = self.dice.pick(&AGENTS).parse().unwrap();
            let host = self.broker.host.clone();
            crate::upstream::Host::settle(&*host, &agent, &provider.parse().unwrap(), fingerprint);
            return self.poll_waiting(None);
        }
        let (caller, question) = self.question();
        if matches!(question, Question::Git(_) | Question::Rejected(..)) && self.dice.percent(15) {
            let (mut answer, rest) = self.broker.begin_to_ask(caller, question);
            return match self.first_look(caller, &mut answer, None)? {
                Looked::Refused => Ok(()),
                Looked::Answered(answer) => self.judge(caller, question, &Got::new(question, answer), None),
                Looked::Waiting => {
                    self.hold_back(caller, question, answer, Some(rest));
                    Ok(())
                }
            };
        }
        let asked = self.broker.ask(caller, question);
        self.asked(caller, question, asked, None)
    }

    pub(super) fn asked(
        &mut self,
        caller: &'static Caller,
        question: Question,
        mut answer: Asked,
        before: Option<Option<&Known>>,
    ) -> Result<(), String> {
        match self.first_look(caller, &mut answer, before)? {
            Looked::Refused => Ok(()),
            Looked::Answered(answer) => self.judge(caller, question, &Got::new(question, answer), before),
            Looked::Waiting => {
                self.tally.held_back += 1;
                self.hold_back(caller, question, answer, None);
                Ok(())
            }
        }
    }

    fn hold_back(&mut self, caller: &'static Caller, question: Question, answer: Asked, rest: Option<Rest>) {
        let agent = self.broker.agent_of(caller);
        self.waiting.push(Waiting { caller, question, since: self.now, agent, rest, answer });
    }

    /// What comes of a request at once. Whether it comes too early is decided before all else, and here.
    fn first_look(
        &mut self,
        caller: &'static Caller,
        answer: &mut Asked,
        before: Option<Option<&Known>>,
    ) -> Result<Looked, String> {
        let known: Vec<_> = [self.known.as_ref()].into_iter().chain(before).collect();
        self.pace.ask(&known, caller, self.now);
        let answer = poll(answer);
        match answer.as_ref().map(|answer| answer.status().as_u16()) {
            Some(429) => {
                self.tally.limited += 1;
                self.pace.refused(&known, caller, self.now)?;
                return Ok(Looked::Refused);
            }
            // In the middle of a change there are two settings.
            _ if before.is_some() || self.broker.agent_of(caller).is_none() => {}
            _ => self.pace.granted(&self.broker.settings.load_full(), caller, self.now)?,
        }
        Ok(answer.map_or(Looked::Waiting, Looked::Answered))
    }

    pub(super) fn judge(
        &mut self,
        caller: &'static Caller,
        question: Question,
        got: &Got,
        before: Option<Option<&Known>>,
    ) -> Result<(), String> {
        let known: Vec<_> = [self.known.as_ref()].into_iter().chain(before).collect();
        judge::answer(&known, &self.plane, caller, question, got, self.clocks(), self.max_stale)?;
        match got.number(question) {
            Some(number) => self.is_newest(number, before.is_some())?,
            None => self.tally.refusals += usize::from(matches!(got.outcome, Outcome::Refused(_))),
        }
        if self.held.len() < 2 && self.dice.percent(5) && matches!(got.outcome, Outcome::Body(_)) {
            self.held.push((got.body.clone(), got.body.to_vec()));
        }
        Ok(())
    }

    /// Values of one name are served in the order in which they were set, except in the middle of a change.
    fn is_newest(&mut self, number: u64, amid: bool) -> Result<(), String> {
        self.tally.values += 1;
        // What a story has put there has no owner here.
        let Some(owner) = self.owners.get(&number) else { return Ok(()) };
        let newest = self.newest.entry(*owner).or_default();
        let newer = std::mem::replace(newest, number.max(*newest));
        expect(newer <= number || amid || self.went_back, || {
            format!("value {number} is served after {newer}")
        })
    }

    /// Requests whose time is over are woken, before anything else comes.
    pub(super) fn wake_waiting(&mut self) -> Result<(), String> {
        self.look_at_waiting(None, false)
    }

    /// Requests that are held back are looked at again, and more of some of them has come.
    pub(super) fn poll_waiting(&mut self, before: Option<Option<&Known>>) -> Result<(), String> {
        self.look_at_waiting(before, true)
    }

    fn look_at_waiting(&mut self, before: Option<Option<&Known>>, comes: bool) -> Result<(), String> {
        for mut waiting in std::mem::take(&mut self.waiting) {
            if comes
                && self.dice.percent(40)
                && let Some(rest) = waiting.rest.take()
            {
                rest.send();
                waiting.since = self.now;
            }
            match poll(&mut waiting.answer) {
                Some(answer) if waiting.rest.is_some() => {
                    let outcome = Got::new(waiting.question, answer).outcome;
                    expect(outcome == Outcome::Refused("bad-request".to_owned()), || {
                        format!("half a request led to {outcome:?}")
                    })?;
                }
                Some(answer) => {
                    let got = Got::new(waiting.question, answer);
                    // A request is that agent's who began it, and nobody's when the caller is another one by now.
                    let rules = self.broker.settings.load().rules.clone();
                    let is_gone = !waiting.agent.is_some_and(|agent| rules.contains(&agent));
                    if !is_gone || got.outcome != Outcome::Refused("peer-unknown".to_owned()) {
                        self.judge(waiting.caller, waiting.question, &got, before)?;
                    }
                }
                None => {
                    let waited = self.now.since(waiting.since);
                    expect(waited < Duration::from_secs(60), || format!("held back for {waited:?}"))?;
                    self.waiting.push(waiting);
                }
            }
        }
        Ok(())
    }

    /// An answer that was being written is through.
    pub(super) fn release(&mut self) {
        if !self.held.is_empty() {
            let index = self.dice.below(self.held.len());
            self.held.swap_remove(index);
        }
    }

    pub(super) fn ask_everything(&mut self) -> Result<(), String> {
        for caller in &CALLERS {
            let credentials = PROVIDERS.iter().map(|provider| Question::Credential(provider));
            let secrets = NAMES.iter().map(|name| Question::Secret(name));
            let lists = [Question::Whoami, Question::Credentials, Question::Secrets];
            for question in lists.into_iter().chain(credentials).chain(secrets) {
                let asked = self.broker.ask(caller, question);
                self.asked(caller, question, asked, None)?;
            }
        }
        Ok(())
    }
}
