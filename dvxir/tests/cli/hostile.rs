//! Whoever listens on the broker's address may send anything.

use crate::stub::{Stub, answer, answer_with, problem};

const GET: &[&str] = &["credentials", "get", "gitlab"];

#[test]
fn what_is_no_answer_is_a_failure_without_output() {
    let large = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(300_000));
    let body = r#"{"token":"glpat-x","expires_at":null}"#;
    for (text, exit) in [
        ("", 5),
        ("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", 5),
        ("SSH-2.0-OpenSSH_9.2p1\r\n", 1),
        (&large, 1),
        (&format!("HTTP/1.1 200 OK\r\n\r\n{body}"), 1),
        (&format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()), 1),
        (&format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n25\r\n{body}\r\n0\r\n\r\n"), 1),
        (&format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: {}\r\n\r\n{body}", body.len()), 1),
        (&format!("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{body}"), 1),
        ("HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n", 1),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", 1),
    ] {
        Stub::saying(text).run(GET).assert_failed(exit);
    }
}

#[test]
fn tokens_that_are_none_are_not_printed() {
    for body in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"token":null}"#,
        r#"{"token":"","expires_at":null}"#,
        r#"{"token":"glpat-a b","expires_at":null}"#,
        r#"{"token":"glpat-a\nb","expires_at":null}"#,
        r#"{"token":"glpat-\u001b[2J","expires_at":null}"#,
        r#"{"token":"glpat-x","expires_at":"tomorrow"}"#,
        r#"{"token":"glpat-x","token":"glpat-y","expires_at":null}"#,
        r#"{"token":"glpat-x","expires_at":null} trailing"#,
    ] {
        let ran = Stub::saying(answer(body)).run(GET);
        ran.assert_failed(1);
    }
}

#[test]
fn unknown_members_are_ignored() {
    Stub::saying(answer(r#"{"new":{"a":[1]},"token":"glpat-x","expires_at":"2099-01-01T00:00:00Z"}"#))
        .run(GET)
        .assert_printed("glpat-x");
}

#[test]
fn what_acts_on_a_terminal_does_not_reach_it() {
    let body = r#"{"type":"x","title":"t","status":403,"detail":"a\u001b]0;evil\u0007\nb\u202e\u009b2J","hint":"c\r\u001b[2Jd"}"#;
    let problem = String::from_utf8(answer_with(403, "", body)).unwrap();
    let problem = problem.replace("application/json", "application/problem+json");
    let ran = Stub::saying(problem).run(GET);
    ran.assert_failed(4);
    assert!(!ran.stderr.contains(['\x1b', '\x07', '\u{9b}', '\u{202e}']), "{ran:?}");

    let listing = r#"[{"provider":"gitlab","display_name":"evil\u001b[2J\nroot    pat","auth_type":"pat"}]"#;
    let ran = Stub::saying(answer(listing)).run(&["credentials", "list"]);
    assert_eq!(ran.stdout.lines().count(), 1, "{ran:?}");
    assert!(!ran.stdout.contains('\x1b'), "{ran:?}");

    let listing = "[{\"provider\":\"gitlab\",\"display_name\":\"\u{9b}2J\u{7f}\",\"auth_type\":\"pat\"}]";
    let ran = Stub::saying(answer(listing)).run(&["credentials", "list", "-o", "json"]);
    ran.assert_printed(
        r#"[{"provider":"gitlab","display_name":"\u009b2J\u007f","auth_type":"pat"}]
"#,
    );
}

#[test]
fn a_very_long_message_is_cut() {
    let long = "x".repeat(50_000);
    let body = format!(r#"{{"type":"x","title":"t","status":404,"detail":"{long}","hint":"{long}"}}"#);
    let problem = String::from_utf8(answer_with(404, "", &body)).unwrap();
    let ran = Stub::saying(problem.replace("application/json", "application/problem+json")).run(GET);
    ran.assert_failed(3);
    assert!(ran.stderr.len() < 2_000, "{}", ran.stderr.len());
}

#[test]
fn a_problem_that_is_html_counts_by_its_status() {
    let page = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let ran = Stub::saying(page).run(GET);
    ran.assert_failed(5);
    assert!(ran.stderr.contains("the broker answered 502"), "{ran:?}");
    Stub::saying(problem(404, "not-found")).run(GET).assert_failed(3);
}
