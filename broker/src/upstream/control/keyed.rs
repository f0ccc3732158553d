//! The connection under requests that bring the enclave's key: whoever makes them has something else in its place.
//!
//! hyper keeps the head of the last request in a buffer for as long as a connection lasts, which for the stream of
//! changes is as long as it can. So what it gets is a placeholder, and the key goes out from protected memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dvx_memory::{Arena, Slot};
use dvx_proto::without_trace;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::ApiKey;

/// The key, and what stands for it.
#[derive(Clone)]
pub(super) struct Key {
    value: Slot,
    /// As long as the key, and nothing that anybody else could know.
    placeholder: Box<str>,
}

impl Key {
    /// Moves the key into protected memory.
    pub(super) fn new(key: &ApiKey, arena: &Arena) -> io::Result<Self> {
        let key = key.expose_secret();
        let mut slot = arena.allocate(key.len()).map_err(io::Error::other)?;
        slot.as_mut().copy_from_slice(key);
        let mut random = vec![0; key.len()];
        rustix::io::retry_on_intr(|| getrandom(&mut random, GetRandomFlags::empty()))?;
        let mut placeholder = URL_SAFE_NO_PAD.encode(&random);
        placeholder.truncate(key.len());
        Ok(Self { value: slot.freeze(), placeholder: placeholder.into() })
    }

    /// What to write where the key is meant.
    pub(super) fn placeholder(&self) -> &str {
        &self.placeholder
    }
}

/// A stream that writes the key where its placeholder is to be written.
pub(super) struct Keyed<S> {
    inner: S,
    key: Key,
    /// How much of the key has been written, while it is its turn.
    written: Option<usize>,
}

impl<S> Keyed<S> {
    pub(super) fn new(inner: S, key: Key) -> Self {
        Self { inner, key, written: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Keyed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

/// Without vectored writes: what is to be written comes in one piece, placeholder and all.
impl<S: AsyncWrite + Unpin> AsyncWrite for Keyed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { inner, key, written } = self.get_mut();
        let before = match written {
            Some(_) => 0,
            None => match find(buf, key.placeholder.as_bytes()) {
                Some(at) => at,
                None => return Pin::new(inner).poll_write(cx, buf),
            },
        };
        if before > 0 {
            return Pin::new(inner).poll_write(cx, buf.get(..before).unwrap_or(buf));
        }
        let at = written.unwrap_or_default();
        let rest = key.value.expose_secret().get(at..).unwrap_or_default();
        // What encrypting leaves on the stack.
        let count = ready!(without_trace(|| Pin::new(inner).poll_write(cx, rest)))?;
        *written = Some(at + count).filter(|written| *written < key.value.expose_secret().len());
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// Takes only so many bytes at a time.
    struct Narrow(usize, Vec<u8>);

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let count = buf.len().min(self.0);
            self.1.extend_from_slice(&buf[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn the_key_is_written_for_its_placeholder_however_little_is_taken_at_a_time() {
        let arena = Arena::new(false).unwrap();
        let key = ApiKey::parse(b"dvxe_0123456789abcdefghij").unwrap();
        let key = Key::new(&key, &arena).unwrap();
        let text = format!("bearer {0}\r\nthen {0}{0}, end", key.placeholder());
        for width in 1..text.len() + 1 {
            let mut stream = Keyed::new(Narrow(width, Vec::new()), key.clone());
            stream.write_all(text.as_bytes()).await.unwrap();
            let expected = text.replace(key.placeholder(), "dvxe_0123456789abcdefghij");
            assert_eq!(String::from_utf8(stream.inner.1).unwrap(), expected, "{width} at a time");
        }
    }
}
