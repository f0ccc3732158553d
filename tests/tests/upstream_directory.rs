//! The directory upstream: what changes, what breaks, and what is served meanwhile.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread;
use std::time::Duration;

use dvx_tests::{Caller, World, eventually, within};

const GITLAB: &str = "/v1/agent/credentials/gitlab";

fn served(caller: &Caller) -> Option<String> {
    let answer = caller.get(GITLAB);
    (answer.status == 200).then(|| answer.json()["token"].as_str().unwrap().to_owned())
}

#[track_caller]
fn eventually_serves(caller: &Caller, token: &str) {
    eventually("the new token is served", || served(caller).as_deref() == Some(token));
}

/// Waits until the admin socket names a file as bad and says why, and checks that the log does too.
#[track_caller]
fn eventually_named(world: &World, file: &str) {
    let named = || {
        let ready = world.admin("/readyz").json();
        ready["degraded"].as_array().and_then(|degraded| {
            degraded
                .iter()
                .find(|entry| entry["what"].as_str().is_some_and(|what| what.contains(file)))
                .cloned()
        })
    };
    let entry = dvx_tests::eventually_some(&format!("{file} is named as bad"), named);
    assert!(entry["why"].as_str().is_some_and(|why| !why.is_empty()), "{entry}");
    assert!(
        world
            .log()
            .lines()
            .any(|line| line.contains(file) && (line.contains("WARN") || line.contains("ERROR")))
    );
}

fn with_token() -> (World, Caller, String) {
    let mut world = World::single().build();
    let token = world.plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    (world, caller, token)
}

#[test]
fn changes_are_served_without_a_word_to_the_broker() {
    let (world, caller, first) = with_token();
    assert_eq!(served(&caller).as_deref(), Some(&*first));
    for _ in 0..3 {
        let token = world.plant("alpha", "gitlab");
        eventually_serves(&caller, &token);
    }
    let other = world.plant("alpha", "forge");
    eventually("a new provider is there", || {
        let answer = caller.get("/v1/agent/credentials/forge");
        answer.status == 200 && answer.json()["token"] == other.as_str()
    });
    world.upstream.remove("alpha", "gitlab.token");
    eventually("what is gone is gone", || caller.get(GITLAB).status == 404);
    world.upstream.secret("alpha", "NAME", b"one");
    eventually("a secret comes", || caller.get("/v1/agent/secrets/NAME").status == 200);
    world.upstream.secret("alpha", "NAME", b"two");
    eventually("and changes", || caller.get("/v1/agent/secrets/NAME").json()["value"] == "two");
    fs::remove_dir_all(world.upstream.path_of("alpha", "")).unwrap();
    eventually("an agent without a directory has nothing", || {
        caller.get("/v1/agent/credentials").body == b"[]" && caller.get("/v1/agent/secrets").body == b"[]"
    });
}

#[test]
fn a_change_is_served_within_a_second() {
    let (world, caller, _) = with_token();
    let token = world.plant("alpha", "gitlab");
    // A second is the promise; twice that is for a machine that runs all the other tests too.
    let seen = within(Duration::from_secs(2), || (served(&caller).as_deref() == Some(&*token)).then_some(()));
    assert!(seen.is_some());
}

