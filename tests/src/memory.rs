//! What another process's memory holds.

use std::collections::HashSet;

mod process;

pub use dvx_needles::{Hit, Marker, Needles};
pub use process::{Findings, Place, at_rest, look_at_its_end, search_memory};

/// How many times any eight consecutive bytes of the values lie in a text.
pub fn count_fragments(text: &[u8], values: &[&str]) -> usize {
    let fragments: HashSet<&[u8]> = values.iter().flat_map(|value| value.as_bytes().windows(8)).collect();
    // Most places are ruled out by their first two bytes.
    let mut begins = vec![false; 1 << 16];
    let place = |bytes: &[u8]| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
    fragments.iter().for_each(|fragment| begins[place(fragment)] = true);
    text.windows(8).filter(|window| begins[place(window)] && fragments.contains(window)).count()
}
