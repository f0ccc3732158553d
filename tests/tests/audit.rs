//! The record of decisions.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use dvx_proto::{Code, Fingerprint};
use dvx_tests::{
    AuditLine, Caller, CallerSpec, Connection, Outcome, Request, Response, World, assert_chain, audit_lines,
    eventually, fresh_uid, run, skip, skip_without_root,
};
use nix::sys::signal::Signal;

const GITLAB: &str = "/v1/agent/credentials/gitlab";

fn with_token() -> (World, Caller, String) {
    let mut world = World::single().build();
    let token = world.plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    (world, caller, token)
}

#[track_caller]
fn verify(world: &World, files: &[&Path]) -> Outcome {
    let mut command = world.broker_command(&["audit", "verify"]);
    run(command.args(files))
}

#[track_caller]
fn last(world: &World) -> AuditLine {
    world.audit().pop().expect("there are lines")
}

#[test]
fn a_served_credential_is_on_record_with_all_that_is_known() {
    let (world, caller, token) = with_token();
    let before = jiff::Timestamp::now();
    let answer = caller.get(GITLAB);
    assert_eq!(answer.status, 200);
    let line = last(&world);
    let expected = [
        ("enclave", "lab-1".to_owned()),
        ("agent", "alpha".to_owned()),
        ("uid", caller.spec.uid.to_string()),
        ("pid", caller.pid().to_string()),
        ("transport", "unix".to_owned()),
        ("action", "credential.get".to_owned()),
        ("subject", "gitlab".to_owned()),
        ("decision", "served".to_owned()),
        ("reason", String::new()),
        ("fingerprint", Fingerprint::of(token.as_bytes()).to_string()),
        ("revision", answer.header("dvx-revision").unwrap().to_owned()),
    ];
    for (key, value) in expected {
        assert_eq!(line.text_of(key), value, "{key}: {}", line.text);
    }
    let time: jiff::Timestamp = line.text_of("time").parse().expect("RFC 3339");
    assert!(
        line.text_of("time").ends_with('Z')
            && line.text_of("time").len() == "2026-01-01T00:00:00.000000Z".len()
    );
    assert!(time.as_second() >= before.as_second() && time <= jiff::Timestamp::now());
    assert!(!line.text_of("request_id").is_empty());
}

