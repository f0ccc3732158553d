//! What the daemons can still do once they serve, and what not: as the kernel says, of the running processes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

use dvx_tests::{
    ControlPlane, Daemon, Filters, Ground, Request, Verdict, World, binary, eventually, skip,
    skip_without_root,
};
use libc::c_long;

/// Calls that somebody who took a daemon over would like to make.
const FORBIDDEN: &[(&str, c_long)] = &[
    ("execve", libc::SYS_execve),
    ("execveat", libc::SYS_execveat),
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("kcmp", libc::SYS_kcmp),
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("fsopen", libc::SYS_fsopen),
    ("move_mount", libc::SYS_move_mount),
    ("open_tree", libc::SYS_open_tree),
    ("pivot_root", libc::SYS_pivot_root),
    ("chroot", libc::SYS_chroot),
    ("unshare", libc::SYS_unshare),
    ("setns", libc::SYS_setns),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key),
    ("keyctl", libc::SYS_keyctl),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("kexec_load", libc::SYS_kexec_load),
    ("memfd_create", libc::SYS_memfd_create),
    ("personality", libc::SYS_personality),
    ("setuid", libc::SYS_setuid),
    ("setresuid", libc::SYS_setresuid),
    ("setgroups", libc::SYS_setgroups),
    ("capset", libc::SYS_capset),
    ("seccomp", libc::SYS_seccomp),
    ("kill", libc::SYS_kill),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ("vmsplice", libc::SYS_vmsplice),
    ("mknodat", libc::SYS_mknodat),
    ("linkat", libc::SYS_linkat),
    ("symlinkat", libc::SYS_symlinkat),
    ("quotactl", libc::SYS_quotactl),
    ("swapon", libc::SYS_swapon),
    ("reboot", libc::SYS_reboot),
    ("sethostname", libc::SYS_sethostname),
    ("clock_settime", libc::SYS_clock_settime),
    ("a call that no kernel has yet", 999),
];

/// Calls with arguments that are refused in either mode: libraries may try them.
const REFUSED: &[(&str, c_long, &[u64])] = &[
    ("a raw socket of packets", libc::SYS_socket, &[libc::AF_PACKET as u64]),
    ("a socket to virtual machines", libc::SYS_socket, &[libc::AF_VSOCK as u64]),
    ("a socket of the kernel's ciphers", libc::SYS_socket, &[libc::AF_ALG as u64]),
    ("a pair of sockets of another kind", libc::SYS_socketpair, &[libc::AF_INET as u64]),
    ("fork", libc::SYS_clone, &[libc::SIGCHLD as u64]),
    ("a new user namespace", libc::SYS_clone, &[(libc::CLONE_NEWUSER | libc::SIGCHLD) as u64]),
    ("being dumpable again", libc::SYS_prctl, &[libc::PR_SET_DUMPABLE as u64, 1]),
    ("being debugged", libc::SYS_prctl, &[libc::PR_SET_PTRACER as u64]),
    ("keeping capabilities", libc::SYS_prctl, &[libc::PR_SET_KEEPCAPS as u64, 1]),
];

/// The filters of a running process; none where they cannot be had.
fn filters(test: &str, pid: u32) -> Option<Filters> {
    match Filters::of(pid) {
        Ok(filters) => Some(filters),
        Err(why) => {
            skip(test, &format!("the kernel does not show a process's filters: {why}"));
            None
        }
    }
}

#[track_caller]
fn check(filters: &Filters, otherwise: Verdict, more: &[(&str, c_long, &[u64])]) {
    for (name, call) in FORBIDDEN {
        assert_eq!(filters.verdict(*call, &[]), otherwise, "{name}");
    }
    let refusal = if otherwise == Verdict::Log { Verdict::Log } else { Verdict::Errno(libc::EPERM) };
    for (what, call, arguments) in REFUSED.iter().chain(more) {
        assert_eq!(filters.verdict(*call, arguments), refusal, "{what}");
    }
    let thread = (libc::CLONE_THREAD | libc::CLONE_VM) as u64;
    let family = libc::AF_UNIX as u64;
    for (call, arguments) in
        [(libc::SYS_read, [0]), (libc::SYS_clone, [thread]), (libc::SYS_socket, [family])]
    {
        assert_eq!(filters.verdict(call, &arguments), Verdict::Allow, "{call}");
    }
}

/// What the kernel says of each thread of a process.
#[track_caller]
fn check_threads(pid: u32, filters: usize) {
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap) {
        let status = fs::read_to_string(thread.path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_else(|| panic!("no {name}: {status}")).trim().to_owned()
        };
        let name = field("Name");
        assert_eq!(field("NoNewPrivs"), "1", "{name}");
        assert_eq!(field("Seccomp"), "2", "{name}");
        assert_eq!(field("Seccomp_filters"), filters.to_string(), "{name}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(set), "0000000000000000", "{name}: {set}");
        }
    }
}

