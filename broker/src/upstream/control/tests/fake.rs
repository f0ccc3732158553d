//! A control plane that does what a test says.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use dvx_proto::ControlAddress;
use dvx_proto::enclave::{Ack, PUBLIC_KEY};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::*;
use crate::audit::Audit;
use crate::config::{ApiKey, AuditSink};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) const KEY: &str = "dvxe_0123456789abcdef0123456789abcdef";

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// A request, without its connection.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn session(&self) -> &str {
        &self.headers[PUBLIC_KEY]
    }
}

/// A request for a stream, and its connection.
pub(super) struct Watch {
    wire: BufReader<Box<dyn Wire>>,
    pub(super) request: Seen,
    pub(super) sealer: Sealer,
}

impl Watch {
    pub(super) fn raw(&mut self, text: &str) {
        let wire = self.wire.get_mut();
        wire.write_all(text.as_bytes()).unwrap();
        wire.flush().unwrap();
    }

    /// The head of a stream.
    pub(super) fn accept(&mut self) {
        self.raw(
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n",
        );
    }

    pub(super) fn answer(&mut self, status: &str) {
        self.raw(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
    }

    pub(super) fn chunk(&mut self, text: &str) {
        self.raw(&format!("{:x}\r\n{text}\r\n", text.len()));
    }

    pub(super) fn frame(&mut self, frame: &Frame) {
        self.chunk(&(serde_json::to_string(frame).unwrap() + "\n"));
    }

    pub(super) fn begin(&mut self, mode: Mode) {
        self.accept();
        let hello = self.sealer.hello(mode);
        self.frame(&Frame::Hello(hello));
    }

    pub(super) fn secret(&mut self, agent: &str, name: &str, value: &str, revision: u64) {
        let secret = self.sealer.secret(agent, name, value.as_bytes(), revision);
        self.frame(&Frame::Secret(secret));
    }

    /// Whether the other side has hung up.
    pub(super) fn is_left(&mut self) -> bool {
        self.wire.read(&mut [0]).map_or(true, |count| count == 0)
    }
}

type Answers = Arc<Mutex<Box<dyn Fn(&Seen) -> (u16, String) + Send>>>;

pub(super) struct Fake {
    pub(super) address: ControlAddress,
    pub(super) roots: Vec<CertificateDer<'static>>,
    directory: TempDir,
    watches: Receiver<Watch>,
    posts: Receiver<Seen>,
    answers: Answers,
}

impl Fake {
    pub(super) fn unix() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        Self::serve(directory, ControlAddress::Unix(path), Vec::new(), move || {
            Box::new(listener.accept().unwrap().0)
        })
    }

    /// Over TLS, with a certificate of this name.
    pub(super) fn tls(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let address = ControlAddress::Https { host: "localhost".to_owned(), port };
        Self::serve(tempfile::tempdir().unwrap(), address, vec![certificate], move || {
            let (stream, _) = listener.accept().unwrap();
            Box::new(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream))
        })
    }

    fn serve(
        directory: TempDir,
        address: ControlAddress,
        roots: Vec<CertificateDer<'static>>,
        accept: impl Fn() -> Box<dyn Wire> + Send + 'static,
    ) -> Self {
        let (watch_sender, watches) = mpsc::channel();
        let (post_sender, posts) = mpsc::channel();
        let answers: Answers = Arc::new(Mutex::new(Box::new(|_| (204, String::new()))));
        let shared = answers.clone();
        // It ends with the test's process.
        thread::spawn(move || {
            loop {
                let (wire, watches, posts, answers) =
                    (accept(), watch_sender.clone(), post_sender.clone(), shared.clone());
                thread::spawn(move || converse(wire, &watches, &posts, &answers));
            }
        });
        Self { address, roots, directory, watches, posts, answers }
    }

    pub(super) fn answer(&self, answer: impl Fn(&Seen) -> (u16, String) + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(answer);
    }

    /// The next stream that is asked for.
    pub(super) fn watch(&self) -> Watch {
        self.watches.recv_timeout(PATIENCE).expect("nobody asks for a stream")
    }

    /// The next POST to a path that begins like this. Others are passed over.
    pub(super) fn post(&self, path: &str) -> Seen {
        loop {
            let post = self.posts.recv_timeout(PATIENCE).expect("nothing is posted");
            if post.line.starts_with(&format!("POST {path}")) {
                return post;
            }
        }
    }

    pub(super) fn ack(&self) -> Ack {
        serde_json::from_slice(&self.post("/v1/enclave/ack").body).unwrap()
    }
}

