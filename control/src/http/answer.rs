//! Answers.

use axum::body::Body;
use dvx_proto::operator::REVISION;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::error::Refusal;
use crate::domain::Revision;

/// What comes of a request.
pub(crate) type Answer = Result<Response<Body>, Refusal>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const REVISION_FIELD: HeaderName = HeaderName::from_static(REVISION);

/// JSON, with the status of a plain success.
pub(crate) fn json(value: &impl Serialize) -> Answer {
    json_with(StatusCode::OK, value)
}

pub(crate) fn json_with(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).map_err(|error| Refusal::internal(&error))?;
    Ok(rendered(status, body))
}

/// JSON that is there already.
pub(crate) fn rendered(status: StatusCode, body: impl Into<Body>) -> Response<Body> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    answer
}

pub(crate) fn no_content() -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// Names the revision that has the change.
pub(crate) fn at(revision: Revision, mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().insert(REVISION_FIELD, HeaderValue::from(revision.0));
    answer
}
