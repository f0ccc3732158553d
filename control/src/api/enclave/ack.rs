//! `POST /v1/enclave/ack`: what a broker has in force.

use std::sync::Arc;

use axum::body::Body;
use dvx_proto::Code;
use dvx_proto::enclave::{Ack, PUBLIC_KEY};
use hyper::Request;

use super::auth::{self, Caller};
use super::body;
use crate::app::App;
use crate::clock;
use crate::domain::{AckRecord, Revision};
use crate::http::answer::{self, Answer};
use crate::http::error::Refusal;

/// Room for what a broker could not take over.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// How much of that is kept: it is shown in lists.
const MAX_DEGRADED: usize = 100;
const MAX_TEXT_CHARS: usize = 500;

pub(super) async fn answer(app: &Arc<App>, caller: Caller, request: Request<Body>) -> Answer {
    let session = auth::session(request.headers()).ok_or_else(|| {
        Refusal::bad_request(format!("exactly one field {PUBLIC_KEY} is required: that of the stream"))
    })?;
    let body = body::read(request.into_body(), MAX_BODY_BYTES).await?;
    let ack: Ack = serde_json::from_slice(&body)
        .map_err(|error| Refusal::bad_request(format!("the body is not an ack: {error}")))?;
    let live = app.hub.sessions().find(&session, &caller.key);
    let mut degraded = ack.degraded;
    degraded.truncate(MAX_DEGRADED);
    for entry in &mut degraded {
        for text in [&mut entry.what, &mut entry.why] {
            *text = text.chars().filter(|character| !character.is_control()).take(MAX_TEXT_CHARS).collect();
        }
    }
    if !app.hub.has_revision(&caller.enclave.org, Revision(ack.revision)).await? {
        return Err(Refusal::new(Code::Conflict, format!("there is no revision {} yet", ack.revision)));
    }
    let (enclave, revision) = (caller.enclave.id, Revision(ack.revision));
    let record = AckRecord { enclave, session, revision, degraded, time: clock::wall() };
    app.hub.ack(live.as_deref(), &caller.enclave.org, record);
    Ok(answer::no_content())
}
