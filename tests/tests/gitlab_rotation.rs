//! Tokens are replaced while agents work with them, and nobody notices.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use dvx_proto::Fingerprint;
use dvx_tests::git::GitClient;
use dvx_tests::{ControlPlane, Lab, Mode, World, eventually, faketime_library, run, skip};
use serde_json::Value;

const ROTATE: &[&str] = &["agent", "integration", "gitlab", "rotate", "alpha"];

#[test]
fn a_rotation_is_in_force_when_the_command_returns_and_the_old_token_lives_on_for_a_while() {
    for mode in [Mode::ServiceAccount, Mode::ProjectToken] {
        let lab = Lab::start();
        let provider = lab.provider("main", mode, &[]);
        lab.link_minted("alpha", &provider, mode).success();
        let old = lab.served("alpha").unwrap();
        lab.dvx(ROTATE).success();
        let new = lab.served("alpha").unwrap();
        assert_ne!(old, new);
        assert!(lab.works(&new) && lab.works(&old), "{mode:?}: both work in the overlap");
        let presented = |token: &str| {
            let fingerprint = Fingerprint::of(token.as_bytes()).to_string();
            let requests = lab.gitlab.requests();
            requests
                .into_iter()
                .filter(|request| request["token"] == fingerprint.as_str())
                .collect::<Vec<_>>()
        };
        assert!(
            presented(&old).iter().all(|request| request["method"] == "GET"),
            "{mode:?}: never to rotate it"
        );
        let live = lab.gitlab.live();
        let owners: BTreeSet<String> =
            live["tokens"].as_array().unwrap().iter().map(|token| token["user_id"].to_string()).collect();
        assert_eq!(owners.len(), if mode == Mode::ServiceAccount { 1 } else { 2 }, "{live}");
        // Unlinking in the overlap takes both away.
        lab.unlink("alpha").success();
        lab.eventually_bare();
    }
}

#[test]
fn what_was_not_minted_here_is_not_rotated() {
    let lab = Lab::start();
    let none = lab.dvx(ROTATE);
    assert!([1, 3].contains(&none.status), "{}", none.stderr);
    let token = lab.gitlab.token("dana", &["api"]);
    lab.link_pat("alpha", &token).success();
    lab.dvx(ROTATE).failure(1);
    assert_eq!(lab.served("alpha"), Some(token.clone()));
    assert!(lab.works(&token));
}

#[test]
fn a_rotation_that_fails_leaves_the_token_that_works() {
    let lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    let old = lab.served("alpha");
    let refused = serde_json::json!({"kind": "status", "status": 422,
        "body": "{\"message\":\"Not permitted to create\"}", "headers": {"Content-Type": "application/json"}});
    lab.gitlab.fail("POST", "/api/v4/groups/*/service_accounts/*/personal_access_tokens", &refused);
    assert_ne!(lab.dvx(ROTATE).status, 0);
    assert_eq!(lab.served("alpha"), old);
    lab.settle(&["alpha"]);
}

/// A loop of fetches.
struct Fetches {
    stop: Arc<AtomicBool>,
    /// Whether no other is to begin.
    pause: Arc<AtomicBool>,
    /// Held during each. git itself cannot help a token that dies between two requests of one command.
    one: Arc<Mutex<()>>,
    count: Arc<AtomicU32>,
    thread: thread::JoinHandle<Vec<String>>,
}

