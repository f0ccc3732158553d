//! Answers with the header fields that every answer has.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// An answer. Secret bodies are slices of protected memory, which hyper writes from where they are.
pub(crate) type Answer = Response<Full<Bytes>>;

const REVISION: HeaderName = HeaderName::from_static("dvx-revision");
const AGE: HeaderName = HeaderName::from_static("dvx-age");

/// The fields of an answer with JSON. Answers begin with a copy, which takes a third of the time that it takes to
/// put them together.
static FIELDS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let field = |name, value| (name, HeaderValue::from_static(value));
    HeaderMap::from_iter([
        field(CONTENT_TYPE, "application/json"),
        field(CACHE_CONTROL, "no-store"),
        field(X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ])
});

/// The same with places for what an answer from upstream data says about its source.
static FIELDS_FROM_UPSTREAM: LazyLock<HeaderMap> = LazyLock::new(|| {
    let mut fields = FIELDS.clone();
    fields.insert(REVISION, HeaderValue::from_static("0"));
    fields.insert(AGE, HeaderValue::from_static("0"));
    fields
});

pub(crate) fn with_body(status: StatusCode, media_type: &'static str, body: Bytes) -> Answer {
    let mut answer = rendered(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

/// 200 with JSON that is ready.
pub(crate) fn rendered(body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.headers_mut() = FIELDS.clone();
    answer
}

/// 200 with JSON made from a value without secrets.
pub(crate) fn json(value: &impl Serialize) -> Answer {
    // Only plain structs come here; their serialisation has no way to fail.
    rendered(serde_json::to_vec(value).unwrap_or_default().into())
}

/// 200 with JSON from upstream data, of this revision and age.
pub(crate) fn from_upstream(body: Bytes, revision: &HeaderValue, age: Duration) -> Answer {
    let mut answer = Response::new(Full::new(body));
    let mut fields = FIELDS_FROM_UPSTREAM.clone();
    fields.insert(REVISION, revision.clone());
    // While the upstream is in touch this is the value that is there already.
    if age.as_secs() > 0 {
        fields.insert(AGE, HeaderValue::from(age.as_secs()));
    }
    *answer.headers_mut() = fields;
    answer
}
