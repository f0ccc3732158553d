//! One connection: HTTP/1.1 over a guarded stream.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use dvx_proto::limits::MAX_HEAD_BYTES;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::guard::Guarded;
use super::progress::{Phase, Watched};
use crate::api::{Api, Peer};
use crate::{clock, trace};

/// hyper reads a head into this much at most; a head above its own limit is answered, not cut off.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// How long a client has to take the news that its bytes are no HTTP/1.1.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// Serves one connection until either side ends it.
pub(super) async fn serve<S>(stream: S, peer: Peer, api: Arc<Api>, watched: Watched)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let progress = &watched.progress;
    let (api, peer) = (&*api, &peer);
    let handler = service_fn(move |request: Request<Incoming>| async move {
        progress.enter(Phase::Handler);
        if may_have_token(&request) {
            trace::note();
        }
        let mut answer = api.handle(peer, request, clock::now()).answer().await;
        if progress.is_roomy() {
            // Its head, which may have a token, would stay in memory until the next request.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        // Not before: hyper also flushes while a handler waits, and the flush of an answer ends it.
        progress.enter(Phase::Answer);
        Ok::<Response<_>, Infallible>(answer)
    });
    let stream = TokioIo::new(Guarded::new(stream, progress.clone()));
    let mut connection = http1::Builder::new()
        // A client that has said all it will say still wants its answer, and one that is gone must not leave
        // a change half made.
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(READ_BUFFER_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        // Secret bodies are written from protected memory, never copied into a buffer.
        .writev(true)
        .serve_connection(stream, handler);
    let result = poll_fn(|cx| {
        progress.wakes(cx.waker());
        if progress.takes_stop() {
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Pending if progress.is_overdue() => Poll::Ready(None),
            ended => ended.map(Some),
        }
    })
    .await;
    let Some(result) = result else {
        tracing::debug!(uid = peer.uid(), "a connection was too slow and is closed");
        return;
    };
    if let Err(error) = result {
        ended(api, peer, &error);
        if error.is_parse() {
            let refusal = connection.into_parts().io.into_inner().refuse();
            // A client that does not take it in time has to do without.
            let _taken: Result<(), _> = tokio::time::timeout(REFUSAL_TIME, refusal).await;
        }
    }
}

/// Whether the request or its answer may have one.
fn may_have_token<B>(request: &Request<B>) -> bool {
    request.method() != Method::GET || request.headers().contains_key(AUTHORIZATION)
}

fn ended(api: &Api, peer: &Peer, error: &hyper::Error) {
    trace::note();
    if error.is_parse_too_large() {
        api.note_malformed(peer, "request head too large");
    } else if error.is_parse() {
        api.note_malformed(peer, "malformed request");
    } else {
        tracing::debug!(%error, uid = peer.uid(), "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_with_authorization_or_one_for_a_token_may_have_one() {
        let request = |method: &str, field: &str| {
            Request::builder().method(method).header(field, "x").body(()).unwrap()
        };
        assert!(!may_have_token(&request("GET", "host")));
        assert!(may_have_token(&request("GET", "authorization")));
        assert!(may_have_token(&request("POST", "host")));
    }
}
