//! The control plane is away: what brokers do meanwhile, and how they take it up again.

use dvx_proto::Code;
use dvx_tests::{Caller, ControlPlane, Proxy, World, eventually, run};

const GITLAB: &str = "/v1/agent/credentials/gitlab";

fn served(caller: &Caller) -> Option<String> {
    let answer = caller.get(GITLAB);
    (answer.status == 200).then(|| answer.json()["token"].as_str().unwrap().to_owned())
}

/// The modes of all watch streams that went through a proxy, in their order.
fn modes(proxy: &Proxy) -> Vec<String> {
    let seen = String::from_utf8_lossy(&proxy.seen()).into_owned();
    let hellos = seen.split(r#""type":"hello""#).skip(1);
    hellos
        .map(|rest| rest.split(r#""mode":""#).nth(1).unwrap().split('"').next().unwrap().to_owned())
        .collect()
}

#[test]
fn a_broker_serves_without_the_control_plane_for_max_stale_and_no_longer() {
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).set("upstream", "max_stale", "\"3s\"").build();
    let token = control.admin().plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    control.kill();
    assert_eq!(served(&caller).as_deref(), Some(&*token), "frozen, not gone");
    eventually("the broker says that it is alone", || {
        world.status()["upstream"].to_string().contains("false") || world.admin("/readyz").status == 503
    });
    eventually("too old", || world.admin("/readyz").status == 503);
    for path in [GITLAB, "/v1/agent/credentials", "/v1/agent/secrets", "/v1/agent/secrets/NAME"] {
        let answer = caller.get(path);
        assert_eq!(answer.problem(), Code::UpstreamUnavailable, "{path}");
        assert!(answer.header("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok()), "{answer:?}");
    }
    control.start_all();
    eventually("served again", || served(&caller).as_deref() == Some(&*token));
    let token = control.admin().plant("alpha", "gitlab");
    eventually("changes come again", || served(&caller).as_deref() == Some(&*token));
}

/// A certificate that nobody renewed: whoever connects is told so and what to do, and comes in once it is renewed.
#[test]
fn an_expired_certificate_is_refused_with_what_to_do_until_it_is_renewed() {
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    let token = control.admin().plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    let expired = control.authority.expired_identity();
    control.show_certificate(&expired);
    // The connections that there are keep what they have.
    control.kill();
    control.start_all();
    const WHY: &str = "certificate expired at 2025-01-01T00:00:00Z; renew it there, unless";
    eventually("the broker says why", || world.admin("/readyz").text().contains(WHY));
    assert!(world.status().to_string().contains(WHY) && world.log().contains(WHY));
    assert_eq!(served(&caller).as_deref(), Some(&*token), "it serves on meanwhile");
    let dvx = |control: &ControlPlane| {
        let mut command = control.dvx_command();
        command.env("DVX_CONTROL_URL", control.url()).env("DVX_CA_FILE", control.ca_path());
        run(command.arg("whoami"))
    };
    let outcome = dvx(&control);
    let told = outcome.failure(4);
    assert!(told.contains("is not trusted: it expired at 2025-01-01T00:00:00Z\nhint: renew it"), "{told}");
    control.renew_certificate();
    let token = control.admin().plant("alpha", "gitlab");
    eventually("the broker is back", || served(&caller).as_deref() == Some(&*token));
    dvx(&control).success();
    eventually("nothing is wrong any more", || !world.admin("/readyz").text().contains(WHY));
}

#[test]
fn a_restarted_control_plane_sends_changes_and_no_snapshot() {
    let mut control = ControlPlane::start();
    let proxy = Proxy::start(&control);
    let mut world = World::single().control_at(&control, &proxy.url()).build();
    control.admin().plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    assert_eq!(modes(&proxy), ["snapshot"]);
    for restarts in 1..=3 {
        control.kill();
        control.start_all();
        let token = control.admin().plant("alpha", "gitlab");
        eventually("what was changed meanwhile is served", || served(&caller).as_deref() == Some(&*token));
        assert!(modes(&proxy).len() > restarts);
    }
    assert!(modes(&proxy)[1..].iter().all(|mode| mode == "resume"), "{:?}", modes(&proxy));
}

#[test]
fn changes_that_were_missed_are_all_there_after_the_stream_was_cut() {
    let control = ControlPlane::start();
    let proxy = Proxy::start(&control);
    let mut world = World::single().control_at(&control, &proxy.url()).build();
    control.admin().set_secret(Some("alpha"), "GONE", "deleted meanwhile");
    control.admin().set_secret(Some("alpha"), "KEPT", "first");
    world.start();
    let caller = world.caller("alpha");
    for round in 0..10 {
        proxy.set_targets(&[]);
        proxy.cut();
        let (kept, gone) = (format!("kept {round}"), format!("gone {round}"));
        control.admin().set_secret(Some("alpha"), "KEPT", &kept);
        control.admin().set_secret(Some("alpha"), "GONE", &gone);
        let revision = control.admin().delete_secret(Some("alpha"), "GONE");
        proxy.set_targets(&control.addresses());
        control.admin().delivered(revision);
        assert_eq!(caller.get("/v1/agent/secrets/KEPT").json()["value"], kept);
        assert_eq!(caller.get("/v1/agent/secrets/GONE").problem(), Code::NotFound);
    }
}

#[test]
fn a_broker_that_starts_without_the_control_plane_serves_nothing() {
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    let token = control.admin().plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    assert_eq!(served(&caller).as_deref(), Some(&*token));
    control.kill();
    world.stop();
    world.start_unready();
    // Nothing was kept on disk, so nobody is anybody's agent yet; above all no value is served.
    let answer = world.caller("alpha").get(GITLAB);
    assert_eq!(answer.problem(), Code::UpstreamUnavailable);
    assert_eq!(world.admin("/readyz").status, 503);
    control.start_all();
    eventually("served", || served(&world.caller("alpha")).as_deref() == Some(&*token));
}

#[test]
fn a_restart_never_brings_back_what_was_taken_away() {
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    for (provider, name) in [("gitlab", "KEPT"), ("github", "DELETED")] {
        control.admin().plant("alpha", provider);
        control.admin().set_secret(Some("alpha"), name, "a value");
    }
    world.start();
    world.kill();
    control.admin().delete_secret(Some("alpha"), "github:token");
    control.admin().delete_secret(Some("alpha"), "DELETED");
    control.kill();
    control.start_all();
    world.start();
    let caller = world.caller("alpha");
    for (path, status) in [
        ("/v1/agent/credentials/gitlab", 200),
        ("/v1/agent/secrets/KEPT", 200),
        ("/v1/agent/credentials/github", 404),
        ("/v1/agent/secrets/DELETED", 404),
    ] {
        assert_eq!(caller.get(path).status, status, "{path}");
    }
    control.admin().set_state("alpha", "revoke");
    world.kill();
    control.kill();
    control.start_all();
    world.start();
    assert_eq!(world.caller("alpha").get(GITLAB).problem(), Code::AgentRevoked);
}

#[test]
fn a_control_plane_that_is_told_to_end_lets_its_brokers_go_and_they_come_back() {
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    let token = control.admin().plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    // Within the drain's time, although the stream would never end by itself.
    control.stop();
    assert_eq!(served(&caller).as_deref(), Some(&*token));
    control.start_all();
    let token = control.admin().plant("alpha", "gitlab");
    eventually("changes come again", || served(&caller).as_deref() == Some(&*token));
}
