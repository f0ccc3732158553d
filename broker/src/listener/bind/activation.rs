//! Sockets that a service manager made and passed on (sd_listen_fds(3)).

use std::net::TcpListener;
use std::os::fd::RawFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use listenfd::ListenFd;
use nix::sys::socket::{SockaddrIn, SockaddrIn6, UnixAddr, getsockname};

use super::BindError;

/// By the names that the socket unit gives them (`FileDescriptorName=`); their order means nothing.
#[derive(Default)]
pub(super) struct Inherited {
    pub(super) unix: Option<UnixListener>,
    pub(super) admin: Option<UnixListener>,
    pub(super) tcp: Option<TcpListener>,
}

/// What sockets are called that nobody has named (sd_listen_fds(3)).
const UNNAMED: &str = "unknown";

/// Sockets without a name, such as `systemd-socket-activate -l` passes, are told apart by what they are; the
/// admin socket by its path.
pub(super) fn take(admin: &Path) -> Result<Inherited, BindError> {
    let names: Vec<_> = sd_notify::listen_fds_with_names().map_err(BindError::Activation)?.collect();
    if names.is_empty() {
        return Ok(Inherited::default());
    }
    let mut sockets = ListenFd::from_env();
    let mut inherited = Inherited::default();
    for (index, (socket, name)) in names.into_iter().enumerate() {
        let name = if name == UNNAMED { kind(socket, admin).unwrap_or(UNNAMED).to_owned() } else { name };
        let fresh = match name.as_str() {
            "unix" => set(&mut inherited.unix, sockets.take_unix_listener(index)),
            "admin" => set(&mut inherited.admin, sockets.take_unix_listener(index)),
            "tcp" => set(&mut inherited.tcp, sockets.take_tcp_listener(index)),
            _ => Ok(false),
        };
        if !fresh.map_err(BindError::Activation)? {
            return Err(BindError::Name(name));
        }
    }
    Ok(inherited)
}

/// False when there is one already.
fn set<T>(place: &mut Option<T>, taken: std::io::Result<Option<T>>) -> std::io::Result<bool> {
    let taken = taken?;
    let fresh = place.is_none() && taken.is_some();
    *place = taken;
    Ok(fresh)
}

/// The name that a socket would have.
fn kind(socket: RawFd, admin: &Path) -> Option<&'static str> {
    if getsockname::<SockaddrIn>(socket).is_ok() || getsockname::<SockaddrIn6>(socket).is_ok() {
        return Some("tcp");
    }
    let name = getsockname::<UnixAddr>(socket).ok()?;
    Some(if name.path() == Some(admin) { "admin" } else { "unix" })
}
