//! The control plane is killed wherever it waits, and every call to GitLab is lost once, before and after its
//! effect. Afterwards GitLab holds exactly the identities that the database knows, no agent has a dead token, and
//! no token was presented to a rotate endpoint that may have been used up there.
//!
//! Which places there are, the programs say themselves: an undisturbed run is recorded, and each of its fail
//! points and each of its calls is one run more.

mod providers;
mod sweep;

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;

use dvx_tests::{Lab, Mode, run};
use serde_json::json;

use sweep::{Interruption, Saga, Sweep, Way};

const INTERRUPTIONS: [Interruption; 2] = [Interruption::Crash, Interruption::Loss];
const MODES: [Mode; 2] = [Mode::ServiceAccount, Mode::ProjectToken];
const ROTATE: &[&str] = &["agent", "integration", "gitlab", "rotate", "alpha"];
const UNLINK: &[&str] = &["agent", "integration", "gitlab", "unlink", "alpha", "--yes"];

/// What making an identity comes by: all of it for a service account.
const ACCOUNT_STEPS: [&str; 2] = ["account", "member"];
const TOKEN_STEPS: [&str; 5] = ["token", "prove", "publish", "deliver", "retire"];
/// What taking one away comes by; there is nothing to confirm for a token.
const REMOVE: &str = "remove";
const CONFIRM: &str = "confirm";
/// What a credential provider's own rotation comes by.
const PROVIDER: &str = "rotate-self";

/// GitLab's answer to whoever may not do something.
const FORBIDDEN: &str = r#"{"message":"403 Forbidden"}"#;

fn dvx(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = lab.control.dvx_command();
    command.args(arguments);
    command
}

/// Both sides of these steps were come by, so many times each.
#[track_caller]
fn assert_swept(way: &Way, steps: &[(&str, usize)]) {
    let mut expected: Vec<String> = Vec::new();
    for (step, times) in steps {
        for when in ["before", "after"] {
            expected.extend((1..=*times).map(|time| format!("{step}:{when}:{time}")));
        }
    }
    let (found, expected): (BTreeSet<_>, BTreeSet<_>) =
        (way.points.iter().collect(), expected.iter().collect());
    assert_eq!(found, expected, "the points that were swept");
}

fn once(steps: &[&'static str]) -> Vec<(&'static str, usize)> {
    steps.iter().map(|step| (*step, 1)).collect()
}

/// The steps of an identity's making.
fn making(mode: Mode) -> Vec<&'static str> {
    match mode {
        Mode::ServiceAccount => [&ACCOUNT_STEPS[..], &TOKEN_STEPS].concat(),
        Mode::ProjectToken => TOKEN_STEPS.to_vec(),
    }
}

#[test]
fn every_point_is_in_a_sweep() {
    let lab = Lab::start();
    let listed = run(Command::new(lab.control.ground.program("dvx-control")).arg("fail-points")).success();
    let listed: BTreeSet<String> = listed.lines().map(String::from).collect();
    let steps = [&ACCOUNT_STEPS[..], &TOKEN_STEPS, &[REMOVE, CONFIRM, PROVIDER]].concat();
    let sides = |step: &&str| ["before", "after"].map(|when| format!("{step}:{when}"));
    assert_eq!(listed, steps.iter().flat_map(sides).collect());
}

/// Interrupts something in each way and in both modes side by side, each in a lab of its own with a credential
/// provider: most of the time each of them waits.
fn in_each_mode(test: &str, act: impl Fn(&mut Sweep, Interruption, Mode, &str) + Sync) {
    let act = &act;
    thread::scope(|scope| {
        let each = INTERRUPTIONS.into_iter().flat_map(|interruption| MODES.map(|mode| (interruption, mode)));
        for (interruption, mode) in each {
            scope.spawn(move || {
                if let Some(mut sweep) = Sweep::start(test) {
                    let provider = sweep.lab.provider("main", mode, &["--rotate-every", "off"]);
                    act(&mut sweep, interruption, mode, &provider);
                    clear(&mut sweep.lab);
                }
            });
        }
    });
}

/// Whether GitLab and the database agree, and alpha is linked or not.
fn settled(lab: &Lab, linked: Option<bool>) -> Result<(), String> {
    let books = lab.balance(&["alpha"])?;
    let found = books["linked"] != json!([]);
    if linked.is_some_and(|linked| linked != found) {
        return Err(format!("linked: {found}"));
    }
    if books["providers"][0]["status"] != "active" {
        return Err(format!("the provider is not active: {books:#}"));
    }
    Ok(())
}

