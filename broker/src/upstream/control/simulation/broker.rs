//! The broker: its own parts, put together as the server does it, with a wire in place of the network.

use std::collections::VecDeque;
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use dvx_proto::enclave::{Ack, Frame};
use dvx_proto::{AgentName, EnclaveName, Fingerprint, ProviderName};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::{Body, Frame as BodyFrame};
use tokio::sync::watch;

use super::super::lines::Lines;
use super::super::worker::{Outcome, Stream, Worker};
use super::super::{Recipient, Roster, Trouble, parse, take};
use super::Machine;
use super::callers::{Caller, look_up};
use super::truth::Question;
use crate::api::{Answer, Api, Parts, Rates, Rejections, Settings, stepping};
use crate::audit::Audit;
use crate::causes::causes;
use crate::clock;
use crate::config::AuditSink;
use crate::keyring::{Keyring, View};
use crate::metrics::Metrics;
use crate::policy::{AgentRule, Rules};
use crate::simulation::Dice;
use crate::upstream::{Bell, Health, Host, Upstream};

pub(super) struct Broker {
    pub(super) keyring: Arc<Keyring>,
    pub(super) settings: Arc<ArcSwap<Settings>>,
    pub(super) api: Arc<Api>,
    pub(super) host: Arc<Watched>,
    pub(super) worker: Worker,
    pub(super) link: Option<Link>,
    /// Where the upstream would take requests from.
    _requests: mpsc::Receiver<crate::upstream::Request>,
}

/// A connection to the control plane.
pub(super) struct Link {
    recipient: Recipient,
    wire: Wire,
    lines: Lines<Wire>,
    stream: Option<Stream>,
    acks: watch::Sender<Option<Ack>>,
    waiting: watch::Receiver<Option<Ack>>,
}

/// What was in force at one moment.
pub(super) struct Moment {
    settings: Arc<Settings>,
    view: Arc<View>,
    /// What the control plane has been told by then, or will be next.
    pub(super) acked: Option<u64>,
}

/// The server as the upstream sees it, and every moment of a change.
pub(super) struct Watched {
    server: Arc<dyn Host>,
    settings: Arc<ArcSwap<Settings>>,
    keyring: Arc<Keyring>,
    moments: Mutex<Vec<Moment>>,
    acks: Mutex<Option<watch::Receiver<Option<Ack>>>>,
}

impl Watched {
    fn note(&self) {
        let acks = self.acks.lock().unwrap();
        let acked = acks.as_ref().and_then(|acks| acks.borrow().as_ref().map(|ack| ack.revision));
        let (settings, view) = (self.settings.load_full(), Arc::clone(&self.keyring.load()));
        self.moments.lock().unwrap().push(Moment { settings, view, acked });
    }

    /// What was in force since the last time, from then until now.
    pub(super) fn moments(&self) -> Vec<Moment> {
        self.note();
        std::mem::take(&mut *self.moments.lock().unwrap())
    }
}

impl Host for Watched {
    fn narrow(&self, rules: &Rules) {
        self.note();
        self.server.narrow(rules);
        self.note();
    }

    fn enforce(&self, rules: Rules) {
        self.note();
        self.server.enforce(rules);
        self.note();
    }

    fn max_stale(&self) -> Duration {
        self.server.max_stale()
    }

    fn settle(&self, agent: &AgentName, provider: &ProviderName, fingerprint: Fingerprint) {
        self.server.settle(agent, provider, fingerprint);
    }
}

/// A request, as far as it has come.
pub(super) type Asked = Pin<Box<dyn Future<Output = Answer>>>;

/// The rest of a request.
pub(super) struct Rest {
    wire: Wire,
    bytes: Bytes,
}

impl Rest {
    pub(super) fn send(self) {
        self.wire.put(self.bytes);
        // The end of the body.
        self.wire.put(Bytes::new());
    }
}

/// A body whose bytes come when somebody says so. It ends with a piece that is empty.
#[derive(Clone, Default)]
pub(super) struct Wire(Arc<Mutex<VecDeque<Bytes>>>);

