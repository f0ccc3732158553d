//! The stream under an HTTP connection: it keeps track of what the connection is waiting for, and it puts a
//! problem document in the place of the bodiless errors that hyper answers with by itself.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use dvx_proto::Code;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::progress::{Phase, Progress};
use crate::api::problem;
use crate::trace;

/// hyper begins at the front of its buffer again where less than this is free behind what it has read (`next` in its
/// `ReadStrategy` is never less). Where more is free, what it has read stays out of reach.
const LEAST_ROOM: usize = 8192;

/// A stream that keeps [`Progress`].
pub(crate) struct Guarded<S> {
    inner: S,
    progress: Arc<Progress>,
    /// How much was read since the reader's buffer was wiped.
    stale: usize,
    /// What is left to be written of our own text in place of hyper's error.
    substitute: Option<Bytes>,
}

impl<S> Guarded<S> {
    pub(crate) fn new(inner: S, progress: Arc<Progress>) -> Self {
        Self { inner, progress, stale: 0, substitute: None }
    }

    /// hyper writes without a handler having been asked only when it could not parse a request.
    fn is_parser_error(&self) -> bool {
        matches!(self.progress.phase(), Phase::Idle | Phase::Head)
    }

    fn replace(&mut self, written: &[u8]) {
        trace::note();
        if self.substitute.is_none() {
            let too_large = written.starts_with(b"HTTP/1.1 431") || written.starts_with(b"HTTP/1.1 414");
            let code = if too_large { Code::HeadersTooLarge } else { Code::BadRequest };
            self.substitute = Some(problem::parser_error(code));
        }
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    /// Answers a request that was not HTTP/1.1 at all. hyper says nothing where it takes the bytes for HTTP/2.
    pub(super) async fn refuse(mut self) {
        if self.substitute.is_none() && self.is_parser_error() {
            self.replace(&[]);
        }
        if let Err(error) = poll_fn(|cx| Pin::new(&mut self).poll_shutdown(cx)).await {
            tracing::debug!(%error, "a client left before it was told that its request is malformed");
        }
    }

    fn poll_substitute(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(rest) = &mut self.substitute else { return Poll::Ready(Ok(())) };
        while !rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => rest.advance(count),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Nothing more is to be read for now. A reader that begins at the front of its buffer again finds there what it
/// took from it before: tokens, values.
fn wipe(buf: &mut ReadBuf<'_>, stale: usize) {
    let stale = stale.min(buf.remaining());
    buf.initialize_unfilled_to(stale).fill(0);
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut self.inner).poll_read(cx, buf) else {
            let stale = mem::take(&mut self.stale);
            wipe(buf, stale);
            if stale > 0 && self.progress.phase() != Phase::Idle {
                // The reader has looked at a part of a request.
                trace::note();
            }
            return Poll::Pending;
        };
        read?;
        let count = buf.filled().len() - before;
        self.stale += count;
        self.progress.set_roomy(buf.remaining() >= LEAST_ROOM);
        if count > 0 && self.progress.phase() == Phase::Idle {
            self.progress.enter(Phase::Head);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_parser_error() {
            self.replace(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_parser_error() {
            self.replace(bufs.first().map_or(&[], |first| first));
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_substitute(cx))?;
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        if self.progress.phase() == Phase::Answer {
            self.progress.enter(Phase::Idle);
        }
        Poll::Ready(Ok(()))
    }

    /// The stream is dropped next, and close(2) says to the client what shutdown(2) would have said.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_substitute(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;
    use crate::listener::progress::Sweeper;

    fn guarded() -> (Guarded<DuplexStream>, Arc<Progress>, DuplexStream) {
        let (near, far) = duplex(1024);
        let progress = Sweeper::default().watch().progress.clone();
        (Guarded::new(near, progress.clone()), progress, far)
    }

    /// Reads all that there is, and then waits.
    async fn read(stream: &mut Guarded<DuplexStream>) {
        let mut scrap = [0; 64];
        poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut scrap);
            while Pin::new(&mut *stream).poll_read(cx, &mut buf).is_ready() {}
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn the_reader_of_a_part_of_a_request_leaves_a_trace_and_one_that_waits_for_a_request_does_not() {
        let (mut stream, progress, mut client) = guarded();
        for phase in [Phase::Head, Phase::Idle] {
            progress.enter(phase);
            read(&mut stream).await;
            assert!(!trace::is_noted());
        }
        client.write_all(b"GET / HT").await.unwrap();
        read(&mut stream).await;
        assert!(trace::is_noted());
    }

    #[tokio::test]
    async fn a_request_that_cannot_be_parsed_leaves_a_trace() {
        let (mut stream, _progress, mut client) = guarded();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream.flush().await.unwrap();
        assert!(trace::is_noted());
        let mut taken = [0; 12];
        client.read_exact(&mut taken).await.unwrap();
        assert_eq!(&taken, b"HTTP/1.1 400");
    }
}
