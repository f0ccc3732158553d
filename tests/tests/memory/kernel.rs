//! What the kernel is told to keep others from: dumps, debuggers, the swap.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use dvx_tests::{
    CallerSpec, ControlPlane, Daemon, Request, World, eventually, eventually_some, run, skip,
    skip_without_root,
};
use nix::sys::signal::Signal;

use crate::plants::Plants;

/// The same command, started by somebody who wants dumps, in a directory where they can be written.
fn with_dumps(command: &Command, directory: &Path) -> Command {
    let mut wrapped = Command::new("sh");
    wrapped.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]).arg(command.get_program());
    wrapped.args(command.get_args()).current_dir(directory).env_clear();
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped
}

/// Ends a process by a signal that dumps, and checks that nothing was dumped.
#[track_caller]
fn assert_no_dump(daemon: &mut Daemon, signal: Signal, directory: &Path) {
    // Rust takes the first SIGSEGV for what it might be, a stack that is full, and leaves the next to the kernel.
    let ended = eventually_some("it ends", || {
        let ended = daemon.ended();
        if ended.is_none() {
            daemon.signal(signal);
        }
        ended
    });
    assert_eq!(ended.signal(), Some(signal as i32), "{ended}");
    assert!(!ended.core_dumped(), "{signal}");
    let left: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{signal} leaves {left:?}");
}

const DUMPING: [Signal; 2] = [Signal::SIGSEGV, Signal::SIGABRT];

#[test]
fn daemons_that_crash_leave_no_dump() {
    if skip_without_root("daemons_that_crash_leave_no_dump") {
        return;
    }
    let mut control = ControlPlane::builder().build();
    control.initialise();
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    let directory = world.ground.directory("dumps", world.broker_uid, 0o777);
    for signal in DUMPING {
        let command = world.run_command();
        world.adopt(with_dumps(&command, &directory), "/readyz");
        assert_eq!(world.caller("alpha").get("/v1/agent/credentials/gitlab").status, 200);
        assert_no_dump(world.broker(), signal, &directory);

        let command = control.command(&["serve"]);
        let mut daemon =
            Daemon::start(&mut with_dumps(&command, &directory), &control.ground.path("output/log"));
        eventually("the control plane is ready", || {
            control.replica().ask(&Request::get("/readyz")).is_some_and(|answer| answer.status == 200)
        });
        assert_no_dump(&mut daemon, signal, &directory);
    }
    world.kill();
    // In the same place a process without that protection is dumped.
    let mut other = Command::new("sleep");
    let mut other =
        Daemon::start(&mut with_dumps(other.arg("60"), &directory), &world.ground.path("output/other"));
    eventually("it runs", || {
        fs::read(format!("/proc/{}/cmdline", other.pid())).is_ok_and(|line| line == b"sleep\x0060\0")
    });
    other.signal(Signal::SIGSEGV);
    if !other.wait().core_dumped() {
        skip("daemons_that_crash_leave_no_dump", "this kernel dumps nobody, so that nothing was shown");
    }
}

/// Whether a process of this user may look into another: by its memory, as a debugger, by the call for that.
const LOOK: &str = r#"
import ctypes, os, sys
pid, address = int(sys.argv[1]), int(sys.argv[2], 16)
libc = ctypes.CDLL(None, use_errno=True)
class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
room = ctypes.create_string_buffer(8)
here, there = Piece(ctypes.addressof(room), 8), Piece(address, 8)
if libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0) > 0:
    print("process_vm_readv")
if libc.ptrace(0x4206, pid, None, None) == 0:
    print("ptrace")
for name in ["mem", "environ", "maps", "auxv"]:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            if name == "mem":
                file.seek(address)
            file.read(8)
            print(name)
    except OSError:
        pass
"#;

/// What another process of the same user can do with this one.
fn ways_in(user: u32, pid: u32) -> String {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let address = maps.split('-').next().unwrap();
    let mut command = CallerSpec::user(user).command("python3".as_ref());
    command.env_clear().env("PATH", "/usr/bin:/bin");
    run(command.args(["-c", LOOK, &pid.to_string(), address])).success()
}

#[test]
fn processes_of_the_same_user_see_nothing_of_the_daemons() {
    if skip_without_root("processes_of_the_same_user_see_nothing_of_the_daemons") {
        return;
    }
    let mut control = ControlPlane::start();
    let mut world = World::single().build();
    world.start();
    let (broker, user) = (world.broker().pid(), world.broker_uid);
    assert_eq!(ways_in(user, broker), "", "the broker");
    assert_eq!(ways_in(control.uid, control.replica().daemon().pid()), "", "the control plane");
    for pid in [broker, control.replica().daemon().pid()] {
        assert_eq!(
            fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(),
            0,
            "its files in /proc are root's"
        );
    }
    // A program without that protection is seen.
    let mut other = CallerSpec::user(user).command("sleep".as_ref());
    let mut other = other.arg("60").stdout(Stdio::null()).spawn().unwrap();
    eventually("all ways lead into another process", || {
        ways_in(user, other.id()).lines().eq(["process_vm_readv", "ptrace", "mem", "environ", "maps", "auxv"])
    });
    other.kill().unwrap();
    other.wait().unwrap();
}

