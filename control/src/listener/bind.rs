//! The sockets that the control plane listens on.
//!
//! It calls listen(2) itself: a client sees at SO_PEERCRED who did, and sends no token to anyone but root,
//! `dvx-control` or its own user (unix(7)).

mod path;

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, ipproto, sockopt};
use thiserror::Error;

use crate::config::Listen;
use path::Claim;

/// How many connections may wait to be accepted. A full queue of a Unix socket is EAGAIN at once for who
/// connects; the kernel lowers this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// All that the control plane listens on. Nothing blocks.
pub(crate) struct Sockets {
    pub(crate) unix: Option<UnixListener>,
    pub(crate) https: Option<TcpListener>,
    pub(crate) admin: Option<TcpListener>,
    /// Takes the names of the sockets that were bound here away again when it is dropped.
    pub(crate) claims: Claims,
}

/// Hold the names of the sockets against other control planes.
#[derive(Default)]
pub(crate) struct Claims(Vec<Claim>);

/// Why a socket cannot be listened on.
#[derive(Debug, Error)]
pub(crate) enum BindError {
    #[error("cannot {action} {}", .path.display())]
    Path { action: &'static str, path: PathBuf, source: io::Error },
    #[error("another process serves {}", .0.display())]
    InUse(PathBuf),
    #[error("{} is there and is not a socket; it is left alone", .0.display())]
    NotASocket(PathBuf),
    #[error("the directory {} is a symbolic link or no directory", .0.display())]
    NotADirectory(PathBuf),
    #[error("the directory {} belongs to uid {owner}; expected root or the user that dvx-control runs as", .path.display())]
    DirectoryOwner { path: PathBuf, owner: u32 },
    #[error("the directory {} is writable by other users (mode {mode:04o}); expected at most 0755", .path.display())]
    DirectoryMode { path: PathBuf, mode: u32 },
    #[error("cannot listen on {address}")]
    Tcp { address: SocketAddr, source: io::Error },
}

/// Callers are told apart by their credentials, so everybody may connect.
const SOCKET_MODE: u32 = 0o666;

impl Sockets {
    /// Binds everything, or nothing.
    pub(crate) fn open(listen: &Listen) -> Result<Self, BindError> {
        let mut claims = Claims::default();
        let unix = listen.unix.as_deref().map(|path| claims.bind(path)).transpose()?;
        let https = listen.https.as_ref().map(|https| bind_tcp(https.address)).transpose()?;
        let admin = listen.admin.map(bind_tcp).transpose()?;
        Ok(Self { unix, https, admin, claims })
    }
}

impl Claims {
    fn bind(&mut self, path: &Path) -> Result<UnixListener, BindError> {
        let mut claim = Claim::new(path)?;
        let socket = unix_socket().map_err(|source| failed("make a socket for", path, source))?;
        // The name is made with the socket's own mode, so there is no moment in which others could connect;
        // where the umask takes more away than it should, that is given back before anyone can.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(SOCKET_MODE))
            .and_then(|()| rustix::net::bind(&socket, &SocketAddrUnix::new(path)?))
            .map_err(|source| failed("bind", path, source.into()))?;
        claim.bound()?;
        self.0.push(claim);
        fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))
            .map_err(|source| failed("set the mode of", path, source))?;
        rustix::net::listen(&socket, BACKLOG).map_err(|source| failed("listen on", path, source.into()))?;
        Ok(UnixListener::from(socket))
    }
}

fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> BindError {
    BindError::Path { action, path: path.to_owned(), source }
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, BindError> {
    let bind = || {
        let (family, v6) = match address {
            SocketAddr::V4(_) => (AddressFamily::INET, false),
            SocketAddr::V6(_) => (AddressFamily::INET6, true),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        // Connections of a process that has just ended must not keep the next one from the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if v6 {
            // "[::]" is everybody's address, of either family.
            sockopt::set_ipv6_v6only(&socket, false)?;
        }
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    bind().map_err(|source| BindError::Tcp { address, source })
}

#[cfg(test)]
mod tests;
