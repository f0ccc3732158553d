//! What comes into force, and when.

use super::*;
use crate::keyring::Freshness;

#[test]
fn nothing_is_in_force_before_its_commit_and_everything_after_it() {
    let mut world = World::new();
    world.frames([agent("a", "agent1")]);
    world.secret("a", "gitlab:token", "glpat-a", 5);
    world.secret("a", "KEY", "value", 5);
    assert!(world.keyring.load().snapshot.agents.is_empty());
    assert_eq!(world.host.names(), Vec::<String>::new());
    let hour = Duration::from_secs(3600);
    assert_eq!(world.keyring.freshness(clock::monotonic(), hour), Freshness::Never);

    assert_eq!(world.take(commit(5)).unwrap(), Outcome::Committed);
    assert_eq!(world.values(), ["a/KEY=value", "a/gitlab:token=glpat-a"]);
    assert_eq!(world.host.names(), ["a=1001"]);
    assert_eq!(world.keyring.load().snapshot.revision, 5);
    assert!(matches!(world.keyring.freshness(clock::monotonic(), hour), Freshness::Fresh { .. }));
    assert_eq!(world.worker.ack().unwrap().revision, 5);
}

#[test]
fn what_is_known_of_a_credential_comes_with_it_or_is_the_default() {
    let mut world = World::new();
    world.frames([agent("a", "agent1")]);
    world.secret("a", "gitlab:token", "glpat-a", 1);
    let known = SealedSecret {
        credential: Some("id-1".to_owned()),
        display_name: Some("my-user".to_owned()),
        instance_url: Some("https://git.example".parse().unwrap()),
        expires_at: Some("2099-01-01T00:00:00Z".parse().unwrap()),
        ..world.sealer.secret("a", "github:token", b"ghp", 1)
    };
    world.frames([Frame::Secret(known), commit(1)]);
    let view = world.keyring.load();
    let credentials = &view.snapshot.agents["a"].credentials;
    let gitlab = &credentials["gitlab"];
    assert_eq!(gitlab.display_name, "gitlab");
    assert_eq!(gitlab.instance.as_ref().unwrap().to_string(), "https://gitlab.com");
    assert_eq!(gitlab.id, None);
    let github = &credentials["github"];
    assert_eq!(github.display_name, "my-user");
    assert_eq!(github.instance.as_ref().unwrap().to_string(), "https://git.example");
    assert_eq!(github.expires_at.unwrap().to_string(), "2099-01-01T00:00:00Z");
    assert_eq!(github.id.as_deref(), Some("id-1"));
}

#[test]
fn an_agents_own_secret_wins_over_the_organisations_even_if_it_shows_nothing() {
    let mut world = World::new();
    world.frames([agent("a", "agent1"), agent("b", "agent2"), agent("c", "agent3"), agent("d", "agent4")]);
    world.secret("", "KEY", "of-all", 1);
    world.secret("", "gitlab:token", "glpat-all", 1);
    world.secret("a", "KEY", "of-a", 1);
    world.secret("a", "gitlab:token", "glpat-a", 1);
    let hidden = SealedSecret { agent_accessible: false, ..world.sealer.secret("b", "KEY", b"hidden", 1) };
    world.frames([Frame::Secret(hidden)]);
    world.frames([Frame::SecretUnavailable {
        agent: "d".parse().ok(),
        name: "gitlab:token".parse().unwrap(),
    }]);
    world.frames([commit(1)]);
    assert_eq!(
        world.values(),
        [
            "a/KEY=of-a",
            "a/gitlab:token=glpat-a",
            "b/gitlab:token=glpat-all",
            "c/KEY=of-all",
            "c/gitlab:token=glpat-all",
            "d/KEY=of-all",
        ]
    );
    world.frames([gone("a", "KEY"), gone("", "gitlab:token"), commit(2)]);
    assert_eq!(world.values(), ["a/KEY=of-all", "a/gitlab:token=glpat-a", "c/KEY=of-all", "d/KEY=of-all"]);
}

