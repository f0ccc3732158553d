//! The programs that end: what they hold while they are stopped in the middle, and right before their end.

use std::fs;
use std::io::{PipeReader, Read, Write, pipe};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use dvx_tests::{ControlPlane, Findings, World, at_rest, eventually, look_at_its_end, skip_without_root};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;

use crate::plants::Plants;
use crate::report::{self, Row};

/// What the rows say where a program was stopped in the middle of its work.
pub(crate) const WHILE: &str = ", while ";

/// What an agent asks for, and what git says on standard input.
const ASKED: [(&str, &str); 3] = [
    ("credentials get gitlab", ""),
    ("secrets get TEXT", ""),
    ("git-credential get", "capability[]=state\nprotocol=https\nhost=gitlab.com\n\n"),
];

/// By which an operator reaches the control plane.
const WAYS: [&str; 2] = ["the Unix socket", "TLS"];

fn held(asked: &str) -> [String; 2] {
    [format!("`{asked}`{WHILE}nobody takes what it writes"), format!("`{asked}`, at the end")]
}

fn sent(way: &str) -> [String; 2] {
    [
        format!("`agent secret set` by {way}{WHILE}nobody answers"),
        format!("`agent secret set` by {way}, at the end"),
    ]
}

/// The table of `dvxir`, with its rows.
pub(crate) fn agents() -> (&'static str, Vec<String>) {
    ("dvxir", ASKED.iter().flat_map(|(asked, _)| held(asked)).collect())
}

/// The table of `dvx`, with its rows.
pub(crate) fn operators() -> (&'static str, Vec<String>) {
    ("dvx", WAYS.iter().flat_map(|way| sent(way)).collect())
}

/// A pipe that is full until it is read from.
fn full_pipe() -> (PipeReader, std::io::PipeWriter) {
    let (reader, writer) = pipe().unwrap();
    let size = fcntl(writer.as_fd(), FcntlArg::F_GETPIPE_SZ).unwrap();
    (&writer).write_all(&vec![b'.'; usize::try_from(size).unwrap()]).unwrap();
    (reader, writer)
}

/// Starts a program that will wait for room in its standard output.
fn blocked(command: &mut Command, input: &str) -> (Child, PipeReader) {
    let (reader, writer) = full_pipe();
    let child = command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::null()).spawn();
    let mut child = child.unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    // The words of this command that wait in front of it hold the pipe too.
    command.stdout(Stdio::null());
    (child, reader)
}

/// Whether a process waits for room in a pipe.
fn waits_for_room(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let words: Vec<&str> = call.split(' ').take(2).collect();
    // write(2) to descriptor 1, on x86-64 and elsewhere.
    matches!(words.as_slice(), ["1" | "64", "0x1"])
}

/// How many whole copies of one value there are.
fn copies(findings: &Findings, length: usize) -> usize {
    findings.places.iter().filter(|place| place.hit.length == length).count()
}

/// Runs `dvxir` until it waits for somebody to take the value, and from there to its end.
fn take(world: &World, name: &str, input: &str, plants: &mut Plants, length: usize) -> [Row; 2] {
    let mut command = world.command("alpha", world.program("dvxir"));
    let (mut child, mut reader) = blocked(command.args(name.split(' ')), input);
    eventually("it waits for room", || waits_for_room(child.id()));
    let [stopped, end] = held(name);
    let findings = plants.search(child.id());
    assert_eq!(
        copies(&findings, length),
        1,
        "{name}: what is about to be written, and no other: {findings:#?}"
    );
    assert_eq!(findings.places.len(), 1, "{name}: {findings:#?}");
    assert_private(child.id(), plants);
    let waiting = plants.row(&stopped, findings);
    let mut taken = Vec::new();
    let row = look_at_its_end(
        child.id(),
        || {
            let mut buffer = vec![0; 1 << 16];
            let count = reader.read(&mut buffer).unwrap();
            taken.extend_from_slice(&buffer[..count]);
        },
        || plants.look(child.id(), &end),
    );
    assert!(child.wait().unwrap().success(), "{name}");
    [waiting, row]
}

/// Arguments and environment are everybody's, or at least the user's.
#[track_caller]
fn assert_private(pid: u32, plants: &mut Plants) {
    for file in ["cmdline", "environ"] {
        let text = fs::read(format!("/proc/{pid}/{file}")).unwrap();
        assert!(plants.find(&text).is_empty(), "{file} shows a value");
    }
}

#[test]
fn the_agents_client_holds_what_it_writes_and_nothing_at_its_end() {
    if skip_without_root("the_agents_client_holds_what_it_writes_and_nothing_at_its_end") {
        return;
    }
    let mut world = World::single().trusted().build();
    let canary = world.socket_path().display().to_string();
    let mut plants = Plants::new(&canary);
    world.upstream.token("alpha", "gitlab", &plants.token("token"));
    let text = plants.text("secret");
    world.upstream.secret("alpha", "TEXT", text.as_bytes());
    world.start();
    let mut rows = Vec::new();
    for ((asked, input), length) in ASKED.into_iter().zip([20, text.len(), 20]) {
        rows.extend(take(&world, asked, input, &mut plants, length));
    }
    // What it holds while it writes is what it is for, and was checked above.
    report::settle_with("dvxir", &rows, |row| row.path.contains(WHILE));
}

#[test]
fn the_operators_client_holds_a_value_once_while_it_waits_and_nothing_at_its_end() {
    if skip_without_root("the_operators_client_holds_a_value_once_while_it_waits_and_nothing_at_its_end") {
        return;
    }
    let mut control = ControlPlane::start();
    control.admin().create_enclave("lab-1");
    control.admin().create_agent("alpha", "lab-1", 61_000);
    let mut plants = Plants::new(&control.ground.root().display().to_string());
    let mut rows = Vec::new();
    for way in WAYS {
        let [stopped, end] = sent(way);
        let value = plants.token("value");
        let mut command = control.dvx_command();
        if way == "TLS" {
            command.env("DVX_CONTROL_URL", control.url()).env("DVX_CA_FILE", control.ca_path());
        }
        command.args(["agent", "secret", "set", "alpha", "NAME"]);
        // With TLS nothing is sent before the control plane has answered.
        control.replica().daemon().signal(Signal::SIGSTOP);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{value}\n").as_bytes()).unwrap();
        eventually("it waits for an answer", || waits_for_events(child.id()));
        at_rest(child.id());
        let findings = plants.search(child.id());
        assert_private(child.id(), &mut plants);
        assert_eq!(findings.places.len(), 1, "the request, until it is answered: {findings:#?}");
        rows.push(plants.row(&stopped, findings));
        let go_on = || control.replica().daemon().signal(Signal::SIGCONT);
        rows.push(look_at_its_end(child.id(), go_on, || plants.look(child.id(), &end)));
        assert!(child.wait().unwrap().success());
    }
    report::settle_with("dvx", &rows, |row| row.path.contains(WHILE));
}

/// Whether a process waits in epoll_wait(2) or epoll_pwait(2).
fn waits_for_events(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    ["232 ", "281 ", "22 "].iter().any(|number| call.starts_with(number))
}
