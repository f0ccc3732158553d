//! What a service manager gives the broker and hears from it.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use dvx_tests::{CallerSpec, Request, World, binary, eventually, run, skip, within};
use nix::sys::signal::Signal;

const WHOAMI: &str = "/v1/agent/whoami";

/// A broker whose sockets were opened before it, in this order.
fn activated(order: &[&str]) -> World {
    let mut world = World::single().tcp().build();
    world.plant("alpha", "gitlab");
    let mut command = CallerSpec::user(world.broker_uid).command(&world.program("dvx-activate"));
    for name in order {
        let address = match *name {
            "unix" => format!("unix:{}", world.socket_path().display()),
            "admin" => format!("unix:{}", world.ground.path("run/broker-admin.sock").display()),
            _ => "tcp:127.0.0.1:0".to_owned(),
        };
        command.arg(format!("{name}={address}"));
    }
    command.arg("--").arg(world.program("dvx-broker")).args(["run", "--config"]).arg(world.config_path());
    world.set_environment(&mut command);
    world.adopt(command, "/readyz");
    world
}

#[test]
fn sockets_are_taken_by_their_names_in_any_order() {
    for order in [["unix", "tcp", "admin"], ["admin", "unix", "tcp"], ["tcp", "admin", "unix"]] {
        let world = activated(&order);
        let caller = world.caller("alpha");
        assert_eq!(caller.get(WHOAMI).json()["transport"], "unix", "{order:?}");
        let answer = caller.tcp().exchange(&Request::get(WHOAMI).bearer(&caller.token()));
        assert_eq!(answer.json()["transport"], "tcp", "{order:?}");
        assert_eq!(world.admin("/healthz").status, 200, "{order:?}");
    }
}

#[test]
fn an_inherited_socket_shows_the_broker_as_its_server() {
    let mut world = activated(&["admin", "unix", "tcp"]);
    let pid = world.broker().pid();
    let stream = std::os::unix::net::UnixStream::connect(world.socket_path()).unwrap();
    let server = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials).unwrap();
    assert_eq!((server.uid(), server.pid()), (world.broker_uid, pid.cast_signed()));
}

#[test]
fn inherited_sockets_stay_when_the_broker_ends() {
    let mut world = activated(&["unix", "tcp", "admin"]);
    world.stop();
    assert!(world.socket_path().exists(), "it is the service manager's");
}

#[test]
fn a_socket_with_an_unknown_name_is_not_served() {
    let world = World::single().build();
    let mut command = CallerSpec::user(world.broker_uid).command(&world.program("dvx-activate"));
    command.arg(format!("surprise=unix:{}", world.ground.path("run/surprise.sock").display()));
    command.arg("--").arg(world.program("dvx-broker")).args(["run", "--config"]).arg(world.config_path());
    world.set_environment(&mut command);
    let outcome = run(&mut command);
    assert_ne!(outcome.status, 0);
    assert!(outcome.stderr.contains("surprise"), "{}", outcome.stderr);
}

#[test]
fn systemds_own_activator_works() {
    const NAME: &str = "systemds_own_activator_works";
    if run(Command::new("sh").args(["-c", "command -v systemd-socket-activate"])).status != 0 {
        return skip(NAME, "systemd-socket-activate is not installed");
    }
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    let mut command = CallerSpec::user(world.broker_uid).command("systemd-socket-activate".as_ref());
    command.arg("-l").arg(world.socket_path()).args(["--fdname=unix", "-E", "RUST_LOG"]);
    command.arg(binary_path(&world)).args(["run", "--config"]).arg(world.config_path());
    world.set_environment(&mut command);
    // It starts the broker on the first connection.
    let socket = world.socket_path();
    let knock = std::thread::spawn(move || {
        within(Duration::from_secs(20), || std::os::unix::net::UnixStream::connect(&socket).ok()).is_some()
    });
    world.adopt(command, "/readyz");
    assert!(knock.join().unwrap());
    // The unit has SocketMode=0666 for this; the activator cannot be told.
    std::fs::set_permissions(world.socket_path(), std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .unwrap();
    assert_eq!(world.caller("alpha").get("/v1/agent/credentials/gitlab").status, 200);
}

fn binary_path(world: &World) -> std::path::PathBuf {
    assert!(binary("dvx-broker").exists());
    world.program("dvx-broker")
}

/// A service manager's ear.
struct Manager(UnixDatagram);

impl Manager {
    fn listen(world: &World) -> Self {
        let path = world.ground.path("run/notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(socket)
    }

    /// The next message that has a line beginning with this.
    fn hear(&self, start: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length =
                self.0.recv(&mut buffer).unwrap_or_else(|error| panic!("never heard {start}: {error}"));
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.lines().any(|line| line.starts_with(start)) {
                return message;
            }
        }
    }
}

fn with_manager(variables: &[(&str, &str)]) -> (World, Manager) {
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    let manager = Manager::listen(&world);
    let mut command = world.run_command();
    command.env("NOTIFY_SOCKET", world.ground.path("run/notify.sock"));
    command.envs(variables.iter().copied());
    world.adopt(command, "/healthz");
    (world, manager)
}

#[test]
fn the_service_manager_hears_ready_reloading_and_stopping() {
    let (mut world, manager) = with_manager(&[]);
    manager.hear("READY=1");
    assert_eq!(world.admin("/readyz").status, 200, "ready means ready");
    world.broker().signal(Signal::SIGHUP);
    let reloading = manager.hear("RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "Type=notify-reload wants it: {reloading}");
    manager.hear("READY=1");
    world.broker().signal(Signal::SIGTERM);
    manager.hear("STOPPING=1");
    assert_eq!(world.broker().wait().code(), Some(0));
}

#[test]
fn the_watchdog_is_fed_while_requests_succeed() {
    let (world, manager) = with_manager(&[("WATCHDOG_USEC", "400000")]);
    for _ in 0..3 {
        manager.hear("WATCHDOG=1");
    }
    assert_eq!(world.caller("alpha").get(WHOAMI).status, 200);
}

#[test]
fn the_watchdog_starves_when_nobody_can_connect() {
    // With its socket gone, no request can succeed: only a dog that is fed after a real one notices.
    let (world, manager) = with_manager(&[("WATCHDOG_USEC", "400000")]);
    manager.hear("WATCHDOG=1");
    std::fs::remove_file(world.socket_path()).unwrap();
    manager.0.set_read_timeout(Some(Duration::from_millis(900))).unwrap();
    let mut buffer = [0; 4096];
    eventually("it starves", || {
        loop {
            match manager.0.recv(&mut buffer) {
                Err(_) => return true,
                Ok(length) if buffer[..length].starts_with(b"WATCHDOG=1") => return false,
                Ok(_) => {}
            }
        }
    });
}

#[test]
fn a_watchdog_of_another_process_is_not_ours() {
    let (_world, manager) = with_manager(&[("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")]);
    manager.hear("READY=1");
    manager.0.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
    let mut buffer = [0; 4096];
    while let Ok(length) = manager.0.recv(&mut buffer) {
        assert!(!buffer[..length].starts_with(b"WATCHDOG"), "sd_watchdog_enabled(3)");
    }
}
