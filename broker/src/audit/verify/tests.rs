use std::fs;

use proptest::prelude::*;

use super::super::Event;
use super::super::line::Chain;
use super::super::tests::{EVENT, enclave};
use super::*;

/// The lines of a chain, with their newlines.
fn chain(count: usize) -> Vec<Vec<u8>> {
    let mut chain = Chain::new(&enclave());
    let mut lines = Vec::new();
    for number in 0..count {
        let id = format!("r\"{number}é");
        chain.add(&Event { request_id: &id, ..EVENT });
        lines.push(chain.lines().to_vec());
        chain.written();
    }
    lines
}

fn verify_lines(files: &[&[Vec<u8>]]) -> Result<Intact, Break> {
    let directory = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (number, lines) in files.iter().enumerate() {
        let path = directory.path().join(number.to_string());
        fs::write(&path, lines.concat()).unwrap();
        paths.push(path);
    }
    verify(&paths)
}

#[test]
fn a_break_is_named_by_file_and_line() {
    let mut lines = chain(6);
    let place = |lines: &[Vec<u8>]| {
        let found = verify_lines(&[&lines[..3], &lines[3..]]).unwrap_err();
        (found.file.file_name().unwrap().to_str().unwrap().to_owned(), found.line, found.fault)
    };
    let position = lines[3].len() - 80;
    lines[3][position] ^= 1;
    assert!(matches!(place(&lines), (file, Some(2), Fault::Chain { .. }) if file == "1"));
    lines.remove(1);
    assert!(
        matches!(place(&lines), (file, Some(2), Fault::Sequence { expected: 2, found: 3 }) if file == "0")
    );
}

#[test]
fn a_chain_may_be_entered_anywhere_but_its_first_line_says_that_it_is_the_first() {
    let lines = chain(5);
    let intact = verify_lines(&[&lines[2..]]).unwrap();
    assert_eq!((intact.first_seq, intact.last_seq, intact.lines), (Some(3), Some(5), 3));
    let text = String::from_utf8(lines[2].clone()).unwrap();
    let claims_to_be_first = text.replace("\"seq\":3", "\"seq\":1").into_bytes();
    assert!(matches!(verify_lines(&[&[claims_to_be_first]]), Err(Break { fault: Fault::Start, .. })));
    assert_eq!(verify_lines(&[&[]]).unwrap().lines, 0);
}

#[test]
fn what_the_chain_cannot_show_is_that_its_end_is_missing() {
    let lines = chain(5);
    assert_eq!(verify_lines(&[&lines[..3]]).unwrap().last_seq, Some(3));
}

#[test]
fn the_same_file_twice_is_a_break() {
    let lines = chain(2);
    assert!(matches!(verify_lines(&[&lines, &lines]), Err(Break { fault: Fault::Sequence { .. }, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn files_in_any_order_are_one_chain(cuts in prop::collection::vec(0usize..=12, 0..4), rotate in 0usize..5) {
        let lines = chain(12);
        let mut cuts = cuts;
        cuts.extend([0, 12]);
        cuts.sort_unstable();
        let mut files: Vec<&[Vec<u8>]> = cuts.windows(2).map(|cut| &lines[cut[0]..cut[1]]).collect();
        let by = rotate % files.len();
        files.rotate_left(by);
        prop_assert_eq!(verify_lines(&files).unwrap().lines, 12);
    }

    #[test]
    fn any_flipped_bit_before_the_last_line_is_seen(line in 0usize..5, at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut lines = chain(6);
        let at = at.index(lines[line].len());
        lines[line][at] ^= 1 << bit;
        prop_assert!(verify_lines(&[&lines]).is_err());
    }

    /// Whole lines may be missing at the beginning, since older files may be gone.
    #[test]
    fn any_edit_before_the_last_line_is_seen(from in any::<prop::sample::Index>(), length in 0usize..400, new in prop::collection::vec(any::<u8>(), 0..8)) {
        let lines = chain(6);
        let (before, last) = (lines[..5].concat(), lines[5].clone());
        let from = from.index(before.len());
        let to = (from + length).min(before.len());
        let edited = [&before[..from], &new[..], &before[to..]].concat();
        prop_assume!((0..5).all(|first| edited != lines[first..5].concat()));
        prop_assert!(verify_lines(&[&[edited, last]]).is_err());
    }

    #[test]
    fn a_line_that_is_missing_before_the_end_is_seen(line in 1usize..5) {
        let mut lines = chain(6);
        lines.remove(line);
        prop_assert!(verify_lines(&[&lines]).is_err());
    }

    #[test]
    fn lines_that_changed_places_are_seen(one in 0usize..6, other in 0usize..6) {
        prop_assume!(one != other);
        let mut lines = chain(6);
        lines.swap(one, other);
        prop_assert!(verify_lines(&[&lines]).is_err());
    }

    #[test]
    fn a_line_that_was_cut_short_is_seen(line in 0usize..6, at in any::<prop::sample::Index>()) {
        let mut lines = chain(6);
        let at = at.index(lines[line].len() - 1);
        let cut = if at == 0 && line == 5 { 1 } else { at };
        lines[line].truncate(cut);
        prop_assume!(!(line == 0 && cut == 0));
        prop_assert!(verify_lines(&[&lines]).is_err());
    }
}
