//! The loopback listener: who is at the other end, and did the request come straight from an agent?

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use dvx_proto::Code;
use dvx_tests::{
    Agent, Caller, CallerSpec, Cgroup, Connection, Request, World, eventually_some, fresh_uid, run, skip,
    skip_without_root,
};
use nix::sys::signal::Signal;
use rustix::net::sockopt::set_socket_linger;

const WHOAMI: &str = "/v1/agent/whoami";
const GITLAB: &str = "/v1/agent/credentials/gitlab";

fn whoami(caller: &Caller, token: &str) -> dvx_tests::Response {
    caller.tcp().exchange(&Request::get(WHOAMI).bearer(token))
}

#[test]
fn the_owner_of_the_socket_and_a_token_are_both_needed() {
    if skip_without_root("the_owner_of_the_socket_and_a_token_are_both_needed") {
        return;
    }
    let mut world = World::pair().tcp().build();
    let secret = world.plant("alpha", "gitlab");
    world.start();
    let (alpha, beta) = (world.caller("alpha"), world.caller("beta"));
    let token = alpha.token();
    assert_eq!(alpha.tcp().exchange(&Request::get(GITLAB).bearer(&token)).json()["token"], secret.as_str());
    assert_eq!(alpha.tcp().exchange(&Request::get(GITLAB)).problem(), Code::TokenMissing);
    assert_eq!(whoami(&beta, &token).problem(), Code::PeerMismatch, "a stolen token");
    for uid in [fresh_uid(), 0, 65534, world.broker_uid] {
        let thief = world.caller_as(CallerSpec::user(uid));
        assert_eq!(whoami(&thief, &token).problem(), Code::PeerUnknown, "a stolen token under uid {uid}");
    }
}

#[test]
fn tokens_are_given_out_on_the_unix_socket_only() {
    let mut world = World::single().tcp().build();
    world.start();
    let alpha = world.caller("alpha");
    let request = Request::post("/v1/agent/token");
    let answer = alpha.tcp().exchange(&request.clone().bearer(&alpha.token()));
    assert_eq!(answer.problem(), Code::ForbiddenTransport);
    assert_eq!(alpha.tcp().exchange(&request).problem(), Code::TokenMissing);
}

#[test]
fn a_client_of_the_other_family_is_the_same_client() {
    let mut world = World::single().tcp().build();
    world.start();
    let alpha = world.caller("alpha");
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{}", world.tcp().port()).parse().unwrap();
    let Ok(stream) = alpha.tcp_stream_to(mapped, None) else {
        return skip("a_client_of_the_other_family_is_the_same_client", "no IPv6 on this machine");
    };
    let request =
        Request::get(WHOAMI).bearer(&alpha.token()).without_host().header("Host", &world.tcp().to_string());
    assert_eq!(Connection::tcp(stream).exchange(&request).status, 200);
}

#[test]
fn the_ipv6_loopback_works_too() {
    if TcpListener::bind("[::1]:0").is_err() {
        return skip("the_ipv6_loopback_works_too", "no IPv6 on this machine");
    }
    let mut world = World::single().set("listen", "tcp", "\"[::1]:0\"").build();
    world.start();
    let alpha = world.caller("alpha");
    assert_eq!(whoami(&alpha, &alpha.token()).status, 200);
    let port = world.tcp().port();
    let evil = Request::get(WHOAMI).bearer(&alpha.token()).without_host();
    assert_eq!(alpha.tcp().exchange(&evil.clone().header("Host", &format!("localhost:{port}"))).status, 200);
    let answer = alpha.tcp().exchange(&evil.header("Host", &format!("[::2]:{port}")));
    assert_eq!(answer.problem(), Code::ForbiddenOrigin);
}

