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

    fn bind(&self) -> Result<(UnixListener, Claims), BindError> {
        let mut claims = Claims::default();
        let bound = claims.bind(&self.path("b.sock"))?;
        Ok((bound, claims))
    }
}

#[test]
fn everybody_may_connect() {
    let place = Place::new();
    let (_bound, _claims) = place.bind().unwrap();
    assert_eq!(fs::metadata(place.path("b.sock")).unwrap().mode() & 0o7777, 0o666);
}

#[test]
fn the_names_are_gone_afterwards() {
    let place = Place::new();
    let (bound, claims) = place.bind().unwrap();
    UnixStream::connect(place.path("b.sock")).unwrap();
    bound.accept().unwrap();
    assert_eq!(bound.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(claims);
    assert_eq!(fs::read_dir(place.directory.path()).unwrap().count(), 0);
}

#[test]
fn a_second_process_is_refused_while_the_first_holds_the_name() {
    let place = Place::new();
    let (bound, claims) = place.bind().unwrap();
    assert!(matches!(place.bind(), Err(BindError::InUse(_))));
    // Even when its socket has lost its name or does not listen any more.
    fs::remove_file(place.path("b.sock")).unwrap();
    drop(bound);
    assert!(matches!(place.bind(), Err(BindError::InUse(_))));
    drop(claims);
    place.bind().unwrap();
}

#[test]
fn a_socket_that_somebody_listens_on_is_left_alone() {
    let place = Place::new();
    let other = UnixListener::bind(place.path("b.sock")).unwrap();
    assert!(matches!(place.bind(), Err(BindError::InUse(_))));
    // With a full queue as well.
    rustix::net::listen(&other, 0).unwrap();
    let _waiting: Vec<_> = std::iter::from_fn(|| waiting(&place)).collect();
    assert!(matches!(place.bind(), Err(BindError::InUse(_))));
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
    let (_bound, _claims) = place.bind().unwrap();
    UnixStream::connect(place.path("b.sock")).unwrap();
}

#[test]
fn what_is_not_a_socket_is_never_removed() {
    let place = Place::new();
    let path = place.path("b.sock");
    let refused = || assert!(matches!(place.bind(), Err(BindError::NotASocket(_))));
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
        match place.bind() {
            Ok(_) => assert!(fine, "{mode:o}"),
            Err(error) => {
                assert!(!fine && matches!(error, BindError::DirectoryMode { .. }), "{mode:o}: {error}")
            }
        }
    }
    let (real, link) = (place.path("real"), place.path("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    let bind = |path: &Path| Claims::default().bind(path);
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
    assert!(matches!(place.bind(), Err(BindError::Path { action: "lock", .. })));
    assert!(!place.path("target").exists());
}

#[test]
fn a_socket_that_took_the_place_of_ours_stays() {
    let place = Place::new();
    let (_bound, claims) = place.bind().unwrap();
    fs::remove_file(place.path("b.sock")).unwrap();
    let _other = UnixListener::bind(place.path("b.sock")).unwrap();
    drop(claims);
    assert!(place.path("b.sock").exists());
}

#[test]
fn a_port_has_one_listener_and_never_blocks() {
    let first = bind_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    assert_eq!(first.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(matches!(bind_tcp(first.local_addr().unwrap()), Err(BindError::Tcp { .. })));
}
