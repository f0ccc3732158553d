//! Volumes as Kubernetes writes them (its AtomicWriter): files are links through `..data`, which is switched to
//! a new directory in one step.

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
fn a_generation_is_told_from_the_next_at_every_level() {
    let world = World::new();
    for volume in ["", "a", "a/secrets"] {
        let volume = world.path(volume);
        let root = fs::File::open(world.root.path()).unwrap();
        let agent = "a".parse().unwrap();
        let generation = || scan::Generation::of(rustix::fd::AsFd::as_fd(&root), &agent);
        publish(&volume, 1, &[("x", "")]);
        let first = generation();
        assert_eq!(generation(), first);
        publish(&volume, 2, &[("x", "")]);
        assert_ne!(generation(), first, "{}", volume.display());
    }
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
