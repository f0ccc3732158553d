use std::fs;

use super::super::tests::{EVENT, FileSizeLimit, Log, NearlyFull};
use super::*;
use crate::audit::{Audit, MOST_BYTES};

/// Two lines in one round, after which more are expected to come together.
fn crowd(audit: &Audit) {
    audit.record(&EVENT).unwrap();
    for _ in 0..2 {
        assert!(matches!(audit.enter(&EVENT), Entry::Settled(Ok(()))));
    }
    audit.pause();
}

fn is_waiting(entry: &Entry) -> bool {
    matches!(entry, Entry::Waiting(_))
}

#[tokio::test]
async fn lines_of_requests_that_come_together_are_written_when_the_first_of_them_is_waited_for() {
    let log = Log::new();
    let audit = log.open();
    crowd(&audit);
    let entries = [(); 3].map(|()| audit.enter(&EVENT));
    assert!(entries.iter().all(is_waiting));
    assert_eq!(log.seqs(&["audit.jsonl"]), (1, 3), "none is written yet");
    for entry in entries {
        audit.settled(entry).await.unwrap();
        assert_eq!(log.seqs(&["audit.jsonl"]), (1, 6), "all are, before any is settled");
    }
}

#[tokio::test]
async fn those_that_are_ready_hand_their_lines_in_before_the_first_is_settled() {
    let log = Log::new();
    let audit = Arc::new(log.open());
    crowd(&audit);
    let ask = |audit: Arc<Audit>| async move {
        let entry = audit.enter(&EVENT);
        audit.settled(entry).await.unwrap();
        audit.state().chain.last_seq()
    };
    let requests = [(); 8].map(|()| tokio::spawn(ask(audit.clone())));
    for request in requests {
        assert_eq!(request.await.unwrap(), 3 + 8);
    }
    assert_eq!(log.seqs(&["audit.jsonl"]), (1, 3 + 8));
}

#[test]
fn a_request_that_comes_alone_has_its_line_written_at_once() {
    let log = Log::new();
    let audit = log.open();
    crowd(&audit);
    audit.pause();
    for _ in 0..3 {
        assert!(matches!(audit.enter(&EVENT), Entry::Settled(Ok(()))));
        audit.pause();
    }
    assert_eq!(log.seqs(&["audit.jsonl"]), (1, 6));
}

#[test]
fn a_line_whose_request_was_dropped_is_written_all_the_same() {
    let log = Log::new();
    let audit = log.open();
    crowd(&audit);
    drop(audit.enter(&EVENT));
    audit.pause();
    assert_eq!(log.seqs(&["audit.jsonl"]), (1, 4));
}

#[test]
fn lines_wait_for_each_other_up_to_a_limit() {
    let log = Log::new();
    let audit = log.open();
    crowd(&audit);
    let waiting = (0..10_000).take_while(|_| is_waiting(&audit.enter(&EVENT))).count();
    let line = log.lines()[0].len() + 1;
    assert!((MOST_BYTES / line / 2..=MOST_BYTES / line).contains(&waiting), "{waiting}");
    assert_eq!(log.lines().len(), 3 + waiting + 1);
}

#[tokio::test]
async fn a_refusal_between_lines_that_wait_has_its_place_in_the_chain() {
    let log = Log::new();
    let audit = log.open();
    crowd(&audit);
    let before = audit.enter(&EVENT);
    audit.record(&EVENT).unwrap();
    let after = audit.enter(&EVENT);
    assert!(is_waiting(&before) && is_waiting(&after));
    for entry in [before, after] {
        audit.settled(entry).await.unwrap();
    }
    assert_eq!(log.seqs(&["audit.jsonl"]), (1, 6));
}

#[tokio::test]
async fn lines_that_wait_stay_in_the_file_that_was_there_before_a_rotation() {
    let log = Log::new();
    let audit = log.open();
    crowd(&audit);
    let entry = audit.enter(&EVENT);
    fs::rename(log.file(), log.path("audit.jsonl.1")).unwrap();
    audit.reopen().unwrap();
    audit.settled(entry).await.unwrap();
    audit.record(&EVENT).unwrap();
    assert_eq!(log.seqs(&["audit.jsonl.1"]), (1, 4));
    assert_eq!(log.seqs(&["audit.jsonl"]), (5, 5));
}

#[tokio::test]
async fn where_there_is_no_room_for_all_none_is_served_and_the_chain_goes_on_without_them() {
    let full = NearlyFull::new(|line| 5 * line.len());
    let audit = full.log.open();
    crowd(&audit);
    let before = full.end();

    let limit = FileSizeLimit::new();
    let entries = [(); 4].map(|()| audit.enter(&EVENT));
    for entry in entries {
        assert_eq!(audit.settled(entry).await, Err(Unwritten));
    }
    assert_eq!(full.end(), before);
    assert!(audit.health().is_some_and(|why| why.contains("not enough room")));
    drop(limit);

    let entry = audit.enter(&EVENT);
    audit.settled(entry).await.unwrap();
    assert_eq!(audit.health(), None);
    assert_eq!(full.seqs(), (1, 5));
}
