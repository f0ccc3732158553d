//! Real directories, with a clock of our own: no test waits for anything to settle.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use dvx_proto::agent::AuthType;
use tempfile::TempDir;

use super::*;
use crate::clock::Now;
use crate::keyring::Freshness;

mod faults;
mod kubernetes;
mod leak;
mod log;
mod running;

const MAX_STALE: Duration = Duration::from_secs(3600);

/// A root with the agents `a` and `b`, and a worker that looks at it.
struct World {
    root: TempDir,
    arena: Arena,
    keyring: Arc<Keyring>,
    worker: Worker,
    now: Monotonic,
}

impl World {
    fn new() -> Self {
        Self::with(None, Arena::new(false).unwrap())
    }

    fn with(allow_mode: Option<u32>, arena: Arena) -> Self {
        let root = tempfile::tempdir().unwrap();
        for agent in ["a", "b"] {
            fs::create_dir_all(root.path().join(agent).join("secrets")).unwrap();
        }
        let keyring = Arc::new(Keyring::new());
        let settings =
            DirectorySettings { path: root.path().to_owned(), allow_mode, agents: names(&["a", "b"]) };
        let worker = Worker::new(settings, Arc::clone(&keyring), arena.clone());
        Self { root, arena, keyring, worker, now: Monotonic::since_boot(Duration::from_secs(1000)) }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    /// Replaces a file at once, as a careful writer does.
    fn put(&self, file: &str, text: impl AsRef<[u8]>) {
        put(&self.path(file), text.as_ref());
    }

    /// Looks after that many milliseconds.
    fn look_after(&mut self, milliseconds: u64) {
        self.now = self.now + Duration::from_millis(milliseconds);
        self.worker.look(Now { mono: self.now, wall: clock::wall() });
    }

    /// Looks until what has changed has settled.
    fn settle(&mut self) {
        self.look_after(500);
        self.look_after(150);
    }

    fn revision(&self) -> u64 {
        self.keyring.load().snapshot.revision
    }

    fn body(&self, agent: &str, provider: &str) -> Option<String> {
        let view = self.keyring.load();
        let credential = view.snapshot.agents.get(agent)?.credentials.get(provider)?;
        Some(String::from_utf8(credential.body.expose_secret().to_vec()).unwrap())
    }

    fn token(&self, agent: &str, provider: &str) -> Option<String> {
        let body: serde_json::Value = serde_json::from_str(&self.body(agent, provider)?).unwrap();
        Some(body["token"].as_str().unwrap().to_owned())
    }

    fn secret(&self, agent: &str, name: &str) -> Option<String> {
        let view = self.keyring.load();
        let secret = view.snapshot.agents.get(agent)?.secrets.get(name)?;
        let body: serde_json::Value = serde_json::from_slice(secret.body.expose_secret()).unwrap();
        assert_eq!(body["name"], name);
        Some(body["value"].as_str().unwrap().to_owned())
    }

    /// How old the credential is said to be, in milliseconds.
    fn age(&self, agent: &str, provider: &str) -> u128 {
        let view = self.keyring.load();
        let credential = &view.snapshot.agents[agent].credentials[provider];
        match view.freshness(credential.frozen_since, self.now, MAX_STALE) {
            Freshness::Fresh { age } | Freshness::Stale { age } => age.as_millis(),
            Freshness::Never => panic!("never synchronised"),
        }
    }

    /// What is degraded, with paths below the root.
    fn degraded(&self) -> Vec<(String, String)> {
        let below = |what: &str| {
            Path::new(what)
                .strip_prefix(self.root.path())
                .map_or(what.into(), |path| path.display().to_string())
        };
        self.worker.degraded().iter().map(|bad| (below(&bad.what), bad.why.clone())).collect()
    }

    fn assert_degraded(&self, what: &str, why: &str) {
        let degraded = self.degraded();
        assert!(
            matches!(&degraded[..], [(path, reason)] if path == what && reason.contains(why)),
            "expected {what:?}: {why:?}, got {degraded:?}"
        );
    }
}

fn names(names: &[&str]) -> Vec<AgentName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn put(path: &Path, text: &[u8]) {
    let temporary = path.with_file_name(".temporary");
    fs::write(&temporary, text).unwrap();
    mode(&temporary, 0o640);
    fs::rename(temporary, path).unwrap();
}

/// Writes in place, as a careless writer does.
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    mode(path, 0o600);
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn the_first_look_takes_what_is_there() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-a\n");
    world.put("b/forge.token", "forge-b");
    world.put("a/secrets/DATABASE_URL", "postgres://x\n");
    assert_eq!(world.keyring.freshness(world.now, MAX_STALE), Freshness::Never);
    world.look_after(0);
    assert_eq!(world.body("a", "gitlab").unwrap(), r#"{"token":"glpat-a","expires_at":null}"#);
    assert_eq!(world.token("b", "forge").unwrap(), "forge-b");
    assert_eq!(world.token("a", "forge"), None, "what is b's is b's");
    assert_eq!(world.secret("a", "DATABASE_URL").unwrap(), "postgres://x\n", "byte for byte");
    assert_eq!(world.degraded(), []);
    assert_eq!(world.revision(), 1);
    assert_eq!(world.keyring.freshness(world.now, MAX_STALE), Freshness::Fresh { age: Duration::ZERO });
}

#[test]
fn json_beside_a_token_describes_it() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-a");
    world.put(
        "a/gitlab.json",
        r#"{"display_name":"Bot","auth_type":"project_access_token","instance_url":"https://git.example","expires_at":"2030-01-02"}"#,
    );
    world.put("a/lonely.json", "{}");
    world.look_after(0);
    assert_eq!(
        world.body("a", "gitlab").unwrap(),
        r#"{"token":"glpat-a","expires_at":"2030-01-02T00:00:00Z"}"#
    );
    let view = world.keyring.load();
    let entry = &view.snapshot.agents["a"];
    let credential = &entry.credentials["gitlab"];
    assert_eq!(
        (credential.display_name.as_str(), credential.auth_type),
        ("Bot", AuthType::ProjectAccessToken)
    );
    assert_eq!(credential.instance.as_ref().unwrap().to_string(), "https://git.example");
    assert_eq!(
        entry.credentials_body,
        r#"[{"provider":"gitlab","display_name":"Bot","auth_type":"project_access_token"}]"#,
        "JSON without a token is no credential"
    );
    drop(view);