#[test]
fn values_that_are_not_for_agents_are_not_kept() {
    let mut world = World::new();
    world.frames([agent("a", "agent1"), commit(1)]);
    let used = world.arena.usage().used_bytes;
    let hidden = SealedSecret { agent_accessible: false, ..world.sealer.secret("a", "KEY", b"hidden", 2) };
    world.frames([Frame::Secret(hidden), commit(2)]);
    assert_eq!(world.arena.usage().used_bytes, used);
    assert_eq!(world.values(), Vec::<String>::new());
}

#[test]
fn a_snapshot_replaces_everything_and_shares_what_is_the_same() {
    let mut world = World::new();
    world.frames([agent("a", "agent1"), agent("b", "agent2")]);
    world.secret("a", "gitlab:token", "glpat-a", 1);
    world.secret("a", "KEY", "old", 1);
    world.secret("", "ALL", "x", 1);
    world.frames([commit(1)]);
    let before = world.keyring.load().snapshot.agents["a"].credentials["gitlab"].clone();

    world.reconnect(Mode::Snapshot);
    world.frames([agent("a", "agent1")]);
    world.secret("a", "gitlab:token", "glpat-a", 9);
    world.secret("a", "KEY", "new", 9);
    assert_eq!(world.values(), ["a/ALL=x", "a/KEY=old", "a/gitlab:token=glpat-a", "b/ALL=x"]);
    world.frames([commit(9)]);
    assert_eq!(world.values(), ["a/KEY=new", "a/gitlab:token=glpat-a"]);
    assert_eq!(world.host.names(), ["a=1001"]);
    let after = world.keyring.load().snapshot.agents["a"].credentials["gitlab"].clone();
    assert!(Arc::ptr_eq(&before, &after), "an unchanged value is in memory once");
}

#[test]
fn a_resumed_stream_changes_what_it_names_and_nothing_else() {
    let mut world = World::new();
    world.frames([agent("a", "agent1"), agent("b", "agent2")]);
    world.secret("a", "gitlab:token", "glpat-a", 1);
    world.secret("b", "gitlab:token", "glpat-b", 1);
    world.frames([commit(1)]);
    let before = world.keyring.load().snapshot.agents["b"].clone();

    world.reconnect(Mode::Resume);
    world.secret("a", "gitlab:token", "glpat-new", 3);
    world.frames([commit(3)]);
    assert_eq!(world.values(), ["a/gitlab:token=glpat-new", "b/gitlab:token=glpat-b"]);
    let after = world.keyring.load().snapshot.agents["b"].clone();
    assert!(Arc::ptr_eq(&before, &after), "nobody else is put together again");
    world.frames([gone("a", "gitlab:token"), gone("a", "never-there"), commit(4)]);
    assert_eq!(world.values(), ["b/gitlab:token=glpat-b"]);
}

#[test]
fn an_agents_document_is_followed_by_all_that_it_has() {
    let mut world = World::new();
    world.frames([agent("a", "agent1")]);
    world.secret("a", "ONE", "1", 1);
    world.secret("a", "TWO", "2", 1);
    world.frames([commit(1), agent("a", "agent1")]);
    world.secret("a", "TWO", "2", 2);
    world.frames([commit(2)]);
    assert_eq!(world.values(), ["a/TWO=2"]);
}

#[test]
fn whoever_is_out_of_service_has_nothing_and_its_values_are_wiped() {
    let mut world = World::new();
    world.frames([agent("a", "agent1")]);
    let empty = world.arena.usage().used_bytes;
    world.secret("a", "gitlab:token", "glpat-a", 1);
    world.secret("", "KEY", "all", 1);
    world.frames([commit(1), gone("", "KEY"), isolated("a", "agent1"), commit(2)]);
    assert_eq!(world.arena.usage().used_bytes, empty);
    let entry = world.keyring.load().snapshot.agents["a"].clone();
    assert_eq!((entry.state, entry.reason.as_deref()), (AgentState::Isolated, Some("test")));
    assert_eq!(world.host.names(), ["a=1001"], "it is told why it is refused");
    // What comes for it all the same is not held.
    world.secret("a", "gitlab:token", "glpat-a", 3);
    world.frames([commit(3)]);
    assert_eq!(world.arena.usage().used_bytes, empty);

    world.frames([agent("a", "agent1")]);
    world.secret("a", "gitlab:token", "glpat-a", 4);
    world.frames([commit(4)]);
    assert_eq!(world.values(), ["a/gitlab:token=glpat-a"]);
}

