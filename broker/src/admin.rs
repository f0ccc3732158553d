//! The operator's view over a local socket: health, readiness, metrics and status. Never a value.

pub(crate) mod status;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dvx_proto::Code;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

use self::status::{Readiness, View};
use crate::api::Answer;
use crate::api::answer::{json, with_body};
use crate::api::problem::Refusal;

/// Operators and their scrapers; nobody else can open the socket.
const CONNECTIONS: usize = 16;
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves the admin socket until the broker stops.
pub(crate) async fn serve(
    socket: UnixListener,
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
                    serve_connection(stream, view).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the admin socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: UnixStream, view: Arc<View>) {
    let handler = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answer = answer(&view, request.method(), request.uri().path());
        async move { Ok::<Response<Full<Bytes>>, Infallible>(answer) }
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

fn answer(view: &View, method: &Method, path: &str) -> Answer {
    if !matches!(path, "/healthz" | "/readyz" | "/metrics" | "/status") {
        return Refusal::new(Code::NotFound, "this socket has /healthz, /readyz, /metrics and /status")
            .into_answer();
    }
    if method != Method::GET {
        return Refusal::new(Code::MethodNotAllowed, "this path takes GET only")
            .with_allow("GET")
            .into_answer();
    }
    match path {
        "/readyz" => readiness(&view.readiness()),
        "/metrics" => metrics(view),
        "/status" => json(&view.status()),
        _ => json(&serde_json::json!({ "status": "ok" })),
    }
}

fn readiness(readiness: &Readiness) -> Answer {
    let mut answer = json(readiness);
    if !readiness.ready {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    answer
}

fn metrics(view: &View) -> Answer {
    match view.metrics() {
        Ok(text) => with_body(StatusCode::OK, PROMETHEUS_TEXT, text.into()),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            with_body(StatusCode::INTERNAL_SERVER_ERROR, PROMETHEUS_TEXT, Bytes::new())
        }
    }
}
