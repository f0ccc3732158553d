//! The agent API: requests in, decisions made, answers out.
//!
//! [`Api::handle`] is the walk of one request: framing, origin, identity, rate, route, and then the file of
//! that route. Whatever comes of it is written to the audit log before the answer leaves.

pub(crate) mod answer;
mod caller;
mod credentials;
mod framing;
mod git;
mod identity;
pub(crate) mod problem;
mod rates;
mod record;
mod rejections;
mod secrets;
#[cfg(test)]
pub(crate) mod stepping;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use dvx_proto::agent::{Route, Transport};
use dvx_proto::{Code, EnclaveName};
use hyper::Request;
use jiff::Timestamp;

pub(crate) use self::answer::Answer;
use self::answer::rendered;
pub(crate) use self::caller::Peer;
use self::framing::RequestBody;
use self::problem::Refusal;
pub(crate) use self::rates::{Rates, Refusals};
use self::record::{Entered, Record, RequestIds, Served};
pub(crate) use self::rejections::Rejections;
use crate::audit::Audit;
use crate::clock::{self, Monotonic, Now};
use crate::identity::Issuer;
use crate::keyring::{AgentEntry, Freshness, Keyring, View};
use crate::metrics::Metrics;
use crate::policy::{self, AgentRule, Decision, Denial, Rules, Situation, Subject};
use crate::upstream::Upstream;

/// When a client may try again while the upstream is not there: it is looked at more than once a second.
const UPSTREAM_RETRY: Duration = Duration::from_secs(5);

/// What a reload, or an upstream that knows the agents, can change.
pub(crate) struct Settings {
    pub(crate) rules: Arc<Rules>,
    pub(crate) rates: Rates,
    pub(crate) max_stale: Duration,
}

impl Settings {
    /// The same with other rules.
    #[must_use]
    pub(crate) fn with_rules(&self, rules: &Arc<Rules>) -> Self {
        let names = rules.iter().map(|rule| &rule.name);
        Self {
            rates: Rates::new(self.rates.per_second(), names, Some(&self.rates)),
            rules: Arc::clone(rules),
            max_stale: self.max_stale,
        }
    }
}

/// All that requests are answered from.
pub(crate) struct Api {
    pub(crate) enclave: EnclaveName,
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) upstream: Upstream,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) audit: Audit,
    pub(crate) metrics: Metrics,
    rejections: Arc<Rejections>,
    strangers: Refusals,
    request_ids: RequestIds,
    discovery: Bytes,
}

/// The parts from which an [`Api`] is made.
pub(crate) struct Parts {
    pub(crate) enclave: EnclaveName,
    pub(crate) settings: Arc<ArcSwap<Settings>>,
    pub(crate) rejections: Arc<Rejections>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) upstream: Upstream,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) audit: Audit,
    pub(crate) metrics: Metrics,
    pub(crate) transports: Vec<Transport>,
}

/// The rules and what is held under them.
type InForce = (Arc<Settings>, Arc<View>);

/// How a request is answered.
pub(crate) enum Handling<'a> {
    /// At once, as most are: for them there is nothing that a future would have to keep.
    Done(Answer),
    /// When its line is in the audit log.
    Entered(Entered<'a>),
    /// After the request's body has come.
    Waits(Pin<Box<dyn Future<Output = Answer> + Send + 'a>>),
}

impl Handling<'_> {
    pub(crate) async fn answer(self) -> Answer {
        match self {
            Self::Done(answer) => answer,
            Self::Entered(entered) => entered.answer().await,
            Self::Waits(answer) => answer.await,
        }
    }
}

/// One request of an agent, as the route's own file sees it. It is decided on one view of the keyring.
struct Context<'a> {
    api: &'a Api,
    max_stale: Duration,
    agent: &'a AgentRule,
    peer: &'a Peer,
    route: &'a Route,
    view: Arc<View>,
    now: Now,
}

