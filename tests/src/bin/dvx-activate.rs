//! Starts a command with listening sockets as a service manager does (sd_listen_fds(3)), in a given order.
//!
//! `dvx-activate NAME=unix:PATH NAME=tcp:ADDRESS … -- COMMAND …`

use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{fs, io};

use rustix::io::{FdFlags, fcntl_setfd};

/// `SD_LISTEN_FDS_START`
const FIRST: i32 = 3;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut names = Vec::new();
    let mut sockets: Vec<OwnedFd> = Vec::new();
    for argument in arguments.by_ref().take_while(|argument| argument != "--") {
        let (name, address) = argument.split_once('=').ok_or_else(|| io::Error::other("NAME=ADDRESS"))?;
        let socket: OwnedFd = match address.split_once(':') {
            Some(("unix", path)) => listen(path)?.into(),
            Some(("tcp", address)) => TcpListener::bind(address)?.into(),
            _ => return Err(io::Error::other("unix:PATH or tcp:ADDRESS")),
        };
        // Only the three standard descriptors are open, so sockets come out in their order.
        assert_eq!(socket.as_raw_fd(), FIRST + i32::try_from(sockets.len()).unwrap_or_default());
        fcntl_setfd(&socket, FdFlags::empty())?;
        names.push(name.to_owned());
        sockets.push(socket);
    }
    let program = arguments.next().ok_or_else(|| io::Error::other("no command"))?;
    let error = Command::new(program)
        .args(arguments)
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"))
        .env("LISTEN_PID", std::process::id().to_string())
        .exec();
    Err(error)
}

/// As with `SocketMode=0666`: who may connect is decided by the broker.
fn listen(path: &str) -> io::Result<UnixListener> {
    let socket = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(socket)
}
