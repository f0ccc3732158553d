//! The end of a log that is there already.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::Deserialize;

use super::line::{Head, hash};

/// More than a line can be long, with every character of its texts escaped.
pub(super) const MAX_LINE_BYTES: usize = 256 * 1024;

/// The last line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) enclave: String,
    pub(super) seq: u64,
    pub(super) head: Head,
}

/// What a log ends with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// No line, and this many bytes of one that never got its newline.
    Empty { torn: u64 },
    /// A line, and this many bytes behind it.
    Line { end: End, torn: u64 },
    /// Something that is not an audit line.
    Foreign,
}

/// The members of a line that make the chain.
#[derive(Deserialize)]
pub(super) struct Link {
    pub(super) enclave: String,
    pub(super) seq: u64,
    pub(super) prev: String,
}

impl Link {
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let link: Self = serde_json::from_slice(line).ok()?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (link.prev.len() == 64 && link.prev.bytes().all(hex)).then_some(link)
    }
}

impl Tail {
    pub(super) fn read(file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let start = length.saturating_sub(2 * MAX_LINE_BYTES as u64);
        let mut bytes = vec![0; usize::try_from(length - start).unwrap_or_default()];
        file.read_exact_at(&mut bytes, start)?;
        let mut pieces = bytes.rsplit(|byte| *byte == b'\n');
        let torn = pieces.next().map_or(0, <[u8]>::len) as u64;
        let Some(line) = pieces.next() else {
            return Ok(if start == 0 { Self::Empty { torn } } else { Self::Foreign });
        };
        Ok(match Link::parse(line) {
            Some(Link { enclave, seq, .. }) => {
                Self::Line { end: End { enclave, seq, head: hash(line) }, torn }
            }
            None => Self::Foreign,
        })
    }
}
