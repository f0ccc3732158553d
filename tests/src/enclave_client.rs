//! A broker as the control plane sees it: watches, opens what is sealed for it, and confirms.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use dvx_proto::enclave::{self, Ack, AgentDocument, Frame, Hello, Mode, SEAL_INFO, SealedSecret, seal_aad};
use dvx_proto::{AgentName, SecretName};
use hpke::aead::{AeadCtxR, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, Serializable};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::ControlPlane;

type PrivateKey = <X25519HkdfSha256 as Kem>::PrivateKey;
type Opener = AeadCtxR<AesGcm256, HkdfSha256, X25519HkdfSha256>;

/// How long a slow machine may take for what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where the control plane listens.
#[derive(Clone)]
pub enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// HTTPS with a certificate for `localhost`.
    Https(SocketAddr, Arc<rustls::ClientConfig>),
}

impl Endpoint {
    /// HTTPS, where the certificate is signed by this authority.
    pub fn https(address: SocketAddr, ca_file: &Path) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca_file).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self::Https(address, Arc::new(config))
    }

    /// A connection of one's own.
    pub async fn connect(&self) -> io::Result<Connection> {
        match self {
            Self::Unix(path) => Connection::over(UnixStream::connect(path).await?).await,
            Self::Https(address, config) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let name = ServerName::try_from("localhost").unwrap();
                let tls = tokio_rustls::TlsConnector::from(config.clone()).connect(name, stream).await?;
                Connection::over(tls).await
            }
        }
    }
}

/// One connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> io::Result<Self> {
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(16 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            // What became of it shows at whoever uses it.
            let _ended: Result<(), hyper::Error> = connection.await;
        });
        Ok(Self { sender, driver })
    }

    /// Sends one request.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> io::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).map_err(io::Error::other)?;
        self.sender.ready().await.map_err(io::Error::other)?;
        self.sender.send_request(request).await.map_err(io::Error::other)
    }

    /// Sends one request and reads the answer.
    pub async fn exchange(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> io::Result<(StatusCode, Bytes)> {
        let response = self.send(method, path, headers, body).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await.map_err(io::Error::other)?.to_bytes()))
    }
}

/// What a broker knows by itself.
#[derive(Clone)]
pub struct EnclaveClient {
    /// Where.
    pub endpoint: Endpoint,
    /// With which key.
    pub api_key: String,
    /// What the broker tells as its `max_stale`.
    pub max_stale_seconds: u64,
}

impl EnclaveClient {
    /// A broker with a `max_stale` of an hour.
    pub fn new(endpoint: Endpoint, api_key: impl Into<String>) -> Self {
        Self { endpoint, api_key: api_key.into(), max_stale_seconds: 3600 }
    }

    /// The broker of an enclave, at a replica of a control plane.
    pub fn of(control: &ControlPlane, replica: usize, api_key: impl Into<String>) -> Self {
        Self::new(Endpoint::https(control.addresses()[replica], &control.ca_path()), api_key)
    }

    /// A stream that has come to its first commit.
    pub async fn connected(&self, state: &mut State) -> Watch {
        let mut watch = self.watch(state.revision).await.unwrap();
        watch.commit(state).await.unwrap();
        watch
    }

    /// Confirms a revision, which must succeed.
    pub async fn confirm(&self, watch: &Watch, revision: u64) {
        let mut connection = self.endpoint.connect().await.unwrap();
        let ack = Ack { revision, degraded: Vec::new() };
        assert_eq!(self.ack(&mut connection, watch, &ack).await.unwrap(), StatusCode::NO_CONTENT);
    }

    /// Begins to watch; a refusal is an error with its status.
    pub async fn watch(&self, revision: Option<u64>) -> io::Result<Watch> {
        self.watch_from(revision, None).await
    }

