//! `dvx audit`.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stub::{Stub, ok, problem};
use crate::support::{World, outcome};

fn event(number: u64) -> String {
    format!(
        r#"{{"number":{number},"time":"2026-01-31T00:00:00Z","actor":"ann","role":"operator","action":"agent.isolate","subject":"a","agent":"a","decision":"allowed","reason":"odd","request_id":"r"}}"#
    )
}

fn page(events: &[u64], next: Option<u64>) -> String {
    let items: Vec<String> = events.iter().map(|number| event(*number)).collect();
    let next = next.map(|number| format!(r#","next":"{number}""#)).unwrap_or_default();
    format!(r#"{{"items":[{}]{next}}}"#, items.join(","))
}

fn two_pages() -> World {
    World::new(Stub::new(|asked, _| {
        if asked.line.contains("after=2") { ok(&page(&[3], None)) } else { ok(&page(&[1, 2], Some(2))) }
    }))
}

#[test]
fn a_list_is_a_table_an_array_or_lines() {
    let world = two_pages();
    let row = "2026-01-31T00:00:00Z    ann      agent.isolate    a          a        allowed     odd\n";
    let header = "TIME                    ACTOR    ACTION           SUBJECT    AGENT    DECISION    REASON\n";
    assert_eq!(world.run("audit list"), outcome(0, &format!("{header}{row}{row}{row}"), ""));
    let array = format!("[{},{},{}]\n", event(1), event(2), event(3));
    assert_eq!(world.run("audit list -o json"), outcome(0, &array, ""));
    let lines = format!("{}\n{}\n{}\n", event(1), event(2), event(3));
    assert_eq!(world.run("audit list --format jsonl"), outcome(0, &lines, ""));
}

#[test]
fn nothing_is_an_empty_array() {
    let world = World::new(Stub::new(|_, _| ok(r#"{"items":[]}"#)));
    assert_eq!(world.run("audit list -o json"), outcome(0, "[]\n", ""));
}

#[test]
fn events_are_chosen_by_agent_and_time() {
    let world = two_pages();
    world.run("audit list --agent a --since 2026-01-01 --until 2026-02-01T00:00:00+01:00");
    assert_eq!(
        world.stub.lines()[0],
        "GET /api/v1/audit?agent=a&since=2026-01-01T00%3A00%3A00Z&until=2026-01-31T23%3A00%3A00Z&limit=1000"
    );
}

#[test]
fn an_export_is_passed_on_as_it_comes() {
    let world = World::new(Stub::new(|_, _| {
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n4\r\n1}\n{\r\n2\r\n}\n\r\n0\r\n\r\n";
        Some(chunked.into())
    }));
    assert_eq!(world.run("audit export --agent a"), outcome(0, "{\"a\":1}\n{}\n", ""));
    assert_eq!(world.run("audit list --format ocsf"), outcome(0, "{\"a\":1}\n{}\n", ""));
    assert_eq!(
        world.stub.lines(),
        ["GET /api/v1/audit/export?format=jsonl&agent=a", "GET /api/v1/audit/export?format=ocsf"]
    );
}

#[test]
fn an_export_that_breaks_off_is_a_failure() {
    let world = World::new(Stub::new(|_, number| {
        if number == 0 {
            Some("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{}\n\r\n".into())
        } else {
            None
        }
    }));
    let mut command = world.command("audit export");
    // The stub waits for another request; this one is the end of the first connection.
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "{}\n");
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    let cut = World::new(Stub::new(|_, _| Some("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}\n{}".into())));
    let outcome = cut.run("audit export");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (5, "{}\n"));
    assert_eq!(outcome.stderr, "dvx: the export is not complete: it ends in the middle of a line\n");
}

#[test]
fn a_refused_export_prints_nothing() {
    let world = World::new(Stub::new(|_, _| problem(403, "role-forbidden", "no")));
    let outcome = world.run("audit export");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (4, ""));
    assert!(outcome.stderr.starts_with("dvx: cannot export the events: no\n"), "{outcome:?}");
}

#[test]
fn following_waits_for_more_and_ends_by_an_interrupt() {
    let world = World::new(Stub::new(|asked, number| match number {
        0 => ok(&page(&[1], None)),
        1 => {
            assert!(asked.line.ends_with("?after=1&wait_seconds=20"), "{}", asked.line);
            ok(&page(&[2], None))
        }
        2 => ok(&page(&[], None)),
        _ => {
            assert!(asked.line.ends_with("?after=2&wait_seconds=20"), "{}", asked.line);
            std::thread::sleep(std::time::Duration::from_secs(60));
            None
        }
    }));
    let mut command = world.command("audit list --follow --format jsonl");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), event(1));
    assert_eq!(lines.next().unwrap().unwrap(), event(2));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
}

#[test]
fn following_ends_when_nobody_reads_any_more() {
    let world = World::new(Stub::new(|_, number| {
        if number == 0 {
            return ok(&page(&[1], None));
        }
        std::thread::sleep(std::time::Duration::from_secs(60));
        None
    }));
    let mut command = world.command("audit list --follow --format jsonl");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut String::new()).unwrap();
    drop(reader);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_followed_is_said_at_once() {
    let world = two_pages();
    for line in [
        "audit list --follow --format ocsf",
        "audit list --follow -o json",
        "audit list --follow --until 2026-01-01",
        "audit list --format xml",
    ] {
        assert_eq!(world.run(line).status, 2, "{line}");
    }
    assert!(world.stub.asked().is_empty());
}