#[test]
fn every_answer_is_one_line() {
    let mut world = World::single().tcp().set("limits", "requests_per_second", "1000").build();
    world.plant("alpha", "gitlab");
    world.plant("alpha", "old");
    let json = r#"{"instance_url":"https://old.example","expires_at":"2001-01-01T00:00:00Z"}"#;
    world.upstream.json("alpha", "old", json);
    world.upstream.secret("alpha", "NAME", b"value");
    world.start();
    let caller = world.caller("alpha");
    let token = caller.token();
    let rejection = r#"{"fingerprint":"0123456789abcdef"}"#;
    caller.get("/v1/agent/whoami");
    caller.get("/v1/agent/credentials");
    caller.get(GITLAB);
    caller.get("/v1/agent/credentials/old");
    caller.get("/v1/agent/credentials/none");
    caller.post("/v1/agent/credentials/gitlab/rejected", rejection);
    caller.get("/v1/agent/secrets");
    caller.get("/v1/agent/secrets/NAME");
    caller.get("/v1/agent/secrets/NONE");
    caller.post("/v1/agent/git-credential", r#"{"protocol":"https","host":"gitlab.com"}"#);
    caller.post("/v1/agent/git-credential", r#"{"protocol":"https","host":"evil.example"}"#);
    caller.get("/v1/agent/nothing");
    caller.tcp().exchange(&Request::get(GITLAB));
    caller.tcp().exchange(&Request::get(GITLAB).bearer(&token));
    caller.tcp().exchange(&Request::post("/v1/agent/token").bearer(&token));
    let lines = world.audit();
    let summaries: Vec<String> = lines.iter().map(AuditLine::summary).collect();
    let without_subject = |at: usize| {
        let line = &lines[at];
        format!("{} {}", line.text_of("action"), line.text_of("decision"))
    };
    assert_eq!(without_subject(0), "token.issue served");
    assert_eq!(
        summaries[1..10],
        [
            "whoami  served",
            "credential.list  served",
            "credential.get gitlab served",
            "credential.get old expired",
            "credential.get none denied",
            "credential.rejected gitlab served",
            "secret.list  served",
            "secret.get NAME served",
            "secret.get NONE denied",
        ]
    );
    assert_eq!(without_subject(10), "credential.git served");
    assert!(lines[10].text.contains("gitlab"), "which credential git got: {}", lines[10].text);
    assert_eq!(without_subject(11), "credential.git denied");
    assert_eq!(without_subject(12), "unknown denied");
    assert_eq!(summaries[13..15], ["credential.get gitlab denied", "credential.get gitlab served"]);
    assert_eq!(without_subject(15), "token.issue denied");
    assert_eq!(lines.len(), 16, "{summaries:#?}");
    assert_eq!(lines[14].text_of("transport"), "tcp");
    let ids: BTreeSet<String> = lines.iter().map(|line| line.text_of("request_id")).collect();
    assert_eq!(ids.len(), lines.len(), "a request's id is its own");
}

/// The answers to all of these, asked while the broker stands still and so at once.
fn at_once(world: &mut World, connections: &mut [Connection]) -> Vec<Response> {
    world.broker().signal(Signal::SIGSTOP);
    for connection in &mut *connections {
        connection.send(&Request::get(GITLAB).bytes("dvx")).unwrap();
    }
    world.broker().signal(Signal::SIGCONT);
    connections.iter_mut().map(|connection| connection.response().unwrap()).collect()
}

#[test]
fn however_many_ask_at_once_each_has_its_line_before_its_answer() {
    const ROUNDS: usize = 10;
    let mut world = World::single().set("limits", "requests_per_second", "1000").build();
    world.plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    let mut connections: Vec<_> = (0..16).map(|_| caller.unix()).collect();
    for round in 1..=ROUNDS {
        let answers = at_once(&mut world, &mut connections);
        assert!(answers.iter().all(|answer| answer.status == 200));
        assert_eq!(world.audit().len(), round * connections.len());
    }
    assert_chain(&world.audit());
}

#[test]
fn a_refused_caller_is_on_record_with_what_it_asked_for() {
    if skip_without_root("a_refused_caller_is_on_record_with_what_it_asked_for") {
        return;
    }
    let (world, _caller, _) = with_token();
    let stranger = world.caller_as(CallerSpec::user(fresh_uid()));
    assert_eq!(stranger.get(GITLAB).problem(), Code::PeerUnknown);
    let line = last(&world);
    assert_eq!(line.summary(), "credential.get gitlab denied");
    assert_eq!((line.text_of("agent"), line.text_of("uid")), (String::new(), stranger.spec.uid.to_string()));
    assert_eq!(line.text_of("pid"), stranger.pid().to_string());
    assert!(line.text_of("fingerprint").is_empty());
}

#[test]
fn the_chain_holds_and_verify_says_so() {
    let (world, caller, _) = with_token();
    for _ in 0..20 {
        caller.get(GITLAB);
    }
    let lines = world.audit();
    assert_chain(&lines);
    assert_eq!(lines[0].text_of("prev"), "0".repeat(64));
    let outcome = verify(&world, &[&world.audit_path()]);
    assert_eq!(outcome.status, 0, "{outcome:?}");
}

#[test]
fn verify_names_the_first_break() {
    let (mut world, caller, _) = with_token();
    for _ in 0..9 {
        caller.get(GITLAB);
    }
    world.stop();
    let lines: Vec<String> = world.audit().into_iter().map(|line| line.text).collect();
    let path = world.ground.path("log/changed.jsonl");
    type Change = fn(&mut Vec<String>);
    let changes: &[(&str, Change)] = &[
        ("an edited line", |lines| lines[4] = lines[4].replacen("served", "denied", 1)),
        ("a line taken out", |lines| drop(lines.remove(4))),
        ("a line put in", |lines| lines.insert(4, lines[3].clone())),
        ("two lines swapped", |lines| lines.swap(4, 5)),
        ("a line that is no JSON", |lines| lines[4] = "{".into()),
        ("an empty line", |lines| lines.insert(4, String::new())),
        ("space added", |lines| lines[4].push(' ')),
    ];
    for (what, change) in changes {
        let mut changed = lines.clone();
        change(&mut changed);
        fs::write(&path, changed.join("\n") + "\n").unwrap();
        std::os::unix::fs::chown(&path, Some(world.broker_uid), None).unwrap();
        let outcome = verify(&world, &[&path]);
        assert_ne!(outcome.status, 0, "{what}");
        let named = ["changed.jsonl:4", "changed.jsonl:5", "changed.jsonl:6"];
        assert!(named.iter().any(|place| outcome.stderr.contains(place)), "{what}: {}", outcome.stderr);
    }
}

#[test]
fn a_renamed_file_is_left_after_sighup_and_the_chain_goes_on() {
    let (mut world, caller, _) = with_token();
    caller.get(GITLAB);
    let (current, old) = (world.audit_path(), world.ground.path("log/audit.jsonl.1"));
    fs::rename(&current, &old).unwrap();
    caller.get(GITLAB);
    world.broker().signal(Signal::SIGHUP);
    eventually("a new file", || current.exists());
    eventually("is written to", || {
        caller.get(GITLAB);
        !audit_lines(&current).is_empty()
    });
    assert_eq!(fs::metadata(&current).unwrap().mode() & 0o777, 0o600);
    let mut lines = audit_lines(&old);
    assert!(lines.len() >= 2);
    lines.extend(audit_lines(&current));
    assert_chain(&lines);
    assert_eq!(verify(&world, &[&old, &current]).status, 0);
    assert_eq!(verify(&world, &[&current, &old]).status, 0, "a shell's order will do");
}

#[test]
fn a_restart_goes_on_with_the_chain() {
    let (mut world, caller, _) = with_token();
    caller.get(GITLAB);
    world.stop();
    world.start();
    world.caller("alpha").get(GITLAB);
    world.kill();
    world.start();
    world.caller("alpha").get(GITLAB);
    let lines = world.audit();
    assert!(lines.len() >= 3);
    assert_chain(&lines);
    // Also when the file was moved away while the broker was down.
    world.stop();
    let old = world.ground.path("log/audit.jsonl.1");
    fs::rename(world.audit_path(), &old).unwrap();
    world.start();
    world.caller("alpha").get(GITLAB);
    let mut lines = audit_lines(&old);
    lines.extend(world.audit());
    assert_chain(&lines);
    assert_eq!(verify(&world, &[&old, &world.audit_path()]).status, 0);
}

#[test]
fn a_torn_last_line_is_cut_off() {
    let (mut world, caller, _) = with_token();
    caller.get(GITLAB);
    world.kill();
    let path = world.audit_path();
    let whole = fs::read_to_string(&path).unwrap();
    let torn = format!("{whole}{}", &whole[..whole.len() / 2]);
    fs::write(&path, torn).unwrap();
    world.start();
    world.caller("alpha").get(GITLAB);
    let lines = world.audit();
    assert_chain(&lines);
    assert!(fs::read_to_string(&path).unwrap().starts_with(&whole));
    assert!(world.log().contains("WARN"), "it is said that something was lost");
}

#[test]
fn the_file_is_the_brokers_alone_and_no_link_is_followed() {
    let (world, caller, _) = with_token();
    caller.get(GITLAB);
    let metadata = fs::metadata(world.audit_path()).unwrap();
    assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o600, world.broker_uid));

    let world = World::single().build();
    let target = world.ground.path("log/target");
    symlink(&target, world.audit_path()).unwrap();
    let outcome = world.run_to_end();
    assert_ne!(outcome.status, 0);
    assert!(outcome.stderr.contains("audit.jsonl"), "{}", outcome.stderr);
    assert!(!target.exists());
}

