//! Where secrets come from.
//!
//! An upstream works on a thread of its own and writes to the keyring. The server holds an [`Upstream`]: it
//! hands it requests, reads its health, and notices when it has ended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dvx_proto::{AgentName, Fingerprint, ProviderName};
use rustix::event::{EventfdFlags, eventfd};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::policy::Rules;

pub(crate) mod control;
pub(crate) mod directory;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
#[cfg(test)]
mod search;

/// A running upstream. It ends when this is dropped.
pub(crate) struct Upstream {
    requests: Sender<Request>,
    bell: Arc<Bell>,
    health: watch::Receiver<Health>,
    thread: Option<JoinHandle<()>>,
    /// Behind a mutex only because the server's threads share the whole; it is looked at once, at the end.
    ended: Mutex<Receiver<()>>,
}

/// How an upstream fares, besides how long ago it was last heard of, which the keyring knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Health {
    /// The kind, as the configuration has it.
    pub(crate) kind: &'static str,
    /// Whether it is in touch with where secrets come from, where that is a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connected: Option<bool>,
    /// What is not as it should be.
    pub(crate) degraded: Vec<Degraded>,
}

/// Something that is served as it last was, or not at all, because its source is bad.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Degraded {
    /// Where it comes from, such as a path.
    pub(crate) what: String,
    /// Why it cannot be used. Never its content.
    pub(crate) why: String,
}

/// What an upstream that knows more than secrets does to the server.
pub(crate) trait Host: Send + Sync {
    /// Takes the rules that are not among these out of force.
    fn narrow(&self, rules: &Rules);

    /// Puts these rules into force, and no others.
    fn enforce(&self, rules: Rules);

    /// How long secrets are served without a word from the upstream.
    fn max_stale(&self) -> Duration;

    /// A token that was said to be refused is good.
    fn settle(&self, agent: &AgentName, provider: &ProviderName, fingerprint: Fingerprint);
}

/// What the server asks of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Request {
    /// The provider has refused this token: is there a newer one?
    Recheck { agent: AgentName, provider: ProviderName, fingerprint: Fingerprint },
    /// From now on these are the agents.
    SetAgents(Vec<AgentName>),
    /// The end.
    Stop,
}

/// How long the end may take. An upstream that hangs in a file system is left behind.
const STOP_WAIT: Duration = Duration::from_secs(2);

impl Upstream {
    /// Asks the upstream whether it has a newer token than this one.
    pub(crate) fn recheck(&self, agent: &AgentName, provider: &ProviderName, fingerprint: Fingerprint) {
        self.send(Request::Recheck { agent: agent.clone(), provider: provider.clone(), fingerprint });
    }

    /// Replaces the set of agents. Whoever is no longer in it loses everything.
    pub(crate) fn set_agents(&self, agents: Vec<AgentName>) {
        self.send(Request::SetAgents(agents));
    }

    /// How it fares, now and with each change. The channel closes when the upstream has ended, which is a
    /// failure while this is held.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    fn send(&self, request: Request) {
        // Without a receiver it has ended, which shows in its health.
        if self.requests.send(request).is_ok() {
            self.bell.ring();
        }
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.send(Request::Stop);
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(STOP_WAIT);
        match ended {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if thread.join().is_err() {
                    warn!("the upstream's thread had panicked");
                }
            }
            Err(RecvTimeoutError::Timeout) => warn!("the upstream does not end; it is left behind"),
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.end();
    }
}

/// Says that a request has come, to a thread that waits with poll(2) as well as to one that awaits it.
struct Bell {
    fd: OwnedFd,
    notify: Notify,
}

impl Bell {
    fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { fd, notify: Notify::new() })
    }

    fn ring(&self) {
        // A full counter is as good as a ring.
        let _rung = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
        self.notify.notify_one();
    }
}

/// The upstream's own end of what an [`Upstream`] holds.
struct Mailbox {
    requests: Receiver<Request>,
    bell: Arc<Bell>,
    health: watch::Sender<Health>,
}

impl Mailbox {
    /// Starts `work` on a thread of its own. Its mailbox closes when it returns.
    fn start(health: Health, work: impl FnOnce(Mailbox) + Send + 'static) -> io::Result<Upstream> {
        let (requests, receiver) = mpsc::channel();
        let (health, health_receiver) = watch::channel(health);
        let (ended_sender, ended) = mpsc::channel();
        let bell = Arc::new(Bell::new()?);
        let mailbox = Self { requests: receiver, bell: Arc::clone(&bell), health };
        let thread = std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            let _ended = ended_sender;
            work(mailbox);
        })?;
        Ok(Upstream {
            requests,
            bell,
            health: health_receiver,
            thread: Some(thread),
            ended: Mutex::new(ended),
        })
    }

    /// Becomes readable when a request has come.
    fn bell(&self) -> BorrowedFd<'_> {
        self.bell.fd.as_fd()
    }

    /// Until a request has come.
    async fn rung(&self) {
        self.bell.notify.notified().await;
    }

    /// The requests that have come. All senders gone means the same as a request to stop.
    fn take(&self) -> Vec<Request> {
        // An empty bell is no error: what counts is the queue.
        let _rung = rustix::io::read(&self.bell.fd, &mut [0; 8]);
        let mut requests = Vec::new();
        loop {
            match self.requests.try_recv() {
                Ok(request) => requests.push(request),
                Err(mpsc::TryRecvError::Empty) => return requests,
                Err(mpsc::TryRecvError::Disconnected) => {
                    requests.push(Request::Stop);
                    return requests;
                }
            }
        }
    }

    /// Says how the upstream fares; wakes readers only when that has changed.
    fn report(&self, degraded: &[Degraded]) {
        self.health.send_if_modified(|health| {
            let changed = health.degraded != degraded;
            if changed {
                health.degraded = degraded.to_vec();
            }
            changed
        });
    }

    /// Says whether the upstream is in touch.
    fn report_connected(&self, connected: bool) {
        self.health.send_if_modified(|health| health.connected.replace(connected) != Some(connected));
    }
}