#[test]
fn what_is_known_about_a_token_changes_with_its_file() {
    let (world, caller, _) = with_token();
    world.upstream.json("alpha", "gitlab", r#"{"display_name":"one","auth_type":"service_account"}"#);
    let listed = |text: &str| eventually(text, || caller.get("/v1/agent/credentials").text().contains(text));
    listed(r#""display_name":"one","auth_type":"service_account""#);
    world.upstream.json("alpha", "gitlab", r#"{"instance_url":"https://forge.example/git"}"#);
    listed(r#""display_name":"gitlab","auth_type":"pat""#);
    let ask = |host: &str, path: &str| {
        let body = format!(r#"{{"protocol":"https","host":"{host}","path":"{path}"}}"#);
        caller.post("/v1/agent/git-credential", &body).status
    };
    assert_eq!((ask("forge.example", "git/a.git"), ask("forge.example", "a.git")), (200, 404));
    assert_eq!(ask("gitlab.com", "a.git"), 404);
    world.upstream.remove("alpha", "gitlab.json");
    eventually("the provider's public instance again", || ask("gitlab.com", "a.git") == 200);
}

#[test]
fn one_line_end_is_dropped() {
    let (world, caller, _) = with_token();
    for end in ["", "\n", "\r\n"] {
        let token = world.planted.token("with a line end");
        world.upstream.token("alpha", "gitlab", &format!("{token}{end}"));
        eventually_serves(&caller, &token);
    }
}

#[test]
fn kubernetes_swaps_are_seen_as_a_whole() {
    let mut world = World::single().build();
    let generation = |world: &World, year: u32| {
        let token = world.planted.token("a generation");
        let json = format!(r#"{{"display_name":"g{year}","expires_at":"{year}-01-01T00:00:00Z"}}"#);
        world.upstream.publish(
            "alpha",
            &[
                ("gitlab.token", token.as_bytes()),
                ("gitlab.json", json.as_bytes()),
                ("secrets/YEAR", year.to_string().as_bytes()),
            ],
        );
        token
    };
    let mut tokens = vec![generation(&world, 2100)];
    world.start();
    let caller = world.caller("alpha");
    for year in 2101..2112 {
        tokens.push(generation(&world, year));
        let newest = tokens.last().unwrap().clone();
        eventually("the newest generation is served", || {
            let answer = caller.get(GITLAB).json();
            let at = tokens.iter().position(|token| answer["token"] == token.as_str()).expect("one of ours");
            assert_eq!(answer["expires_at"], format!("{}-01-01T00:00:00Z", 2100 + at), "of one generation");
            answer["token"] == newest.as_str()
        });
        let secret = caller.get("/v1/agent/secrets/YEAR").json();
        assert_eq!(secret["value"], year.to_string());
    }
    assert_eq!(world.admin("/readyz").json()["degraded"], serde_json::json!([]));
}

#[test]
fn a_half_written_token_is_never_served() {
    let (world, caller, first) = with_token();
    let second = world.planted.token("a slow writer's");
    let path = world.upstream.path_of("alpha", "gitlab.token");
    let (start, end) = second.split_at(second.len() / 2);
    let mut file = OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
    let writer = {
        let (start, end) = (start.to_owned(), end.to_owned());
        thread::spawn(move || {
            // A writer that takes its time: this is what is tested, not a wait for anything.
            thread::sleep(Duration::from_millis(60));
            file.write_all(start.as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(60));
            file.write_all(end.as_bytes()).unwrap();
        })
    };
    eventually("the whole token is served", || {
        let token = served(&caller).expect("there is always one");
        assert!(token == first || token == second, "half a token was served");
        token == second
    });
    writer.join().unwrap();
}

/// Breaks a file in every way and checks that its credential stays as it was, that it is named, and that the
/// rest moves on.
#[test]
fn a_bad_token_file_freezes_its_credential_alone() {
    let (world, caller, mut good) = with_token();
    let path = world.upstream.path_of("alpha", "gitlab.token");
    let mut forge = world.plant("alpha", "forge");
    let planted = |what: &str| world.planted.token(what);
    let bad: Vec<(&str, Vec<u8>, u32)> = vec![
        ("empty", b"".to_vec(), 0o600),
        ("a line end alone", b"\n".to_vec(), 0o600),
        ("a space in it", format!("{} x", planted("spaced")).into_bytes(), 0o600),
        ("two lines", format!("{}\n{}\n", planted("first"), planted("second")).into_bytes(), 0o600),
        ("a header in it", format!("{}\r\nX-Evil: 1", planted("header")).into_bytes(), 0o600),
        ("a NUL in it", format!("{}\0", planted("nul")).into_bytes(), 0o600),
        ("not UTF-8", [planted("latin").as_bytes(), b"\xff\xfe"].concat(), 0o600),
        ("a byte order mark", format!("\u{feff}{}", planted("marked")).into_bytes(), 0o600),
        ("too long", planted("long").repeat(400).into_bytes(), 0o600),
        ("huge", planted("huge").repeat(100_000).into_bytes(), 0o600),
        ("readable by others", planted("open").into_bytes(), 0o604),
        ("writable by others", planted("loose").into_bytes(), 0o602),
        ("unreadable", planted("shut").into_bytes(), 0o000),
    ];
    for (what, content, mode) in bad {
        drop(fs::remove_file(&path));
        let temporary = world.upstream.path_of("alpha", ".next");
        world.upstream.write(&temporary, &content, mode);
        fs::rename(&temporary, &path).unwrap();
        eventually_named(&world, "gitlab.token");
        forge = change(&world, &caller, &forge);
        assert_eq!(served(&caller).as_deref(), Some(&*good), "{what}");
        good = world.plant("alpha", "gitlab");
        eventually_serves(&caller, &good);
        eventually("nothing is degraded", || {
            world.admin("/readyz").json()["degraded"] == serde_json::json!([])
        });
    }
}

/// Changes another credential and waits until it is served.
fn change(world: &World, caller: &Caller, before: &str) -> String {
    let token = world.plant("alpha", "forge");
    assert_ne!(token, before);
    eventually("the rest moves on", || {
        caller.get("/v1/agent/credentials/forge").json()["token"] == token.as_str()
    });
    token
}

#[test]
fn things_that_are_not_files_freeze_and_never_hang() {
    let (world, caller, good) = with_token();
    let path = world.upstream.path_of("alpha", "gitlab.token");
    let ways: &[(&str, &dyn Fn())] = &[
        ("a FIFO", &|| nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap()),
        ("a directory", &|| fs::create_dir(&path).unwrap()),
        ("a link to itself", &|| symlink("gitlab.token", &path).unwrap()),
        ("an endless device", &|| symlink("/dev/zero", &path).unwrap()),
        ("a silent device", &|| symlink("/dev/null", &path).unwrap()),
    ];
    for (what, make) in ways {
        fs::remove_file(&path).unwrap();
        make();
        eventually_named(&world, "gitlab.token");
        assert_eq!(served(&caller).as_deref(), Some(&*good), "{what}");
        assert_eq!(
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).map_err(|error| error.kind()),
            Ok(())
        );
        world.upstream.token("alpha", "gitlab", &good);
        eventually("nothing is degraded", || {
            world.admin("/readyz").json()["degraded"] == serde_json::json!([])
        });
    }
}

#[test]
fn a_link_to_nothing_is_a_file_that_is_gone() {
    // Kubernetes leaves such a link for a moment when a key is taken out of a secret.
    let (world, caller, _) = with_token();
    let path = world.upstream.path_of("alpha", "gitlab.token");
    fs::remove_file(&path).unwrap();
    symlink("..data/gitlab.token", &path).unwrap();
    eventually("it is gone", || caller.get(GITLAB).status == 404);
}

#[test]
fn a_bad_description_freezes_its_credential_with_its_token() {
    let (world, caller, first) = with_token();
    for (what, json) in [
        ("not JSON", "{"),
        ("not an object", "[]"),
        ("a NUL", "\u{0}"),
        ("an unknown kind", r#"{"auth_type":"wizard"}"#),
        ("an insecure instance", r#"{"instance_url":"http://gitlab.com"}"#),
        ("no URL", r#"{"instance_url":"gitlab.com"}"#),
        ("an instance with a password", r#"{"instance_url":"https://u:p@gitlab.com"}"#),
        ("no date", r#"{"expires_at":"tomorrow"}"#),
        ("a number for a name", r#"{"display_name":1}"#),
    ] {
        world.upstream.json("alpha", "gitlab", json);
        eventually_named(&world, "gitlab.json");
        assert_eq!(served(&caller).as_deref(), Some(&*first), "{what}");
    }
    let hidden = world.plant("alpha", "gitlab");
    assert_ne!(hidden, first);
    world.upstream.json("alpha", "gitlab", "{}");
    eventually_serves(&caller, &hidden);
}

#[test]
fn secrets_that_json_cannot_carry_or_that_are_too_large_are_bad() {
    let (world, caller, _) = with_token();
    world.upstream.secret("alpha", "GOOD", &[b'x'; 64 * 1024]);
    eventually("64 KiB are fine", || caller.get("/v1/agent/secrets/GOOD").status == 200);
    world.upstream.secret("alpha", "LATIN", b"caf\xe9");
    eventually_named(&world, "LATIN");
    world.upstream.secret("alpha", "HUGE", &[b'x'; 64 * 1024 + 1]);
    eventually_named(&world, "HUGE");
    let names = caller.get("/v1/agent/secrets").json();
    assert_eq!(names, serde_json::json!([{"name": "GOOD"}]));
    world.upstream.secret("alpha", "GOOD", &[b'y'; 64 * 1024 + 1]);
    eventually_named(&world, "GOOD");
    let value = caller.get("/v1/agent/secrets/GOOD").json()["value"].as_str().unwrap().to_owned();
    assert!(value.len() == 64 * 1024 && value.starts_with('x'), "its last good value");
}

#[test]
fn names_that_cannot_be_are_named_and_hidden_ones_passed_over() {
    let (world, caller, _) = with_token();
    world.upstream.put(&world.upstream.path_of("alpha", ".gitlab.token.swp"), b"glpat-hidden");
    world.upstream.put(&world.upstream.path_of("alpha", "README"), b"not a credential");
    world.upstream.put(&world.upstream.path_of("alpha", "GitLab.token"), b"glpat-odd");
    eventually_named(&world, "GitLab.token");
    assert_eq!(caller.get("/v1/agent/credentials").json().as_array().unwrap().len(), 1);
    assert!(!world.admin("/readyz").text().contains(".swp"));
}

#[test]
fn modes_are_relaxed_only_where_the_configuration_says_so() {
    let mut world = World::single().set("upstream", "allow_mode", "\"0644\"").build();
    let token = world.plant("alpha", "gitlab");
    let path = world.upstream.path_of("alpha", "gitlab.token");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    world.start();
    let caller = world.caller("alpha");
    assert_eq!(served(&caller).as_deref(), Some(&*token));
    fs::set_permissions(&path, Permissions::from_mode(0o646)).unwrap();
    eventually_named(&world, "gitlab.token");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    eventually("the group may read", || world.admin("/readyz").json()["degraded"] == serde_json::json!([]));
}

#[test]
fn a_directory_that_anybody_can_write_is_not_believed() {
    let (world, caller, token) = with_token();
    let directory = world.upstream.path_of("alpha", "");
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
    let other = world.plant("alpha", "gitlab");
    eventually_named(&world, "alpha");
    assert_eq!(served(&caller).as_deref(), Some(&*token));
    fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    eventually_serves(&caller, &other);
}
