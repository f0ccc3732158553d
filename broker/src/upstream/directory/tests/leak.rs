//! What is left of a value outside the arena: nothing, not even eight bytes in a row. One process holds the
//! values, another searches its memory.

use std::collections::HashSet;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::thread::yield_now;

use super::*;
use crate::memory::Protection;

const ROOT: &str = "DVX_TEST_LEAK_ROOT";
const FRAGMENT: usize = 8;

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
        let value = random_text(length);
        fragments.extend(value.windows(FRAGMENT).map(|bytes| <[u8; FRAGMENT]>::try_from(bytes).unwrap()));
        put(&root.path().join("a").join(file), &value);
        fragments.clone()
    };
    publish("short.token", 20);
    publish("long.token", 600);
    let fragments = publish("secrets/KEY", 3000);
    let mut holder = holder(root.path());
    wait_for_file(&root.path().join("revision-1"));
    let found = search(&holder, &fragments);
    let fragments = publish("short.token", 20);
    wait_for_file(&root.path().join("revision-2"));
    let found_later = search(&holder, &fragments);
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

fn random_text(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes.iter().map(|byte| b'!' + byte % 94).collect()
}

/// Where in the memory that the process can read and write a fragment lies.
fn search(process: &Child, fragments: &HashSet<[u8; FRAGMENT]>) -> std::io::Result<Vec<String>> {
    let memory = fs::File::open(format!("/proc/{}/mem", process.id()))?;
    let maps = fs::read_to_string(format!("/proc/{}/maps", process.id()))?;
    // Most places are ruled out by their first two bytes.
    let starts: HashSet<_> = fragments.iter().map(|fragment| [fragment[0], fragment[1]]).collect();
    let mut likely = vec![false; 1 << 16];
    starts.into_iter().for_each(|start| likely[usize::from(u16::from_ne_bytes(start))] = true);
    let mut found = Vec::new();
    let mut searched = 0;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next().unwrap().split_once('-').unwrap();
        if !fields.next().unwrap().starts_with("rw") {
            continue;
        }
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // Guards, the kernel's own pages, and what this is about: the arena.
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue;
        }
        searched += bytes.len();
        for window in bytes.windows(FRAGMENT) {
            let start = u16::from_ne_bytes([window[0], window[1]]);
            if likely[usize::from(start)] && fragments.contains(window) {
                found.push(line.to_owned());
            }
        }
    }
    assert!(searched > 1 << 18, "{searched} bytes are too few");
    Ok(found)
}
