use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::{PeerContext, PeerError, PeerFacts, PidNamespace, Pidfd, Unidentified};
use super::{ALICE, BOB, Cgroup, Child, identified, is_root, rule, rules, wait_for};
use crate::policy::{NoMatch, Rules};

/// A socket that anybody can connect to.
struct Server {
    directory: tempfile::TempDir,
    listener: UnixListener,
}

impl Server {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let open =
            |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        open(directory.path(), 0o777);
        open(&directory.path().join("s"), 0o666);
        Self { directory, listener }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    fn script(&self, before: &str) -> String {
        format!("{before}connect {}", self.path().display())
    }

    fn accept(&self) -> UnixStream {
        wait_for(&self.listener);
        self.listener.accept().unwrap().0
    }

    /// Who the script's process is.
    fn meet(&self, before: &str, context: &PeerContext, rules: &Rules) -> Result<PeerFacts, PeerError> {
        let _child = Child::play(&self.script(before));
        identify(&self.accept(), context, rules)
    }
}

fn identify(stream: &UnixStream, context: &PeerContext, rules: &Rules) -> Result<PeerFacts, PeerError> {
    identified(stream, context, rules).map_err(|unidentified| unidentified.reason)
}

/// Everything that this kernel offers; the tests are about a kernel that offers it.
fn context(test: &str) -> Option<PeerContext> {
    let context = PeerContext::new(Pidfd::Used);
    match context.pidfd() {
        Pidfd::Used => Some(context),
        Pidfd::Unused => {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
            let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse::<u32>);
            let version = (numbers.next().unwrap().unwrap(), numbers.next().unwrap().unwrap());
            assert!(version < (6, 13), "{test}: Linux {release} was found unable to tell about processes");
            skipped!("{test}: this kernel does not tell about processes by pidfd (Linux 6.13)");
            None
        }
    }
}

#[test]
fn the_process_that_connected_is_named() {
    let Some(context) = context("the_process_that_connected_is_named") else { return };
    let server = Server::new();
    let child = Child::play(&server.script(""));
    let facts = identify(&server.accept(), &context, &rules([])).unwrap();
    assert_eq!(facts.uid, nix::unistd::geteuid().as_raw());
    assert_eq!(facts.gid, Some(nix::unistd::getegid().as_raw()));
    assert_eq!(facts.pid, Some(child.pid()));
    let own: Vec<u32> = nix::unistd::getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).collect();
    assert_eq!(facts.groups.known(), Some(&own[..]));
}

#[test]
fn another_user_is_named_with_all_its_groups() {
    if !is_root("another_user_is_named_with_all_its_groups") {
        return;
    }
    let server = Server::new();
    let context = PeerContext::new(Pidfd::Used);
    for count in [0_u32, 1, 8, 9, 64, 65, 2000] {
        let groups: Vec<u32> = (70_000..70_000 + count).collect();
        let words: Vec<String> = groups.iter().map(u32::to_string).collect();
        let before = format!("groups {}; group 65001; user {ALICE} {ALICE};", words.join(" "));
        let facts = server.meet(&before, &context, &rules([])).unwrap();
        assert_eq!((facts.uid, facts.gid), (ALICE, Some(65001)));
        assert_eq!(facts.groups.known(), Some(&groups[..]));
        assert_eq!(facts.in_group(65001), Some(true));
        assert_eq!(facts.in_group(70_000), Some(count > 0));
        assert_eq!(facts.in_group(65002), Some(false));
    }
}

#[test]
fn two_users_are_two_agents_and_others_are_none() {
    if !is_root("two_users_are_two_agents_and_others_are_none") {
        return;
    }
    let server = Server::new();
    let context = PeerContext::new(Pidfd::Used);
    let rules = rules([rule("alice", ALICE), rule("bob", BOB)]);
    let agent = |before: &str| {
        let facts = server.meet(before, &context, &rules).unwrap();
        rules.agent_for(&facts).map(|rule| rule.name.to_string())
    };
    assert_eq!(agent(&format!("user {ALICE} {ALICE};")).as_deref(), Ok("alice"));
    assert_eq!(agent(&format!("user {BOB} {BOB};")).as_deref(), Ok("bob"));
    assert_eq!(agent("user 64103 64103;"), Err(NoMatch::Uid));
    assert_eq!(agent(""), Err(NoMatch::Uid), "root gets nothing unless it is mapped");
}

#[test]
fn a_setuid_caller_is_refused() {
    if !is_root("a_setuid_caller_is_refused") {
        return;
    }
    let Some(context) = context("a_setuid_caller_is_refused") else { return };
    let refused = Server::new().meet(&format!("user {ALICE} {BOB};"), &context, &rules([rule("bob", BOB)]));
    assert_eq!(refused.err(), Some(PeerError::ChangedUser { connected: BOB, real: ALICE }));
}

