//! Control planes that misbehave, and what only looks like one.

use std::time::Duration;

use crate::stub::{Stub, ok};
use crate::support::{World, dvx, run};

fn status_of(answer: impl Into<Vec<u8>>) -> (i32, String, usize) {
    let answer = answer.into();
    let world = World::new(Stub::new(move |_, _| Some(answer.clone())));
    let outcome = world.run("agent list");
    assert_eq!(outcome.stdout, "");
    (outcome.status, outcome.stderr, world.stub.asked().len())
}

#[test]
fn garbage_is_not_a_control_plane() {
    for garbage in [
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n<p>hi",
        "HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n[{\"items\":1}]\n",
    ] {
        let (status, stderr, _) = status_of(garbage);
        assert_eq!(status, 1, "{garbage}: {stderr}");
        assert!(stderr.contains("is not a control plane that this version understands"), "{stderr}");
    }
}

#[test]
fn redirects_are_not_followed() {
    let redirect = "HTTP/1.1 307 X\r\nlocation: /api/v1/whoami\r\ncontent-length: 0\r\n\r\n";
    let (status, stderr, asked) = status_of(redirect);
    assert_eq!((status, asked), (1, 1));
    assert_eq!(stderr, "dvx: cannot list the agents: the control plane answered 307\n");
}

#[test]
fn an_answer_that_is_too_long_is_not_taken_in() {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec();
    answer.resize(17 * 1024 * 1024 + 1000, b' ');
    let (status, stderr, _) = status_of(answer);
    assert_eq!(status, 1);
    assert!(stderr.ends_with(": its answer is too long\n"), "{stderr}");
}

#[test]
fn a_list_that_never_ends_is_left() {
    let world = World::new(Stub::new(|_, _| ok(r#"{"items":[],"next":"x"}"#)));
    let outcome = world.run("agent list");
    assert_eq!((outcome.status, world.stub.asked().len()), (1, 2));
    assert!(outcome.stderr.ends_with(": its list goes round in circles\n"), "{outcome:?}");
}

#[test]
fn a_connection_that_breaks_off_is_tried_again_and_then_told() {
    let world = World::new(Stub::new(|_, _| None));
    let outcome = world.run("agent list");
    assert_eq!((outcome.status, world.stub.asked().len()), (5, 3));
    assert!(outcome.stderr.ends_with(": it closed the connection without an answer\n"), "{outcome:?}");
}

#[test]
fn text_of_others_does_nothing_to_a_terminal() {
    let problem =
        r#"{"type":"urn:dvx:problem:conflict","title":"T","status":409,"detail":"\u001b[2Jx\nhint: y"}"#;
    let answer = format!("HTTP/1.1 409 X\r\ncontent-length: {}\r\n\r\n{problem}", problem.len());
    let (status, stderr, _) = status_of(answer);
    assert_eq!(status, 1);
    assert_eq!(stderr, "dvx: cannot list the agents: \\u{1b}[2Jx hint: y\n");
}

#[test]
fn nobody_at_home_is_unreachable() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("none.sock");
    let url = format!("unix://{}", path.display());
    let outcome = run(dvx(home.path(), "whoami").env("DVX_CONTROL_URL", url), "");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (5, ""));
    let expected = format!(
        "dvx: cannot connect to the control plane at {}: no such file or directory\nhint: is dvx-control running",
        path.display()
    );
    assert!(outcome.stderr.starts_with(&expected), "{outcome:?}");
}

#[test]
fn an_address_that_is_none_is_a_usage_error() {
    let home = tempfile::tempdir().unwrap();
    for url in ["http://127.0.0.1:1", "/run/x", "https://a/b"] {
        let outcome = run(dvx(home.path(), "whoami").env("DVX_CONTROL_URL", url), "");
        assert_eq!(outcome.status, 2);
        assert!(outcome.stderr.starts_with("dvx: DVX_CONTROL_URL: "), "{outcome:?}");
    }
}

#[test]
fn proxies_of_the_environment_are_not_used() {
    let world = World::new(Stub::new(|_, _| ok(r#"{"items":[]}"#)));
    let mut command = world.command("agent list");
    for variable in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(variable, "http://127.0.0.1:9");
    }
    assert_eq!(run(&mut command, "").status, 0);
}

#[test]
fn a_slow_answer_is_waited_for_only_so_long() {
    let world = World::new(Stub::new(|asked, _| {
        if asked.line.starts_with("POST") {
            return crate::stub::json(200, Some(1), AGENT);
        }
        std::thread::sleep(Duration::from_secs(60));
        None
    }));
    // The wait that was asked for, and ten seconds for the answer to come.
    let outcome = world.run("agent restore a --timeout 0");
    assert_eq!(outcome.status, 5);
    assert!(outcome.stderr.ends_with(": not within 10 s\n"), "{outcome:?}");
}

const AGENT: &str = r#"{"id":"1","name":"a","enclave":"e","unix_user":"u","acts_as":null,"state":"active","reason":null,"created_at":"2026-01-31T00:00:00Z","credentials":0,"next_expiry":null,"revision":7}"#;
