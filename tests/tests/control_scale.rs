//! Several replicas on one PostgreSQL: brokers and operators may be at any of them.

use std::time::Duration;

use dvx_proto::Code;
use dvx_proto::enclave::Frame;
use dvx_tests::{
    Caller, ControlPlane, EnclaveClient, Postgres, Proxy, State, World, eventually, faketime_library, now,
    run, skip, within,
};
use serde_json::json;

const GITLAB: &str = "/v1/agent/credentials/gitlab";

fn served(caller: &Caller) -> Option<String> {
    let answer = caller.get(GITLAB);
    (answer.status == 200).then(|| answer.json()["token"].as_str().unwrap().to_owned())
}

fn two_replicas(test: &str) -> Option<ControlPlane> {
    Some(ControlPlane::builder().postgres(Postgres::start(test)?).replicas(2).start())
}

#[test]
fn changes_made_at_one_replica_reach_brokers_at_the_other() {
    let Some(control) = two_replicas("changes_made_at_one_replica_reach_brokers_at_the_other") else {
        return;
    };
    let mut world = World::single().control_at(&control, &control.url_of(1)).build();
    control.admin_at(0).plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let token = control.planted.token("a changed token");
        let start = now();
        let revision = control.admin_at(0).set_token("alpha", "gitlab", &token);
        control.admin_at(0).delivered(revision);
        slowest = slowest.max(start.elapsed());
        assert_eq!(served(&caller).as_deref(), Some(&*token), "in force when the other replica says so");
    }
    // A second would be the polling net: what is announced comes at once.
    assert!(slowest < Duration::from_millis(900), "{slowest:?}");
    let overview =
        |replica: usize| control.admin_at(replica).get("/enclaves")["items"][0]["connected"].clone();
    assert_eq!((overview(0), overview(1)), (json!(true), json!(true)), "any replica knows who is connected");
    control.admin_at(0).change("POST", "/agents/alpha/isolate", &json!({"reason": "at the other one"}));
    control.dvx(&["agent", "isolate", "alpha", "--reason", "again"]).success();
    assert_eq!(caller.get(GITLAB).problem(), Code::AgentIsolated);
}

#[test]
fn a_broker_goes_on_at_another_replica_when_its_own_is_killed() {
    let Some(mut control) = two_replicas("a_broker_goes_on_at_another_replica_when_its_own_is_killed") else {
        return;
    };
    let proxy = Proxy::start(&control);
    let mut world = World::single().control_at(&control, &proxy.url()).build();
    control.admin().plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    for round in 0..6 {
        let (killed, left) = (round % 2, (round + 1) % 2);
        control.replica_number(killed).kill();
        let token = control.planted.token("a changed token");
        let revision = control.admin_at(left).set_token("alpha", "gitlab", &token);
        control.admin_at(left).delivered(revision);
        assert_eq!(served(&caller).as_deref(), Some(&*token));
        control.start_replica(killed);
    }
    let seen = String::from_utf8_lossy(&proxy.seen()).into_owned();
    assert_eq!(
        seen.matches(r#""mode":"snapshot""#).count(),
        1,
        "after the first stream only changes were sent"
    );
}

#[test]
fn replicas_that_start_together_migrate_once_and_both_serve() {
    const NAME: &str = "replicas_that_start_together_migrate_once_and_both_serve";
    let Some(postgres) = Postgres::start(NAME) else { return };
    let mut control = ControlPlane::builder().postgres(postgres).replicas(4).build();
    control.initialise();
    (0..4).for_each(|number| control.launch_replica(number));
    control.start_all();
    control.admin_at(3).create_enclave("lab-1");
    assert_eq!(control.admin_at(1).get("/enclaves")["items"][0]["name"], "lab-1");
}

#[test]
fn a_database_that_is_away_is_said_to_be_and_comes_back() {
    let Some(mut control) = two_replicas("a_database_that_is_away_is_said_to_be_and_comes_back") else {
        return;
    };
    let mut world = World::single().control(&control).build();
    let token = control.admin().plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    control.postgres().kill();
    let answer = control.admin().call("GET", "/agents", &serde_json::Value::Null);
    assert_eq!(answer.problem(), Code::StoreUnavailable);
    eventually("readiness tells", || {
        control.replica().ask(&dvx_tests::Request::get("/readyz")).is_some_and(|answer| answer.status == 503)
    });
    assert!(
        control
            .replica()
            .ask(&dvx_tests::Request::get("/healthz"))
            .is_some_and(|answer| answer.status == 200)
    );
    assert_eq!(served(&caller).as_deref(), Some(&*token), "brokers serve on");
    control.postgres().restart();
    eventually("it comes back by itself", || {
        control.replica().ask(&dvx_tests::Request::get("/readyz")).is_some_and(|answer| answer.status == 200)
    });
    let token = control.admin().plant("alpha", "gitlab");
    eventually("and changes flow", || served(&caller).as_deref() == Some(&*token));
}

/// It does not know what is changed at others.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lost_the_database_stops_saying_that_nothing_has_changed() {
    let test = "a_replica_that_lost_the_database_stops_saying_that_nothing_has_changed";
    let Some(mut control) = two_replicas(test) else { return };
    let mut broker = EnclaveClient::of(&control, 0, control.admin().create_enclave("lab-1"));
    broker.max_stale_seconds = 1;
    let mut watch = broker.connected(&mut State::default()).await;
    control.postgres().kill();
    let silence = async {
        // Three heartbeats of such a broker are a second.
        while tokio::time::timeout(Duration::from_secs(3), watch.next()).await.is_ok() {}
    };
    tokio::time::timeout(Duration::from_secs(60), silence).await.expect("it says nothing in the end");
    control.postgres().restart();
    let heard = tokio::time::timeout(Duration::from_secs(60), watch.next()).await;
    assert!(matches!(heard, Ok(Ok(Some(Frame::Heartbeat { .. })))), "{heard:?}");
}

