//! The sockets that the broker listens on: inherited from a service manager, or bound here.
//!
//! Either way the broker calls listen(2) itself: a client sees at SO_PEERCRED who did, and dvxir sends no
//! token to anyone but root, `dvx` or its own user (unix(7)).

mod activation;
mod path;

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, ipproto, sockopt};
use thiserror::Error;

use crate::config::Listen;
use path::Claim;

/// How many connections may wait at a Unix socket to be accepted: about as many as there may be in all. What one
/// user puts there is before everybody else, so longer would be no better. Who connects to a full queue waits, or
/// gets EAGAIN at once if it does not want to block.
const BACKLOG: i32 = 1024;

/// The same for TCP, where a full queue loses what is sent to begin a connection, and the client tries again only a
/// second later. The kernel lowers both to `net.core.somaxconn`.
const TCP_BACKLOG: i32 = 4096;

/// All that the broker listens on. Nothing blocks.
pub(crate) struct Sockets {
    pub(crate) unix: Bound,
    pub(crate) admin: Bound,
    pub(crate) tcp: Option<TcpListener>,
    /// Takes the names of the sockets that were bound here away again when it is dropped.
    pub(crate) claims: Claims,
}

/// A Unix socket and the name that clients know it by.
pub(crate) struct Bound {
    pub(crate) listener: UnixListener,
    pub(crate) path: PathBuf,
}

/// Hold the names of the sockets against other brokers.
#[derive(Default)]
pub(crate) struct Claims(Vec<Claim>);

/// Why a socket cannot be listened on.
#[derive(Debug, Error)]
pub(crate) enum BindError {
    #[error("cannot {action} {}", .path.display())]
    Path { action: &'static str, path: PathBuf, source: io::Error },
    #[error("another broker serves {}", .0.display())]
    InUse(PathBuf),
    #[error("{} is there and is not a socket; it is left alone", .0.display())]
    NotASocket(PathBuf),
    #[error("the directory {} is a symbolic link or no directory", .0.display())]
    NotADirectory(PathBuf),
    #[error("the directory {} belongs to uid {owner}; expected root or the user that the broker runs as", .path.display())]
    DirectoryOwner { path: PathBuf, owner: u32 },
    #[error("the directory {} is writable by other users (mode {mode:04o}); expected at most 0755", .path.display())]
    DirectoryMode { path: PathBuf, mode: u32 },
    #[error("cannot listen on {address}")]
    Tcp { address: SocketAddr, source: io::Error },
    #[error("cannot take over the sockets of the service manager")]
    Activation(#[source] io::Error),
    #[error(
        "the service manager passed a socket named {0:?}; expected unix, tcp and admin, each at most once"
    )]
    Name(String),
    #[error("the service manager passed a TCP socket on {0}, which is not a loopback address")]
    NotLoopback(SocketAddr),
}

/// Who may connect to a Unix socket.
#[derive(Clone, Copy)]
enum Access {
    /// Callers are told apart by their credentials.
    Everybody = 0o666,
    Owner = 0o600,
}

impl Sockets {
    /// Takes what the service manager passed and binds the rest. Must be called before threads are started,
    /// since it takes the sockets out of the environment.
    pub(crate) fn open(listen: &Listen) -> Result<Self, BindError> {
        let inherited = activation::take(&listen.admin)?;
        let mut claims = Claims::default();
        let mut unix_socket = |inherited: Option<UnixListener>, path: &Path, access| match inherited {
            Some(listener) => inherit(listener, path),
            None => claims.bind(path, access),
        };
        let unix = unix_socket(inherited.unix, &listen.unix, Access::Everybody)?;
        let admin = unix_socket(inherited.admin, &listen.admin, Access::Owner)?;
        let tcp = match (inherited.tcp, listen.tcp) {
            (Some(listener), _) => Some(inherit_tcp(listener)?),
            (None, Some(address)) => Some(bind_tcp(address)?),
            (None, None) => None,
        };
        Ok(Self { unix, admin, tcp, claims })
    }
}

impl Claims {
    fn bind(&mut self, path: &Path, access: Access) -> Result<Bound, BindError> {
        let mut claim = Claim::new(path)?;
        let socket = unix_socket().map_err(|source| failed("make a socket for", path, source))?;
        // The name is made with the socket's own mode, so there is no moment in which others could connect;
        // where the umask takes more away than it should, that is given back before anyone can.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(access as u32))
            .and_then(|()| rustix::net::bind(&socket, &SocketAddrUnix::new(path)?))
            .map_err(|source| failed("bind", path, source.into()))?;
        claim.bound()?;
        self.0.push(claim);
        fs::set_permissions(path, Permissions::from_mode(access as u32))
            .map_err(|source| failed("set the mode of", path, source))?;
        rustix::net::listen(&socket, BACKLOG).map_err(|source| failed("listen on", path, source.into()))?;
        Ok(Bound { listener: UnixListener::from(socket), path: path.to_owned() })
    }
}

fn unix_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> BindError {
    BindError::Path { action, path: path.to_owned(), source }
}

/// The name is the one that the service manager chose.
fn inherit(listener: UnixListener, configured: &Path) -> Result<Bound, BindError> {
    let name = listener.local_addr().map_err(BindError::Activation)?;
    let path = name.as_pathname().unwrap_or(configured).to_owned();
    listen_again(&listener, BACKLOG)?;
    listener.set_nonblocking(true).map_err(BindError::Activation)?;
    Ok(Bound { listener, path })
}

fn inherit_tcp(listener: TcpListener) -> Result<TcpListener, BindError> {
    let address = listener.local_addr().map_err(BindError::Activation)?;
    if !address.ip().to_canonical().is_loopback() {
        return Err(BindError::NotLoopback(address));
    }
    listen_again(&listener, TCP_BACKLOG)?;
    listener.set_nonblocking(true).map_err(BindError::Activation)?;
    Ok(listener)
}

fn listen_again(socket: &impl AsFd, backlog: i32) -> Result<(), BindError> {
    rustix::net::listen(socket, backlog).map_err(|error| BindError::Activation(error.into()))
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, BindError> {
    let bind = || {
        let (family, v6) = match address {
            SocketAddr::V4(_) => (AddressFamily::INET, false),
            SocketAddr::V6(_) => (AddressFamily::INET6, true),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        // Connections of a broker that has just ended must not keep the next one from the port.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if v6 {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, TCP_BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    bind().map_err(|source| BindError::Tcp { address, source })
}

#[cfg(test)]
mod tests;
