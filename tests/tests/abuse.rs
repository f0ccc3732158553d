//! Hostile clients: the broker stays up, and others are served.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use dvx_tests::{
    Caller, CallerSpec, Connection, Request, World, eventually, fresh_uid, skip, skip_without_root,
};

const WHOAMI: &str = "/v1/agent/whoami";

/// Sends a byte to each connection in turn until told to stop; dead ones are left out.
fn drip(mut connections: Vec<Connection>, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let bytes = Request::get(WHOAMI).header("X-Slow", &"x".repeat(4000)).bytes("dvx");
    thread::spawn(move || {
        for byte in bytes.iter().cycle() {
            connections.retain_mut(|connection| connection.send(&[*byte]).is_ok());
            if stop.load(Ordering::Relaxed) {
                return;
            }
            thread::sleep(std::time::Duration::from_millis(20));
        }
    })
}

#[test]
fn two_hundred_slow_connections_of_one_user_leave_the_others_served() {
    if skip_without_root("two_hundred_slow_connections_of_one_user_leave_the_others_served") {
        return;
    }
    let mut world = World::pair().build();
    let token = world.plant("beta", "gitlab");
    world.start();
    let (alpha, beta) = (world.caller("alpha"), world.caller("beta"));
    let stranger = world.caller_as(CallerSpec::user(fresh_uid()));
    let slow: Vec<_> = (0..200).map(|_| alpha.unix()).chain((0..200).map(|_| stranger.unix())).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let dripping = drip(slow, Arc::clone(&stop));
    for _ in 0..100 {
        let answer = beta.get("/v1/agent/credentials/gitlab");
        assert_eq!(answer.json()["token"], token.as_str(), "{answer:?}");
    }
    stop.store(true, Ordering::Relaxed);
    dripping.join().unwrap();
    eventually("the slow one's places are free again", || alpha.get(WHOAMI).status == 200);
}

#[test]
fn a_broker_out_of_descriptors_recovers() {
    let mut world = World::single()
        .set("limits", "connections", "1000")
        .set("limits", "total_connections", "1000")
        .descriptors(48)
        .build();
    world.plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    let held: Vec<_> = (0..120).filter_map(|_| caller.try_unix().ok()).collect();
    assert!(held.len() > 48, "the backlog takes what the broker cannot");
    // Upstream and audit need descriptors of their own meanwhile.
    let token = world.plant("alpha", "gitlab");
    drop(held);
    eventually("served again, and the change was seen", || {
        let answer = caller.get("/v1/agent/credentials/gitlab");
        answer.status == 200 && answer.json()["token"] == token.as_str()
    });
    let complaints = world.log().lines().filter(|line| line.contains("accept")).count();
    assert!(complaints < 200, "the accept loop backs off: {complaints} lines");
}

#[test]
fn ten_thousand_connections_leave_no_descriptor_behind() {
    const NAME: &str = "ten_thousand_connections_leave_no_descriptor_behind";
    let mut world = World::single().tcp().set("limits", "connections", "1000").build();
    world.start();
    let pid = world.broker().pid();
    let descriptors = || fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count);
    if descriptors().is_err() {
        return skip(NAME, "a non-dumpable process shows its descriptors to root only");
    }
    let caller = world.caller("alpha");
    assert_eq!(caller.get(WHOAMI).status, 200);
    let before = descriptors().unwrap();
    for round in 0..10_000 {
        match round % 4 {
            0 => drop(caller.unix()),
            1 => drop(caller.tcp()),
            2 => drop(caller.unix().send(b"GET / HT")),
            _ => drop(caller.unix().send(&Request::get(WHOAMI).bytes("dvx"))),
        }
    }
    eventually("all are closed", || descriptors().unwrap() <= before + 1);
    assert_eq!(caller.get(WHOAMI).status, 200);
}

