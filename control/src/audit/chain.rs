//! The chain that the lines of a broker's audit log form, followed across batches.
//!
//! Pure: what is known comes in, what is to be stored and told comes out.

use std::collections::BTreeMap;

use dvx_proto::EnclaveName;
use dvx_proto::operator::{AuditEvent, LineDetails};
use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::domain::BrokerLine;

/// SHA-256 of a line without its newline.
pub(crate) type Hash = [u8; 32];

/// `prev` of the first line.
const ZEROS: Hash = [0; 32];

/// The longest line: a broker cuts long texts, so its own stay far below.
pub(crate) const MAX_LINE_BYTES: usize = 64 * 1024;

/// How many events one batch may raise before the rest are summed up in the last: a hostile broker must not
/// fill the log with them.
const MAX_FINDINGS: usize = 16;

/// What is not a broker's audit line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum LineError {
    #[error("line {index} is longer than {MAX_LINE_BYTES} bytes")]
    TooLong { index: usize },
    #[error("line {index} is not an audit line: {why}")]
    Malformed { index: usize, why: String },
    #[error("line {index} is of the enclave {found:?}; the API key is that of {expected}")]
    Enclave { index: usize, found: String, expected: EnclaveName },
}

/// The members of a line (SECURITY.md describes them). More may come.
#[derive(Deserialize)]
struct Fields {
    time: Timestamp,
    seq: u64,
    enclave: String,
    prev: String,
    action: String,
    decision: String,
    agent: Option<String>,
    uid: Option<u32>,
    subject: Option<String>,
    reason: Option<String>,
    request_id: Option<String>,
}

/// How far the chain of an enclave has been followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    /// Counts the chains: a log that was thrown away begins another one.
    pub(crate) chain: u64,
    pub(crate) seq: u64,
    pub(crate) head: Hash,
    /// The hashes of lines of this chain, at least those whose number a batch has.
    pub(crate) lines: BTreeMap<u64, Vec<Hash>>,
}

/// What a batch comes to.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) store: Vec<Stored>,
    pub(crate) findings: Vec<Finding>,
    /// How many lines were there already.
    pub(crate) duplicates: usize,
    /// How many numbers are missing.
    pub(crate) missing: u64,
}

/// A line that is new.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) chain: u64,
    pub(crate) line: BrokerLine,
}

/// Something that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Lines are missing.
    Gap(String),
    /// A line is not what a later one or an earlier delivery says.
    Broken(String),
}

impl Finding {
    /// The action of the event, and its reason.
    pub(crate) fn into_parts(self) -> (&'static str, String) {
        match self {
            Self::Gap(reason) => ("audit.gap", reason),
            Self::Broken(reason) => ("audit.broken", reason),
        }
    }
}

/// Reads the lines of a batch; one bad line and none counts.
pub(crate) fn parse(body: &str, enclave: &EnclaveName) -> Result<Vec<BrokerLine>, LineError> {
    let lines = body.strip_suffix('\n').unwrap_or(body);
    if lines.is_empty() {
        return Ok(Vec::new());
    }
    lines.split('\n').enumerate().map(|(index, raw)| parse_line(index, raw, enclave)).collect()
}

fn parse_line(index: usize, raw: &str, enclave: &EnclaveName) -> Result<BrokerLine, LineError> {
    if raw.len() > MAX_LINE_BYTES {
        return Err(LineError::TooLong { index });
    }
    let malformed = |why: String| LineError::Malformed { index, why };
    if !raw.starts_with('{') {
        return Err(malformed("not a JSON object".to_owned()));
    }
    let fields: Fields = serde_json::from_str(raw).map_err(|error| malformed(shape(&error)))?;
    if fields.enclave != enclave.as_str() {
        let found = fields.enclave.chars().take(64).collect();
        return Err(LineError::Enclave { index, found, expected: enclave.clone() });
    }
    if fields.seq == 0 || i64::try_from(fields.seq).is_err() {
        return Err(malformed("seq is out of range".to_owned()));
    }
    let prev =
        unhex(&fields.prev).ok_or_else(|| malformed("prev is not a SHA-256 in hexadecimal".to_owned()))?;
    let seq = fields.seq;
    Ok(BrokerLine { line: raw.to_owned(), hash: hash(raw.as_bytes()), seq, prev, event: event(fields) })
}

