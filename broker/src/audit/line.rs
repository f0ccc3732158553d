//! An event as a line, and the chain that the lines form.

use dvx_proto::EnclaveName;
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use sha2::{Digest, Sha256};

use super::Event;
use super::tail::End;
use crate::hex;

/// SHA-256 in hexadecimal.
pub(super) type Head = [u8; 64];

/// `prev` of the first line.
pub(super) const ZEROS: Head = [b'0'; 64];

/// `seq` of the first line.
pub(super) const FIRST_SEQ: u64 = 1;

/// Longer texts are cut: a caller who chooses them must not fill the disk.
const MAX_TEXT_BYTES: usize = 2048;

/// To the second, which is followed by a `Z`.
static TIME: DateTimePrinter = DateTimePrinter::new().precision(Some(0));

/// Renders lines into one buffer, each with its number and the hash of the one before.
pub(super) struct Chain {
    enclave: EnclaveName,
    /// Where the chain ends in the log.
    end: Place,
    /// Where it ends with the lines that are still to be written.
    next: Place,
    /// Those lines.
    lines: Vec<u8>,
    second: Second,
}

/// What the next line says about the one before.
#[derive(Clone, Copy)]
struct Place {
    seq: u64,
    prev: Head,
}

/// A second as text. Many lines can share one, and to divide it into years and days takes a sixth of the time that
/// a line does.
#[derive(Default)]
struct Second {
    number: Option<i64>,
    text: Vec<u8>,
}

impl Chain {
    pub(super) fn new(enclave: &EnclaveName) -> Self {
        let start = Place { seq: FIRST_SEQ, prev: ZEROS };
        Self {
            enclave: enclave.clone(),
            end: start,
            next: start,
            lines: Vec::with_capacity(1024),
            second: Second::default(),
        }
    }

    /// Goes on after a line of an earlier run.
    pub(super) fn resume(&mut self, end: &End) {
        self.end = Place { seq: end.seq.saturating_add(1), prev: end.head };
        self.next = self.end;
    }

    pub(super) fn enclave(&self) -> &EnclaveName {
        &self.enclave
    }

    /// What is to be written: whole lines, each with its newline.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// The number of the last line that was rendered.
    pub(super) fn last_seq(&self) -> u64 {
        self.next.seq.saturating_sub(1)
    }

    /// The hash of the last line that was rendered.
    pub(super) fn head(&self) -> &Head {
        &self.next.prev
    }

    /// Adds the event's line to those that are to be written.
    pub(super) fn add(&mut self, event: &Event<'_>) {
        let start = self.lines.len();
        self.render(event);
        // Without the newline.
        let line = self.lines.get(start..self.lines.len() - 1).unwrap_or_default();
        self.next = Place { seq: self.next.seq.saturating_add(1), prev: hash(line) };
    }

    /// The lines have been written.
    pub(super) fn written(&mut self) {
        self.end = self.next;
        self.lines.clear();
    }

    /// The lines could not be written, and it is as if their events had not been.
    pub(super) fn take_back(&mut self) {
        self.next = self.end;
        self.lines.clear();
    }

    fn render(&mut self, event: &Event<'_>) {
        let line = &mut self.lines;
        line.extend_from_slice(b"{\"time\":\"");
        self.second.write(event.time, line);
        line.extend_from_slice(b"\",\"seq\":");
        number(line, self.next.seq);
        text(line, b",\"enclave\":", Some(self.enclave.as_str()));
        text(line, b",\"agent\":", event.agent);
        optional_number(line, b",\"uid\":", event.uid.map(u64::from));
        optional_number(line, b",\"gid\":", event.gid.map(u64::from));
        optional_number(line, b",\"pid\":", event.pid.map(u64::from));
        text(line, b",\"cgroup\":", event.cgroup);
        word(line, b",\"transport\":", event.transport.as_str());
        word(line, b",\"action\":", event.action.as_str());
        text(line, b",\"subject\":", event.subject);
        word(line, b",\"decision\":", event.decision.as_str());
        text(line, b",\"reason\":", event.reason);
        match event.fingerprint {
            Some(fingerprint) => {
                let mut digits = [0; 16];
                hex::write(fingerprint.as_bytes(), &mut digits);
                line.extend_from_slice(b",\"fingerprint\":\"");
                line.extend_from_slice(&digits);
                line.push(b'"');
            }
            None => line.extend_from_slice(b",\"fingerprint\":null"),
        }
        optional_number(line, b",\"revision\":", event.revision);
        text(line, b",\"request_id\":", Some(event.request_id));
        line.extend_from_slice(b",\"prev\":\"");
        line.extend_from_slice(&self.next.prev);
        line.extend_from_slice(b"\"}\n");
    }
}

