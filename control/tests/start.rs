//! From nothing to a control plane that serves, and what must not start.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use dvx_tests::{ControlPlane, Outcome, Request, run, skip_without_root};
use serde_json::Value;

const EX_CONFIG: i32 = 78;

/// Checks that a program ended with this status, one line on stderr, and nothing on stdout.
#[track_caller]
fn refused(outcome: &Outcome, status: i32, words: &[&str]) {
    assert_eq!(outcome.status, status, "{}", outcome.stderr);
    assert_eq!(outcome.text(), "");
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
    for word in words {
        assert!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr);
    }
}

#[test]
fn init_makes_key_database_and_one_admin() {
    let mut control = ControlPlane::builder().build();
    control.initialise();
    for path in [control.kek_path(), control.data().join("control.db")] {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600, "{}", path.display());
    }
    let kek = fs::read(control.kek_path()).unwrap();
    refused(&run(&mut control.command(&["init"])), 1, &["already initialised"]);
    assert_eq!(fs::read(control.kek_path()).unwrap(), kek);
    control.start_all();
    assert_eq!(control.admin().get("/operators")["items"].as_array().unwrap().len(), 1);
}

#[test]
fn init_prints_json_when_asked() {
    let control = ControlPlane::builder().build();
    let outcome = run(&mut control.command(&["init", "-o", "json"]));
    let answer: Value = serde_json::from_str(&outcome.success()).unwrap();
    assert_eq!(answer.as_object().unwrap().len(), 1);
    assert!(answer["token"].as_str().unwrap().starts_with("dvxo_"));
}

#[test]
fn of_two_inits_at_one_time_one_makes_an_admin() {
    let mut control = ControlPlane::builder().build();
    let start = || {
        let mut command = control.command(&["init"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = (0..4).map(|_| start()).collect();
    let outcomes: Vec<_> = running.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let (made, refused): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.status.success());
    assert_eq!(made.len(), 1, "{outcomes:?}");
    assert!(refused.iter().all(|outcome| outcome.status.code() == Some(1) && outcome.stdout.is_empty()));
    let token = String::from_utf8(made[0].stdout.clone()).unwrap();
    control.start_all();
    let operators = control.operator(token.trim_end()).get("/operators");
    assert_eq!(operators["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_key_that_cannot_be_used_ends_the_start() {
    let mut control = ControlPlane::builder().build();
    refused(&run(&mut control.command(&["serve"])), EX_CONFIG, &["keys/kek"]);
    control.initialise();
    let path = control.kek_path();
    let good = fs::read_to_string(&path).unwrap();
    let serve = |control: &ControlPlane| run(control.command(&["serve"]).env("RUST_LOG", "off"));
    for bad in ["", "c2hvcnQ=\n", "not base64 at all, and still forty-four bytes", "AAAA\nAAAA\n"] {
        control.write_private(&path, bad);
        refused(&serve(&control), EX_CONFIG, &["keys/kek", "32 bytes in base64"]);
    }
    control.write_private(&path, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
    refused(&serve(&control), EX_CONFIG, &["is not the one of this database"]);
    control.write_private(&path, &good);
    for mode in [0o604, 0o606, 0o644, 0o660] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        refused(&serve(&control), EX_CONFIG, &["keys/kek", "can be read or written by others"]);
    }
    fs::remove_file(&path).unwrap();
    refused(&serve(&control), EX_CONFIG, &["keys/kek"]);
    // A lost key is not replaced by another one that opens nothing.
    refused(&run(&mut control.command(&["init"])), EX_CONFIG, &["keys/kek"]);
    assert!(!path.exists());
    control.write_private(&path, &good);
    control.start_all();
}

#[test]
fn a_certificate_that_cannot_be_used_ends_the_start() {
    let mut control = ControlPlane::builder().build();
    control.initialise();
    let key = control.ground.path("keys/tls.key");
    let serve = |control: &ControlPlane| run(control.command(&["serve"]).env("RUST_LOG", "off"));
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    refused(&serve(&control), EX_CONFIG, &["keys/tls.key", "can be read by others"]);
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    control.write_private(&key, &control.authority.identity().key_pem());
    refused(&serve(&control), EX_CONFIG, &["cannot be used together"]);
    refused(&run(&mut control.command(&["check"])), EX_CONFIG, &["cannot be used together"]);
    let only_certificate = ControlPlane::builder().set("listen", "key_file", "").build();
    refused(&run(&mut only_certificate.command(&["serve"])), EX_CONFIG, &["listen.key_file: missing"]);
}

#[test]
fn a_database_that_was_not_initialised_is_named() {
    let control = ControlPlane::builder().build();
    control.write_private(&control.kek_path(), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n");
    let outcome = run(control.command(&["serve"]).env("RUST_LOG", "off"));
    refused(&outcome, EX_CONFIG, &["dvx-control init"]);
}

#[test]
fn a_listener_for_health_is_not_for_others() {
    let control = ControlPlane::builder().set("listen", "admin", "\"0.0.0.0:8469\"").build();
    for command in ["serve", "check", "init"] {
        refused(&run(&mut control.command(&[command])), EX_CONFIG, &["listen.admin", "loopback"]);
    }
}

#[test]
fn the_command_line_is_checked() {
    let control = ControlPlane::builder().build();
    for words in [&["serves"][..], &["rekey"], &["init", "--organisation", "No Name"]] {
        assert_eq!(run(&mut control.command(words)).status, 2, "{words:?}");
    }
    let sound = run(&mut control.command(&["check", "-o", "json"]));
    let answer: Value = serde_json::from_str(&sound.success()).unwrap();
    assert_eq!(answer["ok"], true);
}

#[test]
fn a_directory_that_others_can_write_holds_no_database() {
    if skip_without_root("a_directory_that_others_can_write_holds_no_database") {
        return;
    }
    let control = ControlPlane::builder().build();
    fs::set_permissions(control.data(), Permissions::from_mode(0o777)).unwrap();
    let outcome = run(&mut control.command(&["init"]));
    assert_eq!((outcome.status, outcome.text().as_str()), (EX_CONFIG, ""), "{}", outcome.stderr);
    assert!(!control.data().join("control.db").exists());
}

#[test]
fn health_shows_no_names_and_a_stop_is_orderly() {
    let mut control = ControlPlane::start();
    control.admin().create_enclave("lab-with-a-name");
    for path in ["/healthz", "/readyz", "/metrics", "/status"] {
        let answer = control.replica().ask(&Request::get(path)).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        assert!(!answer.text().contains("lab-with-a-name"));
    }
    assert_eq!(control.replica().ask(&Request::get("/api/v1/whoami")).unwrap().status, 404);
    assert_eq!(control.replica().ask(&Request::post("/healthz")).unwrap().status, 405);
    let socket = control.replica().socket.clone();
    assert!(socket.exists());
    control.stop();
    assert!(!socket.exists());
    assert!(control.log().contains("told to stop"));
}
