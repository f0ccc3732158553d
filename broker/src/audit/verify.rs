//! Checks the chain of logs that may have been rotated.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

use super::line::{FIRST_SEQ, Head, ZEROS, hash};
use super::tail::{Link, MAX_LINE_BYTES};

/// A chain without a break.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Intact {
    pub(crate) files: usize,
    pub(crate) lines: u64,
    /// Nothing when there are no lines.
    pub(crate) first_seq: Option<u64>,
    pub(crate) last_seq: Option<u64>,
    /// SHA-256 of the last line. Who keeps it elsewhere can tell later that the end is still there.
    pub(crate) head: Option<String>,
}

impl fmt::Display for Intact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, lines, .. } = self;
        match (self.first_seq, self.last_seq, &self.head) {
            (Some(first), Some(last), Some(head)) => {
                write!(f, "ok: seq {first} to {last}, lines: {lines}, files: {files}, head {head}")
            }
            _ => write!(f, "ok: lines: 0, files: {files}"),
        }
    }
}

/// The first place at which the chain does not hold.
#[derive(Debug)]
pub(crate) struct Break {
    pub(crate) file: PathBuf,
    /// Counted from 1; none for the file as a whole.
    pub(crate) line: Option<u64>,
    pub(crate) fault: Fault,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.fault)
    }
}

impl std::error::Error for Break {}

/// Why it does not hold.
#[derive(Debug, Error)]
pub(crate) enum Fault {
    #[error("cannot be read: {0}")]
    Io(io::Error),
    #[error("not an audit line")]
    NotALine,
    #[error("the line has no end; it was cut off or is being written")]
    Torn,
    #[error("seq is {found}; expected {expected}: lines are missing, doubled or out of order")]
    Sequence { expected: u64, found: u64 },
    #[error("prev is not the SHA-256 of {before}: that line or this one was changed")]
    Chain { before: String },
    #[error("prev and seq do not agree on whether this is the first line of a chain")]
    Start,
}

/// Follows the chain through files that may be given in any order.
pub(crate) fn verify(paths: &[PathBuf]) -> Result<Intact, Break> {
    let mut logs = Vec::new();
    for path in paths {
        let mut log = Log::open(path)?;
        if let Some(first) = log.next()? {
            logs.push((first, log));
        }
    }
    logs.sort_by_key(|(first, _)| first.link.seq);

    let mut walk = Walk::default();
    for (first, mut log) in logs {
        walk.step(&log, first)?;
        while let Some(line) = log.next()? {
            walk.step(&log, line)?;
        }
    }
    Ok(Intact {
        files: paths.len(),
        lines: walk.lines,
        first_seq: walk.first_seq,
        last_seq: walk.last.as_ref().map(|last| last.seq),
        head: walk.last.map(|last| String::from_utf8_lossy(&last.head).into_owned()),
    })
}

/// A file that is read line by line.
struct Log<'p> {
    path: &'p Path,
    reader: BufReader<File>,
    number: u64,
}

struct Line {
    link: Link,
    head: Head,
}

impl<'p> Log<'p> {
    fn open(path: &'p Path) -> Result<Self, Break> {
        let opened = File::open(path);
        let file =
            opened.map_err(|error| Break { file: path.to_owned(), line: None, fault: Fault::Io(error) })?;
        Ok(Self { path, reader: BufReader::with_capacity(64 * 1024, file), number: 0 })
    }

    fn next(&mut self) -> Result<Option<Line>, Break> {
        let mut bytes = Vec::new();
        self.number += 1;
        let limited = (&mut self.reader).take(MAX_LINE_BYTES as u64);
        let read = { limited }.read_until(b'\n', &mut bytes).map_err(|error| self.fault(Fault::Io(error)))?;
        if read == 0 {
            return Ok(None);
        }
        let Some(line) = bytes.strip_suffix(b"\n") else {
            let fault = if read < MAX_LINE_BYTES { Fault::Torn } else { Fault::NotALine };
            return Err(self.fault(fault));
        };
        let link = Link::parse(line).ok_or_else(|| self.fault(Fault::NotALine))?;
        Ok(Some(Line { link, head: hash(line) }))
    }

    fn fault(&self, fault: Fault) -> Break {
        Break { file: self.path.to_owned(), line: Some(self.number), fault }
    }
}

/// How far the chain has been followed.
#[derive(Default)]
struct Walk {
    lines: u64,
    first_seq: Option<u64>,
    last: Option<Last>,
}

struct Last {
    place: String,
    seq: u64,
    head: Head,
}

impl Walk {
    fn step(&mut self, log: &Log<'_>, line: Line) -> Result<(), Break> {
        let Line { link, head } = line;
        let prev = link.prev.as_bytes();
        match &self.last {
            None => {
                // Older files may be gone, so a chain may be entered anywhere.
                if (link.seq == FIRST_SEQ) != (prev == ZEROS.as_slice()) {
                    return Err(log.fault(Fault::Start));
                }
                self.first_seq = Some(link.seq);
            }
            Some(last) => {
                let expected = last.seq.saturating_add(1);
                if link.seq != expected {
                    return Err(log.fault(Fault::Sequence { expected, found: link.seq }));
                }
                if prev != last.head.as_slice() {
                    return Err(log.fault(Fault::Chain { before: last.place.clone() }));
                }
            }
        }
        self.lines += 1;
        let place = format!("{}:{}", log.path.display(), log.number);
        self.last = Some(Last { place, seq: link.seq, head });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
