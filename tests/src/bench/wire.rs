//! One connection with one request under way.

use std::os::fd::{AsFd, BorrowedFd};

use super::target::{Answer, Stream, Target};

/// Answers are a few hundred bytes.
const BUFFER: usize = 16 * 1024;

const STATUS: &[u8] = b"HTTP/1.1 200 ";

pub(super) struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
    filled: usize,
}

impl Wire {
    pub(super) fn open(target: &Target) -> Self {
        Self { stream: target.connect(), buffer: vec![0; BUFFER], filled: 0 }
    }

    /// Uses a new connection, and the same buffer.
    pub(super) fn reopen(&mut self, target: &Target) {
        self.stream = target.connect();
    }

    pub(super) fn send(&mut self, target: &Target) {
        self.filled = 0;
        self.stream
            .write_all(&target.request)
            .unwrap_or_else(|error| panic!("{:?}: {error}", target.address));
    }

    /// Reads once, and tells whether the answer is all there.
    pub(super) fn receive(&mut self, target: &Target) -> bool {
        let count = self.stream.read(&mut self.buffer[self.filled..]).unwrap_or_else(|error| {
            panic!("{:?}: {error} after {:?}", target.address, String::from_utf8_lossy(self.received()))
        });
        self.filled += count;
        let received = self.received();
        let (whole, right) = match &target.answer {
            // The body is known, so that its end is the answer's.
            Answer::Http(body) => (received.ends_with(body), received.starts_with(STATUS)),
            Answer::ToEnd(end) => (count == 0, count > 0 || received.ends_with(end)),
        };
        let cut = count == 0 && !whole;
        // A refusal is fast, and must not be measured.
        assert!(right && !cut, "{:?}: the answer is {:?}", target.address, String::from_utf8_lossy(received));
        whole
    }

    fn received(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
