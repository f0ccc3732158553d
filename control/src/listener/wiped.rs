//! The socket under TLS: rustls decrypts in the buffer into which it reads, and leaves there what it has decrypted.

use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that wipes its reader's buffer when there is nothing to read.
pub(super) struct Wiped<S> {
    inner: S,
    /// How much was read since then.
    stale: usize,
}

impl<S> Wiped<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, stale: 0 }
    }
}

/// Nothing more is to be read for now. A reader that begins at the front of its buffer again finds there what it
/// took from it before: tokens, values.
pub(super) fn wipe(buf: &mut ReadBuf<'_>, stale: usize) {
    let stale = stale.min(buf.remaining());
    buf.initialize_unfilled_to(stale).fill(0);
}

impl<S: AsyncRead + Unpin> AsyncRead for Wiped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_pending() {
            wipe(buf, mem::take(&mut self.stale));
        } else {
            self.stale += buf.filled().len() - before;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wiped<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
