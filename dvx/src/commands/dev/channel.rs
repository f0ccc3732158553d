//! How the two processes of `dvx dev` speak with each other, and how each notices the other's end.
//!
//! A pair of connected sockets: each message is one packet of JSON, and a process that is gone, for
//! whatever reason, is the end of the stream.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// From the first process to the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The directory is there: start the control plane.
    Start,
    /// The control plane knows everything: start the broker.
    StartBroker,
    /// Run the command; the stdin for it comes along.
    Run,
    /// Pass a signal on to the command.
    Pass(i32),
    /// We were stopped and are running again.
    Resumed,
    /// End everything.
    End,
}

/// From the keeper to the first process.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The keeper would notice from now on if we ended.
    Watching,
    /// The control plane serves, and knows nothing yet.
    ControlServing,
    /// The broker serves at this address.
    Serving(String),
    /// The command has ended with this status, and everything has been cleaned up.
    Ended {
        /// As a shell would have it: above 128 where a signal ended the command.
        status: u8,
    },
    /// Something failed, and everything has been cleaned up.
    Failed(Failure),
}

/// One end of the connection.
pub(crate) struct Channel(OwnedFd);

/// Room for the longest message: a report with the last lines of a log.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

impl Channel {
    /// A new connection: our end, and the one to give away.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// The end that was given to us as stdin.
    pub(crate) fn from_stdin() -> io::Result<Self> {
        Ok(Self(io::stdin().as_fd().try_clone_to_owned()?))
    }

    /// Sends a message, and a file with it. Whether the other side is still there shows when reading.
    pub(crate) fn send(&self, message: &impl Serialize, file: Option<BorrowedFd<'_>>) {
        let Ok(text) = serde_json::to_vec(message) else { return };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let files = file.as_slice();
        if !files.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(files));
        }
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL).ok();
    }

    /// The next message and the file that came with it; `None` when the other side is gone.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Option<OwnedFd>)>> {
        let mut text = vec![0; MAX_MESSAGE_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut text)];
        let received = match recvmsg(&self.0, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::CONNRESET) => return Ok(None),
            result => result?.bytes,
        };
        if received == 0 {
            return Ok(None);
        }
        let mut file = None;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut files) = message {
                file = files.next();
            }
        }
        text.truncate(received);
        Ok(Some((serde_json::from_slice(&text)?, file)))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn messages_arrive_whole_in_order_and_with_their_file() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel(theirs);
        let (mut reader, writer) = io::pipe().unwrap();
        ours.send(&Order::Start, None);
        ours.send(&Order::Run, Some(writer.as_fd()));
        drop(writer);
        assert!(matches!(theirs.receive().unwrap(), Some((Order::Start, None))));
        let Some((Order::Run, Some(file))) = theirs.receive().unwrap() else { panic!("no file") };
        io::Write::write_all(&mut File::from(file), b"through").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn the_other_sides_end_is_the_end_of_the_stream() {
        let (ours, theirs) = Channel::pair().unwrap();
        drop(theirs);
        ours.send(&Order::End, None);
        assert!(ours.receive::<Report>().unwrap().is_none());
    }
}
