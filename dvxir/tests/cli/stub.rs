//! A stub of the broker: answers what a test says, and remembers what it was asked.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// The token that the stub holds unless a test says otherwise.
pub(crate) const TOKEN: &str = "glpat-Stub0Token1Value2.01.abcdefghi";

/// The beginning of its SHA-256.
pub(crate) const FINGERPRINT: &str = "8babe530a071815a";

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Method and path.
    pub(crate) line: String,
    /// Everything up to the empty line.
    pub(crate) head: String,
    pub(crate) body: String,
}

type Handler = Box<dyn FnMut(&Asked) -> Vec<u8> + Send>;

/// A running stub and the home of an agent.
pub(crate) struct Stub {
    directory: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
    url: String,
    server: Option<JoinHandle<()>>,
    stop: Box<dyn Fn() + Send>,
}

impl Stub {
    /// On a Unix socket.
    pub(crate) fn unix(handler: impl FnMut(&Asked) -> Vec<u8> + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("broker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let url = format!("unix://{}", socket.display());
        let accept = move || listener.accept().unwrap().0;
        let stop = Box::new(move || drop(UnixStream::connect(&socket)));
        Self::start(directory, url, accept, stop, Box::new(handler))
    }

    /// On a loopback port.
    pub(crate) fn tcp(handler: impl FnMut(&Asked) -> Vec<u8> + Send + 'static) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accept = move || listener.accept().unwrap().0;
        let stop = Box::new(move || drop(std::net::TcpStream::connect(address)));
        Self::start(directory, format!("http://{address}"), accept, stop, Box::new(handler))
    }

    /// On a Unix socket, with the same answer to everything.
    pub(crate) fn saying(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::unix(move |_| answer.clone())
    }

    /// On a Unix socket, with one agent that is linked to gitlab.
    pub(crate) fn gitlab() -> Self {
        Self::unix(gitlab)
    }

    fn start<S: Read + Write + 'static>(
        directory: tempfile::TempDir,
        url: String,
        accept: impl Fn() -> S + Send + 'static,
        stop: Box<dyn Fn() + Send>,
        mut handler: Handler,
    ) -> Self {
        std::fs::create_dir(directory.path().join("home")).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&asked);
        let server = thread::spawn(move || {
            loop {
                let mut stream = accept();
                // A connection without a request ends the stub.
                let Some(request) = read_request(&mut stream) else { return };
                remembered.lock().unwrap().push(request.clone());
                // A client that has seen enough may be gone.
                let _gone = stream.write_all(&handler(&request));
            }
        });
        Self { directory, asked, url, server: Some(server), stop }
    }

    /// `dvxir` as an agent whose broker this is, with nothing else in its environment.
    pub(crate) fn dvxir(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dvxir"));
        command.args(arguments);
        self.surround(&mut command);
        command
    }

    /// Gives a command the agent's environment.
    pub(crate) fn surround(&self, command: &mut Command) {
        command.env_clear().env("HOME", self.home()).env("DVX_BROKER_URL", &self.url);
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.dvxir(arguments))
    }

    pub(crate) fn run_with_input(&self, arguments: &[&str], input: impl AsRef<[u8]>) -> Ran {
        ran_with_input(&mut self.dvxir(arguments), input.as_ref())
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The method and path of each request so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        (self.stop)();
        if let Some(server) = self.server.take() {
            let ended = server.join();
            assert!(ended.is_ok() || thread::panicking(), "the stub failed");
        }
    }
}

fn read_request(stream: &mut impl Read) -> Option<Asked> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                let line = head.lines().next().unwrap().strip_suffix(" HTTP/1.1").unwrap().to_owned();
                return Some(Asked { line, head: head.to_owned(), body: body.to_owned() });
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

/// An answer with more header fields, each ending its line.
pub(crate) fn answer_with(status: u16, fields: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{fields}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(crate) fn answer(body: &str) -> Vec<u8> {
    answer_with(200, "Dvx-Revision: 7\r\nDvx-Age: 3\r\n", body)
}

pub(crate) fn problem(status: u16, code: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"type":"urn:dvx:problem:{code}","title":"The title","status":{status},"detail":"The detail of {code}."}}"#
    );
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What `GET /v1/agent/credentials` says of the instances.
pub(crate) fn link(url: &str, provider: &str) -> String {
    format!("Link: <{url}>; rel=\"urn:dvx:rel:instance\"; title=\"{provider}\"\r\n")
}

pub(crate) fn git_credential(token: &str, fingerprint: &str) -> Vec<u8> {
    answer(&format!(
        r#"{{"username":"oauth2","password":"{token}","expires_at":null,"fingerprint":"{fingerprint}"}}"#
    ))
}

/// A broker whose one agent is linked to gitlab.com.
pub(crate) fn gitlab(asked: &Asked) -> Vec<u8> {
    match asked.line.as_str() {
        "GET /v1/agent/discover" => {
            answer(r#"{"service":"dvx-broker","version":"9.9.9","api":["v1"],"transports":["unix","tcp"]}"#)
        }
        "GET /v1/agent/whoami" => {
            answer(r#"{"agent":"my-agent","enclave":"lab-1","uid":1001,"transport":"unix","state":"active"}"#)
        }
        "GET /v1/agent/credentials" => answer_with(
            200,
            &format!("Dvx-Revision: 7\r\nDvx-Age: 3\r\n{}", link("https://gitlab.com", "gitlab")),
            r#"[{"provider":"gitlab","display_name":"my-user","auth_type":"pat"}]"#,
        ),
        "GET /v1/agent/credentials/gitlab" => answer(&format!(r#"{{"token":"{TOKEN}","expires_at":null}}"#)),
        "GET /v1/agent/secrets" => answer(r#"[{"name":"A_KEY"},{"name":"tls.crt"}]"#),
        "GET /v1/agent/secrets/A_KEY" => answer(r#"{"name":"A_KEY","value":"two\nlines\u0000\u001b \n"}"#),
        "POST /v1/agent/git-credential" if asked.body.contains(r#""host":"gitlab.com""#) => {
            git_credential(TOKEN, FINGERPRINT)
        }
        "POST /v1/agent/credentials/gitlab/rejected" => answer_with(202, "", ""),
        _ => problem(404, "not-found"),
    }
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Asserts that it failed with this code as every failure must look.
    #[track_caller]
    pub(crate) fn assert_failed(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert!(matches!(lines.len(), 1 | 2), "{self:?}");
        let why = lines[0].strip_prefix("dvxir: ").and_then(|line| line.split_once(": "));
        assert!(why.is_some_and(|(what, why)| !what.is_empty() && !why.is_empty()), "{self:?}");
        assert!(lines.get(1).is_none_or(|hint| hint.starts_with("hint: ")), "{self:?}");
        assert!(self.stderr.ends_with('\n') && !self.stderr.contains(['\x1b', '\r', '\0']), "{self:?}");
        assert!(!self.stderr.contains("glpat"), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn assert_printed(&self, stdout: &str) {
        assert_eq!((self.code, self.stdout.as_str(), self.stderr.as_str()), (Some(0), stdout, ""));
    }
}

pub(crate) fn ran(command: &mut Command) -> Ran {
    ran_with_input(command, b"")
}

pub(crate) fn ran_with_input(command: &mut Command, input: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program need not read what it is given.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// By another process: were the file open for writing in here, a child that another test starts at that moment
/// would inherit it, and the copy could not be executed (execve(2), ETXTBSY).
pub(crate) fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}
