use super::*;

fn enclave() -> EnclaveName {
    "lab-1".parse().unwrap()
}

fn raw(seq: u64, prev: &Hash, subject: &str) -> String {
    let prev = hex(prev);
    format!(
        r#"{{"time":"2026-11-25T10:00:00.000000Z","seq":{seq},"enclave":"lab-1","agent":"a","uid":1001,"action":"credential.get","subject":"{subject}","decision":"served","reason":null,"prev":"{prev}"}}"#
    )
}

fn hex(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lines from a number on, each with the hash of the one before.
fn chain(from: u64, count: u64, prev: &Hash, subject: &str) -> Vec<BrokerLine> {
    let mut prev = *prev;
    let mut lines = Vec::new();
    for seq in from..from + count {
        let line = parse(&raw(seq, &prev, subject), &enclave()).unwrap().remove(0);
        prev = line.hash;
        lines.push(line);
    }
    lines
}

fn seqs(plan: &Plan) -> Vec<(u64, u64)> {
    plan.store.iter().map(|stored| (stored.chain, stored.line.seq)).collect()
}

fn actions(plan: &Plan) -> Vec<&'static str> {
    plan.findings.iter().cloned().map(|finding| finding.into_parts().0).collect()
}

#[test]
fn an_unbroken_chain_is_stored_without_a_word() {
    let lines = chain(1, 5, &ZEROS, "gitlab");
    let (first, second) = lines.split_at(3);
    let (known, plan) = follow(None, first.to_vec());
    assert_eq!((seqs(&plan), actions(&plan)), (vec![(1, 1), (1, 2), (1, 3)], vec![]));
    let (known, plan) = follow(known, second.to_vec());
    assert_eq!((seqs(&plan), actions(&plan)), (vec![(1, 4), (1, 5)], vec![]));
    assert_eq!(known.unwrap().head, lines[4].hash);
}

#[test]
fn lines_that_come_twice_are_stored_once() {
    let lines = chain(1, 4, &ZEROS, "gitlab");
    let (known, _) = follow(None, lines[..3].to_vec());
    let (known, plan) = follow(known, lines.clone());
    assert_eq!((seqs(&plan), plan.duplicates), (vec![(1, 4)], 3));
    let (_, plan) = follow(known, lines);
    assert_eq!((seqs(&plan), plan.duplicates, actions(&plan)), (vec![], 4, vec![]));
}

#[test]
fn missing_lines_are_a_gap_and_may_come_later() {
    let lines = chain(1, 6, &ZEROS, "gitlab");
    let (known, _) = follow(None, lines[..2].to_vec());
    let (known, plan) = follow(known, lines[4..].to_vec());
    assert_eq!((actions(&plan), plan.missing), (vec!["audit.gap"], 2));
    assert_eq!(plan.findings[0], Finding::Gap("lines 3 to 4 are missing".to_owned()));
    let (_, plan) = follow(known, lines[2..4].to_vec());
    assert_eq!((seqs(&plan), actions(&plan)), (vec![(1, 3), (1, 4)], vec![]));
}

#[test]
fn a_log_whose_beginning_nobody_has_seen_is_a_gap() {
    let (_, plan) = follow(None, chain(10, 1, &hash(b"unseen"), "gitlab"));
    assert_eq!((seqs(&plan), actions(&plan), plan.missing), (vec![(1, 10)], vec!["audit.gap"], 9));
}

#[test]
fn a_line_that_was_changed_breaks_the_chain_once_and_is_kept() {
    let lines = chain(1, 3, &ZEROS, "gitlab");
    let (known, _) = follow(None, lines);
    let forged = chain(4, 2, &hash(b"another third line"), "gitlab");
    let (known, plan) = follow(known, forged.clone());
    assert_eq!((seqs(&plan), actions(&plan)), (vec![(1, 4), (1, 5)], vec!["audit.broken"]));
    let (_, plan) = follow(known, forged);
    assert_eq!((plan.duplicates, actions(&plan)), (2, vec![]));
}

#[test]
fn another_line_under_a_known_number_is_broken_and_kept() {
    let lines = chain(1, 3, &ZEROS, "gitlab");
    let (known, _) = follow(None, lines.clone());
    let other = chain(2, 1, &lines[0].hash, "github");
    let (known, plan) = follow(known, other.clone());
    assert_eq!((seqs(&plan), actions(&plan)), (vec![(1, 2)], vec!["audit.broken"]));
    let (known, plan) = follow(known, other);
    assert_eq!((plan.duplicates, actions(&plan)), (1, vec![]));
    // The chain itself goes on where it was.
    assert_eq!(known.unwrap().head, lines[2].hash);
}

#[test]
fn a_chain_that_begins_anew_is_told_and_followed() {
    let (known, _) = follow(None, chain(1, 3, &ZEROS, "gitlab"));
    let fresh = chain(1, 2, &ZEROS, "github");
    let (known, plan) = follow(known, fresh.clone());
    assert_eq!((seqs(&plan), actions(&plan)), (vec![(2, 1), (2, 2)], vec!["audit.gap"]));
    let (_, plan) = follow(known, fresh);
    assert_eq!((plan.duplicates, actions(&plan)), (2, vec![]));
}

#[test]
fn a_batch_of_nothing_but_breaks_raises_a_bounded_number_of_events() {
    let lines = (1..=1000).map(|seq| chain(seq * 2, 1, &hash(b"x"), "s").remove(0)).collect();
    let (_, plan) = follow(None, lines);
    assert_eq!((plan.store.len(), plan.findings.len()), (1000, MAX_FINDINGS));
}

#[test]
fn what_is_no_line_of_this_enclave_is_refused_by_its_index() {
    let good = raw(1, &ZEROS, "gitlab");
    for (bad, expected) in [
        ("".to_owned(), "line 1 is not an audit line: not a JSON object"),
        ("{".to_owned(), "line 1 is not an audit line: not JSON (column 1)"),
        (good.replace("\"seq\":1", "\"seq\":0"), "line 1 is not an audit line: seq is out of range"),
        (
            good.replace(&hex(&ZEROS), "00"),
            "line 1 is not an audit line: prev is not a SHA-256 in hexadecimal",
        ),
        (good.replace("lab-1", "lab-2"), "line 1 is of the enclave \"lab-2\"; the API key is that of lab-1"),
        ("x".repeat(MAX_LINE_BYTES + 1), "line 1 is longer than 65536 bytes"),
    ] {
        let error = parse(&format!("{good}\n{bad}\n"), &enclave()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{bad:.80}");
    }
    assert_eq!(parse("", &enclave()).map(|lines| lines.len()), Ok(0));
    assert_eq!(parse(&format!("{good}\n"), &enclave()).map(|lines| lines.len()), Ok(1));
}
