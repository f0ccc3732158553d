//! Sockets that a service manager made and passed on (sd_listen_fds(3)).

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;

use super::BindError;

/// By the names that the socket unit gives them (`FileDescriptorName=`); their order means nothing.
#[derive(Default)]
pub(super) struct Inherited {
    pub(super) unix: Option<UnixListener>,
    pub(super) admin: Option<UnixListener>,
    pub(super) tcp: Option<TcpListener>,
}

pub(super) fn take() -> Result<Inherited, BindError> {
    let names: Vec<_> = sd_notify::listen_fds_with_names().map_err(BindError::Activation)?.collect();
    if names.is_empty() {
        return Ok(Inherited::default());
    }
    let mut sockets = ListenFd::from_env();
    let mut inherited = Inherited::default();
    for (index, (_, name)) in names.into_iter().enumerate() {
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
