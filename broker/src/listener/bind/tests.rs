use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixStream;

use super::*;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn bind(&self, access: Access) -> Result<(Bound, Claims), BindError> {
        let mut claims = Claims::default();
        let bound = claims.bind(&self.path("b.sock"), access)?;
        Ok((bound, claims))
    }
}

#[test]
fn sockets_have_their_mode() {
    let place = Place::new();
    for (access, mode) in [(Access::Everybody, 0o666), (Access::Owner, 0o600)] {
        let (bound, _claims) = place.bind(access).unwrap();
        assert_eq!(fs::metadata(&bound.path).unwrap().mode() & 0o7777, mode);
    }
}

#[test]
fn the_names_are_gone_afterwards() {
    let place = Place::new();
    let (bound, claims) = place.bind(Access::Everybody).unwrap();
    UnixStream::connect(&bound.path).unwrap();
    bound.listener.accept().unwrap();
    assert_eq!(bound.listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(claims);
    assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 0);
}

#[test]
fn a_second_broker_is_refused_while_the_first_holds_the_name() {
    let place = Place::new();
    let (bound, claims) = place.bind(Access::Everybody).unwrap();
    assert!(matches!(place.bind(Access::Everybody), Err(BindError::InUse(_))));
    // Even when its socket has lost its name or does not listen any more.
    fs::remove_file(&bound.path).unwrap();
    drop(bound);
    assert!(matches!(place.bind(Access::Everybody), Err(BindError::InUse(_))));
    drop(claims);
    place.bind(Access::Everybody).unwrap();
}

#[test]
fn a_socket_that_somebody_listens_on_is_left_alone() {
    let place = Place::new();
    let other = UnixListener::bind(place.path("b.sock")).unwrap();
    assert!(matches!(place.bind(Access::Everybody), Err(BindError::InUse(_))));
    // With a full queue as well.
    rustix::net::listen(&other, 0).unwrap();
    let _waiting: Vec<_> = std::iter::from_fn(|| waiting(&place)).collect();
    assert!(matches!(place.bind(Access::Everybody), Err(BindError::InUse(_))));
}

/// A connection that waits to be accepted, until there is no room for one.
fn waiting(place: &Place) -> Option<OwnedFd> {
    let socket = unix_socket().unwrap();
    let address = rustix::net::SocketAddrUnix::new(place.path("b.sock")).unwrap();
    rustix::net::connect(&socket, &address).ok().map(|()| socket)
}

#[test]
fn a_stale_socket_is_taken_over() {
    let place = Place::new();
    drop(UnixListener::bind(place.path("b.sock")).unwrap());
    fs::write(place.path("b.sock.lock"), "").unwrap();
    let (bound, _claims) = place.bind(Access::Everybody).unwrap();
    UnixStream::connect(&bound.path).unwrap();
}

#[test]
fn what_is_not_a_socket_is_never_removed() {
    let place = Place::new();
    let path = place.path("b.sock");
    let refused = || assert!(matches!(place.bind(Access::Everybody), Err(BindError::NotASocket(_))));
    fs::write(&path, "precious").unwrap();
    refused();
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    refused();
    fs::remove_dir(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    refused();
    fs::remove_file(&path).unwrap();
    symlink(place.path("nowhere"), &path).unwrap();
    refused();
    fs::remove_file(&path).unwrap();
    drop(UnixListener::bind(place.path("stale")).unwrap());
    symlink(place.path("stale"), &path).unwrap();
    refused();
    assert!(fs::symlink_metadata(place.path("stale")).unwrap().file_type().is_socket());
}

#[test]
fn a_directory_that_others_can_write_or_that_is_a_link_is_refused() {
    let place = Place::new();
    for (mode, fine) in [(0o755, true), (0o777, false), (0o775, false), (0o1777, true), (0o700, true)] {
        fs::set_permissions(place.directory.path(), Permissions::from_mode(mode)).unwrap();
        match place.bind(Access::Everybody) {
            Ok(_) => assert!(fine, "{mode:o}"),
            Err(error) => {
                assert!(!fine && matches!(error, BindError::DirectoryMode { .. }), "{mode:o}: {error}")
            }
        }
    }
    let (real, link) = (place.path("real"), place.path("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    let bind = |path: &Path| Claims::default().bind(path, Access::Owner);
    assert!(matches!(bind(&link.join("b.sock")), Err(BindError::NotADirectory(_))));
    assert!(matches!(bind(&place.path("none/b.sock")), Err(BindError::Path { action: "look at", .. })));
    if std::os::unix::fs::chown(&real, Some(1), None).is_err() {
        skipped!("giving a directory away needs root");
        return;
    }
    assert!(matches!(bind(&real.join("b.sock")), Err(BindError::DirectoryOwner { owner: 1, .. })));
}

#[test]
fn a_lock_that_is_a_link_is_refused() {
    let place = Place::new();
    symlink(place.path("target"), place.path("b.sock.lock")).unwrap();
    assert!(matches!(place.bind(Access::Everybody), Err(BindError::Path { action: "lock", .. })));
    assert!(!place.path("target").exists());
}

#[test]
fn a_socket_that_took_the_place_of_ours_stays() {
    let place = Place::new();
    let (bound, claims) = place.bind(Access::Everybody).unwrap();
    fs::remove_file(&bound.path).unwrap();
    let _other = UnixListener::bind(&bound.path).unwrap();
    drop(claims);
    assert!(bound.path.exists());
}

#[test]
fn loopback_listeners_take_both_families_apart() {
    let v4 = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = v4.local_addr().unwrap();
    assert_eq!(v4.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(matches!(bind_tcp(address), Err(BindError::Tcp { .. })));
    match bind_tcp("[::1]:0".parse().unwrap()) {
        Ok(v6) => assert!(sockopt::ipv6_v6only(&v6).unwrap()),
        Err(error) => skipped!("no IPv6 here: {error}"),
    }
}

#[test]
fn a_socket_of_the_service_manager_keeps_its_name_and_must_be_loopback() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path("theirs")).unwrap();
    let bound = inherit(listener, Path::new("/configured")).unwrap();
    assert_eq!(bound.path, place.path("theirs"));
    assert_eq!(bound.listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    assert!(matches!(inherit_tcp(open), Err(BindError::NotLoopback(_))));
    assert!(inherit_tcp(TcpListener::bind("127.0.0.1:0").unwrap()).is_ok());
}
