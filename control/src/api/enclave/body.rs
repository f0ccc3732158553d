//! Bodies of brokers' requests, read within limits.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use dvx_proto::Code;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::http::error::Refusal;

/// A batch of audit lines over a slow link; everything else is one packet.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How much of a body that nobody wants is read, so that its sender sees the answer, and how long it may pause.
const DISCARD_BYTES: usize = 64 * 1024;
const DISCARD_PAUSE: Duration = Duration::from_millis(200);

/// Reads a body to its end.
pub(super) async fn read(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("the body of this request has at most {limit} bytes");
            Err(Refusal::new(Code::BodyTooLarge, detail).closing())
        }
        Ok(Err(_)) => Err(Refusal::bad_request("the body ended before its declared length").closing()),
        Err(_) => Err(Refusal::bad_request("the body did not arrive within 30 seconds").closing()),
    }
}

/// Reads on for a moment; whatever comes of it, the answer is the same.
pub(super) async fn discard(body: Body) {
    let mut body = Limited::new(body, DISCARD_BYTES);
    while let Ok(Some(Ok(_))) = tokio::time::timeout(DISCARD_PAUSE, body.frame()).await {}
}
