//! Sockets: how they are made, and how connections are let in.

pub(crate) mod bind;
mod connection;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
pub(crate) mod gate;
mod guard;
mod progress;
mod queue;
mod stream;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use dvx_proto::agent::Transport;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

use self::gate::{Admission, Full, Gate};
use self::progress::Sweeper;
use self::queue::Queue;
use self::stream::Stream;
use crate::api::problem::too_many_connections;
use crate::api::{Api, Peer};
use crate::clock;
use crate::peer::unix::Connector;
use crate::peer::{self, PeerContext, owner};
use crate::ticks::Ticks;

/// How long accepting pauses when the machine has nothing left to accept with. A tenth of a second is
/// nothing to a client in the queue and saves a core that would otherwise spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Refused connections that may linger at a time until their client has read why.
const LINGERING: usize = 64;
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 64 * 1024;

/// Lets connections in and has them served until told to stop.
#[derive(Clone)]
pub(crate) struct Listener {
    api: Arc<Api>,
    gate: Gate,
    peers: Arc<PeerContext>,
    /// True once the broker is going down.
    stopping: watch::Receiver<bool>,
    lingering: Arc<Semaphore>,
    sweeper: Sweeper,
}

impl Listener {
    /// Must be called within the runtime, on which it starts the task that ends slow connections.
    pub(crate) fn new(
        api: Arc<Api>,
        gate: Gate,
        peers: Arc<PeerContext>,
        stopping: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let sweeper = Sweeper::default();
        let ticks = Ticks::every(progress::INTERVAL)?;
        tokio::spawn(sweeper.clone().run(ticks, stopping.clone()));
        Ok(Self { api, gate, peers, stopping, lingering: Arc::new(Semaphore::new(LINGERING)), sweeper })
    }

    /// Serves a Unix socket until the broker stops, then waits for the requests in flight.
    pub(crate) async fn serve_unix(self, socket: UnixListener) -> io::Result<()> {
        let queue = Queue::new(socket)?;
        let connections = Connections::new();
        let mut stopping = self.stopping.clone();
        while let Some(stream) = accept(&mut stopping, || queue.next()).await? {
            self.welcome_unix(stream, &connections);
        }
        drop(queue);
        connections.ended().await;
        Ok(())
    }

    /// Serves loopback TCP in the same way.
    pub(crate) async fn serve_tcp(self, socket: TcpListener) -> io::Result<()> {
        let server = socket.local_addr()?;
        let connections = Connections::new();
        let mut stopping = self.stopping.clone();
        while let Some((stream, client)) = accept(&mut stopping, || socket.accept()).await? {
            self.welcome_tcp(stream, client, server, &connections);
        }
        drop(socket);
        connections.ended().await;
        Ok(())
    }

