//! Two hundred agents get identities of their own from an instance that makes ten a minute.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use dvx_tests::{Lab, Mode, Outcome, World, eventually_some, on_terminal, run, within};
use serde_json::Value;

const AGENTS: usize = 200;

/// GitLab's limit on new service accounts.
const A_MINUTE: usize = 10;

/// How many people link agents side by side.
const OPERATORS: usize = 20;

const PROGRESS: &str = "GitLab makes at most 10 service accounts a minute";

/// A minute of both clocks passes each time when nobody is at work any more, until somebody says so.
fn let_time_pass(lab: &Lab, stop: &AtomicBool) {
    let mut before = usize::MAX;
    while !stop.load(Ordering::Relaxed) {
        let now = lab.gitlab.requests().len();
        if now == before && lab.books()["held"] == 0 {
            lab.pass(61);
        }
        before = now;
        within(Duration::from_millis(200), || None::<()>);
    }
}

/// Does something while time passes.
fn while_time_passes<T>(lab: &Lab, act: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| let_time_pass(lab, &stop));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        stop.store(true, Ordering::Relaxed);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn link(lab: &Lab, provider: &str, agent: &str) -> Command {
    lab.link_command(agent, &["--credential-provider", provider])
}

/// Links every agent, some at a time. What the commands came to, in the agents' order.
fn link_all(lab: &Lab, provider: &str, agents: &[String]) -> Vec<Outcome> {
    let share = agents.len().div_ceil(OPERATORS);
    thread::scope(|scope| {
        let threads: Vec<_> = agents
            .chunks(share)
            .map(|mine| {
                let each = move |agent: &String| run(&mut link(lab, provider, agent));
                scope.spawn(move || mine.iter().map(each).collect::<Vec<_>>())
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Who is not there to see anything is told nothing on the way.
#[track_caller]
fn assert_quiet(outcomes: &[Outcome]) {
    for outcome in outcomes {
        outcome.success();
        assert_eq!(outcome.stderr, "", "no progress where nobody looks");
    }
}

fn begin(lab: &Lab, provider: &str, agent: &str) -> Child {
    let mut command = link(lab, provider, agent);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn two_hundred_agents_are_linked_ten_a_minute_and_none_is_lost_to_an_interruption() {
    const NAME: &str = "two_hundred_agents_are_linked_ten_a_minute_and_none_is_lost_to_an_interruption";
    let Some(mut lab) = Lab::movable(NAME, World::single()) else { return };
    let provider = lab.provider("main", Mode::ServiceAccount, &["--rotate-every", "off"]);
    // An enclave without a broker: nobody is waited for.
    let admin = lab.control.admin();
    admin.create_enclave("many");
    let agents: Vec<String> = (0..AGENTS).map(|number| format!("agent-{number}")).collect();
    for (agent, uid) in agents.iter().zip(900_000..) {
        admin.create_agent(agent, "many", uid);
    }
    // The minute's ten, and one more, whose operator is told on the terminal why it takes so long.
    let (first, rest) = agents.split_at(A_MINUTE);
    assert_quiet(&link_all(&lab, &provider, first));
    let (patient, rest) = rest.split_first().unwrap();
    let shown = on_terminal(&link(&lab, &provider, patient), PROGRESS, || {
        lab.pass(61);
        String::new()
    });
    lab.checked(shown).success();
    let (before, after) = rest.split_at(AGENTS / 2);
    assert_quiet(&while_time_passes(&lab, || link_all(&lab, &provider, before)));
    interrupt(&mut lab, &provider, after);
    // Whoever was interrupted does the same again, and finds it done, or under way, or does it.
    let again = while_time_passes(&lab, || link_all(&lab, &provider, after));
    for outcome in again.iter().filter(|outcome| outcome.status != 0) {
        assert!(outcome.failure(1).contains("already linked"), "{}", outcome.stderr);
    }
    lab.fly("everything comes to its end", |lab| lab.balance(&[]));
    assert_each_has_its_own(&lab, &agents);
    assert_limit_was_kept(&lab);
}

/// The operators give up in the middle of it, and the control plane is killed.
fn interrupt(lab: &mut Lab, provider: &str, agents: &[String]) {
    let before = lab.identities().len();
    lab.pass(61);
    let begun: Vec<Child> = agents.iter().map(|agent| begin(lab, provider, agent)).collect();
    eventually_some("some of them are made", || (lab.identities().len() > before + 3).then_some(()));
    lab.control.kill();
    for mut child in begun {
        drop(child.kill());
        drop(child.wait());
    }
    lab.control.start_all();
}

fn assert_each_has_its_own(lab: &Lab, agents: &[String]) {
    let names: BTreeSet<String> = lab.identities();
    assert_eq!(names.len(), agents.len(), "one identity each, and no other");
    for agent in agents {
        let suffix = format!("-{agent}");
        assert_eq!(names.iter().filter(|name| name.ends_with(&suffix)).count(), 1, "{agent}");
        let listed = lab.control.admin().get(&format!("/agents/{agent}/integrations"))["items"].clone();
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
        assert_eq!(listed[0]["status"], "active", "{listed}");
    }
    assert_eq!(lab.live_tokens().len(), agents.len());
}

/// GitLab counts in minutes of its own, and the control plane in any 61 seconds, so that whichever minute a call
/// falls into has at most ten; and what it counted survives it in the database. So GitLab never says that it is
/// too much. (It would where a call takes seconds to get there. Here time passes only when none is on its way.)
#[track_caller]
fn assert_limit_was_kept(lab: &Lab) {
    let requests = lab.gitlab.requests();
    let is_creation = |request: &&Value| {
        request["method"] == "POST" && request["path"].as_str().unwrap().ends_with("/service_accounts")
    };
    let creations: Vec<&Value> = requests.iter().filter(is_creation).collect();
    let refused = creations.iter().filter(|request| request["status"] == 429).count();
    assert_eq!(refused, 0, "GitLab had to say that it is too much");
    let minutes: BTreeSet<&str> =
        creations.iter().map(|request| &request["at"].as_str().unwrap()[..16]).collect();
    assert!(minutes.len() >= AGENTS / A_MINUTE, "there is a limit: {} minutes", minutes.len());
}
