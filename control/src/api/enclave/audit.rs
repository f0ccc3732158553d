//! `POST /v1/enclave/audit`: lines of a broker's audit log.

use std::sync::Arc;

use axum::body::Body;
use dvx_proto::Code;
use dvx_proto::enclave::{AuditReceipt, MAX_AUDIT_BYTES, MAX_AUDIT_LINES};
use hyper::Request;

use super::auth::Caller;
use super::body;
use crate::app::App;
use crate::audit::ingest;
use crate::clock;
use crate::http::answer::{self, Answer};
use crate::http::error::Refusal;

pub(super) async fn answer(app: &Arc<App>, caller: Caller, request: Request<Body>) -> Answer {
    let body = body::read(request.into_body(), MAX_AUDIT_BYTES).await?;
    let lines = ingest::parse(&body, &caller.enclave.name)
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    if lines.len() > MAX_AUDIT_LINES {
        let detail = format!("a batch has at most {MAX_AUDIT_LINES} lines");
        return Err(Refusal::new(Code::BodyTooLarge, detail));
    }
    let _permit = app.hub.permit().await;
    let ingested = ingest::store(&app.store, &caller.enclave, lines, clock::wall()).await?;
    app.hub.metrics().count_audit(ingested.stored, ingested.raised);
    answer::json(&AuditReceipt { seq: ingested.seq })
}
