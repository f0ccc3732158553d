//! Sessions on a terminal: job control, Ctrl-C, the hidden prompt.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::support::{CLEANING, TOKEN, World, eventually, is_gone, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal with a session on it, and the person in front.
struct Person {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    line: OwnedFd,
    child: Child,
}

impl Person {
    /// Runs a program as the leader of a session that has the terminal (setsid(1) does that).
    fn at(world: &World, program: &[&str]) -> Self {
        let pty = openpty(None, None).unwrap();
        // As in `World::dvx`: what a terminal sends is not ignored from the start.
        let mut command = Command::new("/usr/bin/env");
        command.args(["--default-signal=INT,QUIT", "setsid", "--ctty", "--wait"]).args(program);
        world.prepare(&mut command);
        command.env("PS1", "OUTER> ").env("SHELL", "/bin/bash").env("PS0", "");
        let path = format!(
            "{}:/usr/bin:/bin",
            std::path::Path::new(env!("CARGO_BIN_EXE_dvx")).parent().unwrap().display()
        );
        command.env("PATH", path);
        let stdio = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        drop(command);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut output, shown) = (File::from(pty.master.try_clone().unwrap()), Arc::clone(&screen));
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length) = output.read(&mut buffer) {
                if length == 0 {
                    break;
                }
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        Self { keyboard: File::from(pty.master), screen, line: pty.slave, child }
    }

    fn types(&mut self, text: &str) {
        self.screen.lock().unwrap().clear();
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    fn sees(&self, text: &str) {
        let screen = || self.screen.lock().unwrap().clone();
        let seen = eventually(PATIENCE, || screen().contains(text));
        assert!(seen, "not on the screen: {text:?}; there is {:?}", screen());
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.line).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    fn status(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        // The end of setsid's child is the end of its terminal; only a test that failed comes here early.
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGKILL).ok();
        self.child.wait().ok();
    }
}

const BASH: [&str; 4] = ["/bin/bash", "--norc", "--noprofile", "-i"];

#[test]
fn a_shell_has_its_jobs_and_survives_an_interrupt() {
    let world = World::new();
    let mut person = Person::at(&world, &[env!("CARGO_BIN_EXE_dvx"), "dev"]);
    person.sees("dvxir credentials get gitlab");
    person.types("PS1='IN''NER> '\n");
    person.sees("INNER> ");
    person.types("sleep 600\n");
    person.sees("sleep 600");
    wait_for_foreground(&person, "sleep");
    person.types("\x1a");
    person.sees("Stopped");
    person.types("fg\n");
    wait_for_foreground(&person, "sleep");
    person.types("\x03");
    person.sees("INNER> ");
    person.types("\x03");
    person.sees("INNER> ");
    person.types("dvxir credentials get gitlab\n");
    person.sees(TOKEN);
    person.types("exit 9\n");
    assert_eq!(person.status(), 9);
    world.assert_clean();
}

#[test]
fn a_suspended_shell_is_a_stopped_job_of_the_shell_outside() {
    let world = World::new();
    let mut person = Person::at(&world, &BASH);
    person.sees("OUTER> ");
    person.types("dvx dev\n");
    person.sees("dvxir credentials get gitlab");
    person.types("PS1='IN''NER> '\n");
    person.sees("INNER> ");
    person.types("suspend\n");
    person.sees("Stopped");
    person.sees("OUTER> ");
    person.types("fg\n");
    person.types("\n");
    person.sees("INNER> ");
    person.types("exit\n");
    person.sees("OUTER> ");
    person.types("exit 5\n");
    assert_eq!(person.status(), 5);
    world.assert_clean();
}

#[test]
fn a_stopped_command_goes_on_with_its_job() {
    let world = World::new();
    let mut person = Person::at(&world, &BASH);
    person.sees("OUTER> ");
    person.types("dvx dev -- sh -c 'read a; echo \"got $a\"; exit 6'; echo \"status=$?\"\n");
    wait_for_foreground(&person, "sh");
    person.types("\x1a");
    person.sees("Stopped");
    person.types("fg\n");
    wait_for_foreground(&person, "sh");
    person.types("tea\n");
    person.sees("got tea");
    person.types("exit 5\n");
    assert_eq!(person.status(), 5);
    world.assert_clean();
}