    fs::remove_file(world.path("a/gitlab.json")).unwrap();
    world.settle();
    assert_eq!(world.body("a", "gitlab").unwrap(), r#"{"token":"glpat-a","expires_at":null}"#);
}

#[test]
fn nothing_new_is_a_confirmation_and_shares_everything() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-a");
    world.look_after(0);
    world.settle();
    let before = Arc::clone(&world.keyring.load());
    world.look_after(500);
    let after = Arc::clone(&world.keyring.load());
    assert!(Arc::ptr_eq(&before.snapshot, &after.snapshot));
    assert_eq!(after.confirmed(), Some(world.now));

    world.put("b/gitlab.token", "glpat-b");
    world.settle();
    let view = world.keyring.load();
    assert_eq!(view.snapshot.revision, before.snapshot.revision + 1);
    assert!(Arc::ptr_eq(&view.snapshot.agents["a"], &before.snapshot.agents["a"]));
}

#[test]
fn a_file_that_is_only_touched_changes_nothing() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-a");
    world.look_after(0);
    world.put("a/gitlab.token", "glpat-a");
    world.settle();
    assert_eq!(world.revision(), 1);
}

#[test]
fn a_change_is_served_after_it_has_settled() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-old");
    world.look_after(0);
    world.put("a/gitlab.token", "glpat-new");
    world.look_after(500);
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-old");
    assert_eq!(world.worker.due(), Some(world.now + Duration::from_millis(150)));
    world.look_after(149);
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-old");
    world.look_after(1);
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-new");
    assert_eq!(world.revision(), 2);
}

#[test]
fn a_half_written_file_is_not_served() {
    let mut world = World::new();
    let file = world.path("a/gitlab.token");
    write(&file, "glpat-old");
    world.look_after(0);
    for half in ["", "glpat-", "glpat-n"] {
        write(&file, half);
        world.look_after(100);
        assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-old");
        assert_eq!(world.degraded(), []);
    }
    write(&file, "glpat-new");
    world.look_after(100);
    world.look_after(150);
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-new");
}

#[test]
fn a_file_caught_while_young_is_read_once_more() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-a");
    world.look_after(0);
    assert_eq!(world.worker.due(), Some(world.now + Duration::from_millis(150)));
    world.look_after(150);
    assert_eq!(world.worker.due(), None);
}

