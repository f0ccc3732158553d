//! An event as a line, and the chain that the lines form.

use dvx_proto::EnclaveName;
use jiff::fmt::temporal::DateTimePrinter;
use sha2::{Digest, Sha256};

use super::Event;
use super::tail::End;

/// SHA-256 in hexadecimal.
pub(super) type Head = [u8; 64];

/// `prev` of the first line.
pub(super) const ZEROS: Head = [b'0'; 64];

/// `seq` of the first line.
pub(super) const FIRST_SEQ: u64 = 1;

/// Longer texts are cut: a caller who chooses them must not fill the disk.
const MAX_TEXT_BYTES: usize = 2048;

static TIME: DateTimePrinter = DateTimePrinter::new().precision(Some(6));

/// Renders lines into one buffer, each with its number and the hash of the one before.
pub(super) struct Chain {
    enclave: EnclaveName,
    seq: u64,
    prev: Head,
    line: Vec<u8>,
}

impl Chain {
    pub(super) fn new(enclave: &EnclaveName) -> Self {
        Self { enclave: enclave.clone(), seq: FIRST_SEQ, prev: ZEROS, line: Vec::with_capacity(1024) }
    }

    /// Goes on after a line of an earlier run.
    pub(super) fn resume(&mut self, end: &End) {
        self.seq = end.seq.saturating_add(1);
        self.prev = end.head;
    }

    pub(super) fn enclave(&self) -> &EnclaveName {
        &self.enclave
    }

    /// The last line that was written, with its newline, and its number.
    pub(super) fn last(&self) -> (u64, &[u8]) {
        (self.seq.saturating_sub(1), &self.line)
    }

    /// The hash of the last line that was written.
    pub(super) fn head(&self) -> &Head {
        &self.prev
    }

    /// The event as a line with its newline. Until [`advance`](Self::advance) it is not part of the chain.
    pub(super) fn render(&mut self, event: &Event<'_>) -> &[u8] {
        let line = &mut self.line;
        line.clear();
        line.extend_from_slice(b"{\"time\":\"");
        // Writing to a vector does not fail.
        TIME.print_timestamp(&event.time, &mut *line).unwrap_or_default();
        line.extend_from_slice(b"\",\"seq\":");
        number(line, self.seq);
        text(line, "enclave", Some(self.enclave.as_str()));
        text(line, "agent", event.agent);
        optional_number(line, "uid", event.uid.map(u64::from));
        optional_number(line, "gid", event.gid.map(u64::from));
        optional_number(line, "pid", event.pid.map(u64::from));
        text(line, "cgroup", event.cgroup);
        text(line, "transport", Some(event.transport.as_str()));
        text(line, "action", Some(event.action.as_str()));
        text(line, "subject", event.subject);
        text(line, "decision", Some(event.decision.as_str()));
        text(line, "reason", event.reason);
        key(line, "fingerprint");
        match event.fingerprint {
            Some(fingerprint) => quoted(line, &fingerprint.to_string()),
            None => line.extend_from_slice(b"null"),
        }
        optional_number(line, "revision", event.revision);
        text(line, "request_id", Some(event.request_id));
        key(line, "prev");
        line.push(b'"');
        line.extend_from_slice(&self.prev);
        line.extend_from_slice(b"\"}\n");
        line
    }

    /// Makes the line that was rendered last the end of the chain.
    pub(super) fn advance(&mut self) {
        self.prev = hash(self.line.strip_suffix(b"\n").unwrap_or(&self.line));
        self.seq = self.seq.saturating_add(1);
    }
}

/// SHA-256 of a line without its newline.
pub(super) fn hash(line: &[u8]) -> Head {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest: [u8; 32] = Sha256::digest(line).into();
    let mut hex = ZEROS;
    for (pair, byte) in hex.chunks_exact_mut(2).zip(digest) {
        if let ([high, low], Some(h), Some(l)) =
            (pair, DIGITS.get(usize::from(byte >> 4)), DIGITS.get(usize::from(byte & 15)))
        {
            (*high, *low) = (*h, *l);
        }
    }
    hex
}

fn key(line: &mut Vec<u8>, key: &str) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(key.as_bytes());
    line.extend_from_slice(b"\":");
}

fn text(line: &mut Vec<u8>, name: &str, value: Option<&str>) {
    key(line, name);
    match value {
        Some(value) => quoted(line, value),
        None => line.extend_from_slice(b"null"),
    }
}

fn optional_number(line: &mut Vec<u8>, name: &str, value: Option<u64>) {
    key(line, name);
    match value {
        Some(value) => number(line, value),
        None => line.extend_from_slice(b"null"),
    }
}

fn number(line: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; 20];
    let mut used = 0;
    for digit in digits.iter_mut().rev() {
        // The remainder of a division by ten fits.
        *digit = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
        used += 1;
        if value == 0 {
            break;
        }
    }
    line.extend(digits.iter().skip(20 - used));
}

/// A JSON string (RFC 8259, section 7). The control characters beyond ASCII's are escaped as well, since
/// somebody will look at the file in a terminal.
fn quoted(line: &mut Vec<u8>, value: &str) {
    line.push(b'"');
    let cut = value.floor_char_boundary(MAX_TEXT_BYTES);
    let (shown, rest) = value.split_at_checked(cut).unwrap_or((value, ""));
    if shown.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        line.extend_from_slice(shown.as_bytes());
    } else {
        escaped(line, shown);
    }
    if !rest.is_empty() {
        line.extend_from_slice("…".as_bytes());
    }
    line.push(b'"');
}

#[cold]
fn escaped(line: &mut Vec<u8>, value: &str) {
    for character in value.chars() {
        match character {
            '"' => line.extend_from_slice(b"\\\""),
            '\\' => line.extend_from_slice(b"\\\\"),
            control if control.is_control() => {
                line.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes());
            }
            other => line.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
