//! Which enclave asks. Every failure is the same 401.

use axum::body::Body;
use dvx_proto::Code;
use dvx_proto::enclave::{API_KEY_PREFIX, PUBLIC_KEY};
use hyper::header::AUTHORIZATION;
use hyper::{HeaderMap, Request};

use crate::app::App;
use crate::crypto::HashedToken;
use crate::crypto::seal::PublicKey;
use crate::domain::{Actor, Cause, EnclaveIdentity, SessionId};
use crate::http::RequestId;
use crate::http::error::Refusal;

/// An enclave that has shown its API key.
pub(super) struct Caller {
    pub(super) enclave: EnclaveIdentity,
    pub(super) key: HashedToken,
}

impl Caller {
    /// What its actions are put down to.
    pub(super) fn cause(&self, request: &Request<Body>, time: jiff::Timestamp) -> Cause {
        let actor = Actor {
            org: self.enclave.org.clone(),
            organisation: self.enclave.organisation.clone(),
            name: format!("enclave:{}", self.enclave.name),
            role: None,
        };
        let request_id = request.extensions().get::<RequestId>().map(|id| id.as_str().to_owned());
        Cause { actor, request_id, time, repeatable: None }
    }
}

/// Finds the enclave. A broker whose stream is open in this process is known from that; all others are looked
/// up, a bounded number at a time, so that a storm of them leaves the database to others as well.
pub(super) async fn authenticate(app: &App, headers: &HeaderMap) -> Result<Caller, Refusal> {
    let key = HashedToken::of(api_key(headers)?);
    if let Some(session) = session(headers)
        && let Some(session) = app.hub.sessions().find(&session, &key)
    {
        return Ok(Caller { enclave: session.enclave.clone(), key });
    }
    let _permit = app.hub.permit().await;
    match app.store.enclave_by_key(&key).await? {
        Some(enclave) => Ok(Caller { enclave, key }),
        None => Err(invalid()),
    }
}

/// The session that the public key names.
pub(super) fn session(headers: &HeaderMap) -> Option<SessionId> {
    let key = PublicKey::parse(headers.get(PUBLIC_KEY)?.to_str().ok()?).ok()?;
    Some(SessionId::from(key.session().to_owned()))
}

fn api_key(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return Err(missing(headers)) };
    let (scheme, key) = field.as_bytes().split_at_checked("Bearer ".len()).ok_or_else(invalid)?;
    let key = key.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"Bearer ") || !key.starts_with(API_KEY_PREFIX.as_bytes()) {
        return Err(invalid());
    }
    Ok(key)
}

fn missing(headers: &HeaderMap) -> Refusal {
    if headers.contains_key(AUTHORIZATION) {
        return invalid();
    }
    Refusal::new(Code::TokenMissing, "an enclave's API key is required")
        .with_hint("send it as Authorization: Bearer; dvx enclave create prints it")
}

pub(super) fn invalid() -> Refusal {
    Refusal::new(Code::TokenInvalid, "the API key is not known, or its enclave was deleted")
        .with_hint("dvx enclave create prints the key of a new enclave")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(values: &[&'static str]) -> Option<Code> {
        let headers = values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect();
        api_key(&headers).err().map(|refusal| refusal.code)
    }

    #[test]
    fn exactly_one_api_key_is_one() {
        assert_eq!(code(&[]), Some(Code::TokenMissing));
        assert_eq!(code(&["bearer dvxe_x"]), None);
        for bad in ["", "Bearer", "Bearer ", "Basic dvxe_x", "dvxe_x", "Bearer dvxo_x", "Bearer x"] {
            assert_eq!(code(&[bad]), Some(Code::TokenInvalid), "{bad}");
        }
        assert_eq!(code(&["Bearer dvxe_x", "Bearer dvxe_x"]), Some(Code::TokenInvalid));
    }
}
