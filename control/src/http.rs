//! HTTP: who asks, what it takes to be answered, and how answers look.
//!
//! Every request under `/api/v1` goes the same way: who is it (401), may it do that (403), is there such a thing
//! (404, 405), is it well-formed (400, 413), and only then what it asks for. The enclave API has its own way.

pub(crate) mod answer;
pub(crate) mod auth;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod error;
pub(crate) mod framing;
pub(crate) mod idempotency;
pub(crate) mod limits;
pub(crate) mod router;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use dvx_proto::{Code, operator};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Request, Response};
use jiff::Timestamp;
use tower::ServiceExt;
use uuid::{NoContext, Uuid};

use self::error::Refusal;
use crate::app::App;
use crate::clock;
use crate::listener::gate::Key;
use crate::metrics::Metrics;

/// Who is at the other end of a connection, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A process of this machine. Without a pid it is in a pid namespace that is not ours or below it.
    Unix {
        uid: u32,
        pid: Option<i32>,
    },
    Tcp(SocketAddr),
}

impl Peer {
    /// With whom it shares its limits.
    pub(crate) fn key(self) -> Key {
        match self {
            Self::Unix { uid, .. } => Key::Uid(uid),
            Self::Tcp(address) => Key::Address(address.ip()),
        }
    }

    /// The transport, in a word.
    pub(crate) const fn transport(self) -> &'static str {
        match self {
            Self::Unix { .. } => "unix",
            Self::Tcp(_) => "https",
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { uid, .. } => write!(f, "uid:{uid}"),
            Self::Tcp(address) => write!(f, "{}", address.ip()),
        }
    }
}

/// What a request is known by in answers, logs and audit events. Never what a client made up.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(String);

impl RequestId {
    fn new(now: Timestamp) -> Self {
        let seconds = u64::try_from(now.as_second()).unwrap_or(0);
        let nanoseconds = u32::try_from(now.subsec_nanosecond()).unwrap_or(0);
        Self(Uuid::new_v7(uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds)).to_string())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// All that the control plane answers over HTTP.
#[derive(Clone)]
pub(crate) struct Service {
    app: Arc<App>,
    enclaves: Router,
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

impl Service {
    /// `enclaves` answers under `/v1/enclave`; it finds [`Peer`] and [`RequestId`] among a request's extensions.
    pub(crate) fn new(app: Arc<App>, enclaves: Router) -> Self {
        Self { app, enclaves }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.app.metrics
    }

    /// Answers a request, whatever it is.
    pub(crate) async fn handle(&self, peer: &Peer, mut request: Request<Incoming>) -> Response<Body> {
        let started = clock::monotonic();
        let id = RequestId::new(clock::wall());
        request.extensions_mut().insert(*peer);
        request.extensions_mut().insert(id.clone());
        let path = request.uri().path();
        // Boxed, because a connection keeps room for what its largest request needs for as long as it lasts.
        let (api, mut answer) = if is_below(path, "/v1/enclave") {
            ("enclave", Box::pin(self.enclave(request.map(Body::new))).await)
        } else if is_below(path, operator::PREFIX) {
            ("operator", Box::pin(router::handle(&self.app, *peer, &id, request)).await)
        } else {
            let nowhere = || Refusal::new(Code::NotFound, "there is no such path here");
            ("none", framing::check(&request).err().unwrap_or_else(nowhere).into_answer())
        };
        let took = clock::monotonic().saturating_duration_since(started);
        self.app.metrics.count_request(api, answer.status(), took);
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(id) = HeaderValue::from_str(id.as_str()) {
            headers.insert(REQUEST_ID, id);
        }
        answer
    }

    async fn enclave(&self, request: Request<Body>) -> Response<Body> {
        match self.enclaves.clone().oneshot(request).await {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }
}

/// Whether a path is this one or below it.
fn is_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
