//! Audit lines on their way to the control plane.

use dvx_proto::agent::Transport;
use sha2::{Digest, Sha256};

use super::fake::{Fake, Running, eventually};
use super::*;
use crate::audit::{Action, Audit, Event, Verdict};
use crate::config::AuditSink;

fn record(audit: &Audit, count: usize) {
    for _ in 0..count {
        let event = Event {
            time: "2026-05-01T12:00:00Z".parse().unwrap(),
            agent: Some("a"),
            uid: Some(1001),
            gid: None,
            pid: None,
            cgroup: None,
            transport: Transport::Unix,
            action: Action::CredentialGet,
            subject: Some("gitlab"),
            decision: Verdict::Served,
            reason: None,
            fingerprint: None,
            revision: Some(1),
            request_id: "0",
        };
        audit.record(&event).unwrap();
    }
}

/// A control plane that stores lines, and what it has.
fn storing() -> (Fake, Arc<Mutex<Vec<String>>>) {
    let (fake, stored) = (Fake::unix(), Arc::new(Mutex::new(Vec::new())));
    let store = stored.clone();
    fake.answer(move |post| {
        if !post.line.starts_with("POST /v1/enclave/audit ") {
            return (204, String::new());
        }
        let mut stored = store.lock().unwrap();
        stored.extend(std::str::from_utf8(&post.body).unwrap().lines().map(str::to_owned));
        (200, format!("{{\"seq\":{}}}", seq(stored.last().unwrap())))
    });
    (fake, stored)
}

fn seq(line: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap()
}

fn seqs(stored: &Mutex<Vec<String>>) -> Vec<u64> {
    stored.lock().unwrap().iter().map(|line| seq(line)).collect()
}

/// Begins a stream for a control plane that has these lines.
fn begin(fake: &Fake, audit_seq: u64, audit_head: Option<String>) -> fake::Watch {
    let mut watch = fake.watch();
    watch.accept();
    let hello = Hello { audit_seq, audit_head, ..watch.sealer.hello(Mode::Snapshot) };
    watch.frame(&Frame::Hello(hello));
    watch
}

#[track_caller]
fn has(stored: &Mutex<Vec<String>>, expected: impl IntoIterator<Item = u64>) {
    let expected: Vec<_> = expected.into_iter().collect();
    eventually(|| seqs(stored) == expected, || format!("{:?}; expected {expected:?}", seqs(stored)));
}

fn hash(line: &str) -> String {
    Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn lines_are_shipped_whole_and_once_across_batches() {
    let (fake, stored) = storing();
    let running = Running::new(&fake);
    record(&running.audit, 2500);
    let _watch = begin(&fake, 0, None);
    has(&stored, 1..=2500);
    record(&running.audit, 3);
    has(&stored, 1..=2503);
    let log = std::fs::read_to_string(&running.log).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), *stored.lock().unwrap());
}

#[test]
fn a_new_stream_goes_on_behind_what_the_control_plane_has() {
    let (fake, stored) = storing();
    let running = Running::new(&fake);
    record(&running.audit, 5);
    let log = std::fs::read_to_string(&running.log).unwrap();
    let head = hash(log.lines().nth(2).unwrap());
    let _watch = begin(&fake, 3, Some(head));
    has(&stored, 4..=5);
}

#[test]
fn a_control_plane_with_another_chain_gets_all_of_this_one() {
    for (seq, head) in [(3, "0".repeat(64)), (77, "f".repeat(64))] {
        let (fake, stored) = storing();
        let running = Running::new(&fake);
        record(&running.audit, 5);
        let _watch = begin(&fake, seq, Some(head));
        has(&stored, 1..=5);
    }
}

#[test]
fn rotated_files_are_shipped_in_their_order() {
    let (fake, stored) = storing();
    let running = Running::new(&fake);
    let rotate = |name: &str| {
        std::fs::rename(&running.log, running.log.with_extension(name)).unwrap();
        running.audit.reopen().unwrap();
    };
    record(&running.audit, 3);
    rotate("jsonl.2");
    record(&running.audit, 3);
    rotate("jsonl.1");
    record(&running.audit, 1);
    std::fs::write(running.log.with_extension("jsonl.3"), "not a log\n").unwrap();
    let _watch = begin(&fake, 2, None);
    has(&stored, 3..=7);
    // And while it goes on.
    record(&running.audit, 2);
    rotate("jsonl.0");
    record(&running.audit, 2);
    has(&stored, 3..=11);
}

#[test]
fn what_is_missing_here_is_a_gap_there() {
    let (fake, stored) = storing();
    let running = Running::new(&fake);
    record(&running.audit, 3);
    std::fs::rename(&running.log, running.log.with_extension("jsonl.1")).unwrap();
    running.audit.reopen().unwrap();
    record(&running.audit, 2);
    std::fs::remove_file(running.log.with_extension("jsonl.1")).unwrap();
    let _watch = begin(&fake, 1, None);
    has(&stored, 4..=5);
}

#[test]
fn a_batch_that_was_not_stored_comes_again() {
    let fake = Fake::unix();
    let tries = std::sync::atomic::AtomicUsize::new(0);
    fake.answer(move |_| match tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => (503, String::new()),
        _ => (200, "{\"seq\":2}".to_owned()),
    });
    let running = Running::new(&fake);
    record(&running.audit, 2);
    let _watch = begin(&fake, 0, None);
    let first = fake.post("/v1/enclave/audit ").body;
    running.degraded("the answer is 503");
    assert_eq!(fake.post("/v1/enclave/audit ").body, first);
    eventually(|| running.health().degraded.is_empty(), || format!("{:?}", running.health()));
}

#[test]
fn lines_for_stderr_are_shipped_from_memory() {
    let (fake, stored) = storing();
    let running = Running::with_audit(&fake, &AuditSink::Stderr);
    record(&running.audit, 3);
    let watch = begin(&fake, 77, Some("f".repeat(64)));
    has(&stored, 1..=3);
    let last = hash(stored.lock().unwrap().last().unwrap());
    drop(watch);
    record(&running.audit, 2);
    let _watch = begin(&fake, 3, Some(last));
    has(&stored, 1..=5);
}
