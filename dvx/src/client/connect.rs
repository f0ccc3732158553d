//! Connections to a control plane that has proven who it is.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dvx_proto::ControlAddress;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

use super::trust::Trust;
use super::{ClientError, Sender};

/// How long a connection may take until it can be used.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// How often a Unix socket is tried whose queue of new connections is full.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);

/// The longest head of an answer.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Makes connections.
pub(super) struct Connector {
    address: ControlAddress,
    trust: Trust,
    tls: Option<TlsConnector>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connector {
    pub(super) fn new(
        address: ControlAddress,
        control_user: OsString,
        ca_file: Option<&Path>,
    ) -> Result<Self, ClientError> {
        let tls = match address {
            ControlAddress::Unix(_) => None,
            ControlAddress::Https { .. } => Some(TlsConnector::from(Arc::new(configuration(ca_file)?))),
        };
        Ok(Self { address, trust: Trust::new(control_user), tls })
    }

    pub(super) fn address(&self) -> &ControlAddress {
        &self.address
    }

    /// A connection on which a request can be sent.
    pub(super) async fn connect(&self) -> Result<Sender, ClientError> {
        let opened = timeout(CONNECT_PATIENCE, self.open()).await;
        let stream = opened.unwrap_or_else(|_| Err(self.failed(ErrorKind::TimedOut.into())))?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD_BYTES);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) =
            handshake.map_err(|source| ClientError::Exchange { address: self.address.clone(), source })?;
        // What goes wrong on it is told to whoever waits for an answer.
        tokio::spawn(async move { connection.await.ok() });
        Ok(sender)
    }

    async fn open(&self) -> Result<Box<dyn Stream>, ClientError> {
        match &self.address {
            ControlAddress::Unix(path) => Ok(Box::new(self.open_unix(path).await?)),
            ControlAddress::Https { host, port } => self.open_tls(host, *port).await,
        }
    }

    async fn open_unix(&self, path: &Path) -> Result<UnixStream, ClientError> {
        let stream = loop {
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(QUEUE_PAUSE).await,
                result => break result.map_err(|error| self.failed(error))?,
            }
        };
        // A socket's path says nothing, since whoever may write its directory can put a socket there.
        let server = stream.peer_cred().map_err(|error| self.failed(error))?;
        if self.trust.covers(server.uid()) {
            return Ok(stream);
        }
        let user = self.trust.user().to_string_lossy().into_owned();
        Err(ClientError::Untrusted { path: path.to_path_buf(), uid: server.uid(), user })
    }

    async fn open_tls(&self, host: &str, port: u16) -> Result<Box<dyn Stream>, ClientError> {
        let Some(tls) = &self.tls else { return Err(ClientError::Unspeakable) };
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ClientError::Unspeakable)?;
        let stream = TcpStream::connect((host, port)).await.map_err(|error| self.failed(error))?;
        stream.set_nodelay(true).map_err(|error| self.failed(error))?;
        let secured = tls.connect(name, stream).await.map_err(|error| self.tls_failed(error))?;
        Ok(Box::new(secured))
    }

    fn tls_failed(&self, error: io::Error) -> ClientError {
        let address = self.address.clone();
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(why)) => match date(why) {
                Some(why) => ClientError::Dated { address, why },
                None => ClientError::Certificate { address, why: refusal(why) },
            },
            _ => ClientError::Tls { address, source: error },
        }
    }

    fn failed(&self, source: io::Error) -> ClientError {
        ClientError::Connect { address: self.address.clone(), source }
    }
}

/// Why a certificate is refused that is of another time than this.
fn date(why: &CertificateError) -> Option<String> {
    let text = |time: &UnixTime| {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    };
    match why {
        CertificateError::ExpiredContext { not_after, .. } => {
            Some(format!("it expired at {}", text(not_after)))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            Some(format!("it is not valid before {}", text(not_before)))
        }
        _ => None,
    }
}

/// Why a certificate is refused. What rustls has no words for comes as the name of a type.
fn refusal(why: &CertificateError) -> String {
    let text = why.to_string();
    // What `openssl req -x509` makes unless told otherwise.
    if text.contains("CaUsedAsEndEntity") {
        return "it is an authority's own (CA:TRUE), which a server's must not be".to_owned();
    }
    text
}

/// TLS with the system's certificates and those of a file.
fn configuration(ca_file: Option<&Path>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    // A broken certificate among the system's is no reason not to use the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let unusable = |why: String| ClientError::CaFile { path: path.to_path_buf(), why };
        let unreadable = |error: rustls::pki_types::pem::Error| match error {
            rustls::pki_types::pem::Error::Io(error) => unusable(crate::failure::cause(&error)),
            other => unusable(other.to_string()),
        };
        let before = roots.len();
        for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
            let added = roots.add(certificate.map_err(unreadable)?);
            added.map_err(|error| unusable(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(unusable("it has no certificate in PEM form".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut configuration =
        versions.map_err(|_| ClientError::Unspeakable)?.with_root_certificates(roots).with_no_client_auth();
    configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(configuration)
}
