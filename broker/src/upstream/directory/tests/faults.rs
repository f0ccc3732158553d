//! Bad files, and what cannot be read.

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;

/// A name, what is done to the file, and what is then said about it.
type Way = (&'static str, fn(&Path), &'static str);

/// Every way in which `a/gitlab.token` can be bad, by what it does to the file.
fn ways() -> Vec<Way> {
    vec![
        ("empty", |file| write(file, ""), "the file is empty"),
        ("only a newline", |file| write(file, "\n"), "the token is empty"),
        ("white space", |file| write(file, "glpat-visible visible"), "byte 13"),
        ("two lines", |file| write(file, "glpat-visible\n\n"), "byte 13"),
        ("not UTF-8", |file| put(file, b"glpat-visible\xff"), "byte 13"),
        ("a long token", |file| write(file, &"visible".repeat(600)), "longer than 4096 bytes"),
        ("a huge file", |file| write(file, &"visible".repeat(10_000)), "70000 bytes"),
        ("readable by others", |file| mode(file, 0o604), "(mode 0604); expected 0600 or less"),
        ("writable by others", |file| mode(file, 0o642), "(mode 0642); expected 0640 or less"),
        ("a directory", |file| replace(file, |file| fs::create_dir(file).unwrap()), "not a regular file"),
        ("a FIFO", |file| replace(file, fifo), "not a regular file"),
        ("a device", |file| replace(file, |file| symlink("/dev/zero", file).unwrap()), "not a regular file"),
        ("a loop", |file| replace(file, |file| symlink(file, file).unwrap()), "symbolic link"),
    ]
}

fn replace(file: &Path, make: impl Fn(&Path)) {
    fs::remove_file(file).unwrap();
    make(file);
}

fn fifo(file: &Path) {
    mknodat(CWD, file, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}

#[test]
fn a_bad_file_freezes_its_credential_and_nothing_else() {
    for (name, spoil, why) in ways() {
        let mut world = World::new();
        world.put("a/gitlab.token", "glpat-a");
        world.put("a/github.token", "ghp-a");
        world.look_after(0);
        world.settle();
        let file = world.path("a/gitlab.token");
        spoil(&file);
        world.put("a/github.token", "ghp-b");
        world.settle();
        assert_eq!(world.token("a", "gitlab").as_deref(), Some("glpat-a"), "{name}");
        assert_eq!(world.token("a", "github").as_deref(), Some("ghp-b"), "{name}");
        world.assert_degraded("a/gitlab.token", why);
        assert!(!world.degraded()[0].1.contains("visible"), "{name}");

        let revision = world.revision();
        let age = world.age("a", "gitlab");
        world.look_after(1000);
        world.look_after(1000);
        assert_eq!(world.revision(), revision, "{name}: a file that stays bad is no change");
        assert_eq!(world.age("a", "gitlab"), age + 2000, "{name}");
        assert_eq!(world.age("a", "github"), 0, "{name}");

        if file.is_dir() {
            fs::remove_dir(&file).unwrap()
        } else {
            fs::remove_file(&file).unwrap()
        }
        world.put("a/gitlab.token", "glpat-c");
        world.settle();
        assert_eq!(world.token("a", "gitlab").as_deref(), Some("glpat-c"), "{name}");
        assert_eq!((world.age("a", "gitlab"), world.degraded()), (0, vec![]), "{name}");
    }
}

#[test]
fn a_file_that_was_never_good_gives_nothing() {
    for (name, spoil, why) in ways() {
        let mut world = World::new();
        world.put("a/gitlab.token", "glpat-a");
        spoil(&world.path("a/gitlab.token"));
        world.look_after(0);
        assert_eq!(world.token("a", "gitlab"), None, "{name}");
        world.assert_degraded("a/gitlab.token", why);
        assert_eq!(world.arena.usage().used_bytes, 0, "{name}");
    }
}

#[test]
fn a_frozen_credential_whose_file_becomes_good_again_is_fresh() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-a");
    world.look_after(0);
    mode(&world.path("a/gitlab.token"), 0o644);
    world.settle();
    let frozen = world.body("a", "gitlab");
    assert_eq!(world.age("a", "gitlab"), 650, "since the last look that found it good");
    mode(&world.path("a/gitlab.token"), 0o600);
    world.settle();
    assert_eq!((world.body("a", "gitlab"), world.age("a", "gitlab")), (frozen, 0));
}

