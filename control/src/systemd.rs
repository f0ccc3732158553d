//! What the service manager is told (sd_notify(3)). Without one, nothing happens.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

/// The control plane serves, for the first time or again after [`reloading`].
pub(crate) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Certificate and key are read again. The service manager wants to know since when: `Type=notify-reload`
/// takes only a later [`ready`] for the end of the reload.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "the service manager was not told of the reload"),
    }
}

/// The control plane takes no more connections.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    let socket = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    let told = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => notify_abstract(name, states),
        None => sd_notify::notify(states),
    };
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager cannot be told about this process's state");
    }
}

/// To a socket without a file, whose name sd-notify takes for that of a file.
fn notify_abstract(name: &[u8], states: &[NotifyState<'_>]) -> io::Result<()> {
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    let address = SocketAddr::from_abstract_name(name)?;
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abstract_socket_is_told_too() {
        let name = format!("dvx-control-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        notify_abstract(name.as_bytes(), &[NotifyState::Ready, NotifyState::Status("serving")]).unwrap();
        let mut message = [0; 64];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1\nSTATUS=serving\n");
    }
}