impl Second {
    /// Writes a time with its microseconds.
    fn write(&mut self, time: Timestamp, line: &mut Vec<u8>) {
        if self.number != Some(time.as_second()) {
            self.number = Some(time.as_second());
            self.text.clear();
            // Writing to a vector does not fail.
            TIME.print_timestamp(&time, &mut self.text).unwrap_or_default();
            self.text.pop();
        }
        line.extend_from_slice(&self.text);
        // A one in front keeps the zeros; it is written over with the point. Times before 1970 are a broken
        // clock's, and have no microseconds.
        let micros = u64::try_from(time.subsec_microsecond()).unwrap_or_default();
        let point = line.len();
        number(line, 1_000_000 + micros);
        if let Some(one) = line.get_mut(point) {
            *one = b'.';
        }
        line.push(b'Z');
    }
}

/// SHA-256 of a line without its newline.
pub(super) fn hash(line: &[u8]) -> Head {
    let digest: [u8; 32] = Sha256::digest(line).into();
    let mut digits = ZEROS;
    hex::write(&digest, &mut digits);
    digits
}

/// A member; the key comes with its comma, quotes and colon.
fn text(line: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    line.extend_from_slice(key);
    match value {
        Some(value) => quoted(line, value),
        None => line.extend_from_slice(b"null"),
    }
}

/// A member that is one of our own words, in which nothing needs an escape.
fn word(line: &mut Vec<u8>, key: &[u8], value: &'static str) {
    line.extend_from_slice(key);
    line.push(b'"');
    line.extend_from_slice(value.as_bytes());
    line.push(b'"');
}

fn optional_number(line: &mut Vec<u8>, key: &[u8], value: Option<u64>) {
    line.extend_from_slice(key);
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
    line.extend_from_slice(digits.get(20 - used..).unwrap_or_default());
}

/// A JSON string (RFC 8259, section 7). The control characters beyond ASCII's are escaped as well, since
/// somebody will look at the file in a terminal.
fn quoted(line: &mut Vec<u8>, value: &str) {
    line.push(b'"');
    let cut = value.floor_char_boundary(MAX_TEXT_BYTES);
    let (shown, rest) = value.split_at_checked(cut).unwrap_or((value, ""));
    if is_plain(shown) {
        line.extend_from_slice(shown.as_bytes());
    } else {
        escaped(line, shown);
    }
    if !rest.is_empty() {
        line.extend_from_slice("…".as_bytes());
    }
    line.push(b'"');
}

/// Whether nothing in it needs an escape. Without an early end many bytes are looked at together.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\'))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_their_microseconds_whichever_second_was_before() {
        let mut second = Second::default();
        for text in [
            "2026-11-25T23:59:59.999999Z",
            "2026-11-25T23:59:59.000001Z",
            "2026-11-26T00:00:00.000000Z",
            "2024-02-29T12:30:00.120000Z",
            "1970-01-01T00:00:00.000000Z",
        ] {
            let time: Timestamp = text.parse().unwrap();
            for nanoseconds in [0, 999] {
                let mut line = Vec::new();
                let later = time + std::time::Duration::from_nanos(nanoseconds);
                second.write(later, &mut line);
                assert_eq!(String::from_utf8(line).unwrap(), text);
            }
        }
    }
}
