//! Starting, reloading, draining and ending; what may lie at the sockets' paths.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use dvx_tests::{Agent, Caller, Request, World, eventually, fresh_uid, now, run, within};
use nix::sys::signal::Signal;

const WHOAMI: &str = "/v1/agent/whoami";

fn started() -> (World, Caller) {
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    world.start();
    let caller = world.caller("alpha");
    (world, caller)
}

#[test]
fn the_sockets_have_their_modes() {
    let (world, _) = started();
    let mode = |name: &str| {
        let metadata = fs::metadata(world.ground.path(name)).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.uid(), world.broker_uid);
        metadata.mode() & 0o777
    };
    assert_eq!(mode("run/broker.sock"), 0o666);
    assert_eq!(mode("run/broker-admin.sock"), 0o600);
}

#[test]
fn a_second_broker_refuses_and_the_first_goes_on() {
    let (mut world, caller) = started();
    let outcome = world.run_to_end();
    assert_ne!(outcome.status, 0);
    assert!(!outcome.stderr.is_empty());
    let audit = world.ground.path("log/second.jsonl");
    world.config.set("audit", "file", &format!("{audit:?}"));
    world.write_config();
    let outcome = world.run_to_end();
    assert_ne!(outcome.status, 0);
    assert!(outcome.stderr.contains("broker.sock"), "{}", outcome.stderr);
    // Also where only the admin socket is shared.
    let socket = world.ground.path("run/other.sock");
    world.config.set("listen", "unix", &format!("{socket:?}"));
    world.write_config();
    assert_ne!(world.run_to_end().status, 0);
    assert_eq!(caller.get(WHOAMI).status, 200);
    assert_eq!(world.admin("/readyz").status, 200);
    assert!(world.broker().ended().is_none());
}

#[test]
fn of_many_brokers_at_once_one_serves() {
    let mut world = World::single().build();
    world.start();
    world.kill();
    // A stale socket for which several rush.
    let mut brokers: Vec<_> = (0..6)
        .map(|index| {
            let log = world.ground.path(&format!("output/rush{index}.log"));
            dvx_tests::Daemon::start(&mut world.run_command(), &log)
        })
        .collect();
    let mut running =
        || brokers.iter_mut().filter_map(|broker| broker.ended().is_none().then_some(())).count();
    eventually("one is left", || running() <= 1);
    assert_eq!(running(), 1);
    eventually("it serves", || {
        let caller = world.caller("alpha");
        caller.try_unix().is_ok_and(|mut connection| connection.exchange(&Request::get(WHOAMI)).status == 200)
    });
}

#[test]
fn a_stale_socket_is_taken_over() {
    let (mut world, _) = started();
    world.kill();
    assert!(world.socket_path().exists());
    world.start();
    assert_eq!(world.caller("alpha").get(WHOAMI).status, 200);
}

#[test]
fn a_crash_costs_a_second_and_leaves_nothing_secret() {
    let (mut world, caller) = started();
    assert_eq!(caller.get("/v1/agent/credentials/gitlab").status, 200);
    drop(caller);
    world.kill();
    for name in ["run", "log", "output", "etc", "home"] {
        let found = world.planted.found_below(&world.ground.path(name));
        assert!(found.is_empty(), "{found:?}");
    }
    let start = now();
    world.start();
    assert_eq!(world.caller("alpha").get("/v1/agent/credentials/gitlab").status, 200);
    // A second is the promise; this is an unoptimised program beside many others.
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// Something that was there first, and how to see that it still is.
struct Squatter {
    what: &'static str,
    make: fn(&Path),
    still: fn(&Path) -> bool,
}

const SQUATTERS: &[Squatter] = &[
    Squatter {
        what: "a file",
        make: |path| fs::write(path, "precious").unwrap(),
        still: |path| fs::read(path).is_ok_and(|text| text == b"precious"),
    },
    Squatter { what: "a directory", make: |path| fs::create_dir(path).unwrap(), still: |path| path.is_dir() },
    Squatter {
        what: "a FIFO",
        make: |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap(),
        still: |path| fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo()),
    },
    Squatter {
        what: "a dangling link",
        make: |path| symlink("elsewhere.sock", path).unwrap(),
        still: |path| path.is_symlink() && !path.with_file_name("elsewhere.sock").exists(),
    },
    Squatter {
        what: "a link to a file",
        make: |path| {
            fs::write(path.with_file_name("precious"), "precious").unwrap();
            symlink("precious", path).unwrap();
        },
        still: |path| path.is_symlink() && path.with_file_name("precious").exists(),
    },
    Squatter {
        what: "a link to a dead socket",
        make: |path| {
            drop(UnixListener::bind(path.with_file_name("dead.sock")).unwrap());
            symlink("dead.sock", path).unwrap();
        },
        still: |path| path.is_symlink() && path.with_file_name("dead.sock").exists(),
    },
];

