//! When the agent's token is sent, and when it is not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::stub::{Stub, TOKEN, gitlab, problem, ran};

const GET: &[&str] = &["credentials", "get", "gitlab"];

fn sent(stub: &Stub) -> Option<String> {
    let head = stub.asked().pop().unwrap().head;
    head.lines().find_map(|line| line.strip_prefix("Authorization: ")).map(str::to_owned)
}

fn write_usual_token(stub: &Stub, text: &str) {
    fs::create_dir(stub.home().join(".dvx")).unwrap();
    fs::write(stub.home().join(".dvx/token"), text).unwrap();
}

#[test]
fn on_the_unix_socket_a_stale_token_stops_nothing() {
    let stub = Stub::gitlab();
    write_usual_token(&stub, "stale and broken");
    stub.run(GET).assert_printed(TOKEN);
    assert_eq!(sent(&stub), None);
}

#[test]
fn a_token_file_that_is_named_is_used_on_every_transport() {
    for stub in [Stub::gitlab(), Stub::tcp(gitlab)] {
        let file = stub.path().join("named");
        fs::write(&file, "eyJ.a.b\n").unwrap();
        ran(stub.dvxir(GET).env("DVX_TOKEN_FILE", &file)).assert_printed(TOKEN);
        assert_eq!(sent(&stub).as_deref(), Some("Bearer eyJ.a.b"));
        fs::remove_file(&file).unwrap();
        ran(stub.dvxir(GET).env("DVX_TOKEN_FILE", &file)).assert_printed(TOKEN);
        assert_eq!(sent(&stub), None);
    }
}

#[test]
fn over_tcp_the_usual_token_is_sent() {
    let stub = Stub::tcp(gitlab);
    write_usual_token(&stub, "eyJ.a.b");
    stub.run(GET).assert_printed(TOKEN);
    assert_eq!(sent(&stub).as_deref(), Some("Bearer eyJ.a.b"));
    let host = format!("Host: localhost:{}", stub.url().rsplit(':').next().unwrap());
    assert!(stub.asked()[0].head.lines().any(|line| line == host));
}

#[test]
fn a_token_that_would_break_the_request_is_not_sent() {
    for text in ["a\r\nX-Evil: 1", "a b", "", "é", &"x".repeat(9000)] {
        let stub = Stub::tcp(gitlab);
        write_usual_token(&stub, text);
        stub.run(GET).assert_failed(4);
        assert_eq!(stub.lines(), [""; 0]);
    }
}

#[test]
fn a_token_file_that_cannot_be_read_is_named() {
    let stub = Stub::tcp(gitlab);
    fs::create_dir_all(stub.home().join(".dvx/token")).unwrap();
    let ran = stub.run(GET);
    ran.assert_failed(4);
    assert!(ran.stderr.contains(".dvx/token: is a directory\n"), "{ran:?}");
    fs::set_permissions(stub.home().join(".dvx"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn without_a_token_over_tcp_the_hint_says_where_one_comes_from() {
    let stub = Stub::tcp(|_| problem(401, "token-missing"));
    let ran = stub.run(GET);
    ran.assert_failed(4);
    assert!(ran.stderr.contains("\nhint: dvxir init links ~/.dvx/token"), "{ran:?}");
}

#[test]
fn every_request_is_framed_as_the_broker_wants_it() {
    let stub = Stub::gitlab();
    stub.run(GET);
    assert_eq!(
        stub.asked()[0].head,
        "GET /v1/agent/credentials/gitlab HTTP/1.1\r\nHost: localhost\r\nConnection: close"
    );
}
