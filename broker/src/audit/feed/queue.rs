//! The newest lines, in memory.

use std::collections::VecDeque;

use super::{Batch, Known, Most};
use crate::audit::line::Head;

/// As many lines as fit. The oldest go first, which the other side sees from the numbers.
#[derive(Default)]
pub(super) struct Queue {
    lines: VecDeque<Line>,
    bytes: usize,
}

struct Line {
    seq: u64,
    head: Head,
    text: Box<[u8]>,
}

impl Queue {
    const MAX_LINES: usize = 4096;
    const MAX_BYTES: usize = 4 * 1024 * 1024;

    pub(super) fn push(&mut self, seq: u64, head: &Head, line: &[u8]) {
        self.bytes += line.len();
        self.lines.push_back(Line { seq, head: *head, text: line.into() });
        while self.lines.len() > Self::MAX_LINES || self.bytes > Self::MAX_BYTES {
            self.drop_first();
        }
    }

    pub(super) fn seek(&mut self, known: &Known) {
        let has = |line: &Line| {
            line.seq == known.seq
                && known.head.as_ref().is_none_or(|head| head.as_bytes() == line.head.as_slice())
        };
        if self.lines.iter().any(has) {
            self.drop_up_to(known.seq);
        }
    }

    pub(super) fn next(&self, most: Most) -> Option<Batch> {
        let mut batch = Batch { text: Vec::new(), last_seq: self.lines.front()?.seq };
        for line in self.lines.iter().take(most.lines) {
            if !batch.text.is_empty() && batch.text.len() + line.text.len() > most.bytes {
                break;
            }
            batch.text.extend_from_slice(&line.text);
            batch.last_seq = line.seq;
        }
        Some(batch)
    }

    pub(super) fn drop_up_to(&mut self, seq: u64) {
        while self.lines.front().is_some_and(|line| line.seq <= seq) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some(line) = self.lines.pop_front() {
            self.bytes -= line.text.len();
        }
    }
}
