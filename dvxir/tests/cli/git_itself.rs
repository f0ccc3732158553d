//! Real git with the helper.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::stub::{Asked, Ran, Stub, answer_with, git_credential, link, problem, ran};

const OBJECT: &str = "0123456789012345678901234567890123456789";

/// A git server that lets one token in, and notes which were tried.
struct GitServer {
    address: SocketAddr,
    tried: Arc<Mutex<Vec<String>>>,
    server: Option<JoinHandle<()>>,
}

impl GitServer {
    fn accepting(token: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tried = Arc::new(Mutex::new(Vec::new()));
        let (noted, good) = (Arc::clone(&tried), basic(token));
        let server = thread::spawn(move || {
            while let Some(authorization) = serve(&listener.accept().unwrap().0, &good) {
                noted.lock().unwrap().extend(authorization);
            }
        });
        Self { address, tried, server: Some(server) }
    }

    /// Each credential once: git asks for several files with the same.
    fn tried(&self) -> Vec<String> {
        let mut tried = self.tried.lock().unwrap().clone();
        tried.dedup();
        tried
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        drop(TcpStream::connect(self.address));
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

/// Answers one request; gives what it tried. `None` for a connection without a request.
fn serve(mut stream: &TcpStream, good: &str) -> Option<Option<String>> {
    let head: Vec<String> =
        BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    head.first()?;
    let authorization =
        head.iter().find_map(|line| line.strip_prefix("Authorization: Basic ")).map(str::to_owned);
    let answer = if authorization.as_deref() == Some(good) {
        let refs = format!("{OBJECT}\trefs/heads/main\n");
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{refs}",
            refs.len()
        )
    } else {
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"test\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            .to_owned()
    };
    let _gone = stream.write_all(answer.as_bytes());
    Some(authorization)
}

/// What Basic authentication makes of a token.
fn basic(token: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes = format!("oauth2:{token}").into_bytes();
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = chunk
            .iter()
            .chain([&0, &0])
            .take(3)
            .fold(0usize, |number, byte| number << 8 | usize::from(*byte));
        for digit in 0..4 {
            let known = digit <= chunk.len();
            text.push(if known { DIGITS[number >> (18 - 6 * digit) & 63] as char } else { '=' });
        }
    }
    text
}

fn git(stub: &Stub, arguments: &[&str]) -> Ran {
    let mut command = Command::new("git");
    stub.surround(&mut command);
    command.args(["-c", "credential.helper="]);
    command.arg("-c").arg(format!("credential.helper={} git-credential", env!("CARGO_BIN_EXE_dvxir")));
    ran(command.args(arguments))
}

/// Whether git is new enough to keep state for helpers (2.46).
fn keeps_state(stub: &Stub) -> bool {
    let keeps = git(stub, &["credential", "capability"]).stdout.contains("capability state");
    if !keeps {
        std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("SKIPPED: this git keeps no state for helpers; 2.46 does\n"),
        )
        .unwrap();
    }
    keeps
}

/// A broker with one token, and another once the first is reported.
fn broker(instance: String) -> impl FnMut(&Asked) -> Vec<u8> + Send {
    let mut reported = false;
    move |asked| match asked.line.as_str() {
        "GET /v1/agent/credentials" => answer_with(200, &link(&instance, "gitlab"), "[]"),
        "POST /v1/agent/credentials/gitlab/rejected" => {
            reported = true;
            answer_with(202, "", "")
        }
        "POST /v1/agent/git-credential" if reported => git_credential("newer", "fedcba9876543210"),
        "POST /v1/agent/git-credential" => git_credential("stale", "0123456789abcdef"),
        _ => problem(404, "not-found"),
    }
}

#[test]
fn git_gets_in_with_the_broker_s_token() {
    let server = GitServer::accepting("stale");
    let url = format!("http://{}", server.address);
    let stub = Stub::unix(broker(url.clone()));
    git(&stub, &["ls-remote", &format!("{url}/r.git")])
        .assert_printed(&format!("{OBJECT}\trefs/heads/main\n"));
    assert_eq!(server.tried(), [basic("stale")]);
    assert_eq!(stub.lines(), ["POST /v1/agent/git-credential"]);
}

#[test]
fn a_token_that_was_replaced_fails_no_command() {
    let server = GitServer::accepting("newer");
    let url = format!("http://{}", server.address);
    let stub = Stub::unix(broker(url.clone()));
    if !keeps_state(&stub) {
        return;
    }
    git(&stub, &["ls-remote", &format!("{url}/r.git")])
        .assert_printed(&format!("{OBJECT}\trefs/heads/main\n"));
    assert_eq!(server.tried(), [basic("stale"), basic("newer")]);
    let rejected: Vec<_> = stub.asked().into_iter().filter(|asked| asked.line.contains("rejected")).collect();
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].body, r#"{"fingerprint":"0123456789abcdef"}"#);
}

#[test]
fn two_refusals_are_a_failure_and_both_are_reported() {
    let server = GitServer::accepting("another");
    let url = format!("http://{}", server.address);
    let stub = Stub::unix(broker(url.clone()));
    if !keeps_state(&stub) {
        return;
    }
    let ran = git(&stub, &["ls-remote", &format!("{url}/r.git")]);
    assert_eq!(ran.code, Some(128), "{ran:?}");
    assert!(ran.stderr.contains("Authentication failed"), "{ran:?}");
    let rejected: Vec<_> = stub.asked().into_iter().filter(|asked| asked.line.contains("rejected")).collect();
    let second = r#"{"fingerprint":"804f51f71254c408"}"#;
    assert_eq!(rejected.len(), 2, "{rejected:?}");
    assert_eq!(rejected[1].body, second, "the second comes by erase, from the token itself");
}

#[test]
fn git_ends_when_an_operator_says_no() {
    let server = GitServer::accepting("x");
    let stub = Stub::saying(problem(403, "agent-isolated"));
    let ran = git(&stub, &["ls-remote", &format!("http://{}/r.git", server.address)]);
    assert_eq!(ran.code, Some(128), "{ran:?}");
    assert!(ran.stderr.contains("The detail of agent-isolated\n"), "{ran:?}");
    assert!(ran.stderr.contains("told us to quit"), "{ran:?}");
}

#[test]
fn git_goes_on_without_us_where_we_have_nothing() {
    let server = GitServer::accepting("x");
    let stub = Stub::saying(problem(404, "not-found"));
    let ran = git(&stub, &["ls-remote", &format!("http://{}/r.git", server.address)]);
    assert_eq!(ran.code, Some(128), "{ran:?}");
    assert!(!ran.stderr.contains("dvxir"), "{ran:?}");
    assert!(ran.stderr.contains("could not read Username"), "{ran:?}");
}
