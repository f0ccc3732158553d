//! From a configuration to a running broker, and down again.

mod chores;
mod host;
mod reload;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use dvx_memory::{Arena, MemoryError};
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use self::chores::{TokenFileChore, Watchdog};
use self::host::ServerHost;
use self::reload::Reloader;
use crate::admin;
use crate::admin::status::{ListenStatus, View};
use crate::api::{Api, Parts, Rates, Rejections, Settings};
use crate::audit::{Audit, AuditError};
use crate::config::{Config, UpstreamConfig};
use crate::identity::{Issuer, KeyError, TokenFiles};
use crate::keyring::Keyring;
use crate::listener::Listener;
use crate::listener::bind::{BindError, Sockets};
use crate::listener::gate::{ConnectionLimits, Gate};
use crate::metrics::Metrics;
use crate::peer::{PeerContext, Pidfd};
use crate::upstream::directory::{self, DirectorySettings};
use crate::upstream::{Host, Upstream, control};
use crate::{sandbox, systemd, trace};
use dvx_proto::agent::Transport;

/// How long requests in flight may take once the broker is told to stop.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Why the broker did not start, or stopped without being told to.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error("protected memory")]
    Memory(#[from] MemoryError),
    #[error("audit log")]
    Audit(#[from] AuditError),
    #[error("sockets")]
    Bind(#[from] BindError),
    #[error("sandbox")]
    Sandbox(#[from] sandbox::SandboxError),
    #[error("metrics")]
    Metrics(#[from] prometheus::Error),
    #[error("agent tokens")]
    Key(#[from] KeyError),
    #[error("upstream")]
    Upstream(#[source] io::Error),
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
    #[error("{0} has ended, and the broker is no use without it")]
    Essential(&'static str),
}

/// Runs the broker until it is told to stop.
pub(crate) fn run(path: &Path, mut config: Config) -> Result<(), RunError> {
    let arena = Arena::new(config.hardening.require_secretmem)?;
    tracing::info!(protection = arena.protection().as_str(), "secret values are held in protected memory");
    let limits = limits(&config);
    // First of what only one broker can have: it says best that there is another.
    let sockets = Sockets::open(&config.listen)?;
    let audit = Audit::open(&config.audit, &config.enclave)?;
    sandbox::confine(&config, path)?;

    let keyring = Arc::new(Keyring::new());
    let settings = Arc::new(ArcSwap::from_pointee(settings_of(&config, None)));
    let rejections = Arc::new(Rejections::default());
    let host = Arc::new(ServerHost::new(settings.clone(), keyring.clone(), rejections.clone()));
    let token_files = host.token_files();
    let upstream = start_upstream(&mut config, &keyring, &arena, host, &audit).map_err(RunError::Upstream)?;
    let issuer = Arc::new(Issuer::new(config.enclave.clone())?);
    let transports = match sockets.tcp {
        Some(_) => vec![Transport::Unix, Transport::Tcp],
        None => vec![Transport::Unix],
    };
    let api = Arc::new(Api::new(Parts {
        enclave: config.enclave.clone(),
        settings,
        rejections,
        keyring,
        upstream,
        issuer,
        audit,
        metrics: Metrics::new()?,
        transports,
    }));
    let serving = api.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(move || {
            serving.audit.pause();
            trace::wipe();
        })
        .build()
        .map_err(|error| RunError::Io("runtime", error))?;
    let broker = Broker { gate: Gate::new(limits), api, arena, config, path: path.to_owned(), token_files };
    runtime.block_on(broker.serve(sockets))
}

fn start_upstream(
    config: &mut Config,
    keyring: &Arc<Keyring>,
    arena: &Arena,
    host: Arc<dyn Host>,
    audit: &Audit,
) -> io::Result<Upstream> {
    let (keyring, arena) = (keyring.clone(), arena.clone());
    match &mut config.upstream {
        UpstreamConfig::Directory { path, allow_mode } => {
            let settings = DirectorySettings {
                path: path.clone(),
                allow_mode: *allow_mode,
                agents: config.agents.iter().map(|rule| rule.name.clone()).collect(),
            };
            directory::start(settings, keyring, arena)
        }
        UpstreamConfig::Control(control) => {
            let parts = control::Parts {
                config: control.clone(),
                enclave: config.enclave.clone(),
                keyring,
                arena,
                host,
                feed: audit.feed(),
            };
            // It has its own, in protected memory.
            control.api_key.forget();
            control::start(parts)
        }
    }
}

/// What upstreams see of a server that consists of these.
#[cfg(test)]
pub(crate) fn host(
    settings: Arc<ArcSwap<Settings>>,
    keyring: Arc<Keyring>,
    rejections: Arc<Rejections>,
) -> Arc<dyn Host> {
    Arc::new(ServerHost::new(settings, keyring, rejections))
}

/// A broker that is ready to serve.
struct Broker {
    api: Arc<Api>,
    gate: Gate,
    arena: Arena,
    config: Config,
    path: std::path::PathBuf,
    /// Rings when the token files are to be looked after.
    token_files: Arc<Notify>,
}

impl Broker {
    async fn serve(self, sockets: Sockets) -> Result<(), RunError> {
        // Holds the sockets' names until the very end.
        let _claims = sockets.claims;
        let io = |what| move |error| RunError::Io(what, error);
        let (stop, stopping) = watch::channel(false);
        let admin = UnixListener::from_std(sockets.admin.listener).map_err(io("the admin socket"))?;
        let tcp = sockets.tcp.map(TcpListener::from_std).transpose().map_err(io("the loopback listener"))?;
        let listen = ListenStatus {
            unix: sockets.unix.path,
            tcp: tcp
                .as_ref()
                .map(TcpListener::local_addr)
                .transpose()
                .map_err(io("the loopback listener"))?,
            admin: sockets.admin.path,
            agents: self.config.listen.agents.clone(),
        };
        let view =
            Arc::new(View::new(self.api.clone(), self.gate.clone(), self.arena.clone(), listen.clone()));
        let files =
            TokenFileChore::new(TokenFiles::new(listen.agents.clone()), self.api.clone(), view.clone());

        let mut tasks: JoinSet<(&'static str, io::Result<()>)> = JoinSet::new();
        let peers = Arc::new(peer_context(tcp.is_some()));
        let listener = Listener::new(self.api.clone(), self.gate.clone(), peers, stopping.clone())
            .map_err(io("timers"))?;
        let unix_listener = listener.clone();
        tasks.spawn(
            async move { ("the agents' socket", unix_listener.serve_unix(sockets.unix.listener).await) },
        );
        if let Some(tcp) = tcp {
            tasks.spawn(async move { ("the loopback listener", listener.serve_tcp(tcp).await) });
        }
        let admin_view = view.clone();
        tasks.spawn(async move { ("the admin socket", admin::serve(admin, admin_view, stopping).await) });

        let files = files.start(self.token_files).map_err(io("timers"))?;
        let _watchdog = Watchdog::start(listen.unix.clone()).map_err(io("timers"))?;
        tracing::info!(
            enclave = %self.api.enclave,
            unix = %listen.unix.display(),
            tcp = listen.tcp.map(tracing::field::display),
            upstream = self.config.upstream.kind(),
            agents = (!matches!(self.config.upstream, UpstreamConfig::Control(_))).then_some(self.config.agents.len()),
            "serving"
        );
        systemd::ready();
        systemd::status(&match self.config.upstream {
            UpstreamConfig::Directory { .. } => format!("serving {} agents", self.config.agents.len()),
            UpstreamConfig::Control(_) => "serving the control plane's agents".to_owned(),
        });
        let reloader =
            Reloader { path: self.path, started: self.config, api: self.api, gate: self.gate, view, files };
        let ended = wait(&mut tasks, reloader).await;
        systemd::stopping();
        let _all_listeners_are_gone: Result<_, _> = stop.send(true).map_err(drop);
        drain(tasks).await;
        ended
    }
}

/// Until a signal to stop, or until something ends that must not.
async fn wait(
    tasks: &mut JoinSet<(&'static str, io::Result<()>)>,
    reloader: Reloader,
) -> Result<(), RunError> {
    let signals = |kind| signal(kind).map_err(|error| RunError::Io("signals", error));
    let mut terminate = signals(SignalKind::terminate())?;
    let mut interrupt = signals(SignalKind::interrupt())?;
    let mut hang_up = signals(SignalKind::hangup())?;
    let mut health = reloader.api.upstream.health();
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => reloader.reload().await,
            Some(ended) = tasks.join_next() => return Err(essential(ended)),
            () = closed(&mut health) => return Err(RunError::Essential("the upstream")),
        }
    }
    tracing::info!("told to stop, finishing the requests in flight");
    Ok(())
}

/// Until nothing more can come.
async fn closed<T>(receiver: &mut watch::Receiver<T>) {
    while receiver.changed().await.is_ok() {}
}

fn essential(ended: Result<(&'static str, io::Result<()>), tokio::task::JoinError>) -> RunError {
    match ended {
        Ok((what, Err(error))) => RunError::Io(what, error),
        Ok((what, Ok(()))) => RunError::Essential(what),
        Err(_) => RunError::Essential("a listener"),
    }
}

async fn drain(mut tasks: JoinSet<(&'static str, io::Result<()>)>) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIME, all).await.is_err() {
        tracing::warn!("some requests did not end within {} s and are cut off", DRAIN_TIME.as_secs());
    }
}

/// What can be told of peers. The variable lets tests see what holds on kernels that tell less; it can only
/// take something away.
fn peer_context(loopback: bool) -> PeerContext {
    let pidfd = match std::env::var_os("DVX_TEST_NO_PIDFD") {
        Some(_) => Pidfd::Unused,
        None => Pidfd::Used,
    };
    let context = PeerContext::new(pidfd);
    if context.pidfd() == Pidfd::Unused {
        tracing::warn!(
            "this kernel tells nothing of peers' processes: rules with a unit or cgroup refuse everyone"
        );
    }
    if loopback { context.with_loopback() } else { context }
}

/// The part of a configuration that requests are decided by. Rules that are not in it stay as they are.
fn settings_of(config: &Config, before: Option<&Settings>) -> Settings {
    let rules = match (&config.upstream, before) {
        (UpstreamConfig::Control(_), Some(before)) => &before.rules,
        _ => &config.rules,
    };
    let names = rules.iter().map(|rule| &rule.name);
    Settings {
        rates: Rates::new(config.limits.requests_per_second, names, before.map(|before| &before.rates)),
        rules: Arc::clone(rules),
        max_stale: config.max_stale,
    }
}

/// The limits on connections, lowered to what the descriptors of this process allow.
fn limits(config: &Config) -> ConnectionLimits {
    let wanted =
        ConnectionLimits { per_uid: config.limits.connections, total: config.limits.total_connections };
    let total = sandbox::raise_descriptor_limit(wanted.total);
    if total < wanted.total {
        tracing::warn!(
            wanted = wanted.total,
            possible = total,
            "limits.total_connections is above what RLIMIT_NOFILE allows and is lowered"
        );
    }
    ConnectionLimits { total, ..wanted }
}
