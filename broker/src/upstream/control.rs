//! Secrets from the control plane, and the agents they are for.
//!
//! One connection brings frames ([`dvx_proto::enclave`]) for as long as it lasts; a [`Worker`]
//! puts what they say into force, commit by commit. What the control plane is told goes over connections of its
//! own, so that it holds nothing up. While there is no connection, what is in force stays for `max_stale`.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use dvx_memory::Arena;
use dvx_proto::EnclaveName;
use dvx_proto::enclave::{Ack, Frame};
use tokio::sync::watch;

use self::backoff::Backoff;
use self::error::{Trouble, Violation};
use self::lines::Lines;
use self::link::Endpoint;
use self::posts::Reports;
use self::roster::Roster;
use self::seal::Recipient;
use self::standing::Standing;
use self::worker::{Outcome, Worker};
use super::{Health, Host, Mailbox, Request, Upstream};
use crate::audit::Feed;
use crate::causes::causes;
use crate::clock;
use crate::config::ControlConfig;
use crate::keyring::Keyring;

mod backoff;
mod error;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod keyed;
mod lines;
mod link;
mod posts;
mod replica;
mod roster;
mod seal;
mod shipping;
#[cfg(test)]
mod simulation;
mod standing;
#[cfg(test)]
mod tests;
mod worker;

/// The name in configuration and status.
const KIND: &str = "control";

/// How often users that this machine did not have are looked up again.
const USERS_INTERVAL: Duration = Duration::from_secs(60);

/// What an upstream of this kind works with.
pub(crate) struct Parts {
    pub(crate) config: ControlConfig,
    pub(crate) enclave: EnclaveName,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) arena: Arena,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) feed: Arc<Feed>,
}

/// Starts to connect, on a thread of its own.
pub(crate) fn start(mut parts: Parts) -> io::Result<Upstream> {
    let endpoint = Arc::new(Endpoint::new(&parts.config, &parts.arena)?);
    parts.config.api_key.forget();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(dvx_proto::wipe_stack)
        .build()?;
    let health = Health { kind: KIND, connected: Some(false), degraded: Vec::new() };
    Mailbox::start(health, move |mailbox| {
        runtime.block_on(run(parts, endpoint, &mailbox));
        // Look-ups of names may hang.
        runtime.shutdown_background();
    })
}

async fn run(parts: Parts, endpoint: Arc<Endpoint>, mailbox: &Mailbox) {
    let Parts { config: _, enclave, keyring, arena, host, feed } = parts;
    let (session, sessions) = watch::channel(None);
    let reports = Reports::new(endpoint.clone(), keyring.clone(), host.clone(), sessions);
    let standing = Standing::new(mailbox, endpoint.address().to_string());
    let worker = Worker::new(enclave, keyring, arena, host.clone(), Roster::of_this_machine());
    let mut client = Client { endpoint, worker, host, feed, standing, session, backoff: Backoff::new() };
    tokio::select! {
        () = attend(mailbox, &reports) => {}
        never = client.run() => match never {},
    }
}

/// Until the server wants it to end.
async fn attend(mailbox: &Mailbox, reports: &Reports) {
    loop {
        mailbox.rung().await;
        for request in mailbox.take() {
            match request {
                Request::Stop => return,
                // They come from the control plane.
                Request::SetAgents(_) => {}
                Request::Recheck { agent, provider, fingerprint } => {
                    reports.send(agent, provider, fingerprint);
                }
            }
        }
    }
}

/// Connects, again and again.
struct Client<'m> {
    endpoint: Arc<Endpoint>,
    worker: Worker,
    host: Arc<dyn Host>,
    feed: Arc<Feed>,
    standing: Standing<'m>,
    /// By what the control plane knows the stream.
    session: watch::Sender<Option<String>>,
    backoff: Backoff,
}

impl Client<'_> {
    async fn run(&mut self) -> Infallible {
        loop {
            let trouble = match self.stream().await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            };
            self.standing.disconnected(causes(&trouble));
            let pause = match trouble {
                Trouble::Key(_) => self.backoff.longest(),
                _ => self.backoff.pause(),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// One stream, for as long as it lasts.
    async fn stream(&mut self) -> Result<Infallible, Trouble> {
        let recipient = Recipient::new();
        let opened = self.endpoint.watch(recipient.public(), self.worker.revision(), self.host.max_stale());
        let (_connection, body) = opened.await?;
        let mut lines = Lines::new(body);
        let Frame::Hello(hello) = parse(&lines.next().await?)? else {
            return Err(Violation::Order("a stream begins with hello").into());
        };
        let mut stream = self.worker.begin(&recipient, &hello)?;
        if self.worker.look_up_users(true) {
            self.standing.taken_over(self.worker.degraded());
        }
        self.session.send_replace(Some(recipient.public().to_owned()));
        let (acks, waiting) = watch::channel(None);
        let acknowledge = posts::acknowledge(self.endpoint.clone(), recipient.public(), waiting);
        let (worker, standing, backoff) = (&mut self.worker, &self.standing, &mut self.backoff);
        let ship =
            shipping::ship(self.endpoint.clone(), recipient.public(), self.feed.clone(), &hello, standing);
        let follow = follow(worker, &mut stream, &mut lines, &acks, standing, backoff);
        tokio::select! {
            ended = follow => ended,
            never = acknowledge => match never {},
            never = ship => match never {},
        }
    }
}

/// Takes frame after frame.
async fn follow(
    worker: &mut Worker,
    stream: &mut worker::Stream,
    lines: &mut Lines<hyper::body::Incoming>,
    acks: &watch::Sender<Option<Ack>>,
    standing: &Standing<'_>,
    backoff: &mut Backoff,
) -> Result<Infallible, Trouble> {
    let mut look_up = tokio::time::interval(USERS_INTERVAL);
    look_up.reset();
    loop {
        let line = tokio::select! {
            line = lines.next() => line?,
            _ = look_up.tick() => {
                if worker.misses_users() && worker.look_up_users(false) {
                    standing.taken_over(worker.degraded());
                    acks.send_replace(worker.ack());
                }
                continue;
            }
        };
        match take(worker, stream, &line, acks)? {
            Outcome::More => {}
            Outcome::Confirmed => standing.connected(),
            Outcome::Committed => {
                standing.connected();
                standing.taken_over(worker.degraded());
                backoff.reset();
            }
        }
    }
}

/// Takes one frame. What it puts into force is told only then.
fn take(
    worker: &mut Worker,
    stream: &mut worker::Stream,
    line: &[u8],
    acks: &watch::Sender<Option<Ack>>,
) -> Result<Outcome, Violation> {
    let outcome = worker.take(stream, parse(line)?, clock::monotonic())?;
    if outcome == Outcome::Committed {
        acks.send_replace(worker.ack());
    }
    Ok(outcome)
}

fn parse(line: &[u8]) -> Result<Frame, Violation> {
    serde_json::from_slice(line).map_err(|_| Violation::NotAFrame)
}
