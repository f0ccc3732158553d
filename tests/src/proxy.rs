//! Somebody in the middle with a certificate that the broker trusts: sees what TLS protects, and can change it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{Authority, ControlPlane};

mod lines;

use lines::Lines;

/// What becomes of a line of a watch stream: the lines that are sent in its place.
type Change = Box<dyn FnMut(&str) -> Vec<String> + Send>;

/// A proxy between brokers and control planes. It ends with this value.
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    cuts: Option<watch::Sender<u64>>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    targets: Mutex<Vec<SocketAddr>>,
    seen: Mutex<Vec<u8>>,
    change: Mutex<Option<Change>>,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Proxy {
    /// In front of a control plane's replicas: each connection goes to the first that takes it.
    pub fn start(control: &ControlPlane) -> Self {
        Self::to(control.addresses(), &control.authority)
    }

    fn to(targets: Vec<SocketAddr>, authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let state = Arc::new(State {
            targets: Mutex::new(targets),
            seen: Mutex::default(),
            change: Mutex::default(),
            acceptor: TlsAcceptor::from(authority.identity().server()),
            connector: TlsConnector::from(authority.client()),
        });
        let (cuts, cut) = watch::channel(0);
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(accept(listener, &shared, cut));
        });
        Self { address, state, cuts: Some(cuts), thread: Some(thread) }
    }

    /// What brokers connect to.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// From now on new connections go to the first of these that takes them.
    pub fn set_targets(&self, targets: &[SocketAddr]) {
        *self.state.targets.lock().unwrap() = targets.to_vec();
    }

    /// Everything that was sent so far, in both directions, without TLS.
    pub fn seen(&self) -> Vec<u8> {
        self.state.seen.lock().unwrap().clone()
    }

    /// From now on what is said by watch streams passes through this, line by line.
    pub fn change_lines(&self, change: impl FnMut(&str) -> Vec<String> + Send + 'static) {
        *self.state.change.lock().unwrap() = Some(Box::new(change));
    }

    /// From now on lines pass as they are.
    pub fn be_honest(&self) {
        *self.state.change.lock().unwrap() = None;
    }

    /// Ends all connections. New ones are taken.
    pub fn cut(&self) {
        if let Some(cuts) = &self.cuts {
            cuts.send_modify(|count| *count += 1);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cuts = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn accept(listener: TcpListener, state: &Arc<State>, mut cut: watch::Receiver<u64>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            changed = cut.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok((stream, _)) = stream else { continue };
        let state = Arc::clone(state);
        let mut cut = cut.clone();
        tokio::spawn(async move {
            tokio::select! {
                // A connection that fails is closed; the other end sees that.
                ended = serve(stream, &state) => drop(ended),
                changed = cut.changed() => drop(changed),
            }
        });
    }
}

async fn serve(stream: TcpStream, state: &State) -> io::Result<()> {
    let client = state.acceptor.accept(stream).await?;
    let (target, stream) = connect(state).await?;
    let name = ServerName::IpAddress(target.ip().into());
    let server = state.connector.connect(name, stream).await?;
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let watches = AtomicBool::new(false);
    tokio::select! {
        ended = pass_requests(from_client, to_server, state, &watches) => ended,
        ended = pass_answers(from_server, to_client, state, &watches) => ended,
    }
}

async fn connect(state: &State) -> io::Result<(SocketAddr, TcpStream)> {
    let targets = state.targets.lock().unwrap().clone();
    for target in targets {
        if let Ok(stream) = TcpStream::connect(target).await {
            return Ok((target, stream));
        }
    }
    Err(io::ErrorKind::ConnectionRefused.into())
}

async fn pass_requests(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &State,
    watches: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let bytes = &buffer[..count];
        state.seen.lock().unwrap().extend_from_slice(bytes);
        if bytes.starts_with(b"GET /v1/enclave/watch") {
            watches.store(true, Ordering::SeqCst);
        }
        to.write_all(bytes).await?;
        to.flush().await?;
    }
}

async fn pass_answers(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    state: &State,
    watches: &AtomicBool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut lines = Lines::default();
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let bytes = &buffer[..count];
        state.seen.lock().unwrap().extend_from_slice(bytes);
        let changed = if watches.load(Ordering::SeqCst) {
            let mut change = state.change.lock().unwrap();
            lines.pass(bytes, &mut |line| match change.as_mut() {
                Some(change) => change(line),
                None => vec![line.to_owned()],
            })
        } else {
            bytes.to_vec()
        };
        to.write_all(&changed).await?;
        to.flush().await?;
    }
}