#[test]
fn without_a_file_the_record_is_on_stderr() {
    let mut world = World::single().set("audit", "file", "").build();
    world.plant("alpha", "gitlab");
    world.start();
    world.caller("alpha").get(GITLAB);
    let log = world.log();
    let line = log.lines().find(|line| line.contains("\"credential.get\"")).expect("a line on stderr");
    let start = line.find('{').unwrap();
    let json: serde_json::Value = serde_json::from_str(&line[start..]).unwrap();
    assert_eq!((&json["decision"], &json["agent"]), (&"served".into(), &"alpha".into()));
}

#[test]
fn names_from_the_wire_cannot_forge_a_line() {
    let (world, caller, _) = with_token();
    for path in [
        r#"/v1/agent/credentials/x","decision":"served"#,
        r"/v1/agent/secrets/a\nb",
        "/v1/agent/credentials/%0a%7b%7d",
        "/v1/agent/credentials/\u{e9}\u{202e}",
        &format!("/v1/agent/secrets/{}", "n".repeat(10_000)),
        "/v1/agent/nothing/%1b[31m",
    ] {
        let answer = caller.get(path);
        assert!(answer.status == 404 || answer.status == 400, "{path}");
    }
    let lines = world.audit();
    assert!(lines.iter().all(|line| line.text_of("decision") != "served"));
    assert!(lines.iter().all(|line| line.text.len() < 4096), "a name from the wire is cut");
    assert!(lines.iter().all(|line| line.text.is_ascii() || !line.text.contains('\u{202e}')));
    assert_chain(&lines);
}

