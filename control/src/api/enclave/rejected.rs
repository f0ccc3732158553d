//! `POST /v1/enclave/credentials/{id}/rejected`: a provider refused a token that we had sent.

use std::sync::Arc;

use axum::body::Body;
use dvx_proto::agent::Rejection;
use dvx_proto::enclave::{RejectionAnswer, Verdict};
use dvx_proto::limits::MAX_BODY_BYTES;
use hyper::Request;

use super::auth::Caller;
use super::body;
use crate::app::App;
use crate::causes::causes;
use crate::clock;
use crate::domain::{Event, SecretId};
use crate::http::answer::{self, Answer};
use crate::http::error::Refusal;

pub(super) async fn answer(
    app: &Arc<App>,
    caller: Caller,
    credential: &str,
    request: Request<Body>,
) -> Answer {
    let cause = caller.cause(&request, clock::wall());
    let body = body::read(request.into_body(), MAX_BODY_BYTES).await?;
    let Rejection { fingerprint } = serde_json::from_slice(&body)
        .map_err(|error| Refusal::bad_request(format!("the body is not a rejection: {error}")))?;
    let enclave = &caller.enclave;
    let id = SecretId::from(credential.to_owned());
    let known = app.store.credential_name(&enclave.id, &enclave.org, &id).await?;
    // The same answer for one that is another enclave's.
    let (agent, name) = known.ok_or_else(|| Refusal::not_found("credential"))?;
    let reason = Some(format!("the provider refused the token {fingerprint}"));
    let mut event = Event::allowed("credential.rejected", name.as_str()).because(reason);
    event.agent = agent.map(String::from);
    app.store.append_event(&cause, event).await?;
    let looked_into = app.integrations.rejected(enclave, &id, fingerprint).await;
    let verdict = looked_into.unwrap_or_else(|error| {
        // The report is recorded; the broker goes on with what it has.
        tracing::warn!(
            credential = id.as_str(),
            error = causes(&error),
            "a refused token cannot be looked into"
        );
        Verdict::Unknown
    });
    answer::json(&RejectionAnswer { verdict })
}