/// One replica is two hours behind the other. Neither takes the other for dead, nor for alive once it is killed.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_whose_clocks_differ_know_who_is_connected_and_who_is_gone() {
    let test = "replicas_whose_clocks_differ_know_who_is_connected_and_who_is_gone";
    if faketime_library().is_none() {
        return skip(test, "libfaketime is not installed");
    }
    let Some(postgres) = Postgres::start(test) else { return };
    let mut control = ControlPlane::builder().postgres(postgres).replicas(2).movable_clock().build();
    control.initialise();
    control.shift_clock_of(1, -2 * 3600);
    control.start_all();
    let brokers: Vec<EnclaveClient> = (0..2)
        .map(|number| {
            let key = control.admin().create_enclave(&format!("lab-{number}"));
            EnclaveClient { max_stale_seconds: 600, ..EnclaveClient::of(&control, number, key) }
        })
        .collect();
    let mut watches = Vec::new();
    for broker in &brokers {
        watches.push(broker.connected(&mut State::default()).await);
    }
    let connected = |at: usize| {
        let listed = control.admin_at(at).get("/enclaves");
        let of = |number: usize| listed["items"][number]["connected"].as_bool().unwrap();
        (of(0), of(1))
    };
    eventually("each knows of both", || connected(0) == (true, true) && connected(1) == (true, true));
    // Long enough for each to look for the sessions of the dead several times.
    let lost = within(Duration::from_secs(6), || (connected(0) != (true, true)).then_some(()));
    assert!(lost.is_none(), "the broker of a replica that is behind was taken for gone");
    let revision = control.admin_at(0).set_secret(None, "NAME", "value");
    assert_eq!(control.admin_at(0).missing(revision), ["lab-0", "lab-1"], "neither has confirmed");
    control.replica_number(0).kill();
    let connected_at_1 = || control.admin_at(1).get("/enclaves")["items"][0]["connected"] == true;
    eventually("the one that is behind knows that the other one is dead", || !connected_at_1());
    assert!(control.admin_at(1).missing(revision).contains(&"lab-0".to_owned()), "its broker may serve on");
}

#[test]
fn a_key_is_changed_while_replicas_serve_and_they_follow() {
    let Some(mut control) = two_replicas("a_key_is_changed_while_replicas_serve_and_they_follow") else {
        return;
    };
    let mut world = World::single().control_at(&control, &control.url_of(1)).build();
    let token = control.admin().plant("alpha", "gitlab");
    world.start();
    let new = control.ground.path("keys/new-kek");
    control.write_private(&new, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
    run(&mut control.command(&["rekey", "--new-kek-file", new.to_str().unwrap()])).success();
    for replica in 0..2 {
        let revision = control.admin_at(replica).set_secret(Some("alpha"), "NAME", &format!("at {replica}"));
        control.admin_at(replica).delivered(revision);
    }
    control.kill();
    let refused = run(&mut control.command(&["serve"]));
    assert_eq!(refused.status, 78, "the old key opens nothing: {}", refused.stderr);
    control.assert_clean("the refusal", refused.stderr.as_bytes());
    std::fs::copy(&new, control.kek_path()).unwrap();
    control.start_all();
    world.kill();
    world.start();
    let caller = world.caller("alpha");
    assert_eq!(served(&caller).as_deref(), Some(&*token));
    assert_eq!(caller.get("/v1/agent/secrets/NAME").json()["value"], "at 1");
}
