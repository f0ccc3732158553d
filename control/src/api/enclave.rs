//! The enclave API: what brokers ask.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use dvx_proto::Code;
use hyper::Response;

use crate::app::App;
use crate::http::error::Refusal;

/// Answers everything below `/v1/enclave`. Requests carry their [`Peer`](crate::http::Peer) and
/// [`RequestId`](crate::http::RequestId).
pub(crate) fn routes(_app: Arc<App>) -> Router {
    Router::new().fallback(refuse)
}

async fn refuse() -> Response<Body> {
    Refusal::new(Code::TokenInvalid, "no API key is valid yet").into_answer()
}
