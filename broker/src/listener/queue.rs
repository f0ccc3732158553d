//! The queue of connections that wait at a Unix socket.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::descriptor::watch;

/// Takes connections one by one, without making them known to the runtime.
pub(super) struct Queue(AsyncFd<UnixListener>);

impl Queue {
    /// Must be called within the runtime. The socket does not block.
    pub(super) fn new(socket: UnixListener) -> io::Result<Self> {
        watch(socket, Interest::READABLE).map(Self)
    }

    /// The next connection. It does not block either.
    pub(super) async fn next(&self) -> io::Result<UnixStream> {
        loop {
            // This form, unlike `readable`, lets the other tasks in now and then while connections keep coming.
            let mut ready = poll_fn(|cx| self.0.poll_read_ready(cx)).await?;
            match accept_with(&self.0, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(connection) => {
                    if self.is_empty() {
                        ready.clear_ready();
                    }
                    return Ok(connection.into());
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Asked of poll(2), since accept(2) makes a new socket before it looks, which takes ten times as long.
    fn is_empty(&self) -> bool {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO) == Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn all_that_wait_are_taken_and_so_is_who_comes_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = UnixListener::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let queue = Queue::new(socket).unwrap();
        let taken = || tokio::time::timeout(Duration::from_secs(10), queue.next());

        for _ in 0..3 {
            let clients: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
            for client in clients {
                let server = taken().await.unwrap().unwrap();
                assert!(server.peer_addr().is_ok(), "one connection for each");
                drop(client);
            }
            assert!(queue.is_empty());
        }
    }
}