#[test]
fn the_kernel_denies_a_serving_broker_what_it_has_no_use_for() {
    const NAME: &str = "the_kernel_denies_a_serving_broker_what_it_has_no_use_for";
    if skip_without_root(NAME) {
        return;
    }
    // Its upstream is a directory: nothing has to leave the machine.
    let internet: [(&str, c_long, &[u64]); 2] = [
        ("a connection over IPv4", libc::SYS_socket, &[libc::AF_INET as u64]),
        ("a connection over IPv6", libc::SYS_socket, &[libc::AF_INET6 as u64]),
    ];
    for (mode, otherwise) in
        [("kill", Verdict::Kill), ("errno", Verdict::Errno(libc::EPERM)), ("log", Verdict::Log)]
    {
        let mut world = World::single().tcp().set("hardening", "seccomp", &format!("{mode:?}")).build();
        let token = world.plant("alpha", "gitlab");
        world.start();
        let pid = world.broker().pid();
        let Some(filters) = filters(NAME, pid) else { return };
        check(&filters, otherwise, &internet);
        check_threads(pid, filters.count());
        // And it still does what it is there for.
        assert_eq!(world.caller("alpha").get("/v1/agent/credentials/gitlab").json()["token"], token.as_str());
    }
}

#[test]
fn the_kernel_denies_a_serving_control_plane_what_it_has_no_use_for() {
    const NAME: &str = "the_kernel_denies_a_serving_control_plane_what_it_has_no_use_for";
    if skip_without_root(NAME) {
        return;
    }
    let more: [(&str, c_long, &[u64]); 3] = [
        ("another port", libc::SYS_bind, &[]),
        ("another listener", libc::SYS_listen, &[]),
        ("the kernel's tables", libc::SYS_socket, &[libc::AF_NETLINK as u64]),
    ];
    for (mode, otherwise) in
        [("kill", Verdict::Kill), ("errno", Verdict::Errno(libc::EPERM)), ("log", Verdict::Log)]
    {
        let builder = ControlPlane::builder().set("hardening", "seccomp", &format!("{mode:?}"));
        let mut control = builder.start();
        let pid = control.replica().daemon().pid();
        let Some(filters) = filters(NAME, pid) else { return };
        check(&filters, otherwise, &more);
        check_threads(pid, filters.count());
        control.admin().create_enclave("lab");
    }
}

/// The same command on a kernel that has no Landlock.
fn without_landlock(command: &Command) -> Command {
    let mut wrapped = Command::new(binary("dvx-without-landlock"));
    wrapped.arg(command.get_program()).args(command.get_args()).env_clear();
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped
}

#[test]
fn without_landlock_a_broker_serves_and_says_so() {
    let mut world = World::single().build();
    let token = world.plant("alpha", "gitlab");
    let command = without_landlock(&world.run_command());
    world.adopt(command, "/readyz");
    assert_eq!(world.caller("alpha").get("/v1/agent/credentials/gitlab").json()["token"], token.as_str());
    assert_says_so(&world.log());
}

#[test]
fn without_landlock_a_control_plane_serves_and_says_so() {
    let mut control = ControlPlane::start();
    control.stop();
    let log = control.ground.path("output/without-landlock.log");
    let mut daemon = Daemon::start(&mut without_landlock(&control.command(&["serve"])), &log);
    eventually("it is ready", || {
        let answer = control.replica().ask(&Request::get("/readyz"));
        answer.is_some_and(|answer| answer.status == 200)
    });
    assert_says_so(&daemon.log());
    daemon.stop();
}

/// Other tests would show it if the rest of the confinement were missing with it.
#[track_caller]
fn assert_says_so(log: &str) {
    let line = log.lines().find(|line| line.contains("landlock=")).unwrap_or_default();
    assert!(line.contains("WARN") && line.contains(r#"landlock="not available""#), "{line}");
    assert!(line.contains(r#"seccomp="kill""#), "{line}");
}

#[test]
fn a_link_to_a_file_elsewhere_leads_a_broker_nowhere() {
    const NAME: &str = "a_link_to_a_file_elsewhere_leads_a_broker_nowhere";
    let mut world = World::single().build();
    world.plant("alpha", "gitlab");
    world.start();
    if !world.log().contains("landlock=\"ABI") {
        return skip(NAME, "this kernel has no Landlock");
    }
    // Its modes would let the broker read it.
    let elsewhere = Ground::new(world.broker_uid);
    let file = elsewhere.directory("elsewhere", world.broker_uid, 0o700).join("token");
    fs::write(&file, "glpat-elsewhere").unwrap();
    chown(&file, Some(world.broker_uid), Some(world.broker_uid)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    symlink(&file, world.ground.path("upstream/alpha/github.token")).unwrap();
    eventually("the broker names the file that it cannot read", || {
        world.admin("/readyz").text().contains("github.token")
    });
    let listed = world.caller("alpha").get("/v1/agent/credentials");
    assert!(listed.text().contains("gitlab") && !listed.text().contains("github"), "{}", listed.text());
}