    fn welcome_unix(&self, stream: UnixStream, connections: &Connections) {
        let connector = Connector::of(stream.as_fd());
        let uid = connector.as_ref().ok().map(|connector| connector.uid);
        let identify = |socket: BorrowedFd<'_>| {
            let rules = &self.api.settings.load().rules;
            let identity = connector
                .and_then(|connector| connector.identify(socket, &self.peers, rules, clock::monotonic()));
            Peer { transport: Transport::Unix, tcp_port: 0, identity }
        };
        self.welcome::<_, Stream>(stream, uid, identify, connections);
    }

    fn welcome_tcp(
        &self,
        stream: TcpStream,
        client: SocketAddr,
        server: SocketAddr,
        connections: &Connections,
    ) {
        // An answer is one small write; without this it would wait for the acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
        let rules = &self.api.settings.load().rules;
        let identity =
            peer::loopback::identify(stream.as_fd(), client, server, &self.peers, rules, clock::monotonic());
        let peer = Peer { transport: Transport::Tcp, tcp_port: server.port(), identity };
        self.welcome::<_, TcpStream>(stream, peer.uid(), |_| peer, connections);
    }

    /// Serves a connection of this user, or turns it away. A user whom no rule mentions is a stranger. `S` is the
    /// connection as it was accepted, `C` as it is read and written. Who is turned away costs as little as can be,
    /// since others wait behind it: all else that `identify` finds out is asked for only when it counts.
    fn welcome<S, C>(
        &self,
        stream: S,
        uid: Option<u32>,
        identify: impl FnOnce(BorrowedFd<'_>) -> Peer,
        connections: &Connections,
    ) where
        S: AsFd + Into<C> + Send + 'static,
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self.gate.admit(uid.filter(|uid| self.api.settings.load().rules.mentions(*uid))) {
            Ok(admission) => {
                let peer = identify(stream.as_fd());
                self.api.metrics.count_accepted(peer.transport);
                let api = self.api.clone();
                let watched = self.sweeper.watch();
                let open = connections.open.clone();
                tokio::spawn(async move {
                    let _held: (Admission, mpsc::Sender<Infallible>) = (admission, open);
                    let peer = prove(peer, stream.as_fd(), &api).await;
                    connection::serve(stream.into(), peer, api, watched).await;
                });
            }
            Err(full) => self.turn_away::<_, C>(stream, identify, full, connections),
        }
    }

    /// Tells the client why, and gives it a moment to read that. Beyond a few at a time there is no moment: the
    /// answer is still in the socket for a client that reads, whatever becomes of what it writes.
    fn turn_away<S, C>(
        &self,
        stream: S,
        identify: impl FnOnce(BorrowedFd<'_>) -> Peer,
        full: Full,
        connections: &Connections,
    ) where
        S: AsFd + Into<C> + Send + 'static,
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (detail, reason) = match full {
            Full::User => ("this user has as many connections as it may have", "connections of this uid"),
            Full::Strangers => (
                "users without an agent have as many connections as they may have",
                "connections of users without an agent",
            ),
            Full::Broker => ("the broker has as many connections as it may have", "connections in all"),
        };
        self.api.metrics.count_refused();
        self.api.note_turned_away(|| identify(stream.as_fd()), reason);
        // Straight to the system: the runtime does not know yet that a new socket can be written to. There is
        // always room for this in one.
        if let Err(error) = rustix::io::write(stream.as_fd(), &too_many_connections(detail)) {
            tracing::debug!(%error, "a client that is turned away is gone already");
            return;
        }
        let Ok(place) = self.lingering.clone().try_acquire_owned() else { return };
        let mut stream: C = stream.into();
        let open = connections.open.clone();
        tokio::spawn(async move {
            let _ended: Result<io::Result<()>, _> =
                tokio::time::timeout(LINGER_TIME, farewell(&mut stream)).await;
            drop((place, open));
        });
    }
}

/// Looks at the peer's processes where a rule asks for what only they can show. That takes milliseconds, so it
/// happens beside the serving thread.
async fn prove(peer: Peer, socket: BorrowedFd<'_>, api: &Api) -> Peer {
    let facts = match &peer.identity {
        Ok(facts) if api.settings.load().rules.needs_owner(facts) => facts.clone(),
        Ok(_) | Err(_) => return peer,
    };
    let unproven = facts.clone();
    let proof = match socket.try_clone_to_owned() {
        Ok(socket) => tokio::task::spawn_blocking(move || owner::prove(facts, socket.as_fd())).await.ok(),
        Err(_) => None,
    };
    // Facts without the proof match no rule that needs it.
    Peer { identity: proof.unwrap_or(Ok(unproven)), ..peer }
}

/// Reads what the client still sends so that closing does not cut the answer off.
async fn farewell(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
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

/// Counts the connections of one listener: each holds a sender, and the channel closes with the last one.
struct Connections {
    open: mpsc::Sender<Infallible>,
    ended: mpsc::Receiver<Infallible>,
}

impl Connections {
    fn new() -> Self {
        let (open, ended) = mpsc::channel(1);
        Self { open, ended }
    }

    /// Until none is left.
    async fn ended(mut self) {
        drop(self.open);
        while self.ended.recv().await.is_some() {}
    }
}

/// The next connection, or none when the broker stops. What goes wrong with one connection ends nothing.
async fn accept<S, F, A>(stopping: &mut watch::Receiver<bool>, next: A) -> io::Result<Option<S>>
where
    A: Fn() -> F,
    F: Future<Output = io::Result<S>>,
{
    loop {
        if *stopping.borrow_and_update() {
            return Ok(None);
        }
        let accepted = tokio::select! {
            biased;
            accepted = next() => accepted,
            told = stopping.changed() => match told {
                Ok(()) => continue,
                Err(_) => return Ok(None),
            },
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
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => AcceptError::Exhausted,
        Some(libc::EBADF | libc::EFAULT | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP) => {
            AcceptError::Socket
        }
        _ => AcceptError::Connection,
    }
}
