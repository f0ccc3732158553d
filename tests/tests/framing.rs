//! Requests that are not quite HTTP/1.1, or not what a broker takes: answered as problems, then closed.

use dvx_proto::Code;
use dvx_tests::{Caller, Connection, Request, World};

fn started(world: &mut World) -> Caller {
    world.plant("alpha", "gitlab");
    world.start();
    world.caller("alpha")
}

const PATH: &str = "/v1/agent/whoami";

/// Heads and bodies that are refused with 400 on both transports. `HOST` stands for a good host.
const BAD: &[(&str, &str)] = &[
    ("no host", "GET /v1/agent/whoami HTTP/1.1\r\n\r\n"),
    ("two hosts", "GET /v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n"),
    ("two different hosts", "GET /v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\nhost: evil.example\r\n\r\n"),
    ("absolute form", "GET http://HOST/v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("absolute form elsewhere", "GET http://evil.example/v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("authority form", "CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("authority form of another method", "GET evil.example:80 HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("HTTP/1.0", "GET /v1/agent/whoami HTTP/1.0\r\nHost: HOST\r\n\r\n"),
    ("HTTP/1.2", "GET /v1/agent/whoami HTTP/1.2\r\nHost: HOST\r\n\r\n"),
    ("HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("HTTP/0.9", "GET /v1/agent/whoami\r\n\r\n"),
    ("a body on GET", "GET /v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\n\r\n{}"),
    (
        "a chunked body on GET",
        "GET /v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a chunked body on POST",
        "POST /v1/agent/git-credential HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ),
    (
        "a length beside chunked",
        "POST /v1/agent/git-credential HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "two codings",
        "POST /v1/agent/git-credential HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "the identity coding",
        "POST /v1/agent/git-credential HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: identity\r\n\r\n",
    ),
    (
        "two lengths that differ",
        "POST /v1/agent/git-credential HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    ),
    (
        "a signed length",
        "POST /v1/agent/git-credential HTTP/1.1\r\nHost: HOST\r\nContent-Length: +2\r\n\r\n{}",
    ),
    (
        "a negative length",
        "POST /v1/agent/git-credential HTTP/1.1\r\nHost: HOST\r\nContent-Length: -1\r\n\r\n",
    ),
    (
        "a hexadecimal length",
        "POST /v1/agent/git-credential HTTP/1.1\r\nHost: HOST\r\nContent-Length: 0x2\r\n\r\n{}",
    ),
    ("a folded field", "GET /v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\nX-A: 1\r\n 2\r\n\r\n"),
    ("a space before the colon", "GET /v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\nX-A : 1\r\n\r\n"),
    ("a bare carriage return", "GET /v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\nX-A: 1\rX-B: 2\r\n\r\n"),
    ("a NUL", "GET /v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\nX-A: \0\r\n\r\n"),
    ("two spaces", "GET  /v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    ("a field without a name", "GET /v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\n: x\r\n\r\n"),
    ("a field without a colon", "GET /v1/agent/whoami HTTP/1.1\r\nHost: HOST\r\nnonsense\r\n\r\n"),
    ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{0}\r\n\r\n"),
    ("nonsense", "\r\n\r\n\0\0\0\0\r\n\r\n"),
];

#[test]
fn malformed_requests_get_a_problem_on_the_unix_socket() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    for (what, text) in BAD {
        check_bad(what, text, "dvx", caller.unix());
    }
    assert_eq!(caller.get(PATH).status, 200);
}

#[test]
fn malformed_requests_get_a_problem_on_the_loopback_listener() {
    let mut world = World::single().tcp().build();
    let caller = started(&mut world);
    let host = world.tcp().to_string();
    let token = caller.token();
    for (what, text) in BAD {
        let text =
            text.replacen("Host: HOST\r\n", &format!("Host: HOST\r\nAuthorization: Bearer {token}\r\n"), 1);
        check_bad(what, &text, &host, caller.tcp());
    }
}

fn check_bad(what: &str, text: &str, host: &str, mut connection: Connection) {
    // What follows on the same connection must never be taken for a request.
    let smuggled = format!("GET {PATH} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    drop(connection.send((text.replace("HOST", host) + &smuggled).as_bytes()));
    let answer = connection.response().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(answer.problem(), Code::BadRequest, "{what}");
    let rest = connection.read_to_end();
    assert!(rest.is_empty(), "{what}: {}", String::from_utf8_lossy(&rest));
}

#[test]
fn a_request_that_asks_everything_of_the_server_is_refused() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    let answer = caller.unix().exchange_bytes(b"OPTIONS * HTTP/1.1\r\nHost: dvx\r\n\r\n");
    assert!(matches!(answer.problem(), Code::BadRequest | Code::NotFound), "{answer:?}");
}

#[test]
fn a_head_has_at_most_sixteen_kibibytes() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    let padded = |size: usize| Request::get(PATH).header("X-Padding", &"x".repeat(size));
    assert_eq!(caller.send(&padded(15 * 1024)).status, 200);
    for size in [16 * 1024, 20 * 1024, 100_000, 600_000] {
        assert_eq!(caller.send(&padded(size)).problem(), Code::HeadersTooLarge, "{size}");
    }
    let long = Request::get(&format!("/v1/agent/credentials/{}", "a".repeat(70_000)));
    assert_eq!(caller.send(&long).problem(), Code::HeadersTooLarge);
}

#[test]
fn a_head_has_at_most_sixty_four_fields() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    let with_fields = |count: usize| {
        // `Host` is one of them.
        (1..count).fold(Request::get(PATH), |request, index| request.header(&format!("X-{index}"), "1"))
    };
    assert_eq!(caller.send(&with_fields(64)).status, 200);
    for count in [65, 101, 1000] {
        assert_eq!(caller.send(&with_fields(count)).problem(), Code::HeadersTooLarge, "{count}");
    }
}

#[test]
fn a_body_has_at_most_sixty_four_kibibytes() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    let body = |size: usize| {
        let start = r#"{"protocol":"https","host":"gitlab.com","x":""#;
        format!("{start}{}\"}}", "x".repeat(size - start.len() - 2))
    };
    assert_eq!(caller.post("/v1/agent/git-credential", &body(64 * 1024)).status, 200);
    for size in [64 * 1024 + 1, 1024 * 1024] {
        let answer = caller.post("/v1/agent/git-credential", &body(size));
        assert_eq!(answer.problem(), Code::BodyTooLarge, "{size}");
    }
    // The announced length is enough; nobody waits for the rest.
    let mut connection = caller.unix();
    let head = "POST /v1/agent/git-credential HTTP/1.1\r\nHost: dvx\r\nContent-Length: 99999999999\r\n\r\n";
    assert_eq!(connection.exchange_bytes(head.as_bytes()).problem(), Code::BodyTooLarge);
}

#[test]
fn a_refused_request_is_not_followed_by_a_smuggled_one() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    // An unread body must not be read as the next request, whatever the route says of it.
    for target in ["/v1/agent/nothing", "/v1/agent/token", "/v1/agent/git-credential"] {
        let hidden = "GET /v1/agent/credentials/gitlab HTTP/1.1\r\nHost: dvx\r\n\r\n";
        let length = hidden.len();
        let request =
            format!("POST {target} HTTP/1.1\r\nHost: dvx\r\nContent-Length: {length}\r\n\r\n{hidden}");
        let mut connection = caller.unix();
        connection.send(request.as_bytes()).unwrap();
        connection.finish_sending();
        let answers = String::from_utf8_lossy(&connection.read_to_end()).into_owned();
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{target}: {answers}");
        assert!(!answers.contains("glpat-"), "{target}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    let mut connection = caller.unix();
    let one = Request::get("/v1/agent/nothing").bytes("dvx");
    let two = Request::get(PATH).bytes("dvx");
    connection.send(&[one, two].concat()).unwrap();
    assert_eq!(connection.response().unwrap().problem(), Code::NotFound);
    assert_eq!(connection.response().unwrap().status, 200);
}

#[test]
fn an_upgrade_is_never_made() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    for (upgrade, extra) in [("websocket", "Sec-WebSocket-Version"), ("h2c", "HTTP2-Settings")] {
        let request = Request::get(PATH)
            .header("Connection", &format!("Upgrade, {extra}"))
            .header("Upgrade", upgrade)
            .header(extra, "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        let answer = caller.send(&request);
        answer.assert_standard_headers();
        assert_ne!(answer.status, 101, "{upgrade}");
        assert_eq!(answer.header("upgrade"), None);
    }
}

#[test]
fn a_client_that_waits_for_a_go_ahead_gets_one() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    let mut connection = caller.unix();
    let body = r#"{"protocol":"https","host":"gitlab.com"}"#;
    let head = Request::post("/v1/agent/git-credential")
        .header("Content-Length", &body.len().to_string())
        .header("Expect", "100-continue");
    connection.send(&head.bytes("dvx")).unwrap();
    assert_eq!(connection.response().unwrap().status, 100);
    connection.send(body.as_bytes()).unwrap();
    assert_eq!(connection.response().unwrap().status, 200);
}