#[test]
fn a_process_that_changed_its_user_after_connecting_is_refused() {
    if !is_root("a_process_that_changed_its_user_after_connecting_is_refused") {
        return;
    }
    let Some(context) = context("a_process_that_changed_its_user_after_connecting_is_refused") else {
        return;
    };
    let server = Server::new();
    let _child = Child::play(&format!("{}; user {ALICE} {ALICE}; speak", server.script("")));
    let mut stream = server.accept();
    stream.read_exact(&mut [0]).unwrap();
    let refused = identify(&stream, &context, &rules([rule("root", 0)]));
    assert_eq!(refused.err(), Some(PeerError::ChangedUser { connected: 0, real: ALICE }));
}

#[test]
fn a_connection_that_outlives_its_process_is_nobodys() {
    let Some(context) = context("a_connection_that_outlives_its_process_is_nobodys") else { return };
    let server = Server::new();
    let mut child = Child::play(&format!("{}; pass-on", server.script("")));
    let stream = server.accept();
    child.wait_until_it_is_a_zombie();
    assert_eq!(identify(&stream, &context, &rules([])).err(), Some(PeerError::Gone), "a zombie");
    child.reap();
    assert_eq!(identify(&stream, &context, &rules([])).err(), Some(PeerError::Gone), "no process at all");
}

#[test]
fn a_process_whose_first_thread_has_ended_is_still_named() {
    let Some(context) = context("a_process_whose_first_thread_has_ended_is_still_named") else { return };
    let server = Server::new();
    let program = "import ctypes, socket, sys, threading\n\
        s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n\
        leader = threading.main_thread().native_id\n\
        def rest():\n\
        \x20   while open(f'/proc/self/task/{leader}/stat').read().split(')')[1].split()[0] != 'Z': pass\n\
        \x20   s.send(b'x'); s.recv(1)\n\
        threading.Thread(target=rest).start()\n\
        ctypes.CDLL(None).syscall(60, 0)\n";
    if !cfg!(target_arch = "x86_64") {
        skipped!("a_process_whose_first_thread_has_ended_is_still_named: needs x86_64");
        return;
    }
    let Ok(mut child) = Command::new("python3").args(["-c", program]).arg(server.path()).spawn() else {
        skipped!("a_process_whose_first_thread_has_ended_is_still_named: needs python3");
        return;
    };
    let mut stream = server.accept();
    stream.read_exact(&mut [0]).unwrap();
    let facts = identify(&stream, &context, &rules([])).unwrap();
    assert_eq!(facts.pid, Some(child.id()));
    drop(stream);
    child.wait().unwrap();
}

#[test]
fn root_is_root_in_our_pid_namespace_only() {
    if !is_root("root_is_root_in_our_pid_namespace_only") {
        return;
    }
    let Some(context) = context("root_is_root_in_our_pid_namespace_only") else { return };
    let server = Server::new();
    let rules = rules([rule("root", 0)]);
    let ours = server.meet("", &context, &rules).unwrap();
    assert_eq!(ours.namespace, PidNamespace::Ours);
    assert!(rules.agent_for(&ours).is_ok());

    let _child = Child::play_in_new_pid_namespace(&server.script(""));
    let nested = identify(&server.accept(), &context, &rules).unwrap();
    assert_eq!((nested.uid, nested.namespace), (0, PidNamespace::Nested));
    assert_eq!(rules.agent_for(&nested).err(), Some(NoMatch::NestedRoot));
}

#[test]
fn a_peer_outside_our_pid_namespace_is_nobody() {
    if !is_root("a_peer_outside_our_pid_namespace_is_nobody") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut child = Child::play_in_new_pid_namespace(&format!("identify-at {}", path.display()));
    child.told("ready");
    let _stream = UnixStream::connect(path).unwrap();
    assert_eq!(child.told("found "), "Err(OutsidePidNamespace)");
}

#[test]
fn the_root_of_a_user_namespace_is_the_user_it_is_outside() {
    if !is_root("the_root_of_a_user_namespace_is_the_user_it_is_outside") {
        return;
    }
    let server = Server::new();
    let mut child = Child::play_in_new_user_namespace(&format!("await; {}", server.script("user 0 0;")));
    child.told("waiting");
    std::fs::write(format!("/proc/{}/uid_map", child.pid()), format!("0 {ALICE} 1")).unwrap();
    child.go_on();
    let facts = identify(&server.accept(), &PeerContext::new(Pidfd::Used), &rules([])).unwrap();
    assert_eq!(facts.uid, ALICE);
}

#[test]
fn users_without_a_number_in_our_user_namespace_are_nobody() {
    if !is_root("users_without_a_number_in_our_user_namespace_are_nobody") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let mut child = Child::play_in_new_user_namespace(&format!("identify-at {}", path.display()));
    child.told("ready");
    let _stream = UnixStream::connect(path).unwrap();
    assert_eq!(child.told("found "), "Err(Nobody)");
}

