//! A connection to the broker, proven before anything is sent on it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use dvx_proto::BrokerAddress;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::{ClientError, Trust};
use crate::clock::Deadline;

/// A connection to a broker that is trusted.
pub(crate) enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Connection {
    pub(crate) fn open(
        address: &BrokerAddress,
        trust: &Trust,
        deadline: Deadline,
    ) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect { address: address.clone(), source };
        match address {
            BrokerAddress::Unix(path) => {
                let stream = connect_unix(path, deadline).map_err(failed)?;
                let server =
                    getsockopt(&stream, sockopt::PeerCredentials).map_err(|error| failed(error.into()))?;
                if !trust.covers(server.uid()) {
                    let user = trust.user().to_string_lossy().into_owned();
                    return Err(ClientError::Untrusted { path: path.clone(), uid: server.uid(), user });
                }
                Ok(Self::Unix(stream))
            }
            BrokerAddress::Loopback(to) => {
                let remaining = deadline.remaining().unwrap_or(Duration::from_millis(1));
                let stream = TcpStream::connect_timeout(to, remaining).map_err(failed)?;
                stream.set_write_timeout(Some(remaining)).map_err(failed)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    pub(crate) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.set_read_timeout(Some(timeout)),
            Self::Tcp(stream) => stream.set_read_timeout(Some(timeout)),
        }
    }
}

/// Connects, and waits no longer than the deadline where the broker's queue of new connections is full:
/// a connect(2) to a Unix socket waits as long as the socket may wait to send (unix(7): EAGAIN).
fn connect_unix(path: &Path, deadline: Deadline) -> io::Result<UnixStream> {
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let to = UnixAddr::new(path)?;
    loop {
        let Some(remaining) = deadline.remaining() else {
            return Err(io::ErrorKind::TimedOut.into());
        };
        setsockopt(&stream, sockopt::SendTimeout, &time_value(remaining))?;
        match connect(stream.as_raw_fd(), &to) {
            Ok(()) => return Ok(stream.into()),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn time_value(span: Duration) -> TimeVal {
    TimeVal::new(i64::try_from(span.as_secs()).unwrap_or(i64::MAX), span.subsec_micros().into())
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
