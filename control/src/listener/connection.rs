//! One connection: HTTP/1.1 over a guarded stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use dvx_proto::limits::MAX_HEAD_BYTES;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::guard::Guarded;
use super::progress::{Phase, Progress, Watched};
use crate::clock;
use crate::http::{Peer, Service};

/// hyper reads a head into this much at most; a head above its own limit is answered, not cut off. As much may
/// wait to be written before a stream is asked for more.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long a client has to take the news that its bytes are no HTTP/1.1.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Serves one connection until either side ends it.
pub(super) async fn serve<S>(
    stream: S,
    peer: Peer,
    service: Service,
    watched: &Watched,
    stopping: &watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let progress = &watched.progress;
    let (service, peer) = (&service, &peer);
    let handler = service_fn(move |request: Request<Incoming>| async move {
        progress.enter(Phase::Handler, clock::monotonic());
        let mut answer = service.handle(peer, request).await;
        if progress.is_roomy() {
            // It would stay in memory until the next request.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // Not before: hyper also flushes while a handler waits, and the flush of an answer ends it.
        progress.enter(Phase::Stream, clock::monotonic());
        Ok::<Response<_>, Infallible>(answer.map(|body| Tracked { body, progress: progress.clone() }))
    });
    let stream = TokioIo::new(Guarded::new(stream, progress.clone()));
    let mut connection = http1::Builder::new()
        // A broker that is gone is noticed at once, by the end of its stream. Changes are not cut short by
        // that: they run in tasks of their own.
        .half_close(false)
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .serve_connection(stream, handler);
    let result = loop {
        tokio::select! {
            biased;
            result = &mut connection => break result,
            () = progress.nudged() => {
                if progress.is_overdue(clock::monotonic()) {
                    tracing::debug!(%peer, "a connection was too slow and is closed");
                    return;
                }
                if *stopping.borrow() {
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, %peer, "a connection ended early");
        if error.is_parse() {
            let refusal = Box::pin(connection.into_parts().io.into_inner().refuse());
            // A client that does not take it in time has to do without.
            let _taken: Result<(), _> = tokio::time::timeout(REFUSAL_TIME, refusal).await;
        }
    }
}

/// An answer's body that tells when its end is on the way.
struct Tracked {
    body: Body,
    progress: Arc<Progress>,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.progress.streamed(clock::monotonic());
    }
}
