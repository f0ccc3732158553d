//! Connections: TLS, time limits, certificates that change.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use dvx_proto::Code;
use dvx_tests::{Authority, Connection, ControlPlane, Request, eventually};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

/// A handshake with this configuration, to its end.
fn shake(control: &mut ControlPlane, config: ClientConfig) -> Result<ClientConnection, io::Error> {
    let mut stream = TcpStream::connect(control.replica().https)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut stream)?;
    }
    Ok(session)
}

#[test]
fn only_http_1_1_is_spoken_over_tls() {
    let mut control = ControlPlane::start();
    let offering = |protocols: &[&[u8]], authority: &Authority| {
        let mut config = (*authority.client()).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config
    };
    let both = offering(&[b"h2", b"http/1.1"], &control.authority);
    let session = shake(&mut control, both).unwrap();
    assert_eq!(session.alpn_protocol(), Some(b"http/1.1".as_slice()));
    let other = offering(&[b"h2"], &control.authority);
    assert!(shake(&mut control, other).is_err());
}

/// Waits for the other end to close, and gives what it still sent.
fn closed(stream: &mut (impl Read + Write)) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is a close as well.
    stream.read_to_end(&mut rest).unwrap_or_default();
    rest
}

#[test]
fn slow_handshakes_and_slow_heads_are_cut_off() {
    let mut control = ControlPlane::start();
    let limit = Some(Duration::from_secs(20));
    let mut silent = TcpStream::connect(control.replica().https).unwrap();
    silent.set_read_timeout(limit).unwrap();
    let mut slow = UnixStream::connect(&control.replica().socket).unwrap();
    slow.set_read_timeout(limit).unwrap();
    slow.write_all(b"GET /api/v1/whoami HTTP/1.1\r\nHost: x\r\n").unwrap();
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| closed(&mut silent));
        let second = scope.spawn(|| closed(&mut slow));
        (first.join().unwrap(), second.join().unwrap())
    });
    assert!(first.is_empty() && second.is_empty());
}

#[test]
fn what_is_not_http_gets_a_problem() {
    let mut control = ControlPlane::start();
    let ask = |bytes: &[u8], control: &mut ControlPlane| {
        let mut connection = Connection::unix(UnixStream::connect(&control.replica().socket).unwrap());
        connection.exchange_bytes(bytes).problem()
    };
    assert_eq!(ask(b"nonsense\r\n\r\n", &mut control), Code::BadRequest);
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(ask(long.as_bytes(), &mut control), Code::HeadersTooLarge);
    assert_eq!(ask(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n", &mut control), Code::NotFound);
    let own = b"GET /api/v1/whoami HTTP/1.1\r\n\r\n";
    assert!(matches!(ask(own, &mut control), Code::BadRequest | Code::TokenMissing), "no host");
}

#[test]
fn everybody_may_connect_to_the_socket() {
    let mut control = ControlPlane::start();
    assert_eq!(fs::metadata(&control.replica().socket).unwrap().mode() & 0o7777, 0o666);
}

#[test]
fn a_new_certificate_is_taken_up_and_a_bad_one_is_not() {
    let mut control = ControlPlane::start();
    let trusts = |authority: &Authority, control: &mut ControlPlane| {
        shake(control, (*authority.client()).clone()).is_ok()
    };
    let other = Authority::new();
    let old = std::mem::replace(&mut control.authority, Authority::new());
    assert!(trusts(&old, &mut control) && !trusts(&other, &mut control));
    let (cert, key) = (control.ground.path("etc/tls.pem"), control.ground.path("keys/tls.key"));
    fs::write(&cert, "nothing").unwrap();
    control.replica().daemon().signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the bad certificate is reported", || control.log().contains("stay as they were"));
    assert!(trusts(&old, &mut control));
    let identity = other.identity();
    fs::write(&cert, identity.certificate_pem()).unwrap();
    control.write_private(&key, &identity.key_pem());
    control.replica().daemon().signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the new certificate is used", || trusts(&other, &mut control));
    assert!(!trusts(&old, &mut control));
    assert_eq!(control.admin().send(&Request::get("/api/v1/whoami")).status, 200);
}

#[test]
fn one_user_cannot_take_all_connections() {
    let mut control = ControlPlane::builder().build();
    control.initialise();
    // 160 descriptors leave room for 32 connections, of which one user may have half.
    let mut command = std::process::Command::new("prlimit");
    command.arg("--nofile=160:160").arg("--").args(words(&control.command(&["serve"])));
    let log = control.ground.path("output/few.log");
    let mut daemon = dvx_tests::Daemon::start(&mut command, &log);
    let socket = control.replica().socket.clone();
    eventually("it serves", || UnixStream::connect(&socket).is_ok());
    let held: Vec<_> = (0..16).map_while(|_| UnixStream::connect(&socket).ok()).collect();
    let mut late = Connection::unix(UnixStream::connect(&socket).unwrap());
    let refusal = late.response().unwrap();
    assert_eq!(refusal.problem(), Code::TooManyConnections);
    // Others come in meanwhile, and afterwards so does this one.
    let mut other = TcpStream::connect(control.replica().https).unwrap();
    other.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(other.read(&mut [0]).is_err(), "the connection is open, and nobody speaks first");
    drop(held);
    eventually("there is room again", || {
        let mut again = Connection::unix(UnixStream::connect(&socket).unwrap());
        again.exchange(&Request::get("/elsewhere")).problem() == Code::NotFound
    });
    daemon.stop();
}

/// A command as words, with what it sets in the environment.
fn words(command: &std::process::Command) -> Vec<std::ffi::OsString> {
    let mut words = vec![command.get_program().to_owned()];
    words.extend(command.get_args().map(std::borrow::ToOwned::to_owned));
    words
}
