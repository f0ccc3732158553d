//! From a configuration to a running control plane, and down again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dvx_gitlab::{Guard, Transport};
use dvx_memory::{Arena, MemoryError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ServerConfig;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{self, View};
use crate::app::App;
use crate::config::{Config, Https, TlsFiles};
use crate::crypto::{Kek, KekError};
use crate::http::Service;
use crate::hub::Hub;
use crate::integrations::Integrations;
use crate::listener::Listener;
use crate::listener::bind::{BindError, Sockets};
use crate::listener::gate::{ConnectionLimits, Gate};
use crate::listener::tls::{self, TlsError};
use crate::metrics::Metrics;
use crate::store::{Store, StoreError};
use crate::{api, clock, jobs, sandbox, systemd};

/// How long requests in flight may take once the process is told to stop.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// The most connections there can be, where descriptors suffice: thousands of brokers, each with a stream and
/// now and then another connection, also when all of them come through one gateway.
const MAX_CONNECTIONS: u32 = 16_384;

/// Descriptors for everything but connections: the database, files, listeners.
const OTHER_DESCRIPTORS: u32 = 128;

/// Why the control plane did not start, or stopped without being told to.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error("key-encryption key")]
    Kek(#[from] KekError),
    #[error("memory for keys")]
    Memory(#[from] MemoryError),
    #[error("database")]
    Store(#[from] StoreError),
    #[error("TLS")]
    Tls(#[from] TlsError),
    #[error("sockets")]
    Bind(#[from] BindError),
    #[error("sandbox")]
    Sandbox(#[from] sandbox::SandboxError),
    #[error("metrics")]
    Metrics(#[from] prometheus::Error),
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
    #[error("the certificates of the system")]
    Roots(#[from] dvx_gitlab::InvalidRoots),
    #[error("{0} has ended, and the control plane is no use without it")]
    Essential(&'static str),
}

impl RunError {
    /// Whether it is for the operator of this installation to put right.
    pub(crate) fn is_configuration(&self) -> bool {
        match self {
            Self::Kek(_) | Self::Tls(_) => true,
            Self::Store(error) => error.is_configuration(),
            Self::Memory(_)
            | Self::Bind(_)
            | Self::Sandbox(_)
            | Self::Metrics(_)
            | Self::Io(..)
            | Self::Roots(_)
            | Self::Essential(_) => false,
        }
    }
}

/// Runs until told to stop.
pub(crate) fn run(config: Config) -> Result<(), RunError> {
    let arena = Arena::new(false)?;
    let kek = Kek::read(&config.kek, &arena)?;
    let tls = config.listen.https.as_ref().map(|https| tls::load(&https.files, &arena)).transpose()?;
    tracing::info!(protection = arena.protection().as_str(), "keys are held in protected memory");
    let keys = Keys { arena, kek, tls };
    let gate = Gate::new(limits());
    let sockets = Sockets::open(&config.listen)?;
    sandbox::confine(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Of tokens and values in requests.
        .on_thread_park(dvx_proto::wipe_stack)
        .enable_all()
        .build()
        .map_err(|error| RunError::Io("runtime", error))?;
    let ended = runtime.block_on(serve(config, keys, gate, sockets));
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// What the control plane has that is not in the database, and where it lies.
struct Keys {
    arena: Arena,
    kek: Kek,
    tls: Option<Arc<ServerConfig>>,
}

async fn serve(config: Config, keys: Keys, gate: Gate, sockets: Sockets) -> Result<(), RunError> {
    let Keys { arena, kek, tls } = keys;
    // Holds the socket's name until the very end.
    let _claims = sockets.claims;
    let signals = Signals::new()?;
    let io = |what| move |error| RunError::Io(what, error);
    let store = Store::open(config.database.url(), kek, clock::wall()).await?;
    let (stop, stopping) = watch::channel(false);
    let hub = Hub::new(store.clone());
    let metrics = Metrics::new()?;
    hub.metrics().register(metrics.registry())?;
    let transport = Transport::new(Guard::new(config.allow_private.clone()), None)?;
    let integrations = Integrations::new(store.clone(), transport, Arc::new(clock::wall));
    let app = App::new(store.clone(), hub, integrations, config.clone(), metrics, stopping.clone());

    let mut tasks: Tasks = JoinSet::new();
    let hub_app = app.clone();
    tasks.spawn(async move { ("the hub", hub_app.hub.clone().run(hub_app.stopping.clone()).await) });
    let jobs_app = app.clone();
    tasks.spawn(async move { ("the jobs", jobs::run(jobs_app).await) });
    let integrations_app = app.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = integrations_app.stopped() => {}
            () = integrations_app.integrations.run() => {}
        }
        integrations_app.integrations.stop().await;
        ("the integrations", Ok(()))
    });
    let service = Service::new(app.clone(), api::enclave::routes(app.clone()));
    let listener = Listener::new(service, gate.clone(), stopping.clone());
    if let Some(socket) = sockets.unix {
        let socket = UnixListener::from_std(socket).map_err(io("the Unix socket"))?;
        let listener = listener.clone();
        tasks.spawn(async move { ("the Unix socket", listener.serve_unix(socket).await) });
    }
    let (exchange, current) = watch::channel(tls);
    let https = match sockets.https {
        Some(socket) => Some(start_https(socket, listener, current, &mut tasks)?),
        None => None,
    };
    let admin = match sockets.admin {
        Some(socket) => {
            let view = Arc::new(View { app, gate, https });
            Some(start_admin(socket, view, stopping, &mut tasks)?)
        }
        None => None,
    };
    tracing::info!(
        unix = config.listen.unix.as_ref().map(|path| tracing::field::display(path.display())),
        https = https.map(tracing::field::display),
        admin = admin.map(tracing::field::display),
        database = config.database.kind(),
        "serving"
    );
    systemd::ready();
    let files = config.listen.https.map(|Https { files, .. }| files);
    let ended = signals.wait(&mut tasks, files.as_ref(), &exchange, &arena).await;
    systemd::stopping();
    let _all_listeners_are_gone: Result<_, _> = stop.send(true).map_err(drop);
    drain(tasks).await;
    store.close().await;
    ended
}

type Tasks = JoinSet<(&'static str, io::Result<()>)>;

fn start_https(
    socket: std::net::TcpListener,
    listener: Listener,
    config: watch::Receiver<Option<Arc<ServerConfig>>>,
    tasks: &mut Tasks,
) -> Result<SocketAddr, RunError> {
    const WHAT: &str = "the HTTPS listener";
    let failed = |error| RunError::Io(WHAT, error);
    let socket = TcpListener::from_std(socket).map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    tasks.spawn(async move { (WHAT, listener.serve_tls(socket, config).await) });
    Ok(address)
}

fn start_admin(
    socket: std::net::TcpListener,
    view: Arc<View>,
    stopping: watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> Result<SocketAddr, RunError> {
    const WHAT: &str = "the admin listener";
    let failed = |error| RunError::Io(WHAT, error);
    let socket = TcpListener::from_std(socket).map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    tasks.spawn(async move { (WHAT, admin::serve(socket, view, stopping).await) });
    Ok(address)
}

/// What the process is told from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> Result<Self, RunError> {
        let signals = |kind| signal(kind).map_err(|error| RunError::Io("signals", error));
        Ok(Self {
            terminate: signals(SignalKind::terminate())?,
            interrupt: signals(SignalKind::interrupt())?,
            hang_up: signals(SignalKind::hangup())?,
        })
    }

    /// Until a signal to stop, or until something ends that must not.
    async fn wait(
        mut self,
        tasks: &mut Tasks,
        files: Option<&TlsFiles>,
        exchange: &watch::Sender<Option<Arc<ServerConfig>>>,
        arena: &Arena,
    ) -> Result<(), RunError> {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hang_up.recv() => reload(files, exchange, arena),
                Some(ended) = tasks.join_next() => return Err(essential(ended)),
            }
        }
        tracing::info!("told to stop, finishing the requests in flight");
        Ok(())
    }
}

/// Takes up a new certificate and key. Connections that are open keep what they have.
fn reload(files: Option<&TlsFiles>, exchange: &watch::Sender<Option<Arc<ServerConfig>>>, arena: &Arena) {
    let Some(files) = files else {
        tracing::info!("there is no certificate to read again");
        return;
    };
    systemd::reloading();
    match tls::load(files, arena) {
        Ok(config) => {
            exchange.send_replace(Some(config));
            tracing::info!("certificate and key were read again");
        }
        Err(error) => {
            let error = crate::causes::causes(&error);
            tracing::error!(error, "certificate and key stay as they were");
        }
    }
    systemd::ready();
}

fn essential(ended: Result<(&'static str, io::Result<()>), tokio::task::JoinError>) -> RunError {
    match ended {
        Ok((what, Err(error))) => RunError::Io(what, error),
        Ok((what, Ok(()))) => RunError::Essential(what),
        Err(_) => RunError::Essential("a task"),
    }
}

async fn drain(mut tasks: Tasks) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIME, all).await.is_err() {
        tracing::warn!("some requests did not end within {} s and are cut off", DRAIN_TIME.as_secs());
    }
}

/// As many connections as descriptors allow. One peer may have half of them.
fn limits() -> ConnectionLimits {
    let wanted = u64::from(MAX_CONNECTIONS + OTHER_DESCRIPTORS);
    let possible = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if soft < wanted.min(hard) => {
            match setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard) {
                Ok(()) => wanted.min(hard),
                Err(_) => soft,
            }
        }
        Ok((soft, _)) => soft,
        Err(_) => 1024,
    };
    let total = u32::try_from(possible).unwrap_or(u32::MAX).saturating_sub(OTHER_DESCRIPTORS);
    let total = total.clamp(16, MAX_CONNECTIONS);
    ConnectionLimits { per_peer: total.div_ceil(2), total }
}
