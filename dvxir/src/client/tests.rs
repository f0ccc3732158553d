use std::os::unix::net::UnixListener;
use std::thread;

use super::*;

/// A client, and a listener at the end of its address.
fn pair(patience: Duration) -> (tempfile::TempDir, Client, UnixListener) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let trust = Trust::new("dvx".into());
    (directory, Client { address: BrokerAddress::Unix(path), token: None, trust, patience }, listener)
}

fn answered(bytes: &'static [u8]) -> Result<Answer, ClientError> {
    let (_directory, client, listener) = pair(Duration::from_secs(10));
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _any = stream.read(&mut request);
        let _gone = stream.write_all(bytes);
    });
    let answer = client.get("/");
    server.join().unwrap();
    answer
}

#[test]
fn a_request_is_one_piece_with_the_token_in_it() {
    let address = "http://127.0.0.1:8471".parse().unwrap();
    let token = Token::try_from(Zeroizing::new(b"tok".to_vec())).unwrap();
    let client =
        Client { address, token: Some(Rc::new(token)), trust: Trust::new("dvx".into()), patience: PATIENCE };
    assert_eq!(
        String::from_utf8(client.request("POST", "/p", Some(b"{}")).to_vec()).unwrap(),
        "POST /p HTTP/1.1\r\nHost: localhost:8471\r\nConnection: close\r\nAuthorization: Bearer tok\r\n\
         Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    );
    let (_directory, client, _listener) = pair(PATIENCE);
    assert_eq!(
        String::from_utf8(client.request("GET", "/p", None).to_vec()).unwrap(),
        "GET /p HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn a_server_that_says_nothing_is_left_after_a_while() {
    let (_directory, client, listener) = pair(Duration::from_millis(100));
    let error = client.get("/").err();
    assert!(matches!(error, Some(ClientError::Timeout { .. })), "{error:?}");
    drop(listener);
}

#[test]
fn a_server_that_says_a_byte_at_a_time_is_left_too() {
    let (_directory, client, listener) = pair(Duration::from_millis(200));
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            thread::park_timeout(Duration::from_millis(20));
        }
    });
    let error = client.get("/").err();
    assert!(matches!(error, Some(ClientError::Timeout { .. })), "{error:?}");
    server.join().unwrap();
}

#[test]
fn a_full_queue_of_connections_is_waited_for_and_not_for_ever() {
    let (_directory, client, listener) = pair(Duration::from_millis(200));
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
    let BrokerAddress::Unix(path) = &client.address else { panic!() };
    let _waiting: Vec<_> = (0..2).map(|_| std::os::unix::net::UnixStream::connect(path).unwrap()).collect();
    let error = client.get("/").err();
    assert!(
        matches!(&error, Some(ClientError::Connect { source, .. }) if source.kind() == io::ErrorKind::TimedOut),
        "{error:?}"
    );
}

#[test]
fn an_answer_in_pieces_is_put_together() {
    let (_directory, client, listener) = pair(Duration::from_secs(10));
    let body = "x".repeat(100_000);
    let text =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX: {}\r\n\r\n{body}", body.len(), "y".repeat(5000));
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for piece in text.as_bytes().chunks(777) {
            stream.write_all(piece).unwrap();
        }
    });
    assert_eq!(client.get("/").unwrap().body(), body.as_bytes());
    server.join().unwrap();
}

#[test]
fn a_refusal_counts_though_the_request_was_not_read() {
    let (_directory, client, listener) = pair(Duration::from_secs(10));
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let body = vec![b' '; 4_000_000];
    let error = client.post("/", &body).err();
    assert!(matches!(error, Some(ClientError::Problem { status: 503, .. })), "{error:?}");
    server.join().unwrap();
}

#[test]
fn an_answer_that_breaks_off_is_no_answer() {
    for bytes in [b"".as_slice(), b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}"] {
        let error = answered(bytes).err();
        assert!(matches!(error, Some(ClientError::Exchange { .. })), "{error:?}");
    }
    assert!(matches!(answered(b"220 smtp ready\r\n").err(), Some(ClientError::Malformed { .. })));
}

#[test]
fn token_files_hold_one_token() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    assert!(read_token(path.clone()).unwrap().is_none());
    std::fs::write(&path, "a.b.c\n").unwrap();
    assert_eq!(read_token(path.clone()).unwrap().unwrap().expose_secret(), b"a.b.c");
    for bad in ["", "\n", "a b", "a\r\nX: y", &"x".repeat(Token::MAX_BYTES + 2)] {
        std::fs::write(&path, bad).unwrap();
        let error = read_token(path.clone()).err();
        assert!(matches!(error, Some(ClientError::TokenFileContent { .. })), "{error:?}");
    }
    assert!(matches!(read_token(directory.path().to_owned()), Err(ClientError::TokenFile { .. })));
}
