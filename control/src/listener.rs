//! Sockets: how they are made, and how connections are let in.

pub(crate) mod bind;
mod connection;
pub(crate) mod gate;
mod guard;
mod progress;
pub(crate) mod tls;
mod wiped;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use self::gate::{Admission, Full, Gate};
use self::progress::Sweeper;
use self::wiped::Wiped;
use crate::clock;
use crate::http::error::too_many_connections;
use crate::http::{Peer, Service};

/// How long accepting pauses when the machine has nothing left to accept with. A tenth of a second is
/// nothing to a client in the queue and saves a core that would otherwise spin.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A handshake is two round trips.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// Refused connections that may linger at a time until their client has read why.
const LINGERING: usize = 64;
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;

/// Lets connections in and has them served until told to stop.
#[derive(Clone)]
pub(crate) struct Listener {
    service: Service,
    gate: Gate,
    /// True once the process is going down.
    stopping: watch::Receiver<bool>,
    lingering: Arc<Semaphore>,
    sweeper: Sweeper,
}

impl Listener {
    /// Must be called within the runtime, on which it starts the task that ends slow connections.
    pub(crate) fn new(service: Service, gate: Gate, stopping: watch::Receiver<bool>) -> Self {
        let sweeper = Sweeper::default();
        tokio::spawn(sweeper.clone().run(stopping.clone()));
        Self { service, gate, stopping, lingering: Arc::new(Semaphore::new(LINGERING)), sweeper }
    }

    /// Serves a Unix socket until told to stop, then waits for the requests in flight.
    pub(crate) async fn serve_unix(self, socket: UnixListener) -> io::Result<()> {
        let mut tasks = JoinSet::new();
        let mut stopping = self.stopping.clone();
        while let Some((stream, _)) = accept(&mut stopping, &mut tasks, || socket.accept()).await? {
            self.welcome_unix(stream, &mut tasks);
        }
        drop(socket);
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    /// Serves TLS in the same way, each connection with what is the configuration then.
    pub(crate) async fn serve_tls(
        self,
        socket: TcpListener,
        config: watch::Receiver<Option<Arc<ServerConfig>>>,
    ) -> io::Result<()> {
        let mut tasks = JoinSet::new();
        let mut stopping = self.stopping.clone();
        while let Some((stream, client)) = accept(&mut stopping, &mut tasks, || socket.accept()).await? {
            let Some(config) = config.borrow().clone() else { continue };
            let acceptor = TlsAcceptor::from(config);
            self.welcome_tls(stream, client, acceptor, &mut tasks);
        }
        drop(socket);
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    fn welcome_unix(&self, stream: UnixStream, tasks: &mut JoinSet<()>) {
        let peer = match stream.peer_cred() {
            Ok(credentials) => Peer::Unix { uid: credentials.uid(), pid: credentials.pid() },
            Err(error) => {
                tracing::warn!(%error, "a peer's credentials cannot be read; the connection is closed");
                return;
            }
        };
        let admission = match self.gate.admit(peer.key()) {
            Ok(admission) => admission,
            Err(full) => return self.turn_away(stream, &peer, full, tasks),
        };
        let listener = self.clone();
        tasks.spawn(async move { listener.serve(stream, peer, admission).await });
    }

    fn welcome_tls(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        acceptor: TlsAcceptor,
        tasks: &mut JoinSet<()>,
    ) {
        let peer = Peer::Tcp(SocketAddr::new(client.ip().to_canonical(), client.port()));
        // Without TLS there is no way to say why.
        let admission = match self.gate.admit(peer.key()) {
            Ok(admission) => admission,
            Err(full) => return self.note_turned_away(&peer, full),
        };
        // An answer is one small write; without this it would wait for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let listener = self.clone();
        tasks.spawn(async move {
            let mut stopping = listener.stopping.clone();
            let shaken = tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                shaken = tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(Wiped::new(stream))) => shaken,
            };
            match shaken {
                // Boxed: the room that the handshake needed is not kept as well.
                Ok(Ok(stream)) => Box::pin(listener.serve(stream, peer, admission)).await,
                Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
            }
        });
    }

    async fn serve<S>(self, stream: S, peer: Peer, admission: Admission)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.service.metrics().count_accepted(&peer);
        let watched = self.sweeper.watch(clock::monotonic());
        connection::serve(stream, peer, self.service, &watched, &self.stopping).await;
        drop(admission);
    }

    fn note_turned_away(&self, peer: &Peer, full: Full) {
        self.service.metrics().count_refused();
        // At debug level: whoever is turned away can be so as often as it likes.
        tracing::debug!(%peer, ?full, "a connection is turned away");
    }

    /// Tells the client why, and gives it a moment to read that. Beyond a few at a time there is no moment: the
    /// answer is still in the socket for a client that reads, whatever becomes of what it writes.
    fn turn_away(&self, mut stream: UnixStream, peer: &Peer, full: Full, tasks: &mut JoinSet<()>) {
        let detail = match full {
            Full::Peer => "this user has as many connections as it may have",
            Full::All => "the control plane has as many connections as it may have",
        };
        self.note_turned_away(peer, full);
        // Straight to the system: the runtime does not know yet that a new socket can be written to. There is
        // always room for this in one.
        if let Err(error) = rustix::io::write(&stream, &too_many_connections(detail)) {
            tracing::debug!(%error, "a client that is turned away is gone already");
            return;
        }
        let Ok(place) = self.lingering.clone().try_acquire_owned() else { return };
        tasks.spawn(async move {
            let _ended: Result<io::Result<()>, _> =
                tokio::time::timeout(LINGER_TIME, farewell(&mut stream)).await;
            drop(place);
        });
    }
}

/// Reads what the client still sends so that closing does not cut the answer off.
async fn farewell(stream: &mut UnixStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut taken = 0;
    let mut scrap = [0; 4096];
    while taken < LINGER_BYTES {
        match stream.read(&mut scrap).await? {
            0 => break,
            count => taken += count,
        }
    }
    Ok(())
}

/// The next connection, or none when told to stop. What goes wrong with one connection ends nothing.
pub(crate) async fn accept<S, F, A>(
    stopping: &mut watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
    next: A,
) -> io::Result<Option<S>>
where
    A: Fn() -> F,
    F: Future<Output = io::Result<S>>,
{
    loop {
        // Ended connections are taken off the set here, so that it does not grow.
        while tasks.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(None),
            accepted = next() => accepted,
        };
        match accepted {
            Ok(stream) => return Ok(Some(stream)),
            Err(error) => match verdict(&error) {
                AcceptError::Connection => {
                    tracing::debug!(%error, "a connection ended before it was accepted")
                }
                AcceptError::Exhausted => {
                    tracing::warn!(%error, "cannot accept connections for lack of resources, waiting");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                AcceptError::Socket => return Err(error),
            },
        }
    }
}

enum AcceptError {
    /// This one connection is gone.
    Connection,
    /// Out of descriptors or memory, which may pass.
    Exhausted,
    /// The listening socket itself is unusable.
    Socket,
}

/// Sorts the errors of accept(2).
fn verdict(error: &io::Error) -> AcceptError {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => AcceptError::Exhausted,
        Some(Errno::EBADF | Errno::EFAULT | Errno::EINVAL | Errno::ENOTSOCK | Errno::EOPNOTSUPP) => {
            AcceptError::Socket
        }
        _ => AcceptError::Connection,
    }
}