#[test]
fn only_loopback_addresses_are_listened_on() {
    for address in
        ["0.0.0.0:0", "[::]:0", "10.1.2.3:8471", "[::ffff:10.0.0.1]:1", "example.com:80", "127.0.0.1"]
    {
        let world = World::single().set("listen", "tcp", &format!("{address:?}")).build();
        let mut command = world.broker_command(&["check", "--config"]);
        let outcome = run(command.arg(world.config_path()));
        assert_eq!(outcome.status, 78, "{address}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("tcp"), "{address}: {}", outcome.stderr);
    }
}

#[test]
fn hosts_that_a_rebound_name_would_send_are_refused() {
    let mut world = World::single().tcp().build();
    world.start();
    let alpha = world.caller("alpha");
    let token = alpha.token();
    let port = world.tcp().port();
    let with_host = |host: &str| {
        let request = Request::get(WHOAMI).bearer(&token).without_host().header("Host", host);
        alpha.tcp().exchange(&request)
    };
    for good in ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"] {
        assert_eq!(with_host(&format!("{good}:{port}")).status, 200, "{good}");
    }
    let mut bad: Vec<String> = [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "127.1",
        "0.0.0.0",
        "10.0.0.1",
        "2130706433",
        "0x7f000001",
        "[::]",
        "[::ffff:127.0.0.1]",
        "::1",
        "localhost.",
        "user@localhost",
        "xlocalhost",
        "",
    ]
    .iter()
    .map(|host| format!("{host}:{port}"))
    .collect();
    bad.extend(
        ["localhost", "127.0.0.1", "[::1]", "localhost:1", "127.0.0.1:80", "localhost:"].map(String::from),
    );
    bad.extend([
        format!("localhost:0{port}"),
        format!("localhost:{port}:{port}"),
        format!("localhost:{port}/x"),
    ]);
    for host in &bad {
        let code = with_host(host).problem();
        assert!(matches!(code, Code::ForbiddenOrigin | Code::BadRequest), "{host}: {code}");
    }
    assert_eq!(with_host(&format!("evil.example:{port}")).problem(), Code::ForbiddenOrigin);
}

