//! Requests that are not quite HTTP/1.1, or not what a broker takes: answered as problems, then closed.

use dvx_proto::Code;
use dvx_tests::{Caller, Connection, MALFORMED, Request, World};

fn started(world: &mut World) -> Caller {
    world.plant("alpha", "gitlab");
    world.start();
    world.caller("alpha")
}

const PATH: &str = "/v1/agent/whoami";

#[test]
fn malformed_requests_get_a_problem_on_the_unix_socket() {
    let mut world = World::single().build();
    let caller = started(&mut world);
    for (what, text) in MALFORMED {
        check_bad(what, text, "dvx", caller.unix());
    }
    assert_eq!(caller.get(PATH).status, 200);
    let smuggled =
        world.audit().into_iter().filter(|line| line.text_of("action") == "credential.get").count();
    assert_eq!(smuggled, 0, "nothing behind a malformed request was carried out");
}

#[test]
fn malformed_requests_get_a_problem_on_the_loopback_listener() {
    let mut world = World::single().tcp().build();
    let caller = started(&mut world);
    let host = world.tcp().to_string();
    let token = caller.token();
    for (what, text) in MALFORMED {
        let text =
            text.replacen("Host: HOST\r\n", &format!("Host: HOST\r\nAuthorization: Bearer {token}\r\n"), 1);
        check_bad(what, &text, &host, caller.tcp());
    }
}

fn check_bad(what: &str, text: &str, host: &str, mut connection: Connection) {
    // What follows on the same connection must never be taken for a request.
    let smuggled = format!("GET /v1/agent/credentials/gitlab HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let text = text.replace("HOST", host).replace("PAGE", PATH).replace("FORM", "/v1/agent/git-credential");
    drop(connection.send((text + &smuggled).as_bytes()));
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
    for count in [65, 101, 1000, 3000] {
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