impl Fetches {
    fn start(command: impl Fn() -> std::process::Command + Send + 'static) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (pause, one) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(())));
        let paused = Arc::clone(&pause);
        let (stopped, counted, held) = (Arc::clone(&stop), Arc::clone(&count), Arc::clone(&one));
        let thread = thread::spawn(move || {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                if paused.load(Ordering::Relaxed) {
                    thread::yield_now();
                    continue;
                }
                let outcome = {
                    let _fetching = held.lock().unwrap();
                    run(&mut command())
                };
                if outcome.status != 0 {
                    failures.push(outcome.stderr);
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            failures
        });
        Self { stop, pause, one, count, thread }
    }

    /// Waits until one more fetch has begun and ended.
    fn more(&self) {
        let before = self.count.load(Ordering::Relaxed);
        eventually("a fetch comes to its end", || self.count.load(Ordering::Relaxed) >= before + 2);
    }

    /// Does something while no fetch is under way.
    fn between(&self, act: impl FnOnce()) {
        self.pause.store(true, Ordering::Relaxed);
        let guard = self.one.lock().unwrap();
        act();
        drop(guard);
        self.pause.store(false, Ordering::Relaxed);
    }

    fn end(self) -> (u32, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.thread.join().unwrap();
        (self.count.load(Ordering::Relaxed), failures)
    }
}

#[test]
fn a_loop_of_fetches_runs_through_rotations_revocations_and_restarts_without_one_failure() {
    let mut lab = Lab::start();
    let provider = lab.provider("main", Mode::ServiceAccount, &[]);
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    let git = GitClient::new(&lab.world, "alpha");
    let url = format!("{}/acme/app.git", lab.gitlab.url());
    git.git("", &["clone", "--quiet", &url, "work"]).success();
    git.commit("work", "first", b"1\n");
    git.git("work", &["push", "--quiet", "origin", "HEAD:main"]).success();
    let make = fetch_command(&git);
    let fetches = Fetches::start(make);
    for round in 0..20 {
        // What mends a token may still be under way.
        eventually("it is rotated", || lab.dvx(ROTATE).status == 0);
        fetches.more();
        if round % 4 == 3 {
            let token = lab.served("alpha").unwrap();
            fetches.between(|| lab.gitlab.revoke(&token));
            fetches.more();
            eventually("another token came", || lab.served("alpha").is_some_and(|new| new != token));
        }
        if [6, 13].contains(&round) {
            lab.control.kill();
            fetches.more();
            lab.control.start_all();
        }
    }
    let (count, failures) = fetches.end();
    assert!(count >= 40, "{count} fetches");
    assert_eq!(failures, Vec::<String>::new());
    lab.unlink("alpha").success();
    lab.eventually_bare();
}

/// The same fetch again and again, made without the client, which cannot go to another thread.
fn fetch_command(git: &GitClient<'_>) -> impl Fn() -> std::process::Command + Send + use<> {
    let template = git.command("work", &["fetch", "--quiet"]);
    let program = template.get_program().to_owned();
    let arguments: Vec<_> = template.get_args().map(ToOwned::to_owned).collect();
    let directory = template.get_current_dir().map(ToOwned::to_owned);
    let variables: Vec<_> =
        template.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    move || {
        let mut command = std::process::Command::new(&program);
        command.args(&arguments).env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &directory {
            command.current_dir(directory);
        }
        command
    }
}

#[test]
fn a_token_is_replaced_at_four_fifths_of_its_life_and_ends_at_midnight() {
    const NAME: &str = "a_token_is_replaced_at_four_fifths_of_its_life_and_ends_at_midnight";
    if faketime_library().is_none() {
        return skip(NAME, "libfaketime is not installed");
    }
    let lab = Lab::with(ControlPlane::builder().movable_clock(), World::single());
    let provider = lab.provider("main", Mode::ServiceAccount, &["--rotate-every", "off"]);
    lab.link_minted("alpha", &provider, Mode::ServiceAccount).success();
    let first = lab.served("alpha").unwrap();
    let shift = |days: i64| {
        lab.gitlab.shift_time(days * 86_400);
        lab.control.shift_clock(days * 86_400);
    };
    shift(20);
    shift(29);
    eventually("it was replaced before its end", || lab.served("alpha").is_some_and(|new| new != first));
    let second = lab.served("alpha").unwrap();
    assert!(lab.works(&second));
    // Back and forth again: nothing is minted twice.
    for days in [27, 31, 29] {
        shift(days);
        thread::yield_now();
    }
    assert_eq!(lab.served("alpha"), Some(second));
    assert_eq!(lab.identities().len(), 1);
}

#[test]
fn a_token_that_ends_tomorrow_ends_when_tomorrow_begins() {
    let lab = Lab::start();
    let tomorrow = "2099-01-01";
    let token = lab.gitlab.token_with(&serde_json::json!({
        "user": "dana", "scopes": ["api"], "expires_at": tomorrow,
    }));
    lab.link_pat("alpha", &token).success();
    let caller = lab.world.caller("alpha");
    let told = caller.get("/v1/agent/credentials/gitlab").json();
    assert_eq!(told["expires_at"], "2099-01-01T00:00:00Z");
    assert_ne!(told["expires_at"], Value::Null);
}
