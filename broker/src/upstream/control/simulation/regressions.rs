//! What the simulation has found, each as a story of its own.

use dvx_proto::agent::AgentState;

use super::truth::{Agent, Secrets, State, Stored, Target};
use super::*;

fn agent(user: &'static str, number: u64) -> Agent {
    let stored = Stored { number, accessible: false, damaged: false, host: None, expires: None };
    let secrets = Secrets::from([("gitlab:token", stored)]);
    Agent { id: number, user, gid: None, unit: None, state: AgentState::Active, secrets }
}

fn put(state: &mut State, user: &'static str, number: u64) -> Target {
    state.agents.insert("amber", agent(user, number));
    Target::Agent("amber")
}

fn answer(answer: &mut Asked, question: Question) -> Option<Outcome> {
    poll(answer).map(|answer| Got::new(question, answer).outcome)
}

#[test]
fn a_request_whose_body_comes_late_is_decided_on_what_is_in_force_then() {
    let machine = Machine::new();
    let _context = machine.runtime.enter();
    let mut trace = Trace::default();
    let mut it = Simulation::new(0, &machine, &mut trace, None);
    let git = Question::Git("gitlab.com");
    it.plane.operate(0, 1, |state| put(state, "agent1", 1));
    it.settle().unwrap();
    for (number, state, code) in
        [(2, AgentState::Isolated, "agent-isolated"), (3, AgentState::Active, "upstream-unavailable")]
    {
        let (mut asked, rest) = it.broker.begin_to_ask(&CALLERS[0], git);
        assert_eq!(answer(&mut asked, git), None);
        it.plane.operate(0, number, |database| {
            database.agents.get_mut("amber").unwrap().state = state;
            Target::Agent("amber")
        });
        it.settle().unwrap();
        if state == AgentState::Active {
            it.pass(it.max_stale + Duration::from_millis(1));
        }
        rest.send();
        assert_eq!(answer(&mut asked, git), Some(Outcome::Refused(code.to_owned())));
    }
    clock::make_up(None);
}

#[test]
fn an_answer_that_was_held_back_is_not_for_who_is_no_longer_the_agent() {
    let machine = Machine::new();
    let _context = machine.runtime.enter();
    let mut trace = Trace::default();
    let mut it = Simulation::new(0, &machine, &mut trace, None);
    it.plane.operate(0, 1, |state| put(state, "agent1", 1));
    it.settle().unwrap();

    let (first, second, git) = (&CALLERS[0], &CALLERS[2], Question::Git("gitlab.com"));
    let report = Question::Rejected("gitlab", agent("agent1", 1).secrets["gitlab:token"].fingerprint());
    assert!(answer(&mut it.broker.ask(first, report), report).is_some());
    let mut held_back = it.broker.ask(first, git);
    assert_eq!(answer(&mut held_back, git), None);

    it.plane.operate(0, 2, |state| put(state, "agent2", 2));
    it.settle().unwrap();
    let refused = Outcome::Refused("peer-unknown".to_owned());
    assert_eq!(answer(&mut held_back, git), Some(refused));
    let served = answer(&mut it.broker.ask(second, git), git);
    assert!(matches!(&served, Some(Outcome::Body(body)) if body.contains("glpat-000002-")), "{served:?}");
    clock::make_up(None);
}