#[test]
fn token_and_json_change_together() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-old");
    world.put("a/gitlab.json", r#"{"display_name":"old"}"#);
    world.look_after(0);
    world.put("a/gitlab.token", "glpat-new");
    world.look_after(100);
    world.put("a/gitlab.json", r#"{"display_name":"new"}"#);
    let name =
        |world: &World| world.keyring.load().snapshot.agents["a"].credentials["gitlab"].display_name.clone();
    world.look_after(100);
    world.look_after(100);
    assert_eq!((world.token("a", "gitlab").unwrap(), name(&world)), ("glpat-old".into(), "old".into()));
    world.look_after(50);
    assert_eq!((world.token("a", "gitlab").unwrap(), name(&world)), ("glpat-new".into(), "new".into()));
    assert_eq!(world.revision(), 2);
}

#[test]
fn what_is_gone_is_gone_and_wiped() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-a");
    world.put("a/secrets/KEY", "value");
    world.look_after(0);
    fs::remove_file(world.path("a/gitlab.token")).unwrap();
    fs::remove_file(world.path("a/secrets/KEY")).unwrap();
    world.settle();
    assert_eq!((world.token("a", "gitlab"), world.secret("a", "KEY")), (None, None));
    assert_eq!(world.degraded(), []);
    assert_eq!(world.arena.usage().used_bytes, 0);
}

#[test]
fn removing_and_writing_anew_is_a_change_like_any_other() {
    let mut world = World::new();
    let file = world.path("a/gitlab.token");
    write(&file, "glpat-old");
    world.look_after(0);
    fs::remove_file(&file).unwrap();
    world.look_after(100);
    write(&file, "glpat-new");
    world.look_after(100);
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-old");
    world.look_after(150);
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-new");
    assert_eq!(world.revision(), 2);
}

#[test]
fn an_agent_without_a_directory_has_nothing_until_it_has_one() {
    let mut world = World::new();
    fs::remove_dir_all(world.path("a")).unwrap();
    world.look_after(0);
    assert_eq!(world.keyring.load().snapshot.agents["a"].credentials_body, "[]");
    assert_eq!(world.degraded(), []);
    fs::create_dir(world.path("a")).unwrap();
    world.put("a/gitlab.token", "glpat-a");
    world.settle();
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-a");

    fs::remove_dir_all(world.path("a")).unwrap();
    world.settle();
    assert_eq!(world.token("a", "gitlab"), None);
}

#[test]
fn the_agents_can_be_replaced() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-a");
    world.put("b/gitlab.token", "glpat-b");
    world.look_after(0);
    world.settle();
    let kept = Arc::clone(&world.keyring.load().snapshot.agents["b"]);
    fs::create_dir(world.path("c")).unwrap();
    world.put("c/gitlab.token", "glpat-c");
    world.worker.set_agents(names(&["b", "c"]));
    world.look_after(10);
    assert!(!world.keyring.load().snapshot.agents.contains_key("a"));
    assert_eq!(world.token("c", "gitlab").unwrap(), "glpat-c", "a new agent is served at once");
    assert!(Arc::ptr_eq(&world.keyring.load().snapshot.agents["b"], &kept));
    assert_eq!(world.revision(), 2);

    world.worker.set_agents(names(&["c", "b"]));
    world.look_after(150);
    world.look_after(150);
    assert_eq!(world.revision(), 2, "the same agents are no change");
}

#[test]
fn looks_follow_each_other_sooner_when_there_is_a_reason() {
    let at = |milliseconds| Monotonic::since_boot(Duration::from_millis(milliseconds));
    let last = at(10_000);
    for (settled, asked, expected) in [
        (None, false, 10_500),
        (None, true, 10_050),
        (Some(at(10_150)), false, 10_150),
        (Some(at(10_150)), true, 10_050),
        (Some(at(10_001)), false, 10_050),
        (Some(at(11_000)), false, 10_500),
    ] {
        assert_eq!(next_look(last, settled, asked), at(expected), "{settled:?} {asked}");
    }
}

/// What this thread has read so far (proc_pid_io(5)), where the kernel counts it.
fn bytes_read() -> Option<u64> {
    let counters = fs::read_to_string("/proc/thread-self/io").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok())
}

#[test]
fn ten_thousand_credentials_are_read_once() {
    let mut world = World::new();
    for number in 0..10_000 {
        write(&world.path(&format!("a/p{number}.token")), &format!("token-{number}"));
    }
    world.look_after(0);
    world.settle();
    assert_eq!(world.token("a", "p9999").unwrap(), "token-9999");
    assert_eq!(world.degraded(), []);

    let before = Arc::clone(&world.keyring.load().snapshot.agents["a"]);
    world.put("a/p1.token", "token-new");
    let read_before = bytes_read();
    world.settle();
    match read_before.zip(bytes_read()) {
        Some((before, after)) => assert!(after - before < 4096, "{} bytes", after - before),
        None => skipped!("the kernel does not count what a thread reads"),
    }
    let after = Arc::clone(&world.keyring.load().snapshot.agents["a"]);
    let same = |provider: &str| Arc::ptr_eq(&before.credentials[provider], &after.credentials[provider]);
    assert!(same("p2") && !same("p1"));
}