/// Takes everything away, with everything running.
#[track_caller]
fn clear(lab: &mut Lab) {
    lab.fly("everything is taken away", |lab| {
        if lab.served("alpha").is_some() {
            lab.unlink("alpha");
        }
        settled(lab, Some(false))
    });
    assert_eq!(lab.debts(), Vec::<serde_json::Value>::new());
    let live = lab.gitlab.live();
    assert_eq!((&live["identities"], &live["tokens"]), (&json!([]), &json!([])));
}

/// Links alpha, unless it is.
#[track_caller]
fn linked(lab: &mut Lab, provider: &str, mode: Mode) {
    lab.fly("it is linked", |lab| {
        if lab.served("alpha").is_none() {
            lab.link_minted("alpha", provider, mode);
        }
        settled(lab, Some(true))
    });
}

#[test]
fn a_link_that_is_interrupted_leaves_an_identity_that_is_known_or_none() {
    const NAME: &str = "a_link_that_is_interrupted_leaves_an_identity_that_is_known_or_none";
    in_each_mode(NAME, |sweep, interruption, mode, provider| {
        let saga = Saga {
            prepare: &clear,
            act: &|lab| lab.link_minted_command("alpha", provider, mode),
            // Who was told so is linked; others are or are not.
            check: &|lab, succeeded| settled(lab, succeeded.then_some(true)),
        };
        let way = sweep.sweep(&saga, interruption);
        assert_swept(&way, &once(&making(mode)));
    });
}

/// GitLab refuses what comes late, so that what was made before has to go again.
#[test]
fn a_link_that_is_refused_and_interrupted_leaves_nothing() {
    const NAME: &str = "a_link_that_is_refused_and_interrupted_leaves_nothing";
    in_each_mode(NAME, |sweep, interruption, mode, provider| {
        let (refused, steps): (_, &[_]) = match mode {
            Mode::ServiceAccount => (
                json!({"method": "POST", "path": "/api/v4/groups/*/members"}),
                &[("account", 1), ("member", 1), (REMOVE, 1), (CONFIRM, 1)],
            ),
            Mode::ProjectToken => (
                json!({"method": "GET", "path": "/api/v4/personal_access_tokens/self"}),
                // A new token may need a moment.
                &[("token", 1), ("prove", 3), (REMOVE, 1)],
            ),
        };
        let saga = Saga {
            prepare: &|lab| {
                lab.gitlab.come_back();
                clear(lab);
            },
            act: &|lab| {
                let mut fault = refused.clone();
                fault["times"] = json!(null);
                fault["action"] = json!({"kind": "status", "status": 403, "body": FORBIDDEN});
                lab.gitlab.sim("POST", "/faults", &fault);
                lab.link_minted_command("alpha", provider, mode)
            },
            check: &|lab, succeeded| {
                if succeeded {
                    return Err("whoever was told that it is linked was deceived".into());
                }
                settled(lab, Some(false))
            },
        };
        let way = sweep.sweep(&saga, interruption);
        assert_swept(&way, steps);
        sweep.lab.gitlab.come_back();
    });
}

#[test]
fn an_unlink_that_is_interrupted_leaves_nothing() {
    in_each_mode("an_unlink_that_is_interrupted_leaves_nothing", |sweep, interruption, mode, provider| {
        let saga = Saga {
            prepare: &|lab| linked(lab, provider, mode),
            act: &|lab| dvx(lab, UNLINK),
            check: &|lab, _| settled(lab, Some(false)),
        };
        let way = sweep.sweep(&saga, interruption);
        let steps: &[_] = match mode {
            // The token and the account.
            Mode::ServiceAccount => &[(REMOVE, 2), (CONFIRM, 1)],
            Mode::ProjectToken => &[(REMOVE, 1)],
        };
        assert_swept(&way, steps);
    });
}

#[test]
fn a_rotation_that_is_interrupted_leaves_one_token_that_works() {
    in_each_mode(
        "a_rotation_that_is_interrupted_leaves_one_token_that_works",
        |sweep, interruption, mode, provider| {
            let saga = Saga {
                prepare: &|lab| linked(lab, provider, mode),
                act: &|lab| dvx(lab, ROTATE),
                check: &|lab, _| settled(lab, Some(true)),
            };
            let way = sweep.sweep(&saga, interruption);
            // The token before is removed after the overlap.
            assert_swept(&way, &once(&[&TOKEN_STEPS[..], &[REMOVE]].concat()));
        },
    );
}
