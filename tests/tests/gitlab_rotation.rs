//! Tokens are replaced while agents work with them, and nobody notices.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use dvx_proto::Fingerprint;
use dvx_tests::git::GitClient;
use dvx_tests::{Lab, Mode, eventually, run};
use serde_json::{Value, json};

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
    let refused = json!({"kind": "status", "status": 422,
        "body": "{\"message\":\"Not permitted to create\"}", "headers": {"Content-Type": "application/json"}});
    lab.gitlab.fail("POST", "/api/v4/groups/*/service_accounts/*/personal_access_tokens", &refused);
    assert_ne!(lab.dvx(ROTATE).status, 0);
    assert_eq!(lab.served("alpha"), old);
    lab.settle(&["alpha"]);
}

/// A loop of fetches.
struct Fetches {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU32>,
    thread: thread::JoinHandle<Vec<String>>,
}

impl Fetches {
    fn start(command: impl Fn() -> std::process::Command + Send + 'static) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&count));
        let thread = thread::spawn(move || {
            let mut failures = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let outcome = run(&mut command());
                if outcome.status != 0 {
                    failures.push(outcome.stderr);
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            failures
        });
        Self { stop, count, thread }
    }

    /// Waits until one more fetch has begun and ended.
    fn more(&self) {
        let before = self.count.load(Ordering::Relaxed);
        eventually("a fetch comes to its end", || self.count.load(Ordering::Relaxed) >= before + 2);
    }

    fn end(self) -> (u32, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.thread.join().unwrap();
        (self.count.load(Ordering::Relaxed), failures)
    }
}

/// Revokes the token of alpha behind everybody's back, while a fetch with it is at this request: GitLab has it, and
/// has not looked at the token yet.
fn revoke_during(lab: &Lab, method: &str, path: &str) -> String {
    let token = lab.served("alpha").unwrap();
    let fingerprint = Fingerprint::of(token.as_bytes()).to_string();
    let delay = json!({"kind": "delay", "ms": 1_500});
    let fault = json!({"method": method, "path": path, "token": fingerprint, "action": delay});
    lab.gitlab.sim("POST", "/faults", &fault);
    eventually("a fetch is there", || {
        let open = |request: &Value| request["status"].is_null() && !request["fault"].is_null();
        lab.gitlab.requests().iter().any(open)
    });
    lab.gitlab.revoke(&token);
    lab.gitlab.come_back();
    token
}

/// The requests of a fetch that carry the token.
const FETCH: [(&str, &str); 2] =
    [("GET", "/acme/app.git/info/refs"), ("POST", "/acme/app.git/git-upload-pack")];

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
            let (method, path) = FETCH[round / 4 % 2];
            let last = round == 19;
            if last {
                // It ends again in the middle of what the revocation leads to.
                restart(&mut lab, Some("token:after"));
            }
            let token = revoke_during(&lab, method, path);
            if last {
                eventually("it has ended", || lab.control.replica().daemon().ended().is_some());
                restart(&mut lab, None);
            }
            fetches.more();
            eventually("another token came", || lab.served("alpha").is_some_and(|new| new != token));
        }
        if round == 6 {
            lab.control.kill();
            fetches.more();
            lab.control.start_all();
        }
    }
    let (count, failures) = fetches.end();
    assert!(count >= 40, "{count} fetches");
    assert_eq!(failures, Vec::<String>::new());
    for (method, path) in FETCH {
        let refused = |request: &Value| {
            (&request["method"], &request["path"], &request["status"])
                == (&json!(method), &json!(path), &json!(401))
                && !request["token"].is_null()
        };
        assert!(lab.gitlab.requests().iter().any(refused), "a token died at {method} {path}");
    }
    lab.unlink("alpha").success();
    lab.eventually_bare();
}

fn restart(lab: &mut Lab, point: Option<&str>) {
    lab.control.kill();
    lab.control.set_environment(point.map(|point| ("DVX_TEST_FAIL_POINT", point)).as_slice());
    lab.control.start_all();
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
