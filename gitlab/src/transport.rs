//! One request over one connection to a checked address.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dvx_proto::Origin;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::guard::{AddressKind, Guard, Refusal};
use resolve::{Resolve, SystemResolver};
pub use tls::InvalidRoots;
use watched::{Stream, Watched};

mod resolve;
mod tls;
mod watched;

/// How long a call may take, with all its attempts and the waits between them.
const LIMIT: Duration = Duration::from_secs(30);

/// How long one address may take to answer before the next one is tried.
const CONNECT_LIMIT: Duration = Duration::from_secs(8);

/// The largest body that is read: a page of a hundred members has less than a tenth.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;

/// The largest head: GitLab's content security policy alone takes some KiB.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Makes connections: knows where they may go and whom to trust. Clones share everything.
#[derive(Clone)]
pub struct Transport {
    guard: Guard,
    resolver: Arc<dyn Resolve>,
    tls: Arc<ClientConfig>,
    limit: Duration,
}

/// A request as it goes over the wire.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) origin: Origin,
    pub(crate) request: Request<Full<Bytes>>,
}

/// An answer that came completely.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Refusal),
    /// The host has no address, or no connection came about.
    Unreachable(io::Error),
    Tls(io::Error),
    /// The connection ended before the answer did.
    Lost,
    /// What came is not HTTP.
    Garbage,
    TooLarge,
}

/// Whether any byte of a request was handed to a connection. It is set before, not after: in doubt it was sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent(Arc<AtomicBool>);

impl Sent {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Transport {
    /// Trusts the system's certificate authorities and those in `extra_roots`, certificates as PEM.
    pub fn new(guard: Guard, extra_roots: Option<&[u8]>) -> Result<Self, InvalidRoots> {
        let tls = Arc::new(tls::client_config(extra_roots)?);
        Ok(Self { guard, resolver: Arc::new(SystemResolver), tls, limit: LIMIT })
    }

    /// Gives each call at most `limit`, if that is less than the 30 seconds it has anyway.
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit: limit.min(LIMIT), ..self }
    }

    #[cfg(test)]
    pub(crate) fn with_resolver(self, resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, ..self }
    }

    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// A number from 0 to 1, for waits that must not coincide with other people's.
    pub(crate) fn random(&self) -> f64 {
        let mut bytes = [0; 4];
        match self.tls.crypto_provider().secure_random.fill(&mut bytes) {
            Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
            Err(_) => 0.5,
        }
    }

    /// Sends one request over a connection of its own and reads the whole answer.
    ///
    /// A connection is not used twice: calls are rare, and so it is always known whether a request was sent.
    pub(crate) async fn exchange(&self, outgoing: Outgoing, sent: &Sent) -> Result<Answer, Failure> {
        let (host, _) = outgoing.origin.host_and_port();
        let tcp = self.connect(&outgoing.origin).await?;
        let stream: Box<dyn Stream> = if outgoing.origin.is_https() {
            let name = ServerName::try_from(host.to_owned())
                .map_err(|error| Failure::Tls(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
            Box::new(
                TlsConnector::from(self.tls.clone()).connect(name, tcp).await.map_err(handshake_failure)?,
            )
        } else {
            Box::new(tcp)
        };
        converse(Watched::new(stream, sent.clone()), outgoing.request).await
    }

    /// Looks the host up once, checks every address, and connects to the first of these that answers.
    async fn connect(&self, origin: &Origin) -> Result<TcpStream, Failure> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in self.addresses(origin).await? {
            failure = match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Without this a request in two writes may wait for an acknowledgement.
                    stream.set_nodelay(true).map_err(Failure::Unreachable)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => error,
                Err(_) => io::Error::new(io::ErrorKind::TimedOut, "no connection in time"),
            };
        }
        Err(Failure::Unreachable(failure))
    }

    /// The addresses of the host. One that is refused refuses the host: a name that has an address inside and
    /// one outside is somebody's trick.
    async fn addresses(&self, origin: &Origin) -> Result<Vec<SocketAddr>, Failure> {
        let (host, port) = origin.host_and_port();
        Guard::check_host(host).map_err(Failure::Refused)?;
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.resolver.resolve(host, port).await.map_err(Failure::Unreachable)?,
        };
        for address in &addresses {
            self.guard.check(host, *address).map_err(Failure::Refused)?;
            if !origin.is_https() && AddressKind::of(address.ip()) != AddressKind::Loopback {
                let (host, address) = (host.to_owned(), address.ip());
                return Err(Failure::Refused(Refusal::Insecure { host, address }));
            }
        }
        Ok(addresses)
    }
}

/// A handshake that failed because of what the other end sent, or because the connection ended.
fn handshake_failure(error: io::Error) -> Failure {
    if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        Failure::Tls(error)
    } else {
        Failure::Unreachable(error)
    }
}

/// What hyper says in many words is one of two things.
fn failure_of(error: hyper::Error) -> Failure {
    tracing::debug!(error = %Chain(&error), "the exchange failed");
    if error.is_parse() { Failure::Garbage } else { Failure::Lost }
}

/// An error with its causes.
struct Chain<'a>(&'a hyper::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        let mut source = std::error::Error::source(self.0);
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Runs the connection only as long as somebody waits for its answer: whoever drops this closes it.
async fn converse(stream: Watched, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD_BYTES);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failure_of)?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(failure_of)?;
        let (head, body) = response.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: read(body).await? })
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        // What went wrong on the connection, the exchange says too; what was read can still be taken from it.
        _ = &mut connection => exchange.await,
    }
}

async fn read(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // Enough for every answer with a token, so that none moves while it grows and leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(failure_of)?.into_data() else { continue };
        if bytes.len() + data.len() > MAX_BODY_BYTES {
            return Err(Failure::TooLarge);
        }
        append(&mut bytes, &data);
    }
    Ok(bytes)
}

/// Appends without leaving the old bytes behind when the buffer has to move.
fn append(bytes: &mut Zeroizing<Vec<u8>>, data: &[u8]) {
    let length = bytes.len() + data.len();
    if length > bytes.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(length * 2));
        larger.extend_from_slice(bytes);
        *bytes = larger;
    }
    bytes.extend_from_slice(data);
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("guard", &self.guard)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