#[test]
fn bad_json_freezes_the_token_beside_it_and_is_named() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-old");
    world.put("a/gitlab.json", r#"{"display_name":"Bot"}"#);
    world.look_after(0);
    world.put("a/gitlab.token", "glpat-new");
    world.put("a/gitlab.json", r#"{"displayname":"visible"}"#);
    world.settle();
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-old");
    world.assert_degraded("a/gitlab.json", "line 1, column ");
    assert!(!world.degraded()[0].1.contains("visible"));

    world.put("a/gitlab.json", r#"{"display_name":"Bot"}"#);
    mode(&world.path("a/gitlab.json"), 0o644);
    world.settle();
    world.assert_degraded("a/gitlab.json", "other users may read or write it");
    fs::remove_file(world.path("a/gitlab.json")).unwrap();
    world.settle();
    assert_eq!((world.token("a", "gitlab").unwrap(), world.degraded()), ("glpat-new".into(), vec![]));
}

#[test]
fn a_bad_secret_freezes_itself_only() {
    let mut world = World::new();
    world.put("a/secrets/KEY", "old");
    world.put("a/secrets/OTHER", "old");
    world.look_after(0);
    world.put("a/secrets/KEY", b"\xff\xfe");
    world.put("a/secrets/OTHER", "new");
    world.settle();
    assert_eq!(world.secret("a", "KEY").unwrap(), "old");
    assert_eq!(world.secret("a", "OTHER").unwrap(), "new");
    world.assert_degraded("a/secrets/KEY", "not UTF-8");
    world.put("a/secrets/KEY", "x".repeat(65_536));
    world.settle();
    assert_eq!((world.secret("a", "KEY").unwrap().len(), world.degraded()), (65_536, vec![]));
    world.put("a/secrets/KEY", "x".repeat(65_537));
    world.settle();
    world.assert_degraded("a/secrets/KEY", "65537 bytes; expected at most 65536");
}

#[test]
fn names_that_cannot_be_are_named() {
    let mut world = World::new();
    for file in ["a/GitLab.token", "a/README", "a/secrets/with space", "a/.hidden", "a/secrets/..data"] {
        world.put(file, "glpat-visible");
    }
    world.look_after(0);
    let names: Vec<_> = world.degraded().into_iter().map(|(what, _)| what).collect();
    assert_eq!(names, ["a/GitLab.token", "a/README", "a/secrets/with space"]);
    assert_eq!(world.arena.usage().used_bytes, 0);
    for file in ["a/GitLab.token", "a/README", "a/secrets/with space"] {
        fs::remove_file(world.path(file)).unwrap();
    }
    world.settle();
    assert_eq!(world.degraded(), []);
}

#[test]
fn allow_mode_accepts_what_it_says_and_no_more() {
    let mut world = World::with(Some(0o644), Arena::new(false).unwrap());
    world.put("a/gitlab.token", "glpat-a");
    mode(&world.path("a/gitlab.token"), 0o644);
    world.put("a/github.token", "ghp-a");
    mode(&world.path("a/github.token"), 0o646);
    world.look_after(0);
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-a");
    assert_eq!(world.token("a", "github"), None);
    world.assert_degraded("a/github.token", "(mode 0646); expected 0644 or less");
}

#[test]
fn a_file_that_never_stands_still_is_frozen() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-0");
    world.look_after(0);
    world.look_after(150);
    for round in 1..=11 {
        assert_eq!(world.degraded(), [], "round {round}");
        world.put("a/gitlab.token", format!("glpat-{round}"));
        world.look_after(100);
    }
    world.put("a/gitlab.token", "glpat-12");
    world.look_after(100);
    world.assert_degraded("a/gitlab.token", "does not stop changing");
    assert_eq!((world.token("a", "gitlab").unwrap(), world.age("a", "gitlab")), ("glpat-0".into(), 1200));
    world.look_after(150);
    assert_eq!((world.token("a", "gitlab").unwrap(), world.degraded()), ("glpat-12".into(), vec![]));
}

#[test]
fn a_root_that_cannot_be_used_freezes_everything() {
    let mut world = World::new();
    let (root, away) = (world.root.path().to_owned(), world.root.path().with_extension("away"));
    world.put("a/gitlab.token", "glpat-a");
    world.look_after(0);
    world.settle();
    fs::rename(&root, &away).unwrap();
    world.look_after(1000);
    world.look_after(1000);
    assert_eq!((world.token("a", "gitlab").unwrap(), world.age("a", "gitlab")), ("glpat-a".into(), 2000));
    world.assert_degraded("", "no such directory");
    let stale = world.keyring.freshness(world.now + MAX_STALE, MAX_STALE);
    assert!(matches!(stale, Freshness::Stale { .. }), "{stale:?}");

    world.worker.set_agents(names(&["b"]));
    world.look_after(0);
    assert_eq!(world.token("a", "gitlab"), None, "who is no agent any more has nothing");
    assert_eq!(
        world.keyring.freshness(world.now, MAX_STALE),
        Freshness::Fresh { age: Duration::from_secs(2) },
        "and that is no confirmation"
    );

    fs::rename(&away, &root).unwrap();
    world.look_after(500);
    assert_eq!(world.degraded(), []);
    assert_eq!(world.keyring.freshness(world.now, MAX_STALE), Freshness::Fresh { age: Duration::ZERO });
}

#[test]
fn without_a_root_nothing_was_ever_synchronised() {
    let mut world = World::new();
    let root = world.root.path().to_owned();
    fs::remove_dir_all(&root).unwrap();
    world.look_after(0);
    assert_eq!(world.keyring.freshness(world.now, MAX_STALE), Freshness::Never);
    fs::write(&root, "").unwrap();
    world.look_after(500);
    world.assert_degraded("", "Not a directory");
    fs::remove_file(&root).unwrap();
    fs::create_dir(&root).unwrap();
    world.look_after(500);
    assert_eq!(world.revision(), 1);
}

#[test]
fn directories_that_others_may_write_are_refused() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-a");
    world.put("b/gitlab.token", "glpat-b");
    world.put("b/secrets/KEY", "value");
    world.look_after(0);
    world.settle();

    mode(&world.path("a"), 0o777);
    mode(&world.path("b/secrets"), 0o1777);
    world.look_after(500);
    let degraded = world.degraded();
    let expected = |what: &str, mode: &str| {
        (what.to_owned(), format!("other users may write to the directory (mode {mode})"))
    };
    assert_eq!(degraded, [expected("a", "0777"), expected("b/secrets", "1777")]);
    assert_eq!((world.age("a", "gitlab"), world.age("b", "gitlab")), (500, 0));
    assert_eq!(
        (world.token("a", "gitlab").unwrap(), world.secret("b", "KEY").unwrap()),
        ("glpat-a".into(), "value".into())
    );

    mode(&world.path("a"), 0o755);
    mode(&world.path("b/secrets"), 0o755);
    world.look_after(500);
    assert_eq!((world.age("a", "gitlab"), world.degraded()), (0, vec![]));

    mode(world.root.path(), 0o757);
    world.look_after(500);
    world.assert_degraded("", "(mode 0757)");
    assert_eq!(world.age("a", "gitlab"), 500);
}

