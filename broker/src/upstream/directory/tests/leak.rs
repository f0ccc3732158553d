//! What is left of a value outside the arena: nothing, not even eight bytes in a row. One process holds the
//! values, another searches its memory.

use std::collections::HashSet;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::yield_now;

use dvx_memory::Protection;

use super::*;
use crate::upstream::search;

const ROOT: &str = "DVX_TEST_LEAK_ROOT";

#[test]
fn nothing_of_a_value_is_left_outside_the_arena() {
    if let Some(root) = std::env::var_os(ROOT) {
        hold(Path::new(&root));
        return;
    }
    if Arena::new(false).unwrap().protection() != Protection::Secretmem {
        skipped!("without memfd_secret the arena itself is found");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("a/secrets")).unwrap();
    let mut fragments = HashSet::new();
    let mut publish = |file: &str, length: usize| {
        let value = search::random_text(length);
        fragments.extend(search::fragments(&value));
        put(&root.path().join("a").join(file), &value);
        fragments.clone()
    };
    publish("short.token", 20);
    publish("long.token", 600);
    let fragments = publish("secrets/KEY", 3000);
    let mut holder = holder(root.path());
    wait_for_file(&root.path().join("revision-1"));
    let found = search::search(holder.id(), &fragments);
    let fragments = publish("short.token", 20);
    wait_for_file(&root.path().join("revision-2"));
    let found_later = search::search(holder.id(), &fragments);
    // The end of its input ends it.
    drop(holder.stdin.take());
    assert!(holder.wait().unwrap().success());
    for found in [found, found_later] {
        match found {
            Ok(found) => assert_eq!(found, Vec::<String>::new()),
            Err(error) => skipped!("another process's memory cannot be read here: {error}"),
        }
    }
}

/// Serves the directory until its input ends, and leaves a file for each revision.
fn hold(root: &Path) {
    let keyring = Arc::new(Keyring::new());
    let settings = DirectorySettings { path: root.to_owned(), allow_mode: None, agents: names(&["a"]) };
    let _upstream = start(settings, Arc::clone(&keyring), Arena::new(false).unwrap()).unwrap();
    let ended = std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()).unwrap());
    let mut revisions = keyring.subscribe();
    revisions.mark_changed();
    while !ended.is_finished() {
        if revisions.has_changed().unwrap() {
            fs::write(root.join(format!("revision-{}", *revisions.borrow_and_update())), "").unwrap();
        }
        yield_now();
    }
}

fn holder(root: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "upstream::directory::tests::leak::nothing_of_a_value_is_left_outside_the_arena"])
        .env(ROOT, root)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn wait_for_file(path: &Path) {
    let start = clock::monotonic();
    while !path.exists() {
        assert!(clock::monotonic().since(start) < Duration::from_secs(20), "{}", path.display());
        yield_now();
    }
}
