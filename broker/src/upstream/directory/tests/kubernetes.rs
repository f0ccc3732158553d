//! Volumes as Kubernetes writes them (its AtomicWriter): files are links through `..data`, which is switched to
//! a new directory in one step.

use super::scan::Scanner;
use super::source::Outcome;
use super::*;

/// Publishes files as generation `number` of the volume at `volume`, as the kubelet does, but leaves the old
/// generation behind.
fn publish(volume: &Path, number: u32, files: &[(&str, &str)]) {
    let name = format!("..2026_01_01_00_00_{number:02}");
    for (file, text) in files {
        let path = volume.join(&name).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        write(&path, text);
    }
    symlink(&name, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for (file, _) in files {
        let visible = file.split('/').next().unwrap();
        if volume.join(visible).symlink_metadata().is_err() {
            symlink(Path::new("..data").join(visible), volume.join(visible)).unwrap();
        }
    }
}

fn forget(volume: &Path, number: u32) {
    fs::remove_dir_all(volume.join(format!("..2026_01_01_00_00_{number:02}"))).unwrap();
}

fn display_name(world: &World) -> String {
    world.keyring.load().snapshot.agents["a"].credentials["gitlab"].display_name.clone()
}

#[test]
fn a_volume_for_an_agent_is_followed() {
    let mut world = World::new();
    let volume = world.path("a");
    fs::remove_dir_all(&volume).unwrap();
    fs::create_dir(&volume).unwrap();
    let first =
        [("gitlab.token", "glpat-1"), ("gitlab.json", r#"{"display_name":"1"}"#), ("secrets/KEY", "1")];
    publish(&volume, 1, &first);
    world.look_after(0);
    assert_eq!(world.degraded(), []);
    assert_eq!((world.token("a", "gitlab").unwrap(), display_name(&world)), ("glpat-1".into(), "1".into()));
    assert_eq!(world.secret("a", "KEY").unwrap(), "1");

    let second =
        [("gitlab.token", "glpat-2"), ("gitlab.json", r#"{"display_name":"2"}"#), ("secrets/KEY", "2")];
    publish(&volume, 2, &second);
    forget(&volume, 1);
    world.settle();
    assert_eq!((world.token("a", "gitlab").unwrap(), display_name(&world)), ("glpat-2".into(), "2".into()));
    assert_eq!(world.secret("a", "KEY").unwrap(), "2");
    assert_eq!(world.revision(), 2, "one generation is one change");
}

#[test]
fn a_key_removed_from_a_volume_is_gone() {
    let mut world = World::new();
    let volume = world.path("a");
    fs::remove_dir_all(&volume).unwrap();
    fs::create_dir(&volume).unwrap();
    publish(&volume, 1, &[("gitlab.token", "glpat-1"), ("github.token", "ghp-1")]);
    world.look_after(0);
    publish(&volume, 2, &[("gitlab.token", "glpat-1")]);
    world.settle();
    assert_eq!(world.token("a", "github"), None, "the link that is left leads nowhere");
    assert_eq!((world.token("a", "gitlab").unwrap(), world.degraded()), ("glpat-1".into(), vec![]));
}

#[test]
fn one_volume_for_all_agents_is_followed() {
    let mut world = World::new();
    for agent in ["a", "b"] {
        fs::remove_dir_all(world.path(agent)).unwrap();
    }
    publish(world.root.path(), 1, &[("a/gitlab.token", "glpat-a1"), ("b/gitlab.token", "glpat-b1")]);
    world.look_after(0);
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-a1");
    publish(world.root.path(), 2, &[("a/gitlab.token", "glpat-a2"), ("b/gitlab.token", "glpat-b1")]);
    forget(world.root.path(), 1);
    world.settle();
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-a2");
    assert_eq!(world.token("b", "gitlab").unwrap(), "glpat-b1");
}

#[test]
fn a_single_link_may_be_switched_too() {
    let mut world = World::new();
    write(&world.path("one"), "glpat-1");
    write(&world.path("two"), "glpat-2");
    symlink("../one", world.path("a/gitlab.token")).unwrap();
    world.look_after(0);
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-1");
    symlink("../two", world.path("a/.next")).unwrap();
    fs::rename(world.path("a/.next"), world.path("a/gitlab.token")).unwrap();
    world.settle();
    assert_eq!(world.token("a", "gitlab").unwrap(), "glpat-2");
}

#[test]
fn token_and_json_never_come_from_different_generations() {
    let root = tempfile::tempdir().unwrap();
    let volume = root.path().join("a");
    fs::create_dir(&volume).unwrap();
    let generation = |number: u32| {
        let json = format!(r#"{{"display_name":"{number}"}}"#);
        publish(&volume, number, &[("gitlab.token", &number.to_string()), ("gitlab.json", &json)]);
    };
    generation(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    let mut seen = std::collections::BTreeSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1.. {
                generation(number);
                forget(&volume, number - 1);
                if done.load(relaxed) {
                    break;
                }
            }
        });
        let arena = Arena::new(false).unwrap();
        for _ in 0..150 {
            let keyring = Arc::new(Keyring::new());
            let settings =
                DirectorySettings { path: root.path().to_owned(), allow_mode: None, agents: names(&["a"]) };
            Worker::new(settings, Arc::clone(&keyring), arena.clone()).look(clock::now());
            let view = keyring.load();
            // Nothing is served where the files were replaced faster than they could be read.
            let Some(credential) = view.snapshot.agents["a"].credentials.get("gitlab") else { continue };
            let body = format!(r#"{{"token":"{}","expires_at":null}}"#, credential.display_name);
            if credential.body.expose_secret() != body.as_bytes() {
                done.store(true, relaxed);
                panic!("{:?} beside {body}", credential.body.expose_secret());
            }
            seen.insert(credential.display_name.clone());
        }
        done.store(true, relaxed);
    });
    assert!(seen.len() > 10, "{} generations were seen", seen.len());
}

#[test]
fn a_source_is_read_in_the_state_that_was_seen_or_not_at_all() {
    let root = tempfile::tempdir().unwrap();
    let volume = root.path().join("a");
    fs::create_dir(&volume).unwrap();
    let scanner = Scanner { root: root.path().to_owned(), allow_mode: 0, arena: Arena::new(false).unwrap() };
    let handle = scanner.open_root().unwrap();
    let look = || scanner.look(rustix::fd::AsFd::as_fd(&handle), &names(&["a"])[0]);
    let read = |look: &scan::AgentLook| {
        let (name, stamp) = look.credentials.as_ref().unwrap().iter().next().unwrap();
        scanner.read(look, name, *stamp)
    };
    let files = [("gitlab.token", "glpat-1"), ("gitlab.json", "{}")];
    for changed in ["gitlab.token", "gitlab.json"] {
        publish(&volume, 1, &files);
        let seen = look();
        assert!(matches!(read(&seen), Outcome::Good(_)));
        put(&volume.join(changed), b"{}");
        assert!(matches!(read(&seen), Outcome::Changed), "{changed}");
        assert!(matches!(read(&look()), Outcome::Good(_)));
        fs::remove_file(volume.join(changed)).unwrap();
        assert!(matches!(read(&seen), Outcome::Changed), "{changed} is gone");
    }
    publish(&volume, 1, &files);
    let seen = look();
    publish(&volume, 2, &files);
    assert!(matches!(read(&seen), Outcome::Changed), "the same text in another generation");
}