#[test]
fn what_is_not_a_socket_is_never_removed() {
    for squatter in SQUATTERS {
        for name in ["run/broker.sock", "run/broker-admin.sock"] {
            let world = World::single().build();
            let path = world.ground.path(name);
            (squatter.make)(&path);
            let outcome = world.run_to_end();
            assert_ne!(outcome.status, 0, "{} at {name}", squatter.what);
            assert!(outcome.stderr.contains(name), "{} at {name}: {}", squatter.what, outcome.stderr);
            assert!((squatter.still)(&path), "{} at {name}", squatter.what);
        }
    }
}

#[test]
fn a_directory_that_others_can_write_is_no_place_for_a_socket() {
    let world = World::single().build();
    fs::set_permissions(world.ground.path("run"), Permissions::from_mode(0o777)).unwrap();
    let outcome = world.run_to_end();
    assert_ne!(outcome.status, 0);
    assert!(outcome.stderr.contains(&world.ground.path("run").display().to_string()), "{}", outcome.stderr);
    assert!(!world.socket_path().exists());

    let mut world = World::single().build();
    let real = world.ground.directory("run/real", world.broker_uid, 0o755);
    symlink(&real, world.ground.path("run/link")).unwrap();
    let socket = world.ground.path("run/link/broker.sock");
    world.config.set("listen", "unix", &format!("{socket:?}"));
    world.write_config();
    assert_ne!(world.run_to_end().status, 0, "a link in the path can be turned");
}

#[test]
fn sockets_go_with_the_broker_unless_they_are_no_longer_its_own() {
    let (mut world, _) = started();
    world.stop();
    assert!(!world.socket_path().exists());
    assert!(!world.ground.path("run/broker-admin.sock").exists());

    world.start();
    fs::remove_file(world.socket_path()).unwrap();
    let _other = UnixListener::bind(world.socket_path()).unwrap();
    world.stop();
    assert!(world.socket_path().exists(), "somebody else's socket stays");
}

#[test]
fn a_request_in_flight_is_finished_before_the_end() {
    let (mut world, caller) = started();
    let mut idle = caller.unix();
    assert_eq!(idle.exchange(&Request::get(WHOAMI)).status, 200);
    let body = r#"{"protocol":"https","host":"gitlab.com"}"#;
    let request = Request::post("/v1/agent/git-credential").json(body).bytes("dvx");
    let (start, rest) = request.split_at(request.len() - 10);
    let mut busy = caller.unix();
    busy.send(start).unwrap();
    assert_eq!(caller.get(WHOAMI).status, 200, "by now the broker has accepted the one before");
    world.broker().signal(Signal::SIGTERM);
    eventually("new connections are refused", || {
        caller.try_unix().is_err() || caller.try_unix().is_ok_and(|mut new| new.response().is_err())
    });
    idle.assert_closed();
    busy.send(rest).unwrap();
    assert_eq!(busy.response().expect("an answer").status, 200);
    assert_eq!(world.broker().wait().code(), Some(0));
}

#[test]
fn the_drain_ends_after_ten_seconds() {
    let (mut world, caller) = started();
    let mut stuck = caller.unix();
    stuck.send(b"POST /v1/agent/git-credential HTTP/1.1\r\nHost: dvx\r\nContent-Length: 9\r\n\r\n{").unwrap();
    assert_eq!(caller.get(WHOAMI).status, 200);
    let start = now();
    world.broker().signal(Signal::SIGTERM);
    assert_eq!(world.broker().wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(13), "{:?}", start.elapsed());
}

#[test]
fn an_idle_broker_ends_at_once() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (mut world, caller) = started();
        let _idle = (caller.unix(), caller.unix());
        let start = now();
        world.broker().signal(signal);
        assert_eq!(world.broker().wait().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(5), "{signal}: {:?}", start.elapsed());
    }
}

