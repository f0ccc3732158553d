//! What a control plane, or whoever plays it, must not get through.

use super::*;

/// A world at revision 5 with one token.
fn world() -> World {
    let mut world = World::new();
    world.frames([agent("a", "agent1"), agent("b", "agent2")]);
    world.secret("a", "gitlab:token", "glpat-a", 5);
    world.frames([commit(5)]);
    world.reconnect(Mode::Resume);
    world
}

fn is_unchanged(world: &World) {
    assert_eq!(world.values(), ["a/gitlab:token=glpat-a"]);
    assert_eq!(world.keyring.load().snapshot.revision, 5);
}

/// The frame is refused, and what is in force stays.
#[track_caller]
fn refused(world: &mut World, frame: Frame) -> String {
    let error = world.take(frame).unwrap_err();
    is_unchanged(world);
    causes(&error)
}

#[test]
fn a_value_sealed_for_something_else_does_not_open() {
    let other = |change: fn(&mut SealedSecret)| {
        let mut world = world();
        let mut secret = world.sealer.secret("a", "gitlab:token", b"glpat-evil", 6);
        change(&mut secret);
        let why = refused(&mut world, Frame::Secret(secret));
        assert!(why.contains("does not open"), "{why}");
    };
    other(|secret| secret.agent = "b".parse().ok());
    other(|secret| secret.agent = None);
    other(|secret| secret.name = "github:token".parse().unwrap());
    other(|secret| secret.revision = 7);
    other(|secret| secret.sealed.replace_range(..1, if secret.sealed.starts_with('A') { "B" } else { "A" }));
    other(|secret| secret.sealed.truncate(20));
    other(|secret| secret.sealed.clear());
    other(|secret| secret.sealed = "not base64!".to_owned());
    other(|secret| secret.sealed = "A".repeat(100_000));
}

#[test]
fn a_value_sealed_for_another_enclave_or_organisation_does_not_open() {
    let (agent, name): (AgentName, SecretName) = ("a".parse().unwrap(), "gitlab:token".parse().unwrap());
    for (organisation, enclave) in [(ORGANISATION, "lab-2"), ("other", "lab-1")] {
        let mut world = world();
        let aad = seal_aad(organisation, &enclave.parse().unwrap(), Some(&agent), &name, 6);
        let sealed = world.sealer.seal(b"glpat-evil", &aad);
        let mut secret = world.sealer.secret("a", "gitlab:token", b"x", 6);
        secret.sealed = sealed;
        assert!(refused(&mut world, Frame::Secret(secret)).contains("does not open"));
    }
}

#[test]
fn values_out_of_their_order_do_not_open() {
    let mut swapped = world();
    let _first = swapped.sealer.secret("a", "ONE", b"1", 6);
    let second = swapped.sealer.secret("a", "TWO", b"2", 6);
    refused(&mut swapped, Frame::Secret(second));

    let mut repeated = world();
    let first = repeated.sealer.secret("a", "ONE", b"1", 6);
    repeated.take(Frame::Secret(first.clone())).unwrap();
    refused(&mut repeated, Frame::Secret(first));
}

#[test]
fn a_recorded_stream_cannot_be_played_to_another_connection() {
    let mut world = world();
    let recorded = world.sealer.secret("a", "gitlab:token", b"glpat-old", 6);
    world.reconnect(Mode::Resume);
    refused(&mut world, Frame::Secret(recorded));
}

#[test]
fn a_revision_that_is_older_is_refused() {
    let mut one = world();
    assert!(refused(&mut one, commit(4)).contains("revision 4 is older than 5"));
    let mut other = world();
    let old = other.sealer.secret("a", "gitlab:token", b"glpat-old", 4);
    assert!(refused(&mut other, Frame::Secret(old)).contains("older"));
    let mut whole = world();
    whole.reconnect(Mode::Snapshot);
    whole.frames([agent("a", "agent1")]);
    assert!(refused(&mut whole, commit(3)).contains("older"));
    let mut beat = world();
    beat.frames([commit(5)]);
    assert!(refused(&mut beat, Frame::Heartbeat { revision: 4 }).contains("older"));
}

#[test]
fn values_belong_to_the_commit_that_follows() {
    let mut world = world();
    world.secret("a", "gitlab:token", "glpat-new", 6);
    assert!(refused(&mut world, commit(7)).contains("is of revision 6 in a commit of 7"));
    let mut world = self::world();
    world.secret("a", "ONE", "1", 6);
    let later = world.sealer.secret("a", "TWO", b"2", 7);
    assert!(refused(&mut world, Frame::Secret(later)).contains("revision"));
}

#[test]
fn frames_out_of_order_are_refused() {
    let mut world = world();
    let hello = world.sealer.hello(Mode::Resume);
    assert!(refused(&mut world, Frame::Hello(hello)).contains("second hello"));
    world.frames([Frame::AgentGone { agent: "a".parse().unwrap() }]);
    let secret = world.sealer.secret("a", "KEY", b"x", 6);
    assert!(refused(&mut world, Frame::Secret(secret)).contains("agent that is gone"));
}

#[test]
fn a_stream_of_another_enclave_or_organisation_or_without_a_beginning_is_refused() {
    let world = world();
    let recipient = Recipient::new();
    let sealer = Sealer::new(recipient.public());
    let begin = |change: fn(&mut Hello)| {
        let mut hello = sealer.hello(Mode::Resume);
        change(&mut hello);
        world.worker.begin(&recipient, &hello).err().map(|error| causes(&error))
    };
    assert_eq!(begin(|_| ()), None);
    assert!(begin(|hello| hello.enclave = "lab-2".parse().unwrap()).unwrap().contains("of enclave lab-2"));
    assert!(begin(|hello| hello.organisation = "x".to_owned()).unwrap().contains("another organisation"));
    assert!(begin(|hello| hello.encapsulated_key = "AAAA".to_owned()).is_some());
    assert!(begin(|hello| hello.encapsulated_key = "A".repeat(1000)).is_some());
    let fresh = World::new();
    assert!(fresh.worker.begin(&recipient, &sealer.hello(Mode::Resume)).is_err());
}

#[test]
fn a_secret_of_an_agent_that_is_not_known_is_nobodys() {
    let mut world = world();
    world.secret("stranger", "KEY", "x", 6);
    world.frames([commit(6)]);
    assert_eq!(world.values(), ["a/gitlab:token=glpat-a"]);
}
