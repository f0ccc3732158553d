//! However a session ends, nothing of it is left.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{CLEANING, Lasting, World, is_gone, wait_until};
use nix::sys::signal::{Signal, kill, killpg};

#[test]
fn what_the_command_leaves_running_ends_with_it() {
    let world = World::new();
    world.run("env -i setsid sleep 600 & echo $! > $WORLD/pid");
    let pid = fs::read_to_string(world.path("pid")).unwrap().trim().parse().unwrap();
    assert!(is_gone(nix::unistd::Pid::from_raw(pid)));
    world.assert_clean();
}

#[test]
fn a_process_that_was_there_before_is_not_ours_to_end() {
    let world = World::new();
    let mut shell = Command::new("/bin/sh");
    world.prepare(&mut shell);
    let script = "sleep 600 & echo $! > $WORLD/pid; exec \"$DVX\" dev -- true";
    let status = shell.args(["-c", script]).env("DVX", env!("CARGO_BIN_EXE_dvx")).status().unwrap();
    assert!(status.success());
    let pid =
        nix::unistd::Pid::from_raw(fs::read_to_string(world.path("pid")).unwrap().trim().parse().unwrap());
    assert!(!is_gone(pid));
    kill(pid, Signal::SIGKILL).unwrap();
    world.assert_clean();
}

#[test]
fn signals_that_end_us_end_everything() {
    for (signal, status) in
        [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130), (Signal::SIGQUIT, 131)]
    {
        let world = World::new();
        let mut session = world.start_lasting();
        kill(session.front(), signal).unwrap();
        let ended = session.child.wait().unwrap();
        assert_eq!(ended.code(), Some(status), "{signal}");
        world.assert_clean();
        session.assert_gone(&world);
    }
}

#[test]
fn killing_the_first_process_ends_everything() {
    let world = World::new();
    let session = world.start_lasting();
    kill(session.front(), Signal::SIGKILL).unwrap();
    session.assert_gone(&world);
}

#[test]
fn killing_the_keeper_ends_everything() {
    let world = World::new();
    let mut session = world.start_lasting();
    kill(session.keeper, Signal::SIGKILL).unwrap();
    let ended = session.child.wait().unwrap();
    assert_eq!(ended.code(), Some(1));
    world.assert_clean();
    session.assert_gone(&world);
    assert_eq!(stderr_of(&mut session), "dvx: the session has ended: its keeper is gone\n");
}

#[test]
fn killing_a_daemon_ends_everything_and_says_so() {
    for (name, daemon) in [("broker", 0), ("control plane", 1)] {
        let world = World::new();
        let mut session = world.start_lasting();
        let victim = [session.broker, session.control][daemon];
        kill(victim, Signal::SIGKILL).unwrap();
        let ended = session.child.wait().unwrap();
        assert_eq!(ended.code(), Some(1));
        world.assert_clean();
        session.assert_gone(&world);
        let stderr = stderr_of(&mut session);
        assert!(stderr.contains(&format!("dvx: the {name} has ended: killed by SIGKILL\n")), "{stderr}");
    }
}

#[test]
fn killing_the_whole_process_group_leaves_somebody_who_cleans_up() {
    let world = World::new();
    let mut command = world.dvx(&["dev", "--", "sh", "-c", "touch $WORLD/ready; sleep 600"]);
    let mut child = std::os::unix::process::CommandExt::process_group(&mut command, 0).spawn().unwrap();
    wait_until("the session runs", Duration::from_secs(20), || world.path("ready").exists());
    let group = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    killpg(group, Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    wait_until("the files are gone", CLEANING, || fs::read_dir(world.runtime()).unwrap().next().is_none());
}

#[test]
fn a_keeper_that_hangs_does_not_stop_the_end() {
    let world = World::new();
    let mut session = world.start_lasting();
    kill(session.keeper, Signal::SIGSTOP).unwrap();
    kill(session.front(), Signal::SIGTERM).unwrap();
    assert_eq!(session.child.wait().unwrap().code(), Some(143));
    world.assert_clean();
    session.assert_gone(&world);
}

#[test]
fn a_signal_that_ends_the_command_is_our_status() {
    let world = World::new();
    let output = world.dvx(&["dev", "--", "sh", "-c", "kill -USR1 $$"]).output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 10));
    world.assert_clean();
}