/// A small file system of its own for the audit file.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(world: &World) -> Option<Self> {
        let path = world.ground.path("log");
        let options = format!("size=32k,mode=0700,uid={}", world.broker_uid);
        let mut command = std::process::Command::new("mount");
        let outcome = run(command.args(["-t", "tmpfs", "-o", &options, "dvx-test"]).arg(&path));
        (outcome.status == 0).then_some(Self(path))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(std::process::Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

#[test]
fn a_full_disk_stops_the_serving_and_room_starts_it_again() {
    const NAME: &str = "a_full_disk_stops_the_serving_and_room_starts_it_again";
    if skip_without_root(NAME) {
        return;
    }
    let mut world = World::single().build();
    let token = world.plant("alpha", "gitlab");
    let Some(_disk) = SmallDisk::mount(&world) else {
        return skip(NAME, "file systems cannot be mounted here");
    };
    world.start();
    let caller = world.caller("alpha");
    assert_eq!(caller.get(GITLAB).status, 200);
    let ballast = world.ground.path("log/ballast");
    drop(fs::write(&ballast, vec![0; 64 * 1024]));
    eventually("the disk is full", || caller.get(GITLAB).status != 200);
    for path in [GITLAB, "/v1/agent/whoami", "/v1/agent/credentials"] {
        let answer = caller.get(path);
        assert_eq!(answer.problem(), Code::AuditUnavailable, "{path}");
        world.assert_clean("a refusal", &answer.body);
    }
    assert_eq!(caller.send(&Request::post("/v1/agent/token")).problem(), Code::AuditUnavailable);
    let mut connections: Vec<_> = (0..16).map(|_| caller.unix()).collect();
    for _ in 0..2 {
        for answer in at_once(&mut world, &mut connections) {
            assert_eq!(answer.problem(), Code::AuditUnavailable);
            world.assert_clean("a refusal", &answer.body);
        }
    }
    let ready = world.admin("/readyz");
    assert!(ready.text().contains("audit"), "readiness says so: {ready:?}");
    assert_eq!(world.status()["audit"]["ok"], false);
    fs::remove_file(&ballast).unwrap();
    eventually("served again", || caller.get(GITLAB).status == 200);
    assert_eq!(caller.get(GITLAB).json()["token"], token.as_str());
    assert_chain(&world.audit());
    assert_eq!(verify(&world, &[&world.audit_path()]).status, 0, "no torn line is left in the middle");
    eventually("ready", || world.admin("/readyz").status == 200);
}

#[test]
fn a_device_is_no_place_for_a_record() {
    for device in ["/dev/full", "/dev/null"] {
        let world = World::single().set("audit", "file", &format!("{device:?}")).build();
        let outcome = world.run_to_end();
        assert_ne!(outcome.status, 0);
        assert!(outcome.stderr.contains(device), "{}", outcome.stderr);
    }
}
