//! The thread, on the real clock. Conditions are waited for with a deadline.

use std::thread::yield_now;

use super::*;

/// A change is to be served within a second; this is slack for a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_secs(10);

struct Running {
    root: TempDir,
    keyring: Arc<Keyring>,
    upstream: Upstream,
}

fn running() -> Running {
    let root = tempfile::tempdir().unwrap();
    for agent in ["a", "b"] {
        fs::create_dir(root.path().join(agent)).unwrap();
    }
    put(&root.path().join("a/gitlab.token"), b"glpat-1");
    let keyring = Arc::new(Keyring::new());
    let settings =
        DirectorySettings { path: root.path().to_owned(), allow_mode: None, agents: names(&["a"]) };
    let upstream = start(settings, Arc::clone(&keyring), Arena::new(false).unwrap()).unwrap();
    Running { root, keyring, upstream }
}

impl Running {
    fn has(&self, agent: &str, token: Option<&str>) -> bool {
        let view = self.keyring.load();
        let credential = view.snapshot.agents.get(agent).and_then(|entry| entry.credentials.get("gitlab"));
        let body = credential.map(|credential| credential.body.expose_secret().to_vec());
        body == token.map(|token| format!(r#"{{"token":"{token}","expires_at":null}}"#).into_bytes())
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = clock::monotonic();
    while !condition() {
        assert!(clock::monotonic().since(start) < DEADLINE, "{what}");
        yield_now();
    }
    clock::monotonic().since(start)
}

#[test]
fn the_keyring_is_filled_when_start_returns() {
    let running = running();
    assert!(running.has("a", Some("glpat-1")));
    assert_eq!(
        *running.upstream.health().borrow(),
        Health { kind: "directory", connected: None, degraded: vec![] }
    );
}

#[test]
fn changes_are_served_soon() {
    let running = running();
    let file = running.root.path().join("a/gitlab.token");
    let mut slowest = Duration::ZERO;
    for round in 2..6 {
        put(&file, format!("glpat-{round}").as_bytes());
        let token = format!("glpat-{round}");
        slowest = slowest.max(wait_for(&token, || running.has("a", Some(&token))));
    }
    println!("slowest of four changes: {slowest:?}");
    fs::remove_file(&file).unwrap();
    wait_for("the removal", || running.has("a", None));
}

#[test]
fn health_tells_of_what_is_bad_and_confirmations_go_on() {
    let running = running();
    let health = running.upstream.health();
    let file = running.root.path().join("a/gitlab.token");
    mode(&file, 0o666);
    wait_for("the report", || health.borrow().degraded.len() == 1);
    assert_eq!(health.borrow().degraded[0].what, file.display().to_string());
    let confirmed = running.keyring.load().confirmed();
    wait_for("a confirmation", || running.keyring.load().confirmed() > confirmed);
    mode(&file, 0o600);
    wait_for("the end of the report", || health.borrow().degraded.is_empty());
}

#[test]
fn requests_are_heard() {
    let running = running();
    put(&running.root.path().join("b/gitlab.token"), b"glpat-b");
    running.upstream.set_agents(names(&["b"]));
    wait_for("the new agent", || running.has("b", Some("glpat-b")) && running.has("a", None));
    let confirmed = running.keyring.load().confirmed();
    running.upstream.recheck(&names(&["b"])[0], &"gitlab".parse().unwrap(), dvx_proto::Fingerprint::of(b"x"));
    wait_for("a look", || running.keyring.load().confirmed() > confirmed);
}

#[test]
fn it_stops_when_dropped_and_that_shows() {
    let Running { root: _root, keyring, upstream } = running();
    let health = upstream.health();
    drop(upstream);
    assert!(health.has_changed().is_err(), "the channel is closed");
    assert_eq!(Arc::strong_count(&keyring), 1, "nothing of it is left");
}