/// Requests of one connection, until one asks for a stream.
fn converse(wire: Box<dyn Wire>, watches: &Sender<Watch>, posts: &Sender<Seen>, answers: &Answers) {
    let mut wire = BufReader::new(wire);
    while let Some(request) = read_request(&mut wire) {
        if request.line.starts_with("GET /v1/enclave/watch") {
            let sealer = Sealer::new(request.session());
            drop(watches.send(Watch { wire, request, sealer }));
            return;
        }
        let (status, body) = answers.lock().unwrap()(&request);
        drop(posts.send(request));
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        // For 204 the field must not be there.
        let answer = if status == 204 { "HTTP/1.1 204 X\r\n\r\n".to_owned() } else { answer };
        let written = wire.get_mut().write_all(answer.as_bytes()).and_then(|()| wire.get_mut().flush());
        if written.is_err() {
            return;
        }
    }
}

fn read_request(wire: &mut impl BufRead) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if wire.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let field = |line: &String| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let headers: HashMap<_, _> = lines.iter().skip(1).map(field).collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    wire.read_exact(&mut body).ok()?;
    Some(Seen { line: lines.into_iter().next()?, headers, body })
}

/// An upstream that is connected to a fake.
pub(super) struct Running {
    pub(super) upstream: Upstream,
    pub(super) keyring: Arc<Keyring>,
    pub(super) host: Arc<FakeHost>,
    pub(super) audit: Arc<Audit>,
    pub(super) log: std::path::PathBuf,
}

impl Running {
    pub(super) fn new(fake: &Fake) -> Self {
        let log = fake.directory.path().join("audit.jsonl");
        Self::with_audit(fake, &AuditSink::File(log))
    }

    pub(super) fn with_audit(fake: &Fake, sink: &AuditSink) -> Self {
        let keyring = Arc::new(Keyring::new());
        let host = Arc::new(FakeHost::default());
        let audit = Arc::new(Audit::open(sink, &"lab-1".parse().unwrap()).unwrap());
        let parts = Parts {
            config: ControlConfig {
                url: fake.address.clone(),
                api_key_file: "/key".into(),
                api_key: ApiKey::parse(KEY.as_bytes()).unwrap(),
                ca_file: None,
                roots: fake.roots.clone(),
            },
            enclave: "lab-1".parse().unwrap(),
            keyring: keyring.clone(),
            arena: Arena::new(false).unwrap(),
            host: host.clone(),
            feed: audit.feed(),
        };
        let log = fake.directory.path().join("audit.jsonl");
        Self { upstream: start(parts).unwrap(), keyring, host, audit, log }
    }

    pub(super) fn health(&self) -> Health {
        self.upstream.health().borrow().clone()
    }

    /// Waits until the upstream says this of itself.
    #[track_caller]
    pub(super) fn degraded(&self, why: &str) {
        let found = || self.health().degraded.iter().any(|bad| bad.why.contains(why));
        eventually(found, || format!("{why:?} is not in {:?}", self.health()));
    }
}

#[track_caller]
pub(super) fn eventually(mut condition: impl FnMut() -> bool, what: impl Fn() -> String) {
    let start = clock::monotonic();
    while !condition() {
        assert!(clock::monotonic().since(start) < PATIENCE, "{}", what());
        thread::yield_now();
    }
}
