//! Agents as rules.

use std::sync::atomic::{AtomicBool, Ordering};

use dvx_proto::operator::Selectors;

use super::*;

fn in_unit(name: &str, user: &str, unit: &str) -> Frame {
    let selectors = Selectors { unit: Some(unit.to_owned()), ..Selectors::default() };
    Frame::Agent(AgentDocument { selectors, ..document(name, user) })
}

#[test]
fn users_are_known_by_name_or_number() {
    let mut world = World::new();
    world.frames([agent("a", "agent1"), agent("b", "4711"), agent("c", "nobody-here"), commit(1)]);
    assert_eq!(world.host.names(), ["a=1001", "b=4711"]);
    assert_eq!(world.degraded(), ["agent c: this machine has no user nobody-here"]);
    assert_eq!(world.worker.ack().unwrap().degraded[0].what, "agent c");
}

#[test]
fn an_agent_that_is_gone_is_nobodys_and_the_others_stay() {
    let mut world = World::new();
    world.frames([agent("a", "agent1"), agent("b", "agent2"), commit(1)]);
    world.frames([Frame::AgentGone { agent: "a".parse().unwrap() }, commit(2)]);
    assert_eq!(world.host.names(), ["b=1002"]);
    assert!(!world.keyring.load().snapshot.agents.contains_key("a"));
}

#[test]
fn of_two_agents_that_one_process_could_be_the_one_in_force_stays() {
    let mut world = World::new();
    world.frames([agent("b", "agent1"), commit(1), agent("a", "1001"), commit(2)]);
    assert_eq!(world.host.names(), ["b=1001"]);
    assert!(world.degraded()[0].starts_with("agent a: agents b and a both match uid 1001"));
    // Also when everything comes anew.
    world.reconnect(Mode::Snapshot);
    world.frames([agent("a", "1001"), agent("b", "agent1"), commit(3)]);
    assert_eq!(world.host.names(), ["b=1001"]);
    // With selectors that exclude each other there is room for both.
    world.frames([in_unit("a", "1001", "a.service"), in_unit("b", "agent1", "b.service"), commit(4)]);
    assert_eq!(world.host.names(), ["a=1001", "b=1001"]);
    assert_eq!(world.degraded(), Vec::<String>::new());
}

#[test]
fn a_selector_that_cannot_be_checked_refuses_the_agent_and_widens_nothing() {
    let mut world = World::new();
    world.frames([
        in_unit("a", "agent1", "not a unit"),
        agent("b", "agent2"),
        agent("c", "65534"),
        commit(1),
    ]);
    assert_eq!(world.host.names(), ["b=1002"]);
    let degraded = world.degraded();
    assert!(degraded[0].starts_with("agent a: unit: not a unit that processes run in"), "{degraded:?}");
    assert!(degraded[1].starts_with("agent c: "), "{degraded:?}");
}

#[test]
fn whoever_will_be_another_agent_is_nobody_while_the_secrets_change() {
    let mut world = World::new();
    world.frames([agent("a", "agent1"), agent("b", "agent2"), agent("c", "agent3"), commit(1)]);
    world.host.history.lock().unwrap().clear();
    world.frames([agent("a", "agent2"), agent("b", "agent1"), commit(2)]);
    assert_eq!(*world.host.history.lock().unwrap(), [vec!["c=1003"], vec!["a=1002", "b=1001", "c=1003"]]);
}

#[test]
fn secrets_alone_leave_the_rules_alone() {
    let mut world = World::new();
    world.frames([agent("a", "agent1"), commit(1)]);
    world.host.history.lock().unwrap().clear();
    world.secret("a", "KEY", "x", 2);
    world.frames([commit(2), isolated("a", "agent1"), commit(3)]);
    assert_eq!(world.host.history.lock().unwrap().len(), 0);
}

static IS_THERE: AtomicBool = AtomicBool::new(false);
static FAILS: AtomicBool = AtomicBool::new(false);

#[test]
fn a_user_that_is_added_or_taken_away_is_noticed() {
    let mut world = World::with(|_| match FAILS.load(Ordering::SeqCst) {
        true => Err(nix::errno::Errno::EIO),
        false => Ok(IS_THERE.load(Ordering::SeqCst).then_some(1001)),
    });
    world.frames([agent("a", "agent1"), commit(1)]);
    assert_eq!(world.host.names(), Vec::<String>::new());
    assert!(world.worker.misses_users() && !world.worker.look_up_users(false));

    IS_THERE.store(true, Ordering::SeqCst);
    assert!(world.worker.look_up_users(false));
    assert_eq!(world.host.names(), ["a=1001"]);
    assert!(!world.worker.misses_users() && world.degraded().is_empty());

    // A name service that fails takes nobody away.
    FAILS.store(true, Ordering::SeqCst);
    assert!(!world.worker.look_up_users(true));
    FAILS.store(false, Ordering::SeqCst);
    IS_THERE.store(false, Ordering::SeqCst);
    assert!(world.worker.look_up_users(true));
    assert_eq!(world.host.names(), Vec::<String>::new());
}