#[test]
fn without_pidfd_users_and_groups_hold_and_the_rest_is_refused() {
    if !is_root("without_pidfd_users_and_groups_hold_and_the_rest_is_refused") {
        return;
    }
    let server = Server::new();
    let context = PeerContext::new(Pidfd::Unused);
    let mut grouped = rule("grouped", BOB);
    grouped.gid = Some(70_000);
    let mut placed = rule("placed", 64103);
    placed.unit = Some("a.service".parse().unwrap());
    let rules = rules([rule("plain", ALICE), grouped, placed, rule("root", 0)]);
    let agent = |before: &str| {
        let facts = server.meet(before, &context, &rules).unwrap();
        assert_eq!((&facts.cgroup, facts.namespace), (&None, PidNamespace::Unknown));
        rules.agent_for(&facts).map(|rule| rule.name.to_string())
    };
    assert_eq!(agent(&format!("groups; user {ALICE} {ALICE};")).as_deref(), Ok("plain"));
    assert_eq!(agent(&format!("groups 70000; user {BOB} {BOB};")).as_deref(), Ok("grouped"));
    assert_eq!(agent(&format!("groups 70001; user {BOB} {BOB};")), Err(NoMatch::Group));
    assert_eq!(agent("user 64103 64103;"), Err(NoMatch::UnknownCgroup));
    assert_eq!(agent(""), Err(NoMatch::UnprovenRoot));
}

#[test]
fn units_and_cgroups_are_those_that_the_kernel_reports() {
    let test = "units_and_cgroups_are_those_that_the_kernel_reports";
    if !is_root(test) {
        return;
    }
    let Some(context) = context(test) else { return };
    let below = [
        "agent.service",
        "agent.service/inner",
        "other.service",
        "user@1.service",
        "user@1.service/agent.service",
    ];
    let Some(cgroup) = Cgroup::new("unix", &below) else { return };

    let mut unit = rule("unit", ALICE);
    unit.unit = Some("agent.service".parse().unwrap());
    let mut path = rule("path", ALICE);
    path.cgroup = Some(cgroup.entrance("other.service").0.parse().unwrap());
    let rules = rules([unit, path]);

    let server = Server::new();
    let agent = |place: &str| {
        let (path, procs) = cgroup.entrance(place);
        let before = format!("enter {}; user {ALICE} {ALICE};", procs.display());
        let facts = server.meet(&before, &context, &rules).unwrap();
        assert_eq!(facts.cgroup.as_deref(), Some(&*path));
        rules.agent_for(&facts).map(|rule| rule.name.to_string())
    };
    assert_eq!(agent("agent.service").as_deref(), Ok("unit"));
    assert_eq!(agent("agent.service/inner").as_deref(), Ok("unit"));
    assert_eq!(agent("other.service").as_deref(), Ok("path"));
    assert_eq!(agent("user@1.service"), Err(NoMatch::Cgroup));
    assert_eq!(agent("user@1.service/agent.service"), Err(NoMatch::Cgroup), "a user made that one up");

    let outside = server.meet(&format!("user {ALICE} {ALICE};"), &context, &rules).unwrap();
    assert!(rules.agent_for(&outside).is_err());
}

#[test]
fn what_is_refused_is_still_named_for_the_record() {
    if !is_root("what_is_refused_is_still_named_for_the_record") {
        return;
    }
    let Some(context) = context("what_is_refused_is_still_named_for_the_record") else { return };
    let server = Server::new();
    let child = Child::play(&server.script(&format!("user {ALICE} {BOB};")));
    let stream = server.accept();
    let refused = identified(&stream, &context, &rules([]));
    let Err(Unidentified { uid, pid, reason, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((uid, pid), (Some(BOB), Some(child.pid())));
    assert_eq!(reason.to_string(), format!("the peer connected as uid {BOB} but is run by uid {ALICE}"));
}

/// The pidfds that this process has of another one.
fn pidfds_of(pid: u32) -> usize {
    let line = format!("\nPid:\t{pid}\n");
    let records = std::fs::read_dir("/proc/self/fdinfo").unwrap();
    let is_one = |record: &String| record.contains(&line);
    records.filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok()).filter(is_one).count()
}

#[test]
fn the_pidfd_of_the_last_peer_is_kept_and_no_other() {
    let Some(context) = context("the_pidfd_of_the_last_peer_is_kept_and_no_other") else { return };
    let server = Server::new();
    let mut children = Vec::new();
    for _ in 0..2 {
        children.push(Child::play(&server.script("")));
        let stream = server.accept();
        identify(&stream, &context, &rules([])).unwrap();
        identify(&stream, &context, &rules([])).unwrap();
        let held: Vec<usize> = children.iter().map(|child| pidfds_of(child.pid())).collect();
        let expected: &[usize] = if children.len() == 1 { &[1] } else { &[0, 1] };
        assert_eq!(held, expected);
    }
}

#[test]
fn no_descriptor_is_left_behind() {
    let context = PeerContext::new(Pidfd::Used);
    let (near, _far) = UnixStream::pair().unwrap();
    for _ in 0..2000 {
        identify(&near, &context, &rules([])).unwrap();
    }
    // Tests beside this one hold a few for a moment.
    let pidfds = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.to_string_lossy().contains("pidfd"))
        .count();
    assert!(pidfds < 100, "{pidfds}");
}
