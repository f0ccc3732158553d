//! An HTTP server that answers each connection as it is told, right or wrong.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dvx_proto::RemoteUrl;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::{GitLab, Guard, Transport};

/// What a connection gets for its request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// These bytes, and the end.
    Bytes(Vec<u8>),
    /// Nothing, but the connection stays.
    Hang,
    /// The end.
    Close,
    /// A head, and then bytes without end.
    Flood(Vec<u8>),
}

/// A server on a free port of 127.0.0.1 that ends when it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

/// An answer with a JSON body.
pub(crate) fn json(status: u16, body: &str) -> Reply {
    reply(status, "content-type: application/json\r\n", body)
}

/// An answer with these headers, each with its line end.
pub(crate) fn reply(status: u16, headers: &str, body: &str) -> Reply {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} Some Words\r\nx-request-id: 01REQ\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    Reply::Bytes(text.into_bytes())
}

impl Server {
    /// Answers the first connection with the first reply and so on; further ones get the last.
    pub(crate) async fn start(replies: Vec<Reply>) -> Self {
        Self::with_tls(replies, None).await
    }

    /// As [`start`](Self::start), over TLS, with a certificate for `name`. Also gives the certificate as PEM.
    pub(crate) async fn start_tls(name: &str, replies: Vec<Reply>) -> (Self, String) {
        let certified = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
        let server = Self::with_tls(replies, Some(TlsAcceptor::from(Arc::new(config)))).await;
        let text = STANDARD.encode(certified.cert.der());
        (server, format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"))
    }

    async fn with_tls(replies: Vec<Reply>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let task = tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let reply = replies.get(number).or(replies.last()).unwrap().clone();
                let (seen, tls) = (seen.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, reply, &seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, reply, &seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, requests, task }
    }

    /// The requests so far, head and body.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Method, target and body of each request so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        let call = |request: &String| {
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            let line = head.lines().next().unwrap().strip_suffix(" HTTP/1.1").unwrap();
            format!("{line} {body}").trim_end().to_owned()
        };
        self.requests().iter().map(call).collect()
    }

    /// A client of this server.
    pub(crate) fn gitlab(&self) -> GitLab {
        GitLab::new(transport(), self.url())
    }

    pub(crate) fn url(&self) -> RemoteUrl {
        format!("http://127.0.0.1:{}", self.port).parse().unwrap()
    }
}

/// A transport that may go to loopback.
pub(crate) fn transport() -> Transport {
    Transport::new(Guard::default().with_loopback(), None).unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: Reply, seen: &Mutex<Vec<String>>) {
    let mut request = Vec::new();
    while !is_complete(&request) {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
    }
    seen.lock().unwrap().push(String::from_utf8(request).unwrap());
    // A client that has enough closes, which is an error here and none of the test's business.
    let _end: std::io::Result<()> = async {
        match reply {
            Reply::Bytes(bytes) => stream.write_all(&bytes).await?,
            Reply::Hang => std::future::pending().await,
            Reply::Close => {}
            Reply::Flood(head) => {
                stream.write_all(&head).await?;
                loop {
                    stream.write_all(&[b'x'; 4096]).await?;
                }
            }
        }
        stream.shutdown().await
    }
    .await;
}

fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}
