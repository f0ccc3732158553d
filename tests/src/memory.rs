//! What another process's memory holds.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;

/// All of a process's memory that root can read and that is not a file's.
pub fn readable_memory(pid: u32) -> Vec<u8> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let file = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut memory = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, mode) = (words.next().unwrap(), words.next().unwrap());
        // Pages that are read only are parts of programs, or were made so: those that belong to no file count.
        let of_file = words.nth(2).is_some_and(|inode| inode != "0");
        if !mode.starts_with('r') || (of_file && !mode.starts_with("rw")) {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        // Mappings of memfd_secret cannot be read by anybody.
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        if file.read_exact_at(&mut bytes, start).is_ok() {
            memory.extend(bytes);
        }
    }
    memory
}

/// How many times any eight consecutive bytes of the values lie in a text.
pub fn count_fragments(text: &[u8], values: &[&str]) -> usize {
    let fragments: HashSet<&[u8]> = values.iter().flat_map(|value| value.as_bytes().windows(8)).collect();
    // Most places are ruled out by their first two bytes.
    let mut begins = vec![false; 1 << 16];
    let place = |bytes: &[u8]| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
    fragments.iter().for_each(|fragment| begins[place(fragment)] = true);
    text.windows(8).filter(|window| begins[place(window)] && fragments.contains(window)).count()
}