    /// The same, with what tells the revision from another one of that number.
    pub async fn watch_from(&self, revision: Option<u64>, mark: Option<u64>) -> io::Result<Watch> {
        let (private, public) = X25519HkdfSha256::gen_keypair();
        let public_key = URL_SAFE_NO_PAD.encode(public.to_bytes());
        let mut connection = self.endpoint.connect().await?;
        let named = |name: &str, value: Option<u64>| value.map(|value| format!("{name}={value}"));
        let query: Vec<_> = named("revision", revision).into_iter().chain(named("mark", mark)).collect();
        let path = format!("/v1/enclave/watch?{}", query.join("&"));
        let (bearer, stale) = (format!("Bearer {}", self.api_key), self.max_stale_seconds.to_string());
        let headers = [
            ("authorization", bearer.as_str()),
            (enclave::PUBLIC_KEY, &public_key),
            (enclave::MAX_STALE, &stale),
        ];
        let response = connection.send("GET", &path, &headers, "").await?;
        if response.status() != StatusCode::OK {
            return Err(io::Error::other(response.status().to_string()));
        }
        let mut lines = Lines { body: response.into_body(), buffer: Vec::new(), read: 0 };
        let Some(Frame::Hello(hello)) = lines.next().await? else {
            return Err(io::Error::other("the stream does not begin with a hello"));
        };
        let opener = opener(&private, &hello);
        Ok(Watch { hello, public_key, lines, opener, _connection: connection })
    }

    /// Sends a request of its own connection, authenticated.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> io::Result<(StatusCode, Bytes)> {
        let bearer = format!("Bearer {}", self.api_key);
        let mut connection = self.endpoint.connect().await?;
        connection.exchange("POST", path, &[("authorization", &bearer)], body).await
    }

    /// Confirms a revision on behalf of a stream.
    pub async fn ack(&self, connection: &mut Connection, watch: &Watch, ack: &Ack) -> io::Result<StatusCode> {
        let bearer = format!("Bearer {}", self.api_key);
        let headers = [
            ("authorization", bearer.as_str()),
            (enclave::PUBLIC_KEY, &watch.public_key),
            ("content-type", "application/json"),
        ];
        let body = serde_json::to_vec(ack).map_err(io::Error::other)?;
        Ok(connection.exchange("POST", "/v1/enclave/ack", &headers, body).await?.0)
    }
}

fn opener(private: &PrivateKey, hello: &Hello) -> Opener {
    let encapsulated = URL_SAFE_NO_PAD.decode(&hello.encapsulated_key).unwrap();
    let encapsulated = Deserializable::from_bytes(&encapsulated).unwrap();
    hpke::setup_receiver(&OpModeR::Base, private, &encapsulated, SEAL_INFO).unwrap()
}

struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    read: usize,
}

impl Lines {
    async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(end) = self.buffer.iter().skip(self.read).position(|byte| *byte == b'\n') {
                let line = &self.buffer[self.read..self.read + end];
                let frame = serde_json::from_slice(line).map_err(io::Error::other)?;
                self.read += end + 1;
                return Ok(Some(frame));
            }
            self.buffer.drain(..self.read);
            self.read = 0;
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let data = frame.map_err(io::Error::other)?.into_data();
                    self.buffer.extend_from_slice(&data.unwrap_or_default());
                }
            }
        }
    }
}

/// A stream.
pub struct Watch {
    /// How it began.
    pub hello: Hello,
    /// What names the stream.
    pub public_key: String,
    lines: Lines,
    opener: Opener,
    _connection: Connection,
}