#[test]
fn an_interrupt_on_the_terminal_ends_a_command_and_the_session() {
    let world = World::new();
    let mut person = Person::at(&world, &[env!("CARGO_BIN_EXE_dvx"), "dev", "--", "sleep", "600"]);
    wait_for_foreground(&person, "sleep");
    person.types("\x03");
    assert_eq!(person.status(), 130);
    world.assert_clean();
}

#[test]
fn a_killed_shell_gives_the_terminal_back() {
    let world = World::new();
    let mut person = Person::at(&world, &BASH);
    person.sees("OUTER> ");
    person.types("dvx dev; echo \"status=$?\"\n");
    person.sees("dvxir credentials get gitlab");
    person.types("kill -9 $$\n");
    person.sees("status=137");
    person.types("echo \"still h\"ere\n");
    person.sees("still here");
    person.types("exit 5\n");
    assert_eq!(person.status(), 5);
    world.assert_clean();
}

#[test]
fn the_end_of_the_terminal_is_the_end_of_the_session() {
    let world = World::new();
    let mut person = Person::at(&world, &BASH);
    person.sees("OUTER> ");
    person.types("dvx dev\n");
    person.sees("dvxir credentials get gitlab");
    person.types("sleep 600 & echo $! > $WORLD/pid; echo \"star\"ted\n");
    person.sees("started");
    let sleeper = std::fs::read_to_string(world.path("pid")).unwrap().trim().parse().unwrap();
    // The leader of a terminal's session takes the terminal along.
    kill(Pid::from_raw(i32::try_from(person.child.id()).unwrap()), Signal::SIGKILL).unwrap();
    wait_until("the shell's job is gone", CLEANING, || is_gone(Pid::from_raw(sleeper)));
    let entries = || std::fs::read_dir(world.runtime()).unwrap();
    wait_until("the files are gone", CLEANING, || entries().next().is_none());
}

#[test]
fn the_prompt_hides_the_token() {
    let world = World::new();
    let script = "dvxir credentials get gitlab | tr a-z A-Z";
    let mut person =
        Person::at(&world, &["/usr/bin/env", "-u", "GITLAB_TOKEN", "dvx", "dev", "--", "sh", "-c", script]);
    person.sees("GitLab token (hidden; empty for a sample): ");
    wait_until("the terminal hides what is typed", PATIENCE, || !person.echoes());
    person.types("glpat-typed\n");
    person.sees("GLPAT-TYPED");
    assert!(!person.screen.lock().unwrap().contains("glpat-typed"));
    assert_eq!(person.status(), 0);
    world.assert_clean();
}

#[test]
fn an_interrupted_prompt_leaves_the_terminal_as_it_was() {
    let world = World::new();
    let mut person = Person::at(&world, &["/usr/bin/env", "-u", "GITLAB_TOKEN", "dvx", "dev"]);
    person.sees("GitLab token");
    wait_until("the terminal hides what is typed", PATIENCE, || !person.echoes());
    person.types("glpat-ty\x03");
    assert_eq!(person.status(), 130);
    assert!(person.echoes());
    world.assert_clean();
}

/// Waits until the foreground of the terminal is a group with a process of this name.
fn wait_for_foreground(person: &Person, name: &str) {
    wait_until(&format!("{name} is in the foreground"), PATIENCE, || {
        let Ok(group) = nix::unistd::tcgetpgrp(&person.keyboard) else { return false };
        std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let Some((start, end)) = stat.rsplit_once(')') else { return false };
            let pgrp = end.split_ascii_whitespace().nth(2);
            start.ends_with(&format!("({name}"))
                && pgrp == Some(group.to_string().as_str())
                && !end.starts_with(" T")
        })
    });
}
