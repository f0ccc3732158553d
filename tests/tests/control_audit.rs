//! The audit log of the control plane: what operators did and what brokers decided, in one place.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use dvx_proto::Code;
use dvx_tests::{ControlPlane, Request, World, eventually, random_alphanumeric, within};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A broker that has served and refused something, and what it wrote about it.
fn busy(control: &ControlPlane) -> World {
    let mut world = World::single().control(control).build();
    control.admin().plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    assert_eq!(caller.get("/v1/agent/credentials/gitlab").status, 200);
    assert_eq!(caller.get("/v1/agent/credentials/github").status, 404);
    control.dvx(&["agent", "isolate", "alpha", "--reason", "looked odd"]).success();
    assert_eq!(caller.get("/v1/agent/credentials/gitlab").status, 403);
    world
}

/// Waits until the control plane has every line of a broker's file.
#[track_caller]
fn shipped(control: &ControlPlane, world: &World) {
    let lines = world.audit().len();
    eventually("the broker's decisions have arrived", || decisions(control).len() >= lines);
}

fn decisions(control: &ControlPlane) -> Vec<Value> {
    control.admin().audit("").into_iter().filter(|event| event["enclave"] == "lab-1").collect()
}

fn lines_of(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[test]
fn decisions_of_brokers_and_actions_of_operators_are_in_one_log() {
    let control = ControlPlane::start();
    let world = busy(&control);
    shipped(&control, &world);
    let lines = world.audit();
    let listed = control.dvx(&["audit", "list", "-o", "json"]).success();
    let listed: Vec<Value> = serde_json::from_str(&listed).expect("a bare array");
    let of_broker: Vec<_> = listed.iter().filter(|event| event["enclave"] == "lab-1").collect();
    assert_eq!(of_broker.len(), lines.len(), "each line once");
    for (event, line) in of_broker.iter().zip(&lines) {
        assert_eq!(event["seq"], line.number_of("seq"), "its number stays as it is");
        let keys = ["action", "decision", "agent", "request_id"];
        let told = keys.map(|key| event[key].as_str().unwrap_or(""));
        let written = keys.map(|key| line.text_of(key));
        let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        assert_eq!(time(event["time"].as_str().unwrap()), time(&line.text_of("time")));
        assert_eq!(told.map(String::from), written);
    }
    for action in ["enclave.create", "agent.create", "secret.set", "agent.isolate"] {
        let event = listed.iter().find(|event| event["action"] == action).expect(action);
        assert_eq!((&event["actor"], &event["role"]), (&json!("admin"), &json!("admin")), "{event}");
        assert_eq!(event["decision"], "allowed");
        assert!(event["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{event}");
    }
    let isolated = listed.iter().find(|event| event["action"] == "agent.isolate").unwrap();
    assert_eq!((&isolated["agent"], &isolated["reason"]), (&json!("alpha"), &json!("looked odd")));
    let numbers: Vec<u64> = listed.iter().map(|event| event["number"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted() && numbers.windows(2).all(|pair| pair[0] != pair[1]), "{numbers:?}");
    let table = control.dvx(&["audit", "list"]).success();
    assert!(table.contains("agent.isolate") && table.contains("credential.get"), "{table}");
}

#[test]
fn refused_operators_are_recorded_with_what_they_tried() {
    let control = ControlPlane::start();
    let auditor = control.admin().create_operator("watcher", "auditor");
    let refused = control.operator(&auditor).call("POST", "/enclaves", &json!({"name": "mine"}));
    assert_eq!(refused.problem(), Code::RoleForbidden);
    let wrong = format!("dvxo_{}", random_alphanumeric(43));
    assert_eq!(control.operator(&wrong).call("GET", "/agents", &Value::Null).problem(), Code::TokenInvalid);
    let denied = || control.admin().audit("").into_iter().filter(|event| event["decision"] == "denied");
    // Refusals are written a moment later, many at once.
    eventually("the one whose role is too weak is recorded", || {
        denied().any(|event| event["actor"] == "watcher" && event["role"] == "auditor")
    });
    eventually("the token that is nobody's too", || denied().count() >= 2);
}

#[test]
fn filters_choose_by_agent_and_time() {
    let control = ControlPlane::start();
    let world = busy(&control);
    shipped(&control, &world);
    control.admin().set_secret(None, "NAME", "value");
    let count = |arguments: &[&str]| {
        let outcome = control.dvx(&[&["audit", "list", "-o", "json"], arguments].concat());
        serde_json::from_str::<Vec<Value>>(&outcome.success()).unwrap()
    };
    let all = count(&[]);
    let of_alpha = count(&["--agent", "alpha"]);
    assert!(of_alpha.len() < all.len() && of_alpha.iter().all(|event| event["agent"] == "alpha"));
    assert!(of_alpha.iter().any(|event| event["action"] == "agent.isolate"));
    assert!(of_alpha.iter().any(|event| event["action"] == "credential.get"));
    let middle = all[all.len() / 2]["time"].as_str().unwrap();
    let since = count(&["--since", middle]);
    let until = count(&["--until", middle]);
    let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let of = |event: &Value| time(event["time"].as_str().unwrap());
    assert!(since.iter().all(|event| of(event) >= time(middle)), "from then on");
    assert!(until.iter().all(|event| of(event) < time(middle)), "before then");
    assert_eq!(since.len() + until.len(), all.len());
    assert_eq!(count(&["--since", "1h"]).len(), all.len());
}

#[test]
fn what_an_agent_did_outlives_it() {
    let control = ControlPlane::start();
    let world = busy(&control);
    shipped(&control, &world);
    let before = control.admin().audit("agent=alpha");
    control.dvx(&["agent", "delete", "alpha", "--yes"]).success();
    let after = control.admin().audit("agent=alpha");
    assert_eq!(after[..before.len()], before[..]);
    assert!(after.iter().any(|event| event["action"] == "agent.delete"));
}

#[test]
fn following_shows_what_happens_while_it_happens() {
    let control = ControlPlane::start();
    control.admin().create_enclave("lab-1");
    let mut child = control
        .dvx_command()
        .args(["audit", "list", "--follow", "--format", "jsonl"])
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let (sender, lines) = std::sync::mpsc::channel();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    let mut seen = Vec::new();
    let mut wait_for = |action: &str| {
        let found = within(std::time::Duration::from_secs(20), || {
            seen.extend(lines.try_iter());
            seen.iter().any(|line| line.contains(action)).then_some(())
        });
        assert!(found.is_some(), "{action} was not shown: {seen:?}");
    };
    wait_for("enclave.create");
    control.admin().create_agent("alpha", "lab-1", 61000);
    wait_for("agent.create");
    control.admin().set_state("alpha", "isolate");
    wait_for("agent.isolate");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(seen.iter().filter(|line| line.contains("agent.isolate")).count(), 1, "each event once");
}

#[test]
fn the_export_is_one_object_a_line_and_complete() {
    let control = ControlPlane::start();
    let world = busy(&control);
    shipped(&control, &world);
    let exported = lines_of(&control.dvx(&["audit", "export", "--format", "jsonl"]).success());
    let listed = control.admin().audit("");
    let numbers = |events: &[Value]| events.iter().map(|event| event["number"].clone()).collect::<Vec<_>>();
    // The export itself may be an event that the list has.
    assert_eq!(numbers(&exported)[..], numbers(&listed)[..exported.len()]);
    assert!(exported.len() >= world.audit().len() + 4);
    let of_alpha = lines_of(&control.dvx(&["audit", "export", "--agent", "alpha"]).success());
    assert!(!of_alpha.is_empty() && of_alpha.iter().all(|event| event["agent"] == "alpha"));
}

#[test]
fn the_ocsf_export_has_what_the_schema_requires() {
    let control = ControlPlane::start();
    let world = busy(&control);
    shipped(&control, &world);
    // A gap is a finding.
    let key = control.admin().create_enclave("lab-9");
    ship(&control, &key, &[line("lab-9", 1, None)]);
    ship(&control, &key, &[line("lab-9", 7, None)]);
    let events = lines_of(&control.dvx(&["audit", "export", "--format", "ocsf"]).success());
    let mut classes: Vec<u64> = Vec::new();
    for event in &events {
        let number = |key: &str| event[key].as_u64().unwrap_or_else(|| panic!("{key} is required: {event}"));
        let class = number("class_uid");
        assert_eq!(number("type_uid"), class * 100 + number("activity_id"), "{event}");
        assert_eq!(number("category_uid"), class / 1000, "{event}");
        assert!(number("severity_id") <= 6 || number("severity_id") == 99);
        let milliseconds = number("time");
        assert!((1_600_000_000_000..10_000_000_000_000).contains(&milliseconds), "milliseconds: {event}");
        let version = event["metadata"]["version"].as_str().unwrap_or_default();
        assert!(version.starts_with("1."), "{event}");
        assert!(event["metadata"]["product"]["vendor_name"].is_string(), "{event}");
        match class {
            6003 => {
                assert!(event["actor"].is_object() && event["api"]["operation"].is_string(), "{event}");
                assert!(event["src_endpoint"].is_object(), "{event}");
            }
            3001 => assert!(event["user"].is_object(), "{event}"),
            2004 => {
                assert!(event["finding_info"]["uid"].is_string(), "{event}");
                assert!(event["finding_info"]["title"].is_string(), "{event}");
            }
            other => panic!("class {other} is not one of ours: {event}"),
        }
        classes.push(class);
    }
    for class in [6003, 3001, 2004] {
        assert!(classes.contains(&class), "no event of class {class}");
    }
}

/// A line as brokers write it.
fn line(enclave: &str, seq: u64, previous: Option<&str>) -> String {
    let prev = previous.map_or("0".repeat(64), |line| {
        Sha256::digest(line.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    });
    format!(
        r#"{{"time":"2026-01-02T03:04:05.678901Z","seq":{seq},"enclave":"{enclave}","agent":"alpha","uid":1001,"gid":1001,"pid":7,"cgroup":null,"transport":"unix","action":"whoami","subject":null,"decision":"served","reason":null,"fingerprint":null,"revision":1,"request_id":"r{seq}","prev":"{prev}"}}"#
    )
}

/// A chain of lines.
fn chain(enclave: &str, length: u64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for seq in 1..=length {
        let next = line(enclave, seq, lines.last().map(String::as_str));
        lines.push(next);
    }
    lines
}

/// Ships lines as a broker does.
#[track_caller]
fn ship(control: &ControlPlane, key: &str, lines: &[String]) -> u64 {
    let body = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let request = Request::post("/v1/enclave/audit").header("Content-Type", "application/x-ndjson");
    let answer = control.operator_by_tls(Some(key)).send(&request.body(body.as_bytes()));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["seq"].as_u64().unwrap()
}

fn events(control: &ControlPlane, action: &str) -> Vec<Value> {
    control.admin().audit("").into_iter().filter(|event| event["action"] == action).collect()
}

#[test]
fn lines_that_come_twice_are_kept_once() {
    let control = ControlPlane::start();
    let key = control.admin().create_enclave("lab-1");
    let lines = chain("lab-1", 10);
    assert_eq!(ship(&control, &key, &lines[..6]), 6);
    assert_eq!(ship(&control, &key, &lines[3..]), 10);
    assert_eq!(ship(&control, &key, &lines), 10);
    assert_eq!(decisions(&control).len(), 10);
    assert!(events(&control, "audit.gap").is_empty() && events(&control, "audit.broken").is_empty());
}

#[test]
fn lines_that_are_missing_raise_a_gap() {
    let control = ControlPlane::start();
    let key = control.admin().create_enclave("lab-1");
    let lines = chain("lab-1", 10);
    ship(&control, &key, &lines[..3]);
    ship(&control, &key, &lines[6..]);
    let gaps = events(&control, "audit.gap");
    assert_eq!(gaps.len(), 1, "{gaps:#?}");
    assert!(gaps[0].to_string().contains("lab-1"), "{}", gaps[0]);
    assert_eq!(decisions(&control).len(), 7, "what is there is kept");
}

#[test]
fn a_chain_that_begins_anew_raises_a_gap() {
    let control = ControlPlane::start();
    let key = control.admin().create_enclave("lab-1");
    ship(&control, &key, &chain("lab-1", 5));
    let mut anew = line("lab-1", 1, None).replace("whoami", "unknown");
    assert_eq!(ship(&control, &key, std::slice::from_ref(&anew)), 1);
    assert_eq!(events(&control, "audit.gap").len(), 1);
    assert_eq!(decisions(&control).len(), 6, "both chains are kept");
    anew = line("lab-1", 2, Some(&anew));
    ship(&control, &key, &[anew]);
    assert_eq!(decisions(&control).len(), 7);
}

#[test]
fn lines_that_were_changed_inserted_or_put_in_another_order_break_the_chain() {
    for meddle in [
        (|lines: &mut Vec<String>| lines[4] = lines[4].replace("served", "denied")) as fn(&mut Vec<String>),
        |lines| lines[4] = line("lab-1", 5, Some("something else")),
        |lines| {
            let inserted = line("lab-1", 5, Some(&lines[3]));
            lines[4] = inserted.replace("whoami", "secret.get");
        },
    ] {
        let control = ControlPlane::start();
        let key = control.admin().create_enclave("lab-1");
        let mut lines = chain("lab-1", 8);
        meddle(&mut lines);
        ship(&control, &key, &lines);
        let broken = events(&control, "audit.broken");
        assert!(!broken.is_empty() && broken[0].to_string().contains("lab-1"), "{broken:#?}");
    }
}

#[test]
fn another_line_under_a_known_number_breaks_the_chain() {
    let control = ControlPlane::start();
    let key = control.admin().create_enclave("lab-1");
    let lines = chain("lab-1", 5);
    ship(&control, &key, &lines);
    ship(&control, &key, &[lines[2].replace("served", "denied")]);
    assert_eq!(events(&control, "audit.broken").len(), 1);
}

#[test]
fn one_enclaves_broker_writes_no_other_ones_log() {
    let control = ControlPlane::start();
    let key = control.admin().create_enclave("lab-1");
    control.admin().create_enclave("lab-2");
    let mut body = chain("lab-1", 2).join("\n");
    body = format!("{body}\n{}\n", line("lab-2", 3, None));
    let request = Request::post("/v1/enclave/audit").body(body.as_bytes());
    let answer = control.operator_by_tls(Some(&key)).send(&request);
    assert_eq!(answer.problem(), Code::BadRequest);
    assert!(decisions(&control).is_empty(), "nothing of such a batch is kept");
}

#[test]
fn a_restarted_broker_ships_what_it_could_not_before() {
    let mut control = ControlPlane::start();
    let mut world = World::single().control(&control).build();
    control.admin().plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    for round in 0..3 {
        control.kill();
        for _ in 0..5 {
            assert_eq!(caller.get("/v1/agent/credentials/gitlab").status, 200);
        }
        if round == 2 {
            world.kill();
            control.start_all();
            world.start();
        } else {
            control.start_all();
        }
    }
    assert_eq!(world.caller("alpha").get("/v1/agent/whoami").status, 200);
    shipped(&control, &world);
    let kept: Vec<u64> = decisions(&control).iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    let written: Vec<u64> = world.audit().iter().map(|line| line.number_of("seq")).collect();
    assert_eq!(kept, written, "none is missing and none is there twice");
    assert!(events(&control, "audit.gap").is_empty() && events(&control, "audit.broken").is_empty());
}
