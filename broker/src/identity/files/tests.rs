use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::*;

/// Users and groups that nobody has.
const ALICE: u32 = 64101;
const BOB: u32 = 64102;
const TEAM: u32 = 65101;

struct World {
    directory: tempfile::TempDir,
    issuer: Issuer,
    files: TokenFiles,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn rule(name: &str, uid: u32, gid: Option<u32>) -> AgentRule {
    AgentRule { name: name.parse().unwrap(), uid, gid, unit: None, cgroup: None }
}

fn rules(rules: impl IntoIterator<Item = AgentRule>) -> Rules {
    Rules::new(rules.into_iter().collect()).unwrap()
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn is_root(test: &str) -> bool {
    let root = own_uid() == 0;
    if !root {
        skipped!("{test}: it needs root");
    }
    root
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let files = TokenFiles::new(directory.path().join("agents"));
        Self { issuer: Issuer::new("lab-1".parse().unwrap()).unwrap(), files, directory }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join("agents").join(below)
    }

    fn refresh(&mut self, rules: &Rules, seconds: i64) -> Vec<String> {
        let problems = self.files.refresh(rules, &self.issuer, at(seconds));
        problems.iter().map(ToString::to_string).collect()
    }

    fn token(&self, agent: &str) -> String {
        std::fs::read_to_string(self.path(agent).join("token")).unwrap()
    }

    fn mode(&self, below: &str) -> u32 {
        std::fs::symlink_metadata(self.path(below)).unwrap().mode() & 0o7777
    }

    fn is_there(&self, below: &str) -> bool {
        std::fs::symlink_metadata(self.path(below)).is_ok()
    }
}

/// What a program prints when a user with this group runs it; `None` when it fails.
fn run_as(uid: u32, gid: u32, program: &str, path: &Path) -> Option<String> {
    let output = Command::new(program).arg(path).uid(uid).gid(gid).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_token_is_read_by_its_agent_alone() {
    if !is_root("a_token_is_read_by_its_agent_alone") {
        return;
    }
    let mut world = World::new();
    assert_eq!(world.refresh(&rules([rule("alice", ALICE, None), rule("bob", BOB, None)]), 0), [""; 0]);
    for (name, own, other) in [("alice", ALICE, BOB), ("bob", BOB, ALICE)] {
        let file = world.path(name).join("token");
        let token = run_as(own, own, "cat", &file).expect("its agent can read it");
        assert!(
            world.issuer.verify(token.as_bytes(), 1001, at(1)).unwrap().is_for(&name.parse().unwrap(), own)
        );
        assert_eq!(run_as(other, other, "cat", &file), None);
        assert_eq!(run_as(other, own, "cat", &file), None, "not by the group of that number");
        assert_eq!(run_as(own, own, "ls", &world.path(name)), None, "there is nothing to look around for");
    }
    assert_eq!(run_as(ALICE, ALICE, "ls", &world.path("")), None);
}

#[test]
fn with_a_group_selector_it_takes_the_user_and_the_group() {
    if !is_root("with_a_group_selector_it_takes_the_user_and_the_group") {
        return;
    }
    let mut world = World::new();
    assert_eq!(world.refresh(&rules([rule("alice", ALICE, Some(TEAM))]), 0), [""; 0]);
    let file = world.path("alice/token");
    assert!(run_as(ALICE, TEAM, "cat", &file).is_some());
    assert_eq!(run_as(ALICE, ALICE, "cat", &file), None);
    assert_eq!(run_as(BOB, TEAM, "cat", &file), None);
}

#[test]
fn an_agent_that_is_the_brokers_own_user_needs_no_list() {
    let mut world = World::new();
    assert_eq!(world.refresh(&rules([rule("me", own_uid(), None)]), 0), [""; 0]);
    assert_eq!(["", "me", "me/token"].map(|path| world.mode(path)), [0o711, 0o700, 0o600]);
    assert!(world.issuer.verify(world.token("me").as_bytes(), 1001, at(0)).is_ok());
}

#[test]
fn an_agent_that_changes_its_user_leaves_no_way_in() {
    if !is_root("an_agent_that_changes_its_user_leaves_no_way_in") {
        return;
    }
    let mut world = World::new();
    let file = world.path("x/token");
    for (uid, other) in [(ALICE, BOB), (BOB, ALICE)] {
        assert_eq!(world.refresh(&rules([rule("x", uid, None)]), 0), [""; 0]);
        assert!(run_as(uid, uid, "cat", &file).is_some());
        assert_eq!(run_as(other, other, "cat", &file), None);
    }
    assert_eq!(world.refresh(&rules([rule("x", own_uid(), None)]), 0), [""; 0]);
    assert_eq!(run_as(BOB, BOB, "cat", &file), None);
    assert_eq!(["x", "x/token"].map(|path| world.mode(path)), [0o700, 0o600]);
}

#[test]
fn a_token_is_renewed_at_half_its_life_and_not_before() {
    let mut world = World::new();
    let rules = rules([rule("me", own_uid(), None)]);
    world.refresh(&rules, 0);
    let first = world.token("me");
    world.refresh(&rules, 149);
    assert_eq!(world.token("me"), first);
    world.refresh(&rules, 150);
    let second = world.token("me");
    assert_ne!(second, first);
    assert!(world.issuer.verify(second.as_bytes(), 1001, at(449)).is_ok());
    assert!(!world.is_there("me/.token.new"));
}

#[test]
fn a_token_of_the_future_is_renewed_when_the_clock_is_set_back() {
    let mut world = World::new();
    let rules = rules([rule("me", own_uid(), None)]);
    world.refresh(&rules, 0);
    world.refresh(&rules, -3600);
    assert!(world.issuer.verify(world.token("me").as_bytes(), 1001, at(-3600)).is_ok());
}

#[test]
fn a_file_that_is_gone_or_replaced_is_written_again() {
    let mut world = World::new();
    let rules = rules([rule("me", own_uid(), None)]);
    world.refresh(&rules, 0);
    let file = world.path("me/token");
    std::fs::remove_file(&file).unwrap();
    world.refresh(&rules, 1);
    assert!(world.issuer.verify(world.token("me").as_bytes(), 1001, at(1)).is_ok());

    let target = world.directory.path().join("target");
    std::fs::write(&target, "untouched").unwrap();
    std::fs::remove_file(&file).unwrap();
    symlink(&target, &file).unwrap();
    symlink(&target, world.path("me/.token.new")).unwrap();
    assert_eq!(world.refresh(&rules, 2), [""; 0]);
    assert!(world.issuer.verify(world.token("me").as_bytes(), 1001, at(2)).is_ok());
    assert_eq!(std::fs::read_to_string(target).unwrap(), "untouched");
}

#[test]
fn a_reader_never_sees_half_a_token() {
    let mut world = World::new();
    let rules = rules([rule("me", own_uid(), None)]);
    world.refresh(&rules, 0);
    let open = File::open(world.path("me/token")).unwrap();
    let first = world.token("me");
    world.refresh(&rules, 200);
    assert_eq!(std::io::read_to_string(open).unwrap(), first, "the old file is left as it was");
}

#[test]
fn what_lies_in_the_way_is_named_and_gets_no_token() {
    let mut world = World::new();
    let agents = ["file", "link", "open"];
    std::fs::create_dir(world.path("")).unwrap();
    std::fs::write(world.path("file"), "").unwrap();
    let elsewhere = world.directory.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, world.path("link")).unwrap();
    std::fs::create_dir(world.path("open")).unwrap();
    std::fs::set_permissions(world.path("open"), PermissionsExt::from_mode(0o777)).unwrap();

    // Rules of one uid need units to be in force together.
    let rules = rules(agents.map(|name| AgentRule {
        unit: Some(format!("{name}.service").parse().unwrap()),
        ..rule(name, own_uid(), None)
    }));
    let problems = world.refresh(&rules, 0);
    let expected = [
        format!("{}: is not a directory", world.path("file").display()),
        format!("{}: is not a directory", world.path("link").display()),
        format!("{}: others can write to it (mode 0777)", world.path("open").display()),
    ];
    assert_eq!(problems, expected);
    assert_eq!(std::fs::read_dir(elsewhere).unwrap().count(), 0);
    assert!(!world.is_there("open/token"));

    std::fs::remove_file(world.path("file")).unwrap();
    assert_eq!(world.refresh(&rules, 1).len(), 2, "what was mended is served");
    assert!(world.is_there("file/token"));
}

#[test]
fn directories_of_others_are_not_used() {
    if !is_root("directories_of_others_are_not_used") {
        return;
    }
    let mut world = World::new();
    std::fs::create_dir(world.path("")).unwrap();
    std::fs::create_dir(world.path("theirs")).unwrap();
    std::os::unix::fs::chown(world.path("theirs"), Some(ALICE), None).unwrap();
    let problems = world.refresh(&rules([rule("theirs", ALICE, None)]), 0);
    let path = world.path("theirs");
    assert_eq!(problems, [format!("{}: belongs to uid {ALICE}, not to the broker", path.display())]);
    assert_eq!(world.refresh(&rules([]), 0), [""; 0]);
    assert!(path.is_dir(), "nor removed");
}

#[test]
fn without_a_directory_of_ours_nothing_is_written() {
    let mut world = World::new();
    let elsewhere = world.directory.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let root = world.directory.path().join("agents");
    symlink(&elsewhere, &root).unwrap();
    let rules = rules([rule("me", own_uid(), None)]);
    assert_eq!(world.refresh(&rules, 0), [format!("{}: is not a directory", root.display())]);
    assert_eq!(std::fs::read_dir(elsewhere).unwrap().count(), 0);

    world.files = TokenFiles::new(world.directory.path().join("no/such"));
    let path = world.directory.path().join("no/such");
    let expected = format!("{}: cannot make it: No such file or directory (os error 2)", path.display());
    assert_eq!(world.refresh(&rules, 0), [expected]);
}

#[test]
fn tokens_of_an_earlier_broker_are_replaced_or_removed() {
    let mut world = World::new();
    let both = rules([rule("stays", own_uid(), None)]);
    world.refresh(&rules([rule("goes", own_uid(), None)]), 0);
    world.refresh(&both, 0);
    // The earlier broker was killed: these are new to the next one.
    std::fs::create_dir(world.path("left")).unwrap();
    std::fs::write(world.path("left/token"), "").unwrap();
    std::fs::write(world.path("left/.token.new"), "").unwrap();
    let old = world.token("stays");

    let mut next = World { files: TokenFiles::new(world.path("")), ..World::new() };
    next.directory = world.directory;
    assert_eq!(next.refresh(&both, 1), [""; 0]);
    assert_ne!(next.token("stays"), old);
    assert!(!next.is_there("left") && !next.is_there("goes"));
}

#[test]
fn only_what_the_broker_made_is_removed() {
    let mut world = World::new();
    let some = rules([rule("gone", own_uid(), None)]);
    world.refresh(&some, 0);
    assert!(world.is_there("gone/token"));
    for kept in ["notes", "Upper", ".hidden"] {
        std::fs::create_dir(world.path(kept)).unwrap();
    }
    std::fs::write(world.path("notes/token"), "mine").unwrap();
    std::fs::write(world.path("notes/other"), "mine").unwrap();
    std::fs::write(world.path("file"), "mine").unwrap();
    world.refresh(&rules([]), 1);
    assert!(!world.is_there("gone"));
    for kept in ["notes/token", "notes/other", "Upper", ".hidden", "file"] {
        assert!(world.is_there(kept), "{kept}");
    }
}

#[test]
fn at_the_end_every_token_is_removed() {
    let mut world = World::new();
    world.refresh(&rules([rule("me", own_uid(), None)]), 0);
    world.files.remove_all();
    assert!(!world.is_there("me"));
}
