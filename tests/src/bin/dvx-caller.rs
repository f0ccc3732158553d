//! Opens connections under whatever identity it was started with and hands them to the test that started it.
//!
//! The kernel names the process that connected as the peer, so the test can then write any bytes as that peer.
//! stdin is a Unix socket: each line asks for one connection (`unix PATH`, `tcp ADDRESS [FROM]`) or one
//! listening socket (`listen ADDRESS`), each answer is one byte: `k` with the socket attached, or `e` followed by
//! a line of why not.

use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, bind, connect, sendmsg,
    socket, sockopt,
};

fn main() -> io::Result<()> {
    let control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut lines = BufReader::new(control.try_clone()?);
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
        match open(line.trim_end()) {
            Ok(connection) => hand_over(&control, &connection)?,
            Err(error) => (&control).write_all(format!("e{error}\n").as_bytes())?,
        }
        line.clear();
    }
    Ok(())
}

fn open(line: &str) -> io::Result<OwnedFd> {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["unix", path] => Ok(UnixStream::connect(path)?.into()),
        ["listen", address] => Ok(TcpListener::bind(address)?.into()),
        ["tcp", address] => tcp(address, None),
        ["tcp", address, from] => tcp(address, Some(from)),
        _ => Err(io::Error::other("not a request")),
    }
}

fn tcp(address: &str, from: Option<&str>) -> io::Result<OwnedFd> {
    let parse = |text: &str| text.parse::<SocketAddr>().map_err(io::Error::other);
    let address = parse(address)?;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    if let Some(from) = from {
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &parse(from)?)?;
    }
    connect(&socket, &address)?;
    Ok(socket)
}

fn hand_over(control: &UnixStream, connection: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [connection.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(control, &[IoSlice::new(b"k")], &mut ancillary, SendFlags::empty())?;
    Ok(())
}
