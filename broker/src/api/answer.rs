//! Answers with the header fields that every answer has.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// An answer. Secret bodies are slices of protected memory, which hyper writes from where they are.
pub(crate) type Answer = Response<Full<Bytes>>;

const JSON: &str = "application/json";
const REVISION: HeaderName = HeaderName::from_static("dvx-revision");
const AGE: HeaderName = HeaderName::from_static("dvx-age");

pub(crate) fn with_body(status: StatusCode, media_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.reserve(5);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// 200 with JSON that is ready.
pub(crate) fn rendered(body: Bytes) -> Answer {
    with_body(StatusCode::OK, JSON, body)
}

/// 200 with JSON made from a value without secrets.
pub(crate) fn json(value: &impl Serialize) -> Answer {
    // Only plain structs come here; their serialisation has no way to fail.
    rendered(serde_json::to_vec(value).unwrap_or_default().into())
}

/// 202, with nothing to say.
pub(crate) fn accepted() -> Answer {
    with_body(StatusCode::ACCEPTED, JSON, Bytes::new())
}

/// Adds what an answer from upstream data says about its source.
pub(crate) fn add_source(answer: &mut Answer, revision: u64, age: Duration) {
    let headers = answer.headers_mut();
    headers.insert(REVISION, HeaderValue::from(revision));
    headers.insert(AGE, HeaderValue::from(age.as_secs()));
}
