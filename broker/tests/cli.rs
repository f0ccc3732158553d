//! The commands that need no running broker, from outside.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use sha2::{Digest, Sha256};

fn broker(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dvx-broker")).args(arguments).env_remove("RUST_LOG").output().unwrap()
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn the_sample_configuration_is_sound() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("broker.toml");
    let place = Place::new();
    let path = place.write("broker.toml", &fs::read_to_string(sample).unwrap());
    let (code, stdout, stderr) = texts(&broker(&["check", "--config", &path]));
    assert_eq!(stdout, format!("{path}: ok (enclave lab-1, upstream directory, agents: 0)\n"));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
}

#[test]
fn every_error_of_a_configuration_is_one_line_and_78() {
    let place = Place::new();
    let path = place.write("broker.toml", "enclave = \"e\"\n[listen]\ntcp = \"10.0.0.1:1\"\nudp = 1\n");
    for command in ["check", "run"] {
        let (code, stdout, stderr) = texts(&broker(&[command, "--config", &path]));
        assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
        let lines: Vec<_> = stderr.lines().collect();
        assert_eq!(lines.len(), 3, "{stderr}");
        assert!(lines[0].starts_with(&format!("{path}:1: upstream.kind: missing")), "{stderr}");
        assert!(lines[1].starts_with(&format!("{path}:3: listen.tcp: \"10.0.0.1:1\" is not")), "{stderr}");
        assert!(lines[2].starts_with(&format!("{path}:4: listen.udp: unknown key")), "{stderr}");
    }
    let (code, _, stderr) = texts(&broker(&["check", "--config", "/nowhere/broker.toml"]));
    assert_eq!(code, Some(78));
    assert!(stderr.starts_with("/nowhere/broker.toml: cannot be read"), "{stderr}");
}

#[test]
fn a_configuration_that_others_can_write_is_refused() {
    let place = Place::new();
    let path = place.write("broker.toml", "");
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let (code, _, stderr) = texts(&broker(&["check", "--config", &path]));
    assert_eq!(code, Some(78));
    assert!(stderr.contains("writable by other users (mode 0666)"), "{stderr}");
}

#[test]
fn usage_errors_are_2() {
    for arguments in
        [&[][..], &["serve"], &["status", "--config", "a", "--socket", "b"], &["audit", "verify"]]
    {
        assert_eq!(broker(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(
        broker(&["--version"]).stdout,
        format!("dvx-broker {}\n", env!("CARGO_PKG_VERSION")).as_bytes()
    );
}

/// A chain with as little in its lines as will do.
fn chain(length: u64) -> Vec<String> {
    let mut prev = "0".repeat(64);
    let mut lines = Vec::new();
    for seq in 1..=length {
        let line = format!(r#"{{"seq":{seq},"enclave":"e","request_id":"r{seq}","prev":"{prev}"}}"#);
        prev = Sha256::digest(line.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        lines.push(line + "\n");
    }
    lines
}

#[test]
fn a_whole_chain_is_ok_over_files_in_any_order() {
    let place = Place::new();
    let lines = chain(5);
    let (old, new) = (place.write("a.1", &lines[..3].concat()), place.write("a", &lines[3..].concat()));
    let (code, stdout, stderr) = texts(&broker(&["audit", "verify", &new, &old]));
    assert!(stdout.starts_with("ok: seq 1 to 5, lines: 5, files: 2, head "), "{stdout}");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let json = broker(&["audit", "verify", "-o", "json", &new, &old]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!((&json["lines"], &json["last_seq"]), (&5.into(), &5.into()));
}

#[test]
fn the_first_break_of_a_chain_is_named() {
    let place = Place::new();
    let mut lines = chain(5);
    lines[1] = lines[1].replace("r2", "rx");
    lines.remove(3);
    let path = place.write("a", &lines.concat());
    let (code, stdout, stderr) = texts(&broker(&["audit", "verify", &path]));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(
        stderr,
        format!("{path}:3: prev is not the SHA-256 of {path}:2: that line or this one was changed\n")
    );
}

#[test]
fn a_broker_that_is_not_there_is_5() {
    let place = Place::new();
    let socket = place.path("admin.sock").to_str().unwrap().to_owned();
    let (code, stdout, stderr) = texts(&broker(&["status", "--socket", &socket]));
    assert_eq!((code, stdout.as_str()), (Some(5), ""));
    assert!(stderr.starts_with(&format!("dvx-broker: cannot ask the broker at {socket}: ")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
}

/// Asks for the status of something that answers like this.
fn status_of(answer: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let place = Place::new();
    let socket = place.path("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            assert_ne!(connection.read(&mut request).unwrap(), 0);
            connection.write_all(answer.as_bytes()).unwrap();
        });
        texts(&broker(&[&["status", "--socket", socket.to_str().unwrap()], arguments].concat()))
    })
}

const NOT_READY: &str = r#"{"version":"0.1.0","enclave":"e","ready":false,"reason":"why","upstream":{"kind":"directory","revision":0,"age_seconds":null,"max_stale_seconds":60,"synchronised":false},"memory":{"protection":"locked","capacity_bytes":1,"used_bytes":0},"listen":{"unix":"/u","tcp":null,"admin":"/a","agents":"/t"},"agents":[],"connections":{"open":0},"degraded":[],"audit":{"sink":"stderr","ok":true}}"#;

#[test]
fn a_broker_that_is_not_ready_is_shown_and_5() {
    let answer = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let (code, stdout, stderr) = status_of(&answer(NOT_READY), &[]);
    assert_eq!((code, stderr.as_str()), (Some(5), ""));
    assert!(stdout.starts_with("broker         0.1.0 for enclave e, not ready: why\n"), "{stdout}");
    let (code, stdout, _) = status_of(&answer(NOT_READY), &["-o", "json"]);
    assert_eq!((code, stdout), (Some(5), format!("{NOT_READY}\n")));
    let ready = NOT_READY.replace("false,\"reason\":\"why\"", "true");
    assert_eq!(status_of(&answer(&ready), &[]).0, Some(0));
    let (code, stdout, stderr) = status_of(&answer("{}"), &[]);
    assert_eq!((code, stdout.as_str()), (Some(5), ""));
    assert!(stderr.contains("is not a broker of this kind"), "{stderr}");
}