impl Wire {
    fn put(&self, bytes: Bytes) {
        self.0.lock().unwrap().push_back(bytes);
    }
}

impl Body for Wire {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, hyper::Error>>> {
        match self.0.lock().unwrap().pop_front() {
            Some(bytes) if bytes.is_empty() => Poll::Ready(None),
            Some(bytes) => Poll::Ready(Some(Ok(BodyFrame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

/// Looks once whether something is done.
pub(super) fn poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

impl Broker {
    pub(super) fn new(machine: &Machine, max_stale: Duration, per_second: Option<u32>) -> Self {
        let enclave: EnclaveName = "lab-1".parse().unwrap();
        let keyring = Arc::new(Keyring::new());
        let rejections = Arc::new(Rejections::default());
        let settings = Arc::new(ArcSwap::from_pointee(Settings {
            rules: Arc::new(Rules::awaited()),
            rates: Rates::new(per_second.and_then(NonZeroU32::new), std::iter::empty(), None),
            max_stale,
        }));
        let server = crate::server::host(settings.clone(), keyring.clone(), rejections.clone());
        let (settings_seen, keyring_seen) = (settings.clone(), keyring.clone());
        let host = Arc::new(Watched {
            server,
            settings: settings_seen,
            keyring: keyring_seen,
            moments: Mutex::default(),
            acks: Mutex::default(),
        });
        let (upstream, requests) = idle_upstream();
        let api = Arc::new(Api::new(Parts {
            enclave: enclave.clone(),
            settings: settings.clone(),
            rejections,
            keyring: keyring.clone(),
            upstream,
            issuer: machine.issuer.clone(),
            audit: Audit::open(&AuditSink::File(machine.log()), &enclave).unwrap(),
            metrics: Metrics::new().unwrap(),
            transports: Vec::new(),
        }));
        let worker =
            Worker::new(enclave, keyring.clone(), machine.arena.clone(), host.clone(), Roster::new(look_up));
        Self { keyring, settings, api, host, worker, link: None, _requests: requests }
    }

    /// Makes the keys of a connection.
    pub(super) fn connect(&mut self) -> String {
        let recipient = Recipient::new();
        let session = recipient.public().to_owned();
        let wire = Wire::default();
        let (acks, waiting) = watch::channel(None);
        let lines = Lines::new(wire.clone());
        *self.host.acks.lock().unwrap() = Some(waiting.clone());
        self.link = Some(Link { recipient, wire, lines, stream: None, acks, waiting });
        session
    }

    /// Bytes arrive.
    pub(super) fn receive(&mut self, bytes: Bytes) -> Result<Option<Outcome>, String> {
        let Some(link) = &mut self.link else { return Ok(None) };
        if !bytes.is_empty() {
            link.wire.put(bytes);
        }
        self.read().map_err(|trouble| {
            self.link = None;
            causes(&trouble)
        })
    }

    /// Takes what has arrived, as the client does. Also where nothing has, which may last too long.
    fn read(&mut self) -> Result<Option<Outcome>, Trouble> {
        let Some(link) = &mut self.link else { return Ok(None) };
        let mut last = None;
        while let Some(line) = poll(&mut Box::pin(link.lines.next())) {
            let line = line?;
            last = match &mut link.stream {
                Some(stream) => Some(take(&mut self.worker, stream, &line, &link.acks)?),
                None => {
                    let Frame::Hello(hello) = parse(&line)? else { panic!("no hello") };
                    link.stream = Some(self.worker.begin(&link.recipient, &hello)?);
                    self.worker.look_up_users(true);
                    None
                }
            };
        }
        Ok(last)
    }

    /// Nothing has come for so long that the broker gives the connection up.
    pub(super) fn is_left_alone(&mut self) -> bool {
        let left = self.read().is_err();
        if left {
            self.link = None;
        }
        left
    }

    /// Users that the machine did not have are looked up again, as the client does it once a minute.
    pub(super) fn look_up_users(&mut self) {
        if let Some(link) = &self.link
            && link.stream.is_some()
            && self.worker.misses_users()
            && self.worker.look_up_users(false)
        {
            link.acks.send_replace(self.worker.ack());
        }
    }

    /// What is to be confirmed, if it was not yet.
    pub(super) fn ack(&mut self) -> Option<u64> {
        let link = self.link.as_mut()?;
        if !link.waiting.has_changed().unwrap() {
            return None;
        }
        link.waiting.borrow_and_update().as_ref().map(|ack| ack.revision)
    }

    /// Who a caller is now.
    pub(super) fn agent_of(&self, caller: &Caller) -> Option<AgentRule> {
        let rules = &self.settings.load().rules;
        rules.agent_for(caller.peer().identity.as_ref().unwrap()).ok().cloned()
    }

    /// Asks. The answer may be held back.
    pub(super) fn ask(&self, caller: &'static Caller, question: Question) -> Asked {
        let (api, request) = (self.api.clone(), request(question));
        Box::pin(async move { api.handle(&caller.peer(), request, clock::now()).answer().await })
    }

    /// Sends the beginning of a request with a body; what is to come is for who sends the rest.
    pub(super) fn begin_to_ask(&self, caller: &'static Caller, question: Question) -> (Asked, Rest) {
        let (head, body) = request(question).into_parts();
        let body = poll(&mut Box::pin(body.collect())).unwrap().unwrap().to_bytes();
        let (wire, half) = (Wire::default(), body.len() / 2);
        wire.put(body.slice(..half));
        let rest = Rest { wire: wire.clone(), bytes: body.slice(half..) };
        let (api, request) = (self.api.clone(), Request::from_parts(head, wire));
        let asked: Asked =
            Box::pin(async move { api.handle(&caller.peer(), request, clock::now()).answer().await });
        (asked, rest)
    }

    /// Asks while a change goes on: the request's looks fall between the moments of the change.
    pub(super) fn ask_amid(
        &self,
        dice: &mut Dice,
        moments: &[Moment],
        caller: &'static Caller,
        question: Question,
    ) -> Asked {
        let place = std::cell::Cell::new(dice.below(moments.len()));
        let dice = std::cell::RefCell::new(dice);
        let look = || {
            let moment = &moments[place.get()];
            let later = moments.len() - place.get();
            let mut dice = dice.borrow_mut();
            place.set(place.get() + dice.below(later).min(dice.below(later)));
            moment
        };
        let in_force = stepping::in_one_look(|| look().settings.clone(), || look().view.clone());
        let api = self.api.clone();
        Box::pin(
            async move { api.handle_as_of(in_force, &caller.peer(), request(question), clock::now()).await },
        )
    }
}

fn idle_upstream() -> (Upstream, mpsc::Receiver<crate::upstream::Request>) {
    let (requests, receiver) = mpsc::channel();
    let health = Health { kind: "control", connected: None, degraded: Vec::new() };
    let (_, health) = watch::channel(health);
    let (_, ended) = mpsc::channel();
    let bell = Arc::new(Bell::new().unwrap());
    (Upstream { requests, bell, health, thread: None, ended: Mutex::new(ended) }, receiver)
}

fn request(question: Question) -> Request<Full<Bytes>> {
    let (method, path, body) = match question {
        Question::Whoami => ("GET", "whoami".to_owned(), String::new()),
        Question::Credentials => ("GET", "credentials".to_owned(), String::new()),
        Question::Credential(provider) => ("GET", format!("credentials/{provider}"), String::new()),
        Question::Secrets => ("GET", "secrets".to_owned(), String::new()),
        Question::Secret(name) => ("GET", format!("secrets/{name}"), String::new()),
        Question::Git(host) => {
            ("POST", "git-credential".to_owned(), format!(r#"{{"protocol":"https","host":"{host}"}}"#))
        }
        Question::Rejected(provider, fingerprint) => (
            "POST",
            format!("credentials/{provider}/rejected"),
            format!(r#"{{"fingerprint":"{fingerprint}"}}"#),
        ),
    };
    Request::builder()
        .method(method)
        .uri(format!("/v1/agent/{path}"))
        .header("host", "dvx")
        .body(Full::new(body.into()))
        .unwrap()
}