#[test]
fn a_file_in_the_place_of_a_directory_freezes_what_was_in_it() {
    let mut world = World::new();
    world.put("a/gitlab.token", "glpat-a");
    world.put("a/secrets/KEY", "value");
    world.look_after(0);
    fs::remove_dir_all(world.path("a/secrets")).unwrap();
    world.put("a/secrets", "");
    world.look_after(500);
    assert_eq!(world.secret("a", "KEY").unwrap(), "value");
    world.assert_degraded("a/secrets", "Not a directory");
    assert_eq!(world.age("a", "gitlab"), 0);
    fs::remove_dir_all(world.path("a")).unwrap();
    world.put("a", "");
    world.look_after(500);
    assert_eq!(
        (world.secret("a", "KEY").unwrap(), world.token("a", "gitlab").unwrap()),
        ("value".into(), "glpat-a".into())
    );
    world.assert_degraded("a", "Not a directory");
}

#[test]
fn what_does_not_fit_into_memory_is_tried_again() {
    let mut world = World::with(None, Arena::bounded(64 * 1024).unwrap());
    world.put("a/gitlab.token", "glpat-a");
    let hoard: Vec<_> = std::iter::from_fn(|| world.arena.allocate(64).ok()).collect();
    world.look_after(0);
    world.assert_degraded("a/gitlab.token", "no protected memory is left");
    drop(hoard);
    world.look_after(1000);
    assert_eq!((world.token("a", "gitlab").unwrap(), world.degraded()), ("glpat-a".into(), vec![]));
}

/// Kubernetes' volumes are such: mode 1777, mounted read-only.
#[test]
fn a_read_only_directory_may_have_any_mode() {
    const ROOT: &str = "DVX_TEST_READ_ONLY_ROOT";
    let Some(root) = std::env::var_os(ROOT).map(PathBuf::from) else {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        let script = "cd \"$1\" && mount -t tmpfs -o mode=1777 tmpfs a && (umask 077; echo glpat-a >a/gitlab.token) \
            && mount -o remount,ro a && exec \"$0\" --exact upstream::directory::tests::faults::a_read_only_directory_may_have_any_mode";
        let output = std::process::Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .args([&std::env::current_exe().unwrap(), root.path()])
            .env(ROOT, root.path())
            .output();
        match output {
            Ok(output) if output.status.success() => {}
            Ok(output) if String::from_utf8_lossy(&output.stdout).contains("running 1 test") => {
                panic!("{}", String::from_utf8_lossy(&output.stdout));
            }
            _ => skipped!("a file system cannot be mounted here"),
        }
        return;
    };
    let keyring = Arc::new(Keyring::new());
    let settings = DirectorySettings { path: root, allow_mode: None, agents: names(&["a"]) };
    let mut worker = Worker::new(settings, Arc::clone(&keyring), Arena::new(false).unwrap());
    worker.look(clock::now());
    assert_eq!(worker.degraded(), []);
    assert_eq!(keyring.load().snapshot.agents["a"].credentials.len(), 1);
}
