//! hyper, answering the same to all: what the broker's library costs without the broker.

use std::convert::Infallible;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Serves on one thread, for ever.
pub(super) fn serve(unix: UnixListener, tcp: TcpListener, body: String) -> ! {
    let body = Bytes::from(body);
    unix.set_nonblocking(true).unwrap();
    tcp.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let unix = tokio::net::UnixListener::from_std(unix).unwrap();
        let tcp = tokio::net::TcpListener::from_std(tcp).unwrap();
        loop {
            tokio::select! {
                Ok((stream, _)) = unix.accept() => spawn(stream, body.clone()),
                Ok((stream, _)) = tcp.accept() => {
                    stream.set_nodelay(true).unwrap();
                    spawn(stream, body.clone());
                }
            }
        }
    })
}

fn spawn(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, body: Bytes) {
    let answer = move |_: Request<Incoming>| {
        let body = Full::new(body.clone());
        async { Ok::<_, Infallible>(Response::new(body)) }
    };
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
    tokio::spawn(async {
        // Clients of a benchmark end when they like.
        drop(connection.await);
    });
}