#[test]
fn a_bad_new_configuration_is_reported_and_the_old_one_stays() {
    let (mut world, caller) = started();
    let good = fs::read_to_string(world.config_path()).unwrap();
    for bad in [
        "enclave = ".to_owned(),
        format!("{good}\n[[agents]]\nname = \"twin\"\nuid = {}\n", caller.spec.uid),
        format!("{good}\nunknown = 1\n"),
        String::new(),
    ] {
        fs::write(world.config_path(), &bad).unwrap();
        let before = world.log().len();
        world.broker().signal(Signal::SIGHUP);
        eventually("the error is in the log", || {
            world.log()[before..].lines().any(|line| line.contains("ERROR") && line.contains("broker.toml"))
        });
        assert_eq!(caller.get("/v1/agent/credentials/gitlab").status, 200);
    }
    fs::remove_file(world.config_path()).unwrap();
    world.broker().signal(Signal::SIGHUP);
    assert_eq!(caller.get(WHOAMI).status, 200);
}

#[test]
fn limits_change_with_a_reload() {
    let (mut world, caller) = started();
    world.config.set("limits", "requests_per_second", "2");
    world.reload();
    eventually("the new limit holds", || {
        let mut connection = caller.unix();
        (0..10).any(|_| connection.exchange(&Request::get(WHOAMI)).status == 429)
    });
}

#[test]
fn check_names_every_error_with_its_line() {
    let mut world = World::single().agent(Agent::new("Bad Name", fresh_uid())).build();
    world.config.set("listen", "tcp", "\"0.0.0.0:80\"");
    world.config.set("upstream", "max_stale", "\"2 fortnights\"");
    world.config.set("hardening", "seccomp", "\"maybe\"");
    world.config.set("limits", "conections", "5");
    world.write_config();
    let mut command = world.broker_command(&["check", "--config"]);
    let outcome = run(command.arg(world.config_path()));
    assert_eq!(outcome.status, 78, "{outcome:?}");
    assert_eq!(outcome.text(), "");
    let lines: Vec<&str> = outcome.stderr.trim_end().lines().collect();
    for key in ["tcp", "max_stale", "seccomp", "conections", "name"] {
        assert!(lines.iter().any(|line| line.contains(key)), "{key}: {}", outcome.stderr);
    }
    assert_eq!(lines.len(), 5, "{}", outcome.stderr);
    let text = fs::read_to_string(world.config_path()).unwrap();
    for line in lines {
        let rest = line.split("broker.toml:").nth(1).unwrap_or_else(|| panic!("no place: {line}"));
        let number: usize = rest.split(':').next().unwrap().parse().unwrap();
        assert!(number <= text.lines().count());
    }
}

#[test]
fn status_shows_what_the_admin_socket_says() {
    let (world, _) = started();
    let socket = world.ground.path("run/broker-admin.sock");
    for arguments in [["--config".into(), world.config_path()], ["--socket".into(), socket]] {
        let mut command = world.broker_command(&["status"]);
        let outcome = run(command.args(&arguments));
        let text = outcome.success();
        assert!(text.contains("lab-1") && text.contains("directory"), "{text}");
        world.assert_clean("status", text.as_bytes());
    }
    let mut command = world.broker_command(&["status", "--socket"]);
    let outcome = run(command.arg(world.ground.path("run/none.sock")));
    assert_ne!(outcome.status, 0);
    assert!(outcome.stderr.contains("none.sock"), "{}", outcome.stderr);
}

#[test]
fn the_process_has_given_up_what_it_does_not_need() {
    let (mut world, _) = started();
    let pid = world.broker().pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(&format!("{key}:"))).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(value("NoNewPrivs"), "1");
    assert_eq!(value("Seccomp"), "2", "a filter is in force");
    assert_eq!(value("CapEff").trim_matches('0'), "");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().rev().nth(1), Some("0"), "{core}");
    // A dumpable process's files in /proc belong to its user, others' to root.
    assert_eq!(fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(), 0);
}

#[test]
fn a_start_takes_no_time() {
    let mut world = World::single().build();
    for index in 0..100 {
        world.plant("alpha", &format!("provider{index}"));
    }
    let start = now();
    let command = world.run_command();
    world.adopt(command, "/readyz");
    assert!(within(Duration::ZERO, || (start.elapsed() < Duration::from_secs(3)).then_some(())).is_some());
    assert_eq!(world.caller("alpha").get("/v1/agent/credentials").json().as_array().unwrap().len(), 100);
}
