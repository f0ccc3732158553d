//! Where a request goes and what it is.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// A server that says nothing for so long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A Unix socket.
    Unix,
    /// Loopback.
    Tcp,
}

/// The place of a socket.
#[derive(Debug, Clone)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// How the end of an answer is recognised.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// HTTP, with status 200 and this body.
    Http(Vec<u8>),
    /// What comes until the server closes, and has this at its end.
    ToEnd(Vec<u8>),
}

/// One request to one server.
#[derive(Debug, Clone)]
pub struct Target {
    pub(super) address: Address,
    pub(super) request: Vec<u8>,
    pub(super) answer: Answer,
}

impl Target {
    /// A connection, on which reading has a limit.
    pub(super) fn connect(&self) -> Stream {
        let stream = match &self.address {
            Address::Unix(path) => UnixStream::connect(path).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                Ok(Stream::Unix(stream))
            }),
            Address::Tcp(address) => TcpStream::connect(address).and_then(|stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }),
        };
        stream.unwrap_or_else(|error| panic!("{:?}: {error}", self.address))
    }

    /// The same request on a connection that is used once.
    pub(super) fn once(mut self) -> Self {
        if matches!(self.answer, Answer::Http(_)) {
            let end = self.request.len() - 2;
            self.request.splice(end.., *b"Connection: close\r\n\r\n");
        }
        self
    }
}

/// A blocking socket.
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.write_all(bytes),
            Self::Tcp(stream) => stream.write_all(bytes),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}