#[test]
fn clients_that_hang_up_before_the_answer_do_no_harm() {
    let mut world = World::single().tcp().build();
    world.plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    for transport in [Caller::unix, Caller::tcp] {
        for _ in 0..300 {
            let mut connection = transport(&caller);
            connection.send(&Request::get("/v1/agent/credentials/gitlab").bytes("dvx").repeat(20)).unwrap();
        }
    }
    // Until the last of them is cleared away, their user may be told that it has too many.
    eventually("served", || {
        let mut connection = caller.unix();
        let request = Request::get("/v1/agent/credentials/gitlab").bytes("dvx");
        connection.send(&request).is_ok() && connection.response().is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn a_state_change_is_made_although_its_client_hung_up() {
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    let request =
        Request::post("/v1/agent/credentials/gitlab/rejected").json(r#"{"fingerprint":"0123456789abcdef"}"#);
    let audited =
        || world.audit().iter().filter(|line| line.text_of("action") == "credential.rejected").count();
    for _ in 0..50 {
        caller.unix().send(&request.bytes("dvx")).unwrap();
    }
    eventually("each is on record", || audited() == 50);
}

#[test]
fn a_client_that_closes_its_sending_half_gets_its_answer() {
    let mut world = World::single().tcp().build();
    world.start();
    let caller = world.caller("alpha");
    let token = caller.token();
    for mut connection in [caller.unix(), caller.tcp()] {
        let request = Request::get(WHOAMI).bearer(&token);
        // On TCP the owner of a socket that is half closed before it was looked at cannot be told.
        assert_eq!(connection.exchange(&request).status, 200);
        let request = request.bytes(connection.host());
        connection.send(&request).unwrap();
        connection.finish_sending();
        assert_eq!(connection.response().unwrap().status, 200);
        connection.assert_closed();
    }
}

#[test]
fn endless_input_without_a_newline_is_cut_off() {
    let mut world = World::single().build();
    world.start();
    let caller = world.caller("alpha");
    for start in ["", "GET /v1/agent/whoami HTTP/1.1\r\nHost: dvx\r\nX: "] {
        let mut connection = caller.unix();
        connection.send(start.as_bytes()).unwrap();
        let chunk = vec![b'a'; 64 * 1024];
        let sent = (0..1000).take_while(|_| connection.send(&chunk).is_ok()).count();
        assert!(sent < 1000, "64 MiB were taken");
    }
    assert_eq!(caller.get(WHOAMI).status, 200);
}

#[test]
fn random_bytes_get_an_answer_or_an_end() {
    let mut world = World::single().build();
    world.start();
    let caller = world.caller("alpha");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..300 {
        // xorshift64: the same bytes in each run.
        let mut bytes: Vec<u8> = Vec::new();
        for _ in 0..40 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend(state.to_le_bytes());
        }
        let mut connection = caller.unix();
        drop(connection.send(b"GET "));
        drop(connection.send(&bytes));
        drop(connection.send(b"\r\n\r\n"));
        connection.finish_sending();
        let words = connection.read_to_end();
        assert!(words.is_empty() || words.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&words));
    }
    assert_eq!(caller.get(WHOAMI).status, 200);
}

#[test]
fn refused_callers_cost_no_memory() {
    if skip_without_root("refused_callers_cost_no_memory") {
        return;
    }
    let mut world = World::single().tcp().build();
    world.start();
    let pid = world.broker().pid();
    let anonymous = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let attack = |rounds: usize| {
        for round in 0..rounds {
            let stranger = world.caller("alpha");
            let mut connection = stranger.unix();
            for index in 0..20 {
                let token = format!("{round}.{index}.{}", "x".repeat(2000));
                connection.exchange(&Request::get(WHOAMI).bearer(&token));
            }
        }
    };
    attack(20);
    let before = anonymous();
    attack(60);
    let grown = anonymous().saturating_sub(before);
    assert!(grown < 1024, "{grown} KiB more after a thousand false tokens");
}