impl Api {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            discovery: identity::discovery(parts.transports),
            enclave: parts.enclave,
            settings: parts.settings,
            keyring: parts.keyring,
            upstream: parts.upstream,
            issuer: parts.issuer,
            audit: parts.audit,
            metrics: parts.metrics,
            rejections: parts.rejections,
            strangers: Refusals::new(),
            request_ids: RequestIds::new(),
        }
    }

    /// Answers one request.
    pub(crate) fn handle<'a>(
        &'a self,
        peer: &'a Peer,
        request: Request<impl RequestBody + 'a>,
        now: Now,
    ) -> Handling<'a> {
        self.handle_under(self.in_force(), peer, request, now)
    }

    fn handle_under<'a>(
        &'a self,
        in_force: InForce,
        peer: &'a Peer,
        request: Request<impl RequestBody + 'a>,
        now: Now,
    ) -> Handling<'a> {
        let route = Route::at(request.uri().path());
        match route {
            Some(Route::IssueToken | Route::Rejected(_) | Route::GitCredential) => {
                Handling::Waits(Box::pin(self.handle_body(in_force, peer, route, request, now)))
            }
            route => self.handle_head(in_force, peer, route.as_ref(), &request, now),
        }
    }

    /// Answers a request to a route that takes no body.
    fn handle_head(
        &self,
        (settings, view): InForce,
        peer: &Peer,
        route: Option<&Route>,
        request: &Request<impl RequestBody>,
        now: Now,
    ) -> Handling<'_> {
        let mut record = Record::new(&self.request_ids, request.uri().path(), route, now);
        let result = match route {
            Some(route @ Route::Discover) => {
                match self.check(peer, request).and_then(|()| allow(route, request)) {
                    Ok(()) => return Handling::Done(rendered(self.discovery.clone())),
                    Err(refusal) => Err(refusal),
                }
            }
            route => self.admit(peer, &settings, route, request, &mut record).and_then(|(agent, route)| {
                let max_stale = settings.max_stale;
                Context { api: self, max_stale, agent, peer, route, view, now }.answer()
            }),
        };
        self.finish(peer, &settings, &record, result)
    }

    /// Answers a request to a route that takes a body.
    async fn handle_body(
        &self,
        (settings, view): InForce,
        peer: &Peer,
        route: Option<Route>,
        request: Request<impl RequestBody>,
        now: Now,
    ) -> Answer {
        let mut record = Record::new(&self.request_ids, request.uri().path(), route.as_ref(), now);
        let result = match self.admit(peer, &settings, route.as_ref(), &request, &mut record) {
            Ok((agent, route)) => {
                let max_stale = settings.max_stale;
                let mut context = Context { api: self, max_stale, agent, peer, route, view, now };
                let result = context.answer_body(request.into_body(), &mut record).await;
                record.now = context.now;
                result
            }
            Err(refusal) => Err(refusal),
        };
        self.finish(peer, &settings, &record, result).answer().await
    }

    /// An upstream that changes both takes the rules that will not hold
    /// any more out of force first, then changes what is held, then puts the new rules into force. So two looks
    /// at the same settings with what is held in between are one look.
    fn in_force(&self) -> InForce {
        in_one_look(|| self.settings.load_full(), || Arc::clone(&self.keyring.load()))
    }

    /// A request that could not even be parsed; the parser has answered it.
    pub(crate) fn note_malformed(&self, peer: &Peer, reason: &'static str) {
        let settings = self.settings.load_full();
        let refusal = Refusal::bad_request("").with_reason(reason);
        let record = Record::new(&self.request_ids, "", None, clock::now());
        let _answered: Answer = self.refuse(peer, &settings, &record, refusal);
    }

    fn check(&self, peer: &Peer, request: &Request<impl RequestBody>) -> Result<(), Refusal> {
        framing::check(request)?;
        match peer.transport {
            Transport::Unix => Ok(()),
            Transport::Tcp => framing::check_origin(request.headers(), peer.tcp_port),
        }
    }

    /// All that is asked of a request before its route is: which agent it comes from, and whether that one is at
    /// its limit.
    fn admit<'a, 'r>(
        &self,
        peer: &Peer,
        settings: &'a Settings,
        route: Option<&'r Route>,
        request: &Request<impl RequestBody>,
        record: &mut Record<'a>,
    ) -> Result<(&'a AgentRule, &'r Route), Refusal> {
        self.check(peer, request)?;
        let agent = self.authenticate(peer, settings, request.headers(), record.now)?;
        record.agent = Some(&agent.name);
        if let Some(rate) = settings.rates.of(&agent.name) {
            rate.take().map_err(rate_limited)?;
        }
        let route = route.ok_or_else(Refusal::not_found)?;
        allow(route, request)?;
        Ok((agent, route))
    }
}

/// See [`Api::in_force`].
fn in_one_look(mut settings: impl FnMut() -> Arc<Settings>, mut view: impl FnMut() -> Arc<View>) -> InForce {
    let mut before = settings();
    loop {
        let view = view();
        let after = settings();
        if Arc::ptr_eq(&before, &after) {
            return (before, view);
        }
        before = after;
    }
}

