//! Looks for values in the memory of another process.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// As much of a value as must not be found.
const FRAGMENT: usize = 8;

pub(crate) type Fragment = [u8; FRAGMENT];

/// Every piece of a value.
pub(crate) fn fragments(value: &[u8]) -> impl Iterator<Item = Fragment> {
    value.windows(FRAGMENT).map(|bytes| bytes.try_into().unwrap())
}

/// A value unlike anything that is in memory by chance.
pub(crate) fn random_text(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes.iter().map(|byte| b'!' + byte % 94).collect()
}

/// Where in the memory that the process can read and write a fragment lies.
pub(crate) fn search(process: u32, fragments: &HashSet<Fragment>) -> io::Result<Vec<String>> {
    let memory = fs::File::open(format!("/proc/{process}/mem"))?;
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
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
