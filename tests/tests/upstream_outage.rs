//! A directory upstream that is away: how long what was read is served, and what is said about it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use dvx_proto::Code;
use dvx_tests::{Caller, Request, Response, World, eventually, run};

const GITLAB: &str = "/v1/agent/credentials/gitlab";

fn served(caller: &Caller) -> Option<String> {
    let answer = caller.get(GITLAB);
    (answer.status == 200).then(|| answer.json()["token"].as_str().unwrap().to_owned())
}

#[track_caller]
fn eventually_serves(caller: &Caller, token: &str) {
    eventually("the new token is served", || served(caller).as_deref() == Some(token));
}

fn with_token() -> (World, Caller) {
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    (world, caller)
}

#[track_caller]
fn assert_unavailable(answer: &Response) {
    assert_eq!(answer.problem(), Code::UpstreamUnavailable);
    let wait = answer.header("retry-after").expect("Retry-After").parse::<u64>();
    assert!(wait.is_ok_and(|seconds| seconds >= 1), "{answer:?}");
}

/// Takes the root away in some way, and checks that what was read is served until `max_stale` and no longer.
fn without_root(take: impl Fn(&World), give_back: impl Fn(&World)) {
    let mut world = World::single().set("upstream", "max_stale", "\"3s\"").build();
    let token = world.plant("alpha", "gitlab");
    world.upstream.secret("alpha", "S", b"value");
    world.start();
    let caller = world.caller("alpha");
    take(&world);
    assert_eq!(served(&caller).as_deref(), Some(&*token), "frozen, not gone");
    eventually("too old", || world.admin("/readyz").status == 503);
    for request in [
        Request::get(GITLAB),
        Request::get("/v1/agent/credentials"),
        Request::get("/v1/agent/secrets"),
        Request::get("/v1/agent/secrets/S"),
        Request::get("/v1/agent/credentials/no-such"),
        Request::post("/v1/agent/git-credential").json(r#"{"protocol":"https","host":"gitlab.com"}"#),
    ] {
        assert_unavailable(&caller.send(&request));
    }
    assert_eq!(caller.get("/v1/agent/whoami").status, 200, "who one is does not come from there");
    let ready = world.admin("/readyz").json();
    assert!(ready["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{ready}");
    assert_eq!(world.admin("/healthz").status, 200, "alive");
    give_back(&world);
    eventually("served again", || served(&caller).as_deref() == Some(&*token));
    let token = world.plant("alpha", "gitlab");
    eventually_serves(&caller, &token);
}

#[test]
fn an_unreadable_root_freezes_until_it_is_too_old() {
    let mode = |mode: u32| {
        move |world: &World| fs::set_permissions(world.upstream.path(), Permissions::from_mode(mode)).unwrap()
    };
    without_root(mode(0o000), mode(0o755));
}

#[test]
fn a_vanished_root_freezes_until_it_is_too_old() {
    let away = |world: &World| world.ground.path("upstream-away");
    without_root(
        |world| fs::rename(world.upstream.path(), away(world)).unwrap(),
        |world| fs::rename(away(world), world.upstream.path()).unwrap(),
    );
}

#[test]
fn the_age_is_that_of_the_last_good_read() {
    let (world, caller) = with_token();
    fs::set_permissions(world.upstream.path(), Permissions::from_mode(0o000)).unwrap();
    eventually("the age grows", || {
        caller.get(GITLAB).header("dvx-age").is_some_and(|age| age.parse::<u64>().unwrap() >= 2)
    });
    assert!(world.status()["upstream"]["age_seconds"].as_u64() >= Some(1));
    fs::set_permissions(world.upstream.path(), Permissions::from_mode(0o755)).unwrap();
    eventually("and falls", || caller.get(GITLAB).header("dvx-age") == Some("0"));
}

#[test]
fn a_credential_whose_file_is_bad_for_too_long_is_unavailable_alone() {
    let mut world = World::single().set("upstream", "max_stale", "\"2s\"").build();
    world.plant("alpha", "gitlab");
    let other = world.plant("alpha", "forge");
    world.start();
    let caller = world.caller("alpha");
    world.upstream.token("alpha", "gitlab", "");
    eventually("too old", || caller.get(GITLAB).status != 200);
    assert_unavailable(&caller.get(GITLAB));
    assert_eq!(caller.get("/v1/agent/credentials/forge").json()["token"], other.as_str());
    assert_eq!(world.admin("/readyz").status, 200, "one bad file is degraded, not down");
}

#[test]
fn a_broker_that_never_saw_its_upstream_says_so() {
    let mut world = World::single().build();
    let away = world.ground.path("upstream-away");
    world.plant("alpha", "gitlab");
    fs::rename(world.upstream.path(), &away).unwrap();
    world.start_unready();
    let caller = world.caller("alpha");
    assert_unavailable(&caller.get(GITLAB));
    assert_unavailable(&caller.get("/v1/agent/credentials"));
    let ready = world.admin("/readyz");
    assert_eq!((ready.status, ready.json()["ready"].clone()), (503, serde_json::json!(false)));
    assert_eq!(world.status()["upstream"]["synchronised"], false);
    fs::rename(&away, world.upstream.path()).unwrap();
    eventually("ready", || world.admin("/readyz").status == 200);
    assert!(served(&caller).is_some());
}

#[test]
fn a_stale_age_that_makes_no_sense_is_refused() {
    for bad in ["\"0s\"", "\"2 fortnights\"", "\"\"", "\"-1h\"", "60", "\"99999d\""] {
        let world = World::single().set("upstream", "max_stale", bad).build();
        let mut command = world.broker_command(&["check", "--config"]);
        let outcome = run(command.arg(world.config_path()));
        assert_eq!(outcome.status, 78, "{bad}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("max_stale"), "{bad}: {}", outcome.stderr);
    }
}
