//! Connections to the control plane.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dvx_memory::Arena;
use dvx_proto::ControlAddress;
use dvx_proto::enclave::{MAX_STALE, PUBLIC_KEY};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::error::Trouble;
use super::keyed::{Key, Keyed};
use crate::config::ControlConfig;

/// How long one address may take to accept a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(4);

/// How long a connection may take in all, and then the head of its first answer.
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// The longest answer to a POST.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Of a connection, in either direction.
const BUFFER_BYTES: usize = 64 * 1024;

/// Who may serve the control plane's socket besides root and the broker's own user.
const CONTROL_USER: &str = "DVX_CONTROL_USER";
const DEFAULT_CONTROL_USER: &str = "dvx-control";

/// How to reach the control plane.
pub(super) struct Endpoint {
    address: ControlAddress,
    key: Key,
    tls: TlsConnector,
}

/// A connection. It ends when this is dropped.
pub(super) struct Connection {
    requests: SendRequest<Full<Bytes>>,
    _driver: Driver,
}

/// Ends the task with it.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection for one request after another.
pub(super) struct Channel {
    endpoint: Arc<Endpoint>,
    /// The public key of the stream that this belongs to, by which the control plane knows it.
    session: HeaderValue,
    kept: Option<Connection>,
}

trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

impl Endpoint {
    /// Reads the system's certificates, so it has to happen while that can be done.
    pub(super) fn new(config: &ControlConfig, arena: &Arena) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        if let ControlAddress::Https { .. } = config.url {
            let system = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(system.certs);
            // Those were looked at when the configuration was read.
            roots.add_parsable_certificates(config.roots.iter().cloned());
            if roots.is_empty() {
                tracing::warn!("the system has no certificates to trust, and upstream.ca_file is not given");
            }
        }
        let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        // A connection lasts for as long as it can, so there is little to resume.
        tls.resumption = rustls::client::Resumption::disabled();
        let key = Key::new(&config.api_key, arena)?;
        Ok(Self { address: config.url.clone(), key, tls: Arc::new(tls).into() })
    }

    /// Where it leads to, for logs.
    pub(super) fn address(&self) -> &ControlAddress {
        &self.address
    }

    async fn connect(&self) -> Result<Connection, Trouble> {
        let transport: Box<dyn Transport> = match &self.address {
            ControlAddress::Unix(path) => Box::new(connect_unix(path).await?),
            ControlAddress::Https { host, port } => {
                let name = ServerName::try_from(host.clone())
                    .map_err(|error| Trouble::Tls(io::Error::other(error)))?;
                let stream = connect_tcp(host, *port).await.map_err(Trouble::Connect)?;
                Box::new(self.tls.connect(name, stream).await.map_err(Trouble::of_tls)?)
            }
        };
        let transport = TokioIo::new(Keyed::new(transport, self.key.clone()));
        let (requests, connection) =
            http1::Builder::new().max_buf_size(BUFFER_BYTES).handshake(transport).await?;
        let driver = tokio::spawn(async move {
            // What is wrong with it shows in its requests.
            let _ended: Result<(), hyper::Error> = connection.await;
        });
        Ok(Connection { requests, _driver: Driver(driver.abort_handle()) })
    }

    /// Opens the stream of changes after this revision.
    pub(super) async fn watch(
        &self,
        public_key: &str,
        revision: Option<(u64, Option<u64>)>,
        max_stale: Duration,
    ) -> Result<(Connection, Incoming), Trouble> {
        let path = match revision {
            Some((revision, Some(mark))) => format!("/v1/enclave/watch?revision={revision}&mark={mark}"),
            Some((revision, None)) => format!("/v1/enclave/watch?revision={revision}"),
            None => "/v1/enclave/watch".to_owned(),
        };
        let mut request = self.request(Method::GET, &path, &header(public_key), Bytes::new());
        request.headers_mut().insert(MAX_STALE, HeaderValue::from(max_stale.as_secs()));
        let opened = async {
            let mut connection = self.connect().await?;
            let answer = connection.requests.send_request(request).await?;
            Ok((connection, accepted(answer)?.into_body()))
        };
        tokio::time::timeout(ANSWER_WAIT, opened).await.unwrap_or(Err(Trouble::Slow))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        session: &HeaderValue,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        // Paths are ours, and what stands in them is escaped.
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(HOST, header(&self.address.authority()));
        headers.insert(AUTHORIZATION, header(&format!("Bearer {}", self.key.placeholder())));
        headers.insert(PUBLIC_KEY, session.clone());
        request
    }
}

impl Channel {
    pub(super) fn new(endpoint: Arc<Endpoint>, session: &str) -> Self {
        Self { endpoint, session: header(session), kept: None }
    }

    /// Sends a body and returns the answer's, if there was one that means yes. What is sent this way may arrive
    /// twice: a connection that was kept may have ended unnoticed.
    pub(super) async fn post(
        &mut self,
        path: &str,
        content_type: &'static str,
        body: Bytes,
        wait: Duration,
    ) -> Result<Bytes, Trouble> {
        let kept = self.kept.is_some();
        let sent = match tokio::time::timeout(wait, self.try_post(path, content_type, body.clone())).await {
            Ok(Err(Trouble::Http(_))) if kept => {
                self.kept = None;
                tokio::time::timeout(wait, self.try_post(path, content_type, body)).await
            }
            sent => sent,
        };
        let answer = sent.unwrap_or(Err(Trouble::Slow));
        if answer.is_err() {
            self.kept = None;
        }
        answer
    }

    async fn try_post(
        &mut self,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Bytes, Trouble> {
        let mut request = self.endpoint.request(Method::POST, path, &self.session, body);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let mut connection = match self.kept.take() {
            Some(kept) if !kept.requests.is_closed() => kept,
            Some(_) | None => self.endpoint.connect().await?,
        };
        connection.requests.ready().await?;
        let answer = accepted(connection.requests.send_request(request).await?)?;
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => Trouble::Http(*error),
            Err(_) => Trouble::Long,
        })?;
        self.kept = Some(connection);
        Ok(body.to_bytes())
    }
}

/// An answer that means yes.
fn accepted(answer: Response<Incoming>) -> Result<Response<Incoming>, Trouble> {
    let status = answer.status();
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Trouble::Key(status.as_u16())),
        _ if status.is_success() => Ok(answer),
        _ if status.is_redirection() => Err(Trouble::Redirect(status.as_u16())),
        _ => Err(Trouble::Status(status.as_u16())),
    }
}

fn header(text: &str) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Each address gets its time, so that one that leads nowhere does not use up that of the others.
async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port)).await? {
        match tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

/// The key is shown to nobody who merely sits at the path.
async fn connect_unix(path: &Path) -> Result<UnixStream, Trouble> {
    let stream = UnixStream::connect(path).await.map_err(Trouble::Connect)?;
    // Of the process that called listen(2) (unix(7), SO_PEERCRED).
    let server = stream.peer_cred().map_err(Trouble::Connect)?.uid();
    let own = rustix::process::geteuid().as_raw();
    if server == 0 || server == own || Some(server) == control_user() {
        Ok(stream)
    } else {
        Err(Trouble::Stranger(server))
    }
}

fn control_user() -> Option<u32> {
    let named = std::env::var(CONTROL_USER).ok().filter(|name| !name.is_empty());
    let name = named.as_deref().unwrap_or(DEFAULT_CONTROL_USER);
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    nix::unistd::User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}