impl Watch {
    /// The next frame; none at the end.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        self.lines.next().await
    }

    /// The value of a sealed secret. They must be opened in the order in which they come.
    pub fn open(&mut self, secret: &SealedSecret) -> Result<Vec<u8>, hpke::HpkeError> {
        let Hello { organisation, enclave, .. } = &self.hello;
        let aad = seal_aad(organisation, enclave, secret.agent.as_ref(), &secret.name, secret.revision);
        self.opener.open(&URL_SAFE_NO_PAD.decode(&secret.sealed).unwrap(), &aad)
    }

    /// Reads commits until a revision is in force.
    pub async fn until(&mut self, state: &mut State, revision: u64) {
        while state.revision < Some(revision) {
            let commit = tokio::time::timeout(PATIENCE, self.commit(state)).await;
            commit.unwrap_or_else(|_| panic!("revision {revision} does not come")).unwrap();
        }
    }

    /// Reads up to the next commit and brings a broker's state up to date; heartbeats are passed over.
    pub async fn commit(&mut self, state: &mut State) -> io::Result<u64> {
        if state.revision.is_none() && self.hello.mode == Mode::Resume {
            return Err(io::Error::other("there is nothing to resume"));
        }
        let mut next =
            if self.hello.mode == Mode::Snapshot && !state.begun { State::default() } else { state.clone() };
        next.begun = true;
        while let Some(frame) = self.next().await? {
            if let Frame::Commit { revision, mark } = frame {
                let backwards = next.revision.is_some_and(|known| revision < known);
                assert!(!backwards, "{revision} is older than {:?}", next.revision);
                assert!(
                    next.sealed_for.is_none_or(|sealed| sealed == revision),
                    "sealed for another revision"
                );
                next.sealed_for = None;
                (next.revision, next.mark) = (Some(revision), mark);
                *state = next;
                return Ok(revision);
            }
            self.apply(&mut next, frame);
        }
        Err(io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    fn apply(&mut self, state: &mut State, frame: Frame) {
        match frame {
            Frame::Agent(document) => {
                state.forget(&document.agent);
                state.agents.insert(document.agent.clone(), document);
            }
            Frame::AgentGone { agent } => {
                state.forget(&agent);
                state.agents.remove(&agent);
            }
            Frame::Secret(secret) => {
                state.sealed_for = Some(secret.revision);
                let value = self.open(&secret).expect("a value that does not open");
                state.secrets.insert((secret.agent.clone(), secret.name.clone()), (value, secret));
            }
            Frame::SecretGone { agent, name } => {
                state.unavailable.retain(|known| *known != (agent.clone(), name.clone()));
                state.secrets.remove(&(agent, name));
            }
            Frame::SecretUnavailable { agent, name } => {
                state.secrets.remove(&(agent.clone(), name.clone()));
                state.unavailable.push((agent, name));
            }
            Frame::Hello(_) | Frame::Commit { .. } | Frame::Heartbeat { .. } | Frame::Unknown => {}
        }
    }
}

/// What a broker has in force.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The revision of the last commit.
    pub revision: Option<u64>,
    /// By what it is told from another one of that number.
    pub mark: Option<u64>,
    /// Agents by name.
    pub agents: BTreeMap<AgentName, AgentDocument>,
    /// Values and what came with them.
    pub secrets: BTreeMap<(Option<AgentName>, SecretName), (Vec<u8>, SealedSecret)>,
    /// What the control plane cannot read.
    pub unavailable: Vec<(Option<AgentName>, SecretName)>,
    begun: bool,
    sealed_for: Option<u64>,
}

impl State {
    /// To be used with another stream: a snapshot replaces all of it.
    #[must_use]
    pub fn reconnected(mut self) -> Self {
        self.begun = false;
        self
    }

    /// The value of an agent's secret, or of one of the organisation.
    pub fn value(&self, agent: Option<&str>, name: &str) -> Option<&[u8]> {
        let key = (agent.map(|agent| agent.parse().unwrap()), name.parse().unwrap());
        self.secrets.get(&key).map(|(value, _)| value.as_slice())
    }

    fn forget(&mut self, agent: &AgentName) {
        self.secrets.retain(|(owner, _), _| owner.as_ref() != Some(agent));
        self.unavailable.retain(|(owner, _)| owner.as_ref() != Some(agent));
    }
}
