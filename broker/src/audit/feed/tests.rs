use super::*;
use crate::audit::tests::{EVENT, enclave};

const MOST: Most = Most { lines: 1000, bytes: 1 << 20 };

/// A feed in memory to which this many lines were written.
fn feed(count: usize) -> (Arc<Feed>, Chain) {
    let feed = Feed::in_memory();
    let mut chain = Chain::new(&enclave());
    write(&feed, &mut chain, count);
    (feed, chain)
}

fn write(feed: &Feed, chain: &mut Chain, count: usize) {
    for _ in 0..count {
        chain.add(&EVENT);
        feed.written(chain);
        chain.written();
    }
}

/// The numbers of all lines that are left, batch by batch.
fn drain(reader: &mut Reader) -> Vec<u64> {
    let mut seqs = Vec::new();
    while let Some(batch) = reader.next(MOST).unwrap() {
        let lines = std::str::from_utf8(&batch.text).unwrap().lines();
        seqs.extend(
            lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64()),
        );
        assert_eq!(*seqs.last().unwrap(), Some(batch.last_seq));
        reader.taken();
    }
    seqs.into_iter().flatten().collect()
}

#[test]
fn memory_holds_the_newest_lines_until_they_are_taken() {
    let (feed, mut chain) = feed(4100);
    let mut reader = feed.reader();
    reader.seek(&Known { seq: 0, head: None }).unwrap();
    assert_eq!(drain(&mut reader), (5..=4100).collect::<Vec<_>>());
    write(&feed, &mut chain, 2);
    assert_eq!(drain(&mut reader), [4101, 4102]);
    assert!(drain(&mut reader).is_empty());
}

#[test]
fn what_was_not_taken_comes_again() {
    let (feed, _) = feed(3);
    let first = feed.reader().next(MOST).unwrap();
    assert_eq!(feed.reader().next(MOST).unwrap(), first);
}

#[test]
fn a_batch_is_as_large_as_it_may_be_and_has_one_line_at_least() {
    let (feed, _) = feed(5);
    let mut reader = feed.reader();
    assert_eq!(reader.next(Most { lines: 2, bytes: 1 << 20 }).unwrap().unwrap().last_seq, 2);
    assert_eq!(reader.next(Most { lines: 5, bytes: 1 }).unwrap().unwrap().last_seq, 1);
}

#[test]
fn only_the_line_that_the_other_side_really_has_is_skipped_to() {
    let (feed, chain) = feed(3);
    let mut reader = feed.reader();
    reader.seek(&Known { seq: 3, head: Some("0".repeat(64)) }).unwrap();
    assert_eq!(reader.next(MOST).unwrap().unwrap().last_seq, 3);
    let head = String::from_utf8(chain.head().to_vec()).unwrap();
    reader.seek(&Known { seq: 3, head: Some(head) }).unwrap();
    assert_eq!(reader.next(MOST).unwrap(), None);
}
