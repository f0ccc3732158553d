//! What one caller may use up, and that nobody else pays for it.

use std::time::Duration;

use dvx_proto::Code;
use dvx_tests::{
    Caller, CallerSpec, Connection, Request, World, eventually, fresh_uid, run, skip_without_root, within,
};

const WHOAMI: &str = "/v1/agent/whoami";

/// Connections of which the broker has accepted each.
fn hold(caller: &Caller, count: usize) -> Vec<Connection> {
    let held = (0..count).map(|_| {
        let mut connection = caller.unix();
        assert_eq!(connection.exchange(&Request::get("/v1/agent/discover")).status, 200);
        connection
    });
    held.collect()
}

#[test]
fn requests_above_the_rate_are_refused_and_told_when_to_come_back() {
    let mut world = World::single().set("limits", "requests_per_second", "5").build();
    world.plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    let mut connection = caller.unix();
    let answers: Vec<_> =
        (0..60).map(|_| connection.exchange(&Request::get("/v1/agent/credentials/gitlab"))).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert_eq!(answers[0].status, 200);
    assert!(refused.len() > 20, "{} of 60 were refused", refused.len());
    for answer in refused {
        assert_eq!(answer.problem(), Code::RateLimited);
        let wait: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("whole seconds");
        assert!((1..=10).contains(&wait), "{wait}");
    }
    eventually("the rate recovers", || caller.get(WHOAMI).status == 200);
    assert!(world.audit().iter().any(|line| line.text_of("decision") == "limited"));
}

#[test]
fn one_agents_rate_is_not_anothers() {
    if skip_without_root("one_agents_rate_is_not_anothers") {
        return;
    }
    let mut world = World::pair().set("limits", "requests_per_second", "10").build();
    world.start();
    let (alpha, beta) = (world.caller("alpha"), world.caller("beta"));
    let mut busy = alpha.unix();
    let mut stranger = world.caller_as(CallerSpec::user(fresh_uid())).unix();
    let mut beta = beta.unix();
    for round in 0..5 {
        for _ in 0..30 {
            busy.exchange(&Request::get(WHOAMI));
            assert_eq!(stranger.exchange(&Request::get(WHOAMI)).problem(), Code::PeerUnknown);
        }
        assert_eq!(busy.exchange(&Request::get(WHOAMI)).problem(), Code::RateLimited);
        assert_eq!(beta.exchange(&Request::get(WHOAMI)).status, 200, "round {round}");
    }
}

#[test]
fn a_rate_of_zero_is_no_limit() {
    let mut world = World::single().set("limits", "requests_per_second", "0").build();
    world.start();
    let mut connection = world.caller("alpha").unix();
    for _ in 0..500 {
        assert_eq!(connection.exchange(&Request::get(WHOAMI)).status, 200);
    }
}

#[test]
fn connections_above_a_users_share_are_told_so() {
    let mut world = World::single().tcp().set("limits", "connections", "3").build();
    world.start();
    let caller = world.caller("alpha");
    let mut held = hold(&caller, 3);
    let answer = caller.get(WHOAMI);
    assert_eq!(answer.problem(), Code::TooManyConnections);
    let answer = caller.tcp().exchange(&Request::get(WHOAMI));
    assert_eq!(answer.problem(), Code::TooManyConnections, "a user has one share for both transports");
    assert_eq!(held[2].exchange(&Request::get(WHOAMI)).status, 200, "those who are in stay in");
    held.pop();
    eventually("a free place is taken", || caller.get(WHOAMI).status == 200);
}

#[test]
fn all_of_a_flood_are_told_so() {
    let mut world = World::single().set("limits", "connections", "4").build();
    world.start();
    let caller = world.caller("alpha");
    let _held = hold(&caller, 4);
    // They come faster than they go: far more of them than the broker waits for at a time.
    let mut flood: Vec<_> = (0..300).map(|_| caller.unix()).collect();
    for connection in &mut flood {
        let answer = connection.response().expect("an answer");
        assert_eq!(answer.problem(), Code::TooManyConnections);
    }
}

#[test]
fn one_users_connections_are_not_anothers() {
    if skip_without_root("one_users_connections_are_not_anothers") {
        return;
    }
    let mut world = World::pair().set("limits", "connections", "4").build();
    world.start();
    let (alpha, beta) = (world.caller("alpha"), world.caller("beta"));
    let stranger = world.caller_as(CallerSpec::user(fresh_uid()));
    let _held = (hold(&alpha, 4), hold(&stranger, 4));
    assert_eq!(alpha.get(WHOAMI).problem(), Code::TooManyConnections);
    assert_eq!(stranger.get(WHOAMI).problem(), Code::TooManyConnections);
    let _beta = hold(&beta, 3);
    assert_eq!(beta.get(WHOAMI).status, 200);
}