impl Context<'_> {
    /// The answer of a route that takes no body.
    fn answer(&self) -> Result<Served, Refusal> {
        match self.route {
            Route::Whoami => Ok(self.whoami()),
            Route::Credentials => self.list_credentials(),
            Route::Credential(provider) => self.credential(provider.as_ref()),
            Route::Secrets => self.list_secrets(),
            Route::Secret(name) => self.secret(name.as_ref()),
            Route::Discover | Route::IssueToken | Route::Rejected(_) | Route::GitCredential => {
                Err(Refusal::not_found())
            }
        }
    }

    /// The answer of a route that takes one.
    async fn answer_body(
        &mut self,
        body: impl RequestBody,
        record: &mut Record<'_>,
    ) -> Result<Served, Refusal> {
        match self.route {
            Route::IssueToken => self.issue_token(body).await,
            Route::Rejected(provider) => self.rejected(provider.as_ref(), body).await,
            Route::GitCredential => self.git_credential(body, record).await,
            Route::Discover
            | Route::Whoami
            | Route::Credentials
            | Route::Credential(_)
            | Route::Secrets
            | Route::Secret(_) => Err(Refusal::not_found()),
        }
    }

    /// Reads the request's body, for which its sender takes as long as it likes.
    async fn read_body(&mut self, body: impl RequestBody) -> Result<Bytes, Refusal> {
        let body = framing::read_body(body).await?;
        self.look_again()?;
        Ok(body)
    }

    /// To be done after every wait: what was in force before may not be any more, and the caller may not be this
    /// agent any more.
    fn look_again(&mut self) -> Result<(), Refusal> {
        let (settings, view) = self.api.in_force();
        if !settings.rules.contains(self.agent) {
            return Err(caller::unknown("the caller was this agent before it waited".to_owned()));
        }
        (self.max_stale, self.view, self.now) = (settings.max_stale, view, clock::now());
        Ok(())
    }

    fn entry(&self) -> Option<&AgentEntry> {
        self.view.snapshot.agents.get(&self.agent.name).map(Arc::as_ref)
    }

    /// Asks the policy. What it is asked about is the same for every route but for the subject.
    fn permit(&self, subject: Subject) -> Result<(), Refusal> {
        let situation = Situation {
            route: self.route,
            transport: self.peer.transport,
            state: self.entry().map(|entry| entry.state),
            freshness: self.freshness(None),
            subject,
            now: self.now.wall,
        };
        match policy::decide(&situation) {
            Decision::Allow => Ok(()),
            Decision::Deny(denial) => Err(self.refusal(denial)),
        }
    }

    fn freshness(&self, frozen_since: Option<Monotonic>) -> Freshness {
        self.view.freshness(frozen_since, self.now.mono, self.max_stale)
    }

    /// What the policy is told of a value that the agent has.
    fn held(&self, expires_at: Option<Timestamp>, frozen_since: Option<Monotonic>) -> Subject {
        Subject::Held { expires_at, freshness: self.freshness(frozen_since) }
    }

    /// An answer from this view, with what it says about its source.
    fn serve(&self, body: Bytes, frozen_since: Option<Monotonic>) -> Served {
        let age = match self.freshness(frozen_since) {
            Freshness::Fresh { age } | Freshness::Stale { age } => age,
            Freshness::Never => Duration::ZERO,
        };
        Served::from_upstream(body, &self.view, age)
    }

    /// The policy's no, in words for the caller.
    fn refusal(&self, denial: Denial) -> Refusal {
        let refusal = match denial.code {
            Code::NotFound => Refusal::not_found(),
            Code::CredentialExpired => Refusal::new(denial.code, "the credential has expired or is about to")
                .with_hint("ask the operator of this enclave to renew it"),
            Code::AgentIsolated | Code::AgentRevoked => self.out_of_service(denial.code),
            Code::UpstreamUnavailable => upstream_unavailable(),
            Code::ForbiddenTransport => {
                Refusal::new(denial.code, "agent tokens are given out on the Unix socket only")
            }
            other => Refusal::new(other, denial.reason),
        };
        refusal.with_reason(denial.reason)
    }

    fn out_of_service(&self, code: Code) -> Refusal {
        let reason = self.entry().and_then(|entry| entry.reason.as_deref());
        let done = if code == Code::AgentRevoked { "revoked" } else { "isolated" };
        // The code too: dvxir shows this text alone.
        let why = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        Refusal::new(code, format!("an operator has {done} this agent ({code}){why}"))
    }
}

/// A known path takes one method.
fn allow<B>(route: &Route, request: &Request<B>) -> Result<(), Refusal> {
    let method = route.spec().method;
    if request.method().as_str() == method {
        return Ok(());
    }
    Err(Refusal::new(Code::MethodNotAllowed, format!("this path takes {method} only")).with_allow(method))
}

fn upstream_unavailable() -> Refusal {
    Refusal::new(Code::UpstreamUnavailable, "the upstream's secrets are not current")
        .with_retry_after(UPSTREAM_RETRY)
        .with_hint("the operator of this enclave sees the cause in `dvx-broker status`")
}

fn rate_limited(wait: Duration) -> Refusal {
    let detail = "this agent has used up its request rate";
    // The header has whole seconds, and zero would read as "at once".
    Refusal::new(Code::RateLimited, detail).with_retry_after(wait.max(Duration::from_secs(1)))
}
