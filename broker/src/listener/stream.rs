//! A connection on a Unix socket, which the runtime gets to know no sooner and no better than it must.
//!
//! A client that connects, asks once and hangs up has mostly sent its request by the time its connection is
//! accepted. To add such a connection to epoll(7) and to remove it again would cost more than to read the request
//! and to write the answer.
//!
//! And where there is a wait, it is for requests alone. Asked for room as well, epoll would tell of some each time
//! that the client has read an answer, and that is an eighth of all that a request on a kept connection costs.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::descriptor::watch;

/// What is read at a time: more than a request without a body has.
const READ_BYTES: usize = 2048;

/// A connection that does not block.
pub(super) struct Stream {
    socket: Arc<UnixStream>,
    /// Once there was a wait.
    watched: Option<AsyncFd<Arc<UnixStream>>>,
    /// Once there was no room for an answer: room is watched for too.
    was_full: bool,
}

impl From<UnixStream> for Stream {
    fn from(socket: UnixStream) -> Self {
        Self { socket: Arc::new(socket), watched: None, was_full: false }
    }
}

impl Stream {
    fn watch(&mut self, interest: Interest) -> io::Result<()> {
        // epoll takes a descriptor once.
        self.watched = None;
        self.watched = Some(watch(Arc::clone(&self.socket), interest)?);
        Ok(())
    }

    fn poll_room<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&UnixStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            let mut ready = match &self.watched {
                Some(watched) if self.was_full => Some(ready!(watched.poll_write_ready(cx))?),
                Some(_) | None => None,
            };
            match attempt(&self.socket) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => match &mut ready {
                    Some(ready) => ready.clear_ready(),
                    None => {
                        self.watch(Interest::READABLE | Interest::WRITABLE)?;
                        self.was_full = true;
                    }
                },
                done => return Poll::Ready(done),
            }
        }
    }
}

impl Stream {
    /// Reads once. True if there may be more.
    fn poll_piece(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        loop {
            let mut ready = match &self.watched {
                Some(watched) => Some(ready!(watched.poll_read_ready(cx))?),
                None => None,
            };
            let room = buf.initialize_unfilled_to(buf.remaining().min(READ_BYTES));
            let size = room.len();
            match (&*self.socket).read(room) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => match &mut ready {
                    Some(ready) => ready.clear_ready(),
                    None => self.watch(Interest::READABLE)?,
                },
                read => {
                    let count = read?;
                    // That was all, and to ask again would only confirm it.
                    if count < size
                        && let Some(ready) = &mut ready
                    {
                        ready.clear_ready();
                    }
                    buf.advance(count);
                    return Poll::Ready(Ok(count == size));
                }
            }
        }
    }
}

impl AsyncRead for Stream {
    /// Reads all that is there and fits: a reader that gets a request in pieces makes its buffer larger.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            match self.poll_piece(cx, buf) {
                Poll::Ready(Ok(true)) if buf.remaining() > 0 => {}
                Poll::Pending if buf.filled().len() == before => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(_)) | Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_room(cx, |mut socket| socket.write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_room(cx, |mut socket| socket.write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is held back here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn pair() -> (Stream, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        (near.into(), far)
    }

    #[tokio::test]
    async fn what_is_there_is_taken_and_the_answer_given_without_the_runtime() {
        let (mut stream, mut client) = pair();
        client.write_all(b"request").unwrap();
        let mut taken = [0; 7];
        stream.read_exact(&mut taken).await.unwrap();
        stream.write_all(b"answer").await.unwrap();
        assert!(stream.watched.is_none());
        drop(stream);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((&taken, answer.as_str()), (b"request", "answer"));
    }

    #[tokio::test]
    async fn a_long_request_is_read_in_one_piece() {
        let (mut stream, mut client) = pair();
        for size in [3 * READ_BYTES, 3 * READ_BYTES + 1] {
            client.write_all(&vec![7; size]).unwrap();
            let mut taken = vec![0; 4 * READ_BYTES];
            assert_eq!(stream.read(&mut taken).await.unwrap(), size);
        }
    }

    #[tokio::test]
    async fn what_is_not_there_yet_is_waited_for() {
        let (mut stream, mut client) = pair();
        let late = tokio::task::spawn_blocking(move || {
            client.write_all(b"late").unwrap();
            let mut taken = vec![0; 4 * 1024 * 1024];
            client.read_exact(&mut taken).unwrap();
            taken.iter().all(|byte| *byte == 7)
        });
        let mut taken = [0; 4];
        stream.read_exact(&mut taken).await.unwrap();
        // More than fits into the socket.
        stream.write_all(&vec![7; 4 * 1024 * 1024]).await.unwrap();
        assert!(late.await.unwrap());
    }

    #[tokio::test]
    async fn more_than_fits_is_written_when_there_is_room() {
        let (mut stream, mut client) = pair();
        let reader = std::thread::spawn(move || {
            let mut taken = Vec::new();
            client.read_to_end(&mut taken).unwrap();
            taken.len()
        });
        stream.write_all(&vec![7; 4 * 1024 * 1024]).await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(reader.join().unwrap(), 4 * 1024 * 1024);
    }

    #[tokio::test]
    async fn the_end_is_seen_behind_the_last_request_also_after_a_wait() {
        let (mut stream, mut client) = pair();
        let late = tokio::task::spawn_blocking(move || {
            client.write_all(b"last").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        });
        let mut taken = String::new();
        stream.read_to_string(&mut taken).await.unwrap();
        assert_eq!(taken, "last");
        drop(late.await.unwrap());
    }

    #[tokio::test]
    async fn requests_are_still_seen_after_there_was_no_room_for_an_answer() {
        let (mut stream, mut client) = pair();
        let big = vec![7; 4 * 1024 * 1024];
        let answered = big.len();
        let reader = std::thread::spawn(move || {
            client.read_exact(&mut vec![0; answered]).unwrap();
            client.write_all(b"next").unwrap();
            client
        });
        // A reader that waits while the answer is being written, as on a connection with both at a time.
        let mut early = [0; 4];
        let nothing = poll_fn(|cx| {
            let mut buf = ReadBuf::new(&mut early);
            Poll::Ready(Pin::new(&mut stream).poll_read(cx, &mut buf).is_pending())
        });
        assert!(nothing.await);
        stream.write_all(&big).await.unwrap();
        assert!(stream.was_full);
        let mut taken = [0; 4];
        stream.read_exact(&mut taken).await.unwrap();
        assert_eq!(&taken, b"next");
        drop(reader.join().unwrap());
    }
}
