//! `dvx` in front of a person.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::stub::{Stub, json, ok};
use crate::support::World;

/// A terminal with a program on it, and the person in front.
struct Person {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    line: OwnedFd,
    child: Child,
}

impl Person {
    fn at(world: &World, line: &str, variables: &[(&str, &str)]) -> Self {
        let pty = openpty(None, None).unwrap();
        let inner = world.command(line);
        let mut command = Command::new("/usr/bin/env");
        command.args(["--default-signal=INT,QUIT", "setsid", "--ctty", "--wait"]);
        command.arg(inner.get_program()).args(inner.get_args()).env_clear();
        for (name, value) in inner.get_envs() {
            command.env(name, value.unwrap());
        }
        command.env("TERM", "xterm").envs(variables.iter().copied());
        let stdio = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        drop(command);
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut output, shown) = (File::from(pty.master.try_clone().unwrap()), Arc::clone(&screen));
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(length) = output.read(&mut buffer) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        Self { keyboard: File::from(pty.master), screen, line: pty.slave, child }
    }

    fn wait_until(&self, what: &str, condition: impl Fn(&str) -> bool) {
        for _ in 0..2000 {
            if condition(&self.screen.lock().unwrap()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("not on the screen: {what}; there is {:?}", self.screen.lock().unwrap());
    }

    fn sees(&self, text: &str) {
        self.wait_until(text, |screen| screen.contains(text));
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.line).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    fn types(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    fn status(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

const INFO: &str =
    r#"{"name":"X","scope":"org","agent_accessible":true,"version":1,"updated_at":"2026-01-31T00:00:00Z"}"#;

fn world() -> World {
    World::new(Stub::new(|asked, _| match asked.line.split(' ').next() {
        Some("PUT") => json(200, None, INFO),
        Some("DELETE") => json(204, None, ""),
        _ => ok(r#"{"name":"ann","role":"admin","organisation":"default"}"#),
    }))
}

#[test]
fn a_value_is_asked_for_and_not_shown() {
    let world = world();
    let mut person = Person::at(&world, "secret set X", &[]);
    person.sees("Value of X (hidden): ");
    person.wait_until("what is typed is hidden", |_| !person.echoes());
    person.types("planted value\n");
    assert_eq!(person.status(), 0);
    assert!(person.echoes());
    assert!(!person.screen.lock().unwrap().contains("planted"));
    assert_eq!(world.stub.asked()[0].body, r#"{"value":"planted value","agent_accessible":true}"#);
}

#[test]
fn an_interrupted_prompt_leaves_the_terminal_as_it_was() {
    let world = world();
    let mut person = Person::at(&world, "secret set X", &[]);
    person.sees("Value of X (hidden): ");
    person.wait_until("what is typed is hidden", |_| !person.echoes());
    person.types("plan\x03");
    assert_eq!(person.status(), 130);
    assert!(person.echoes());
    assert!(world.stub.asked().is_empty());
}

#[test]
fn a_deletion_is_asked_about() {
    let world = world();
    let mut person = Person::at(&world, "enclave delete lab-1", &[]);
    person.sees("Delete the enclave lab-1, its agents and their secrets? [y/N] ");
    person.types("\n");
    assert_eq!(person.status(), 1);
    person.sees("dvx: nothing was deleted: not confirmed");
    assert!(world.stub.asked().is_empty());
    let mut person = Person::at(&world, "enclave delete lab-1", &[]);
    person.sees("[y/N] ");
    person.types("y\n");
    assert_eq!(person.status(), 0);
    let mut person = Person::at(&world, "enclave delete lab-1 --yes", &[]);
    assert_eq!(person.status(), 0);
    assert_eq!(world.stub.lines(), ["DELETE /api/v1/enclaves/lab-1"; 2]);
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let agent = r#"{"items":[{"id":"1","name":"a","enclave":"e","unix_user":"u","acts_as":null,"state":"active","reason":null,"created_at":"2026-01-31T00:00:00Z","credentials":0,"next_expiry":null,"revision":7}]}"#;
    let world = World::new(Stub::new(move |_, _| ok(agent)));
    let mut person = Person::at(&world, "agent list", &[]);
    assert_eq!(person.status(), 0);
    person.sees("\u{1b}[32mactive\u{1b}[0m");
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut person = Person::at(&world, "agent list", &[variable]);
        assert_eq!(person.status(), 0);
        person.sees("active");
        assert!(!person.screen.lock().unwrap().contains('\u{1b}'));
    }
    assert!(!world.run("agent list").stdout.contains('\u{1b}'));
}
