//! A credential provider's token replaces itself: once, whatever happens, since GitLab revokes all that came of
//! a token that is presented a second time. Where nobody knows whether it did, the provider waits for another
//! token, and agents keep theirs.

use std::cell::{Cell, RefCell};
use std::process::Command;

use dvx_proto::Fingerprint;
use dvx_tests::{Lab, Mode};
use serde_json::{Value, json};

use super::sweep::{Interruption, Saga, Sweep};
use super::{INTERRUPTIONS, PROVIDER, assert_swept, clear, linked, once};

const MAIN: &str = "main";
const DAY: i64 = 24 * 3600;

/// What the database knows of the provider; none where there is none.
fn known(lab: &Lab) -> Option<Value> {
    lab.books()["providers"].as_array().unwrap().first().cloned()
}

/// The provider is as it was said to be: it has a token that works, which is the only one that came of the one
/// before, or it has none and says so.
fn is_sound(lab: &Lab, provider: &Value) -> Result<(), String> {
    if lab.books()["running"] != json!([]) {
        return Err(format!("something is under way: {provider}"));
    }
    if provider["status"] == "inactive" {
        let lost = provider["reason"].as_str().is_some_and(|reason| reason.contains("was lost"));
        return if lost { Ok(()) } else { Err(format!("inactive: {provider}")) };
    }
    let state = lab.gitlab.sim("GET", "/state", &Value::Null);
    let tokens = state["tokens"].as_array().into_iter().flatten();
    let works =
        tokens.into_iter().any(|token| token["id"] == provider["token_id"] && token["active"] == true);
    if works { Ok(()) } else { Err(format!("its token does not work: {provider}")) }
}

/// Gives a provider that lost its token another one, if there is such a provider.
#[track_caller]
fn restore(lab: &Lab) {
    if known(lab).is_some_and(|provider| provider["status"] == "inactive") {
        let token = lab.gitlab.token("olga", &["api"]);
        lab.dvx(&["credential-provider", "rotate", MAIN, "--token", &token]).success();
        assert_eq!(known(lab).unwrap()["status"], "active");
    }
}

fn interrupt_each_way(test: &str, act: impl Fn(&mut Sweep, Interruption) + Sync) {
    let act = &act;
    std::thread::scope(|scope| {
        for interruption in INTERRUPTIONS {
            scope.spawn(move || {
                if let Some(mut sweep) = Sweep::start(test) {
                    act(&mut sweep, interruption);
                }
            });
        }
    });
}

#[test]
fn a_provider_whose_making_is_interrupted_has_a_token_of_its_own_or_says_that_it_has_none() {
    const NAME: &str =
        "a_provider_whose_making_is_interrupted_has_a_token_of_its_own_or_says_that_it_has_none";
    interrupt_each_way(NAME, |sweep, interruption| {
        let given = RefCell::new(String::new());
        let saga = Saga {
            prepare: &|lab| {
                restore(lab);
                if known(lab).is_some() {
                    lab.dvx(&["credential-provider", "delete", MAIN, "--yes"]).success();
                }
                given.replace(lab.gitlab.token("olga", &["api"]));
            },
            act: &|lab| lab.create_provider_command(MAIN, &given.borrow(), Mode::ServiceAccount, &[]),
            check: &|lab, succeeded| {
                let given = given.borrow();
                match known(lab) {
                    None if succeeded => Err("whoever was told that it is there was deceived".into()),
                    // It was never trusted with the token.
                    None if lab.works(&given) && !was_rotated(lab, &given) => Ok(()),
                    None => Err("the token of a provider that was not made is used up".into()),
                    Some(provider) if provider["status"] == "active" && lab.works(&given) => {
                        Err("whoever gave the token still has one that works".into())
                    }
                    Some(provider) => is_sound(lab, &provider),
                }
            },
        };
        let way = sweep.sweep(&saga, interruption);
        assert_swept(&way, &once(&[PROVIDER]));
        (saga.prepare)(&mut sweep.lab);
    });
}

fn is_rotation(request: &Value) -> bool {
    request["path"].as_str().is_some_and(|path| path.ends_with("/rotate"))
}

fn rotations(lab: &Lab) -> usize {
    lab.gitlab.requests().iter().filter(|request| is_rotation(request)).count()
}

fn was_rotated(lab: &Lab, token: &str) -> bool {
    let token = Fingerprint::of(token.as_bytes()).to_string();
    lab.gitlab.requests().iter().any(|request| request["token"] == *token && is_rotation(request))
}

#[test]
fn a_rotation_of_a_providers_own_that_is_interrupted_leaves_agents_their_tokens() {
    const NAME: &str = "a_rotation_of_a_providers_own_that_is_interrupted_leaves_agents_their_tokens";
    interrupt_each_way(NAME, |sweep, interruption| {
        let mode = Mode::ServiceAccount;
        let provider = sweep.lab.provider(MAIN, mode, &["--rotate-every", "2d"]);
        let before = Cell::new(0);
        let saga = Saga {
            prepare: &|lab| {
                if known(lab).unwrap()["status"] == "inactive" {
                    // Without a token nothing can be removed, and what is owed is paid when there is one again.
                    let unlinked = lab.unlink("alpha");
                    unlinked.success();
                    assert!(unlinked.stderr.contains("was lost"), "it says why: {}", unlinked.stderr);
                    assert_eq!(lab.served("alpha"), None);
                    lab.fly("what is left is listed", |lab| match &lab.debts()[..] {
                        [] => Err("there are no debts".into()),
                        _ => Ok(()),
                    });
                    assert_eq!(lab.identities().len(), 1);
                    restore(lab);
                    clear(lab);
                }
                linked(lab, &provider, mode);
            },
            act: &|lab| {
                before.set(rotations(lab));
                lab.pass(2 * DAY);
                // Nobody asks for it.
                Command::new("true")
            },
            check: &|lab, _| {
                lab.balance(&["alpha"])?;
                if lab.served("alpha").is_none() {
                    return Err("alpha has no token".into());
                }
                let provider = known(lab).unwrap();
                if provider["status"] == "active" && rotations(lab) == before.get() {
                    return Err("it was not rotated yet".into());
                }
                is_sound(lab, &provider)
            },
        };
        let way = sweep.sweep(&saga, interruption);
        assert_swept(&way, &once(&[PROVIDER]));
        (saga.prepare)(&mut sweep.lab);
        clear(&mut sweep.lab);
    });
}
