//! What arrives on a connection, up to the decision and the answer.

use dvx_broker::fuzzing::Caller;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::replies::{Reply, parse};
use crate::world::{ONE, TWO, serve, shows_a_value};
use crate::{choices, contains};

/// The first byte says who calls and how; the rest is what is sent. One that has a value in it tells nothing: it may
/// be a name there, which is logged.
pub fn run(input: &[u8]) {
    let Some((choices, request)) = choices(input) else { return };
    if shows_a_value(request) {
        return;
    }
    let uid = [Some(1001), Some(1001), Some(1002), Some(1003), Some(4711), Some(0), None, Some(1001)];
    let caller = Caller {
        tcp: choices & 1 != 0,
        uid: uid[usize::from(choices >> 1 & 7)],
        chunk_bytes: [1 << 16, 7, 1, 1500][usize::from(choices >> 4 & 3)],
    };
    let exchange = serve(caller, request);
    let replies = parse(&exchange.answer);
    let lines = check_log(&exchange.log);
    replies.iter().for_each(Reply::check);
    check_values(caller.uid, &replies, &lines);
    check_count(&replies, &lines);
}

/// A chain of whole lines without a value in them.
fn check_log(log: &[u8]) -> Vec<Value> {
    assert!(!shows_a_value(log), "a value in the log");
    let text = str::from_utf8(log).expect("the log is text");
    let mut previous = "0".repeat(64);
    let mut lines = Vec::new();
    for line in text.split_terminator('\n') {
        let entry: Value = serde_json::from_str(line).expect("a line is an object");
        assert_eq!(entry["prev"], *previous, "the chain");
        assert_eq!(entry["seq"], lines.len() + 1);
        previous = Sha256::digest(line.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        lines.push(entry);
    }
    lines
}

/// Nobody gets a value but the agent whose it is, and only with a line that says so.
fn check_values(uid: Option<u32>, replies: &[Reply<'_>], lines: &[Value]) {
    let own: &[&str] = match uid {
        Some(1001) => &ONE,
        Some(1002) => &TWO,
        _ => &[],
    };
    let mut served = 0;
    for reply in replies {
        for value in ONE.iter().chain(&TWO).filter(|value| contains(reply.body, value.as_bytes())) {
            assert!(own.contains(value), "uid {uid:?} got {value}");
            assert_ne!(*value, ONE[2], "a credential that has ended");
            assert_eq!(reply.status, 200);
            served += 1;
        }
        for (name, field) in &reply.fields {
            assert!(!shows_a_value(field), "a value in the field {name}");
        }
    }
    let recorded = lines.iter().filter(|line| {
        let gets =
            ["credential.get", "credential.git", "secret.get"].iter().any(|action| line["action"] == *action);
        gets && line["decision"] == "served" && line["fingerprint"].is_string()
    });
    assert_eq!(recorded.count(), served, "values and lines about them");
}

/// One line for each decision. That a broker is here is told to everybody, and no decision.
fn check_count(replies: &[Reply<'_>], lines: &[Value]) {
    let told = replies.iter().filter(|reply| contains(reply.body, b"\"service\":\"dvx-broker\"")).count();
    assert_eq!(replies.len() - told, lines.len(), "answers and lines");
    let refused = replies.iter().filter(|reply| reply.status >= 400).count();
    let denied = lines.iter().filter(|line| line["decision"] != "served").count();
    assert_eq!(refused, denied, "refusals and lines about them");
}