#[test]
fn a_command_may_take_an_interrupt_as_it_likes() {
    let world = World::new();
    let script = "trap 'echo caught; exit 4' INT; touch $WORLD/ready; while :; do sleep 0.1; done";
    let mut command = world.dvx(&["dev", "--", "sh", "-c", script]);
    let child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    wait_until("the command runs", Duration::from_secs(20), || world.path("ready").exists());
    kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "caught\n");
}

#[test]
fn an_interrupt_that_the_command_does_not_take_ends_the_session() {
    let world = World::new();
    let script = "touch $WORLD/ready; sleep 600; exit 4";
    let mut child = world.dvx(&["dev", "--", "sh", "-c", script]).spawn().unwrap();
    wait_until("the command runs", Duration::from_secs(20), || world.path("ready").exists());
    kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    world.assert_clean();
}

/// A folder with our programs, but one of them does as the script says.
fn with_script(world: &World, name: &str, script: &str) -> Command {
    let folder = world.path("bin");
    fs::create_dir(&folder).unwrap();
    let dvx = Path::new(env!("CARGO_BIN_EXE_dvx"));
    for program in ["dvx", "dvx-control", "dvx-broker", "dvxir"] {
        if program == name {
            fs::write(folder.join(name), script).unwrap();
            fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        } else {
            fs::copy(dvx.with_file_name(program), folder.join(program)).unwrap();
        }
    }
    let mut command = Command::new(folder.join("dvx"));
    command.args(["dev", "--", "true"]);
    world.prepare(&mut command);
    command
}

#[test]
fn a_daemon_that_does_not_start_shows_its_log() {
    for (program, name) in [("dvx-broker", "broker"), ("dvx-control", "control plane")] {
        let world = World::new();
        let script = "#!/bin/sh\necho 'ERROR no luck today' >&2\nexit 78\n";
        let output = with_script(&world, program, script).output().unwrap();
        assert_eq!(output.status.code(), Some(5));
        let stderr = String::from_utf8_lossy(&output.stderr);
        let expected = format!("dvx: the {name} did not start: exit status 78\n  ERROR no luck today\n");
        assert!(stderr.contains(&expected), "{stderr}");
        world.assert_clean();
    }
}

#[test]
fn a_control_plane_that_hangs_does_not_stop_the_end() {
    let world = World::new();
    // Connections are taken, and nothing is answered.
    let script = "#!/usr/bin/env python3
import os, signal, socket, sys
if sys.argv[1] == 'init':
    sys.exit(0)
directory = os.path.dirname(sys.argv[3])
listener = socket.socket(socket.AF_UNIX)
listener.bind(directory + '/control.sock')
listener.listen()
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
open(os.environ['WORLD'] + '/ready', 'w')
signal.pause()
";
    let mut child = with_script(&world, "dvx-control", script).spawn().unwrap();
    wait_until("the control plane is asked", Duration::from_secs(20), || world.path("ready").exists());
    kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    world.assert_clean();
}

#[test]
fn programs_that_are_missing_are_named() {
    for name in ["dvx-control", "dvx-broker", "dvxir"] {
        let world = World::new();
        let mut command = with_script(&world, name, "");
        fs::remove_file(world.path("bin").join(name)).unwrap();
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr.starts_with(&format!("dvx: cannot find {name}: it is not in ")), "{stderr}");
        assert!(stderr.contains("\nhint: cargo build"), "{stderr}");
    }
}

fn stderr_of(session: &mut Lasting) -> String {
    let mut text = String::new();
    session.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text.lines()
        .filter(|line| !line.contains("warning: running as root"))
        .map(|line| format!("{line}\n"))
        .collect()
}
