//! The stream under an HTTP connection: it knows what the connection is waiting for and since when, and it
//! puts a problem document in the place of the bodiless errors that hyper answers with by itself.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use dvx_proto::Code;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::api::problem;
use crate::clock::{self, Monotonic};

/// What a connection is waiting for, each with a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The next request on a kept connection.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The handler.
    Handler,
    /// The client, to take the answer.
    Answer,
}

impl Phase {
    /// How long a connection may stay in this phase.
    ///
    /// A head is a packet or two, so five seconds is ample; an idle connection costs a descriptor, so a
    /// minute is generous; the handler's own limits (for a body, for a newer token) end well before its half
    /// minute.
    const fn limit(self) -> Duration {
        match self {
            Self::Idle => Duration::from_secs(60),
            Self::Head => Duration::from_secs(5),
            Self::Handler => Duration::from_secs(30),
            Self::Answer => Duration::from_secs(10),
        }
    }
}

/// The phase of one connection, shared by its stream, its handler and its timer.
pub(crate) struct Progress(Mutex<(Phase, Monotonic)>);

impl Progress {
    /// A connection that was just accepted: its first request is due.
    pub(crate) fn new(now: Monotonic) -> Arc<Self> {
        Arc::new(Self(Mutex::new((Phase::Head, now))))
    }

    pub(crate) fn enter(&self, phase: Phase, now: Monotonic) {
        *self.state() = (phase, now);
    }

    /// Whether the connection has been in its phase for too long.
    pub(crate) fn is_overdue(&self, now: Monotonic) -> bool {
        let (phase, since) = *self.state();
        now.since(since) > phase.limit()
    }

    fn phase(&self) -> Phase {
        self.state().0
    }

    fn state(&self) -> MutexGuard<'_, (Phase, Monotonic)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that keeps [`Progress`].
pub(crate) struct Guarded<S> {
    inner: S,
    progress: Arc<Progress>,
    /// What is left to be written of our own text in place of hyper's error.
    substitute: Option<Bytes>,
}

impl<S> Guarded<S> {
    pub(crate) fn new(inner: S, progress: Arc<Progress>) -> Self {
        Self { inner, progress, substitute: None }
    }

    /// hyper writes without a handler having been asked only when it could not parse a request.
    fn is_parser_error(&self) -> bool {
        matches!(self.progress.phase(), Phase::Idle | Phase::Head)
    }

    fn replace(&mut self, written: &[u8]) {
        if self.substitute.is_none() {
            let too_large = written.starts_with(b"HTTP/1.1 431") || written.starts_with(b"HTTP/1.1 414");
            let code = if too_large { Code::HeadersTooLarge } else { Code::BadRequest };
            self.substitute = Some(problem::parser_error(code));
        }
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
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

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before && self.progress.phase() == Phase::Idle {
            self.progress.enter(Phase::Head, clock::monotonic());
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
            self.progress.enter(Phase::Idle, clock::monotonic());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_substitute(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