#[test]
fn users_without_an_agent_share_the_connections_of_one() {
    if skip_without_root("users_without_an_agent_share_the_connections_of_one") {
        return;
    }
    let mut world = World::single().tcp().set("limits", "connections", "4").build();
    world.start();
    let [first, second] = [fresh_uid(), fresh_uid()].map(|uid| world.caller_as(CallerSpec::user(uid)));
    let held = (hold(&first, 3), hold(&second, 1));
    for mut connection in [first.unix(), second.unix(), second.tcp()] {
        let answer = connection.exchange(&Request::get(WHOAMI));
        assert_eq!(answer.problem(), Code::TooManyConnections);
        assert!(answer.text().contains("users without an agent"), "{answer:?}");
    }
    assert_eq!(world.caller("alpha").get(WHOAMI).status, 200);
    drop(held);
    eventually("places are free again", || second.get(WHOAMI).status == 403);
}

#[test]
fn connections_above_the_total_are_told_so() {
    if skip_without_root("connections_above_the_total_are_told_so") {
        return;
    }
    let mut world = World::pair().set("limits", "total_connections", "5").build();
    world.start();
    let (alpha, beta) = (world.caller("alpha"), world.caller("beta"));
    let held = hold(&alpha, 5);
    assert_eq!(beta.get(WHOAMI).problem(), Code::TooManyConnections);
    assert_eq!(world.admin("/healthz").status, 200, "operators have their own door");
    assert_eq!(world.status()["connections"]["open"], 5);
    drop(held);
    eventually("places are free again", || beta.get(WHOAMI).status == 200);
    eventually("the count goes down", || world.status()["connections"]["open"].as_u64() <= Some(1));
}

#[test]
fn limits_without_a_meaning_are_refused() {
    for (key, value) in [
        ("connections", "0"),
        ("total_connections", "0"),
        ("connections", "-1"),
        ("requests_per_second", "-1"),
        ("requests_per_second", "\"many\""),
        ("requets_per_second", "5"),
    ] {
        let world = World::single().set("limits", key, value).build();
        let mut command = world.broker_command(&["check", "--config"]);
        let outcome = run(command.arg(world.config_path()));
        assert_eq!(outcome.status, 78, "{key} = {value}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(key), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "one line an error: {}", outcome.stderr);
    }
}

#[test]
fn a_client_that_says_nothing_is_let_go() {
    let mut world = World::single().tcp().build();
    world.start();
    let caller = world.caller("alpha");
    let mut silent = [caller.unix(), caller.tcp()];
    let mut half = caller.unix();
    half.send(b"GET /v1/agent/whoami HTTP/1.1\r\nHost: dvx\r\n").unwrap();
    for connection in &mut silent {
        assert!(connection.read_to_end().is_empty(), "closed without a word");
    }
    let words = half.read_to_end();
    assert!(words.is_empty() || words.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&words));
}

#[test]
fn a_body_that_never_comes_is_not_waited_for() {
    let mut world = World::single().build();
    world.start();
    let caller = world.caller("alpha");
    let mut connection = caller.unix();
    connection
        .send(b"POST /v1/agent/git-credential HTTP/1.1\r\nHost: dvx\r\nContent-Length: 10\r\n\r\n{")
        .unwrap();
    let answer = connection.response().expect("an answer or an end in time");
    assert_eq!(answer.problem(), Code::BadRequest);
    connection.assert_closed();
}

#[test]
fn a_client_that_never_reads_is_let_go() {
    let mut world =
        World::single().set("limits", "requests_per_second", "0").set("limits", "connections", "2").build();
    world.start();
    let caller = world.caller("alpha");
    let mut deaf = caller.unix();
    let requests = Request::get(WHOAMI).bytes("dvx").repeat(100);
    // Answers fill the socket's buffers until the broker can write no more, then requests do.
    let sender = std::thread::spawn(move || {
        while deaf.send(&requests).is_ok() {}
        deaf
    });
    let _other = hold(&caller, 1);
    // A client has half a minute to take its answer.
    let freed = within(Duration::from_secs(45), || (caller.get(WHOAMI).status == 200).then_some(()));
    assert!(freed.is_some(), "its place is never free again");
    drop(sender.join().unwrap());
}