/// What is told of a line. Its number comes when it is stored.
fn event(fields: Fields) -> AuditEvent {
    // A caller that is no agent is known by its user.
    let uid = || fields.uid.map_or_else(|| "nobody".to_owned(), |uid| format!("uid:{uid}"));
    AuditEvent {
        number: 0,
        time: fields.time,
        actor: fields.agent.clone().unwrap_or_else(uid),
        role: None,
        action: fields.action,
        subject: fields.subject,
        agent: fields.agent,
        decision: fields.decision,
        reason: fields.reason,
        request_id: fields.request_id,
        enclave: Some(fields.enclave),
        seq: Some(fields.seq),
        // It is in the line, which is kept whole.
        line: LineDetails::default(),
    }
}

/// What is wrong, without what was written.
fn shape(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a member is missing or of the wrong type",
        _ => "not JSON",
    };
    format!("{what} (column {})", error.column())
}

pub(crate) fn hash(line: &[u8]) -> Hash {
    Sha256::digest(line).into()
}

fn unhex(text: &str) -> Option<Hash> {
    let mut hash = ZEROS;
    if text.len() != 2 * hash.len() || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

/// Follows the chain through a batch.
pub(crate) fn follow(known: Option<Known>, lines: Vec<BrokerLine>) -> (Option<Known>, Plan) {
    let mut walk = Walk { known, plan: Plan::default() };
    for line in lines {
        walk.step(line);
    }
    (walk.known, walk.plan)
}

struct Walk {
    known: Option<Known>,
    plan: Plan,
}

impl Walk {
    fn step(&mut self, line: BrokerLine) {
        let (seq, first) = (line.seq, line.seq == 1 && line.prev == ZEROS);
        let Some(known) = &mut self.known else {
            let fresh = Known { chain: 1, seq: 0, head: ZEROS, lines: BTreeMap::new() };
            self.known = Some(fresh);
            return self.step(line);
        };
        if known.lines.get(&seq).is_some_and(|hashes| hashes.contains(&line.hash)) {
            self.plan.duplicates += 1;
            return;
        }
        if seq <= known.seq && first {
            let reason = format!("the chain begins anew; the one before ended at line {}", known.seq);
            let chain = known.chain.saturating_add(1);
            *known = Known { chain, seq: 0, head: ZEROS, lines: BTreeMap::new() };
            self.find(Finding::Gap(reason));
            return self.append(line);
        }
        match seq {
            seq if seq <= known.seq => self.late(line),
            _ => self.append(line),
        }
    }

    /// A line after all that are known.
    fn append(&mut self, line: BrokerLine) {
        let Some(known) = &self.known else { return };
        let (seq, expected) = (line.seq, known.seq.saturating_add(1));
        if seq > expected {
            self.plan.missing = self.plan.missing.saturating_add(seq - expected);
            let reason = format!("lines {expected} to {} are missing", seq - 1);
            self.find(Finding::Gap(reason));
        } else if line.prev != known.head {
            let reason = if expected == 1 {
                "line 1 does not begin a chain".to_owned()
            } else {
                format!("line {seq} does not follow the line {} that was delivered", known.seq)
            };
            self.find(Finding::Broken(reason));
        }
        if let Some(known) = &mut self.known {
            known.seq = seq;
            known.head = line.hash;
        }
        self.keep(line);
    }

    /// A line with a number that has been passed: one that was missing, or another one than was delivered.
    fn late(&mut self, line: BrokerLine) {
        let Some(known) = &self.known else { return };
        let seq = line.seq;
        if known.lines.contains_key(&seq) {
            self.find(Finding::Broken(format!("line {seq} was delivered before, and was another one")));
        } else {
            let before = known.lines.get(&seq.saturating_sub(1));
            if before.is_some_and(|hashes| !hashes.contains(&line.prev)) {
                self.find(Finding::Broken(format!("line {seq} does not follow the line before it")));
            }
        }
        self.keep(line);
    }

    fn keep(&mut self, line: BrokerLine) {
        let Some(known) = &mut self.known else { return };
        known.lines.entry(line.seq).or_default().push(line.hash);
        self.plan.store.push(Stored { chain: known.chain, line });
    }

    fn find(&mut self, finding: Finding) {
        if self.plan.findings.len() < MAX_FINDINGS {
            self.plan.findings.push(finding);
        } else if let Some(last) = self.plan.findings.last_mut() {
            *last = Finding::Broken("and more of this kind in the same batch".to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