/// What smaps(5) says of the mappings whose first line has this in it.
fn kept(pid: u32, what: impl Fn(&str) -> bool) -> Vec<(String, Vec<String>)> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut line = "";
    let mut swapped = "";
    for text in smaps.lines() {
        if text.split(' ').next().is_some_and(|word| word.contains('-')) {
            line = text;
        } else if let Some(size) = text.strip_prefix("Swap:") {
            swapped = size.trim();
        } else if let Some(flags) = text.strip_prefix("VmFlags:")
            && what(line)
        {
            assert_eq!(swapped, "0 kB", "{line}");
            found.push((line.to_owned(), flags.split_whitespace().map(String::from).collect()));
        }
    }
    found
}

#[track_caller]
fn assert_flags(kept: &[(String, Vec<String>)], flags: &[&str]) {
    assert!(!kept.is_empty());
    for (line, found) in kept {
        let missing: Vec<_> = flags.iter().filter(|flag| !found.iter().any(|has| has == *flag)).collect();
        assert!(missing.is_empty(), "{line} lacks {missing:?}: {found:?}");
    }
}

#[test]
fn protected_memory_is_neither_swapped_nor_dumped_nor_inherited() {
    const NAME: &str = "protected_memory_is_neither_swapped_nor_dumped_nor_inherited";
    if skip_without_root(NAME) {
        return;
    }
    let mut world = World::single().build();
    for number in 0..300 {
        // So many that the first pages are not enough.
        world.plant("alpha", &format!("provider{number}"));
    }
    world.start();
    if world.status()["memory"]["protection"] != "secretmem" {
        return skip(NAME, "no memfd_secret here");
    }
    let pid = world.broker().pid();
    let arena = kept(pid, |line| line.contains("secretmem") && line.contains(" rw-s "));
    assert!(arena.len() > 1, "{arena:?}");
    // Locked, not dumped, not inherited.
    assert_flags(&arena, &["lo", "dd", "dc"]);
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut targets = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    assert!(
        !targets.any(|target| target.to_string_lossy().contains("secretmem")),
        "whoever has it can map it"
    );
}

/// Lets the command that follows find a kernel without memfd_secret(2), by a filter that says so (seccomp(2)).
const WITHOUT: &str = r#"
import ctypes, os, struct, sys
def op(code, yes, no, value):
    return struct.pack("HBBI", code, yes, no, value)
# The number of the call: memfd_secret's is 447 everywhere. ENOSYS is 38.
program = op(0x20, 0, 0, 0) + op(0x15, 0, 1, 447) + op(0x06, 0, 0, 0x00050000 | 38) + op(0x06, 0, 0, 0x7FFF0000)
code = ctypes.create_string_buffer(program, len(program))
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
filter = Program(len(program) // 8, ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, 2, ctypes.byref(filter), 0, 0) != 0:
    sys.exit(f"seccomp: {ctypes.get_errno()}")
os.execvp(sys.argv[1], sys.argv[1:])
"#;

fn without_secretmem(command: &Command) -> Command {
    let mut wrapped = Command::new("python3");
    wrapped.args(["-c", WITHOUT]).arg(command.get_program()).args(command.get_args()).env_clear();
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped
}

#[test]
fn without_secret_memory_values_lie_in_locked_pages_alone() {
    if skip_without_root("without_secret_memory_values_lie_in_locked_pages_alone") {
        return;
    }
    let mut world = World::single().build();
    let mut plants = Plants::new(&world.ground.root().display().to_string());
    world.upstream.token("alpha", "gitlab", &plants.token("gitlab"));
    world.upstream.secret("alpha", "LARGE", plants.large("LARGE").as_bytes());
    world.adopt(without_secretmem(&world.run_command()), "/readyz");
    assert_eq!(world.status()["memory"]["protection"], "locked");
    assert!(world.log().contains("memfd_secret is not available"));
    let caller = world.caller("alpha");
    for path in ["credentials/gitlab", "secrets/LARGE", "credentials"] {
        assert_eq!(caller.get(&format!("/v1/agent/{path}")).status, 200);
    }
    let token = plants.token("gitlab");
    world.upstream.token("alpha", "gitlab", &token);
    eventually("replaced", || caller.get("/v1/agent/credentials/gitlab").json()["token"] == token.as_str());
    let pid = world.broker().pid();
    dvx_tests::at_rest(pid);
    let findings = plants.search(pid);
    let arena = kept(pid, |line| {
        findings.places.iter().any(|place| line.split_whitespace().next() == place.mapping.split(' ').next())
    });
    // Locked, not dumped, wiped in children.
    assert_flags(&arena, &["lo", "dd", "wf"]);
    let row = plants.row("", findings);
    assert_eq!(row.removed, 0, "{row:#?}");
    assert!(row.live >= 3, "two answers with the token and one with the secret: {row:#?}");
}

#[test]
fn a_broker_that_requires_secret_memory_does_not_start_without() {
    if skip_without_root("a_broker_that_requires_secret_memory_does_not_start_without") {
        return;
    }
    let world = World::single().set("hardening", "require_secretmem", "true").build();
    let outcome = run(&mut without_secretmem(&world.run_command()));
    assert_eq!(outcome.status, 1);
    assert!(outcome.stderr.contains("memfd_secret is required"), "{}", outcome.stderr);
}
