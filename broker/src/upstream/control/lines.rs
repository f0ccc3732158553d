//! The lines of a stream, one at a time.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use dvx_proto::enclave::MAX_FRAME_BYTES;
use http_body_util::BodyExt;
use hyper::body::Body;

use super::error::{SILENCE, Trouble, Violation};
use crate::clock::{self, Monotonic};

/// Reads a body line by line. Dropping a wait for a line loses nothing.
pub(super) struct Lines<B> {
    body: B,
    buffer: BytesMut,
    /// How much of the buffer is known to have no end of a line.
    searched: usize,
    /// When the last line was whole. Bytes that trickle in are no sign of life.
    alive: Monotonic,
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Lines<B> {
    pub(super) fn new(body: B) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0, alive: clock::monotonic() }
    }

    /// The next line, without its end.
    pub(super) async fn next(&mut self) -> Result<Bytes, Trouble> {
        loop {
            if let Some(line) = self.take()? {
                self.alive = clock::monotonic();
                return Ok(line);
            }
            let left = SILENCE.saturating_sub(clock::monotonic().since(self.alive));
            self.fill(left).await?;
        }
    }

    async fn fill(&mut self, wait: Duration) -> Result<(), Trouble> {
        let frame = tokio::time::timeout(wait, self.body.frame()).await.map_err(|_| Trouble::Silence)?;
        let frame = frame.ok_or(Trouble::Ended(None))?.map_err(|error| Trouble::Ended(Some(error)))?;
        if let Ok(data) = frame.into_data() {
            self.buffer.extend_from_slice(&data);
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Bytes>, Violation> {
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n').map(|end| self.searched + end) else {
            self.searched = self.buffer.len();
            return if self.searched > MAX_FRAME_BYTES { Err(Violation::LongLine) } else { Ok(None) };
        };
        if end > MAX_FRAME_BYTES {
            return Err(Violation::LongLine);
        }
        let line = self.buffer.split_to(end).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Ok(Some(line))
    }
}