#[test]
fn a_value_that_cannot_be_served_is_named_and_the_rest_is_served() {
    let mut world = World::new();
    world.frames([agent("a", "agent1")]);
    world.secret("a", "gitlab:token", "with space", 1);
    let binary = world.sealer.secret("a", "BINARY", b"\xff\xfe", 1);
    world.frames([Frame::Secret(binary)]);
    world.secret("a", "KEY", "v", 1);
    world.frames([commit(1)]);
    assert_eq!(world.values(), ["a/KEY=v"]);
    let degraded = world.degraded();
    assert_eq!(degraded.len(), 2, "{degraded:?}");
    assert!(degraded[0].starts_with("agent a, secret BINARY: the value is not UTF-8"), "{degraded:?}");
    assert!(
        degraded[1].starts_with("agent a, secret gitlab:token: the token has a character"),
        "{degraded:?}"
    );
    assert!(!degraded.concat().contains("with space"));
    assert_eq!(world.worker.ack().unwrap().degraded.len(), 2);
    world.secret("a", "gitlab:token", "glpat-a", 2);
    world.frames([gone("a", "BINARY"), commit(2)]);
    assert_eq!(world.degraded(), Vec::<String>::new());
}

#[test]
fn heartbeats_confirm_what_is_in_force_and_only_that() {
    let mut world = World::new();
    let beat = |revision| Frame::Heartbeat { revision };
    assert_eq!(world.take(beat(1)).unwrap(), Outcome::More, "nothing is in force yet");
    world.frames([agent("a", "agent1"), commit(1)]);
    let at = clock::monotonic() + Duration::from_secs(100);
    assert_eq!(world.worker.take(&mut world.stream, beat(1), at).unwrap(), Outcome::Confirmed);
    assert_eq!(world.keyring.load().confirmed(), Some(at));
    world.frames([gone("a", "KEY")]);
    assert_eq!(world.take(beat(1)).unwrap(), Outcome::More, "half a commit");
    world.frames([commit(2)]);
    assert!(matches!(world.take(beat(3)), Err(Violation::Order(_))));
}

#[test]
fn a_commit_without_changes_moves_the_revision() {
    let mut world = World::new();
    world.frames([agent("a", "agent1"), commit(1), commit(8)]);
    assert_eq!(world.keyring.load().snapshot.revision, 8);
    world.frames([Frame::Unknown, commit(8)]);
    assert_eq!(world.worker.ack().unwrap().revision, 8);
}

#[test]
fn one_change_among_many_agents_renders_nothing_else_anew() {
    let mut world = World::new();
    for number in 1..=50 {
        let name = format!("agent-{number}");
        world.frames([agent(&name, &format!("agent{number}"))]);
        for secret in ["gitlab:token", "ONE", "TWO"] {
            world.secret(&name, secret, "a-value", 1);
        }
    }
    world.frames([commit(1)]);
    let before = world.keyring.load().snapshot.clone();
    let secret = world.sealer.secret("agent-25", "gitlab:token", b"another", 2);
    world.frames([Frame::Secret(secret), commit(2)]);
    let after = world.keyring.load().snapshot.clone();
    for (name, entry) in &after.agents {
        let is_the_same = Arc::ptr_eq(entry, &before.agents[name]);
        assert_eq!(is_the_same, name.as_str() != "agent-25", "{name}");
    }
}
