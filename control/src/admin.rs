//! Health, readiness and metrics, for this machine alone. Never a value, and no names.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dvx_proto::{Code, PROBLEM_MEDIA_TYPE, Problem};
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::app::App;
use crate::listener::ACCEPT_PAUSE;
use crate::listener::gate::Gate;

/// Scrapers and health checks.
const CONNECTIONS: usize = 16;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// How long the database may take to show that it is there.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

/// What the admin listener shows.
pub(crate) struct View {
    pub(crate) app: Arc<App>,
    pub(crate) gate: Gate,
    /// Where HTTPS is served: the port may have been chosen by the kernel.
    pub(crate) https: Option<SocketAddr>,
}

type Answer = Response<Full<Bytes>>;

/// Serves until the process stops.
pub(crate) async fn serve(
    socket: TcpListener,
    view: Arc<View>,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let view = view.clone();
                tokio::spawn(async move {
                    let served = serve_connection(stream, view);
                    if tokio::time::timeout(CONNECTION_TIME, served).await.is_err() {
                        tracing::debug!("an admin connection was open for long enough");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the admin listener");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, view: Arc<View>) {
    let handler = service_fn(move |request: Request<hyper::body::Incoming>| {
        let view = view.clone();
        async move { Ok::<_, Infallible>(answer(&view, request.method(), request.uri().path()).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), handler)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

async fn answer(view: &View, method: &Method, path: &str) -> Answer {
    if !matches!(path, "/healthz" | "/readyz" | "/metrics" | "/status") {
        return problem(Code::NotFound, "this listener has /healthz, /readyz, /metrics and /status");
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut answer = problem(Code::MethodNotAllowed, "this path takes GET and HEAD");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match path {
        "/readyz" => readiness(view).await,
        "/metrics" => metrics(view).await,
        "/status" => status(view).await,
        _ => with_body(StatusCode::OK, JSON, br#"{"status":"ok"}"#.as_slice().into()),
    }
}

/// Why requests cannot be answered, if they cannot.
async fn trouble(view: &View) -> Option<&'static str> {
    match tokio::time::timeout(READY_TIMEOUT, view.app.store.ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::warn!(error = crate::causes::causes(&error), "not ready");
            Some("the database cannot be used")
        }
        Err(_) => Some("the database does not answer"),
    }
}

async fn readiness(view: &View) -> Answer {
    let trouble = trouble(view).await;
    let status = if trouble.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &serde_json::json!({ "ready": trouble.is_none(), "reason": trouble }))
}

async fn status(view: &View) -> Answer {
    let trouble = trouble(view).await;
    json(
        StatusCode::OK,
        &serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "ready": trouble.is_none(),
            "reason": trouble,
            "database": view.app.config.database.kind(),
            "https": view.https,
            "connections": view.gate.open(),
        }),
    )
}

async fn metrics(view: &View) -> Answer {
    let ready = trouble(view).await.is_none();
    match view.app.metrics.render(ready, view.gate.open()) {
        Ok(text) => with_body(StatusCode::OK, PROMETHEUS_TEXT, text.into()),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            problem(Code::Internal, "metrics cannot be rendered")
        }
    }
}

fn json(status: StatusCode, value: &serde_json::Value) -> Answer {
    with_body(status, JSON, value.to_string().into())
}

fn problem(code: Code, detail: &'static str) -> Answer {
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // Strings and a number: this cannot fail.
    let body = serde_json::to_vec(&Problem::new(code, detail)).unwrap_or_default();
    with_body(status, PROBLEM_MEDIA_TYPE, body.into())
}

fn with_body(status: StatusCode, media_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