#[test]
fn requests_by_way_of_a_browser_or_a_proxy_are_refused() {
    let mut world = World::single().tcp().build();
    world.start();
    let alpha = world.caller("alpha");
    let token = alpha.token();
    let port = world.tcp().port();
    for (name, value) in [
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("origin", ""),
        ("Origin", &format!("http://127.0.0.1:{port}")),
        ("Sec-Fetch-Site", "same-origin"),
        ("Sec-Fetch-Site", "none"),
        ("Via", "1.1 proxy"),
        ("Forwarded", "for=127.0.0.1"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Proxy-Connection", "keep-alive"),
    ] {
        for target in [WHOAMI, "/v1/agent/discover"] {
            let answer = alpha.tcp().exchange(&Request::get(target).bearer(&token).header(name, value));
            assert_eq!(answer.problem(), Code::ForbiddenOrigin, "{name}: {value} for {target}");
        }
    }
}

#[test]
fn a_browser_is_never_allowed_to_read_an_answer() {
    let mut world = World::single().tcp().build();
    world.start();
    let alpha = world.caller("alpha");
    let preflight = Request::new("OPTIONS", GITLAB)
        .header("Origin", "http://evil.example")
        .header("Access-Control-Request-Method", "GET")
        .header("Access-Control-Request-Headers", "authorization")
        .header("Access-Control-Request-Private-Network", "true");
    for mut connection in [alpha.tcp(), alpha.unix()] {
        let answer = connection.exchange(&preflight);
        assert!(answer.status >= 400, "{answer:?}");
        let allowed = answer.headers.iter().find(|(name, _)| name.starts_with("access-control-"));
        assert_eq!(allowed, None);
    }
}

#[test]
fn on_the_unix_socket_any_single_host_will_do() {
    let mut world = World::single().build();
    world.start();
    let alpha = world.caller("alpha");
    for host in ["dvx", "localhost", "anything.example:1234"] {
        let request = Request::get(WHOAMI).without_host().header("Host", host);
        assert_eq!(alpha.send(&request).status, 200, "{host}");
    }
}

/// A world in which a misread owner would be somebody: root, the broker's own user and a victim are all agents.
fn world_of_victims() -> (World, String) {
    let builder = World::single().agent(Agent::new("rooted", 0)).tcp();
    let mut world = builder.build();
    world.config.agents.push(Agent::new("self", world.broker_uid));
    world.write_config();
    for agent in ["alpha", "rooted", "self"] {
        world.plant(agent, "gitlab");
    }
    world.start();
    let token = world.caller("alpha").token();
    (world, token)
}

/// Sends a request with a stolen token while the broker is stopped, lets `after` happen to the connection, and
/// checks that the broker took the request for nobody's.
fn attack(name: &str, after: impl FnOnce(&World, &Caller, std::net::TcpStream, SocketAddr) -> Vec<OwnedFd>) {
    let (mut world, token) = world_of_victims();
    let attacker = world.caller_as(CallerSpec::user(fresh_uid()));
    let victim = world.caller("alpha");
    let from = free_port();
    let before = world.audit().len();
    world.broker().signal(Signal::SIGSTOP);
    let stream = attacker.tcp_stream(Some(from)).unwrap();
    let mut connection = Connection::tcp(stream.try_clone().unwrap());
    connection.send(&Request::get(GITLAB).bearer(&token).bytes(&world.tcp().to_string())).unwrap();
    drop(connection);
    let kept = after(&world, &victim, stream, from);
    world.broker().signal(Signal::SIGCONT);
    // An honest request afterwards: connections are accepted in their order.
    assert_eq!(whoami(&victim, &token).status, 200);
    let audit = world.audit();
    let attacker_uid = u64::from(attacker.spec.uid);
    for line in &audit[before..] {
        if line.text_of("action") != "whoami" {
            assert_ne!(line.text_of("decision"), "served", "{name}: {}", line.text);
        }
        let uid = line.text_of("uid");
        let fine = uid.is_empty() || uid == attacker_uid.to_string() || uid == victim.spec.uid.to_string();
        assert!(fine, "{name}: {}", line.text);
    }
    drop(kept);
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_closed_client_is_not_taken_for_root() {
    if skip_without_root("a_closed_client_is_not_taken_for_root") {
        return;
    }
    attack("closed client", |_, _, stream, _| {
        drop(stream);
        Vec::new()
    });
}

#[test]
fn a_reset_connection_is_not_taken_for_its_ports_next_owners() {
    if skip_without_root("a_reset_connection_is_not_taken_for_its_ports_next_owners") {
        return;
    }
    attack("reset and port reuse", |_, victim, stream, from| {
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        let next = eventually_some("a reset port is free", || victim.tcp_stream(Some(from)).ok());
        vec![next.into()]
    });
}

#[test]
fn a_dead_connection_is_not_taken_for_a_listener_on_its_port() {
    if skip_without_root("a_dead_connection_is_not_taken_for_a_listener_on_its_port") {
        return;
    }
    attack("listener fallback", |_, victim, stream, from| {
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        vec![victim.listen(from).expect("a reset port is free at once").into()]
    });
}

#[test]
fn a_connection_is_not_taken_for_the_brokers_own_end() {
    if skip_without_root("a_connection_is_not_taken_for_the_brokers_own_end") {
        return;
    }
    // With the two ends swapped, the kernel names the owner of the accepted socket: the broker.
    let (world, _) = world_of_victims();
    let own = world.caller("self").token();
    let attacker = world.caller_as(CallerSpec::user(fresh_uid()));
    assert_eq!(whoami(&attacker, &own).problem(), Code::PeerUnknown);
    assert_eq!(whoami(&world.caller("self"), &own).status, 200);
    let rooted = world.caller("rooted").token();
    assert_eq!(whoami(&attacker, &rooted).problem(), Code::PeerUnknown);
}

#[test]
fn a_containers_root_is_not_the_hosts_root_here_either() {
    if skip_without_root("a_containers_root_is_not_the_hosts_root_here_either") {
        return;
    }
    let (world, _) = world_of_victims();
    let token = world.caller("rooted").token();
    let mut spec = CallerSpec::user(0);
    // Its /proc is the host's, as in a container that shares the network and little else.
    spec.before_user = ["unshare", "--pid", "--fork", "--kill-child"].map(String::from).into();
    let answer = whoami(&world.caller_as(spec), &token);
    // Where the broker may not look at root's processes it cannot tell, and refuses both.
    assert!(matches!(answer.problem(), Code::PeerUnknown), "{answer:?}");
}

#[test]
fn selectors_hold_on_tcp() {
    const NAME: &str = "selectors_hold_on_tcp";
    if skip_without_root(NAME) {
        return;
    }
    let (by_unit, by_group) = (fresh_uid(), fresh_uid());
    let unit = format!("dvxt{by_unit}.service");
    let Some(cgroup) = Cgroup::create(&unit) else { return skip(NAME, "no control groups here") };
    let mut world = World::builder()
        .tcp()
        .agent(Agent::new("by-unit", by_unit).unit(&unit))
        .agent(Agent::new("by-group", by_group).gid(by_unit))
        .build();
    world.start();
    let right = world.caller_as(CallerSpec::user(by_unit).in_cgroup(&cgroup));
    let token = right.token();
    assert_eq!(whoami(&right, &token).status, 200);
    let wrong = world.caller_as(CallerSpec::user(by_unit));
    assert_eq!(whoami(&wrong, &token).problem(), Code::PeerUnknown);
    drop((right, wrong));

    let member = world.caller_as(CallerSpec::user(by_group).with_groups(&[by_unit]));
    let token = member.token();
    assert_eq!(whoami(&member, &token).status, 200);
    // TCP names no process: while another process of that user lacks the group, nobody can be sure.
    let outsider = world.caller_as(CallerSpec::user(by_group));
    assert_eq!(whoami(&outsider, &token).problem(), Code::PeerUnknown);
}
