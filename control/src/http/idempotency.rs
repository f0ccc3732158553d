//! Requests that are carried out once, however often they come.

use axum::body::Body;
use dvx_proto::operator::IDEMPOTENCY_KEY;
use hyper::{HeaderMap, Response, StatusCode};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::answer::{self, Answer};
use super::call::Call;
use super::error::Refusal;
use crate::domain::{Changed, Once, Outcome, Repeatable, StoredAnswer};

/// The longest key. Clients send a UUID or something like it.
const MAX_KEY_BYTES: usize = 128;

/// The key that came with a request.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut fields = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    let bytes = field.as_bytes();
    let fits = (1..=MAX_KEY_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    match field.to_str() {
        Ok(key) if fits && fields.next().is_none() => Ok(Some(key.to_owned())),
        Ok(_) | Err(_) => {
            Err(Refusal::bad_request("Idempotency-Key is given once, with 1 to 128 visible ASCII characters"))
        }
    }
}

/// A request that makes something and is to be carried out once.
pub(crate) struct Created<'c> {
    key: &'c str,
    request: [u8; 32],
}

/// What makes a request one that is carried out once, if it has a key.
pub(crate) fn once(call: &Call) -> Option<Created<'_>> {
    let key = call.idempotency_key()?;
    Some(Created { key, request: fingerprint(&call.identity()) })
}

/// The mark of a request that is carried out once, for what takes more than one transaction.
pub(crate) fn repeatable(call: &Call) -> Option<Repeatable> {
    let Created { key, request } = once(call)?;
    Some(Repeatable { key: key.to_owned(), request })
}

impl Created<'_> {
    /// The same for the store, which keeps the answer together with what was made.
    pub(crate) fn once<T: Serialize>(&self) -> Once<'_, T> {
        Once { key: self.key, request: self.request, render: &render }
    }
}

/// The answer to making something, for now and for when the same request comes again.
fn render<T: Serialize>(changed: &Changed<T>) -> StoredAnswer {
    // What is made is text and numbers: this cannot fail, and an empty body is the honest rest.
    let body = serde_json::to_vec(&changed.value).unwrap_or_default();
    StoredAnswer { status: StatusCode::CREATED.as_u16(), revision: changed.revision, body: body.into() }
}

/// The answer to making something, be it now or before.
pub(crate) fn answer<T: Serialize>(outcome: Outcome<T>) -> Answer {
    match outcome {
        Outcome::Done(changed) => Ok(repeated(render(&changed))),
        Outcome::Repeated(stored) => Ok(repeated(stored)),
    }
}

/// Of all parts, each with its length, so that nothing can move from one to the next.
fn fingerprint(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn repeated(stored: StoredAnswer) -> Response<Body> {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    let body = stored.body.expose_secret().to_vec();
    answer::at(stored.revision, answer::rendered(status, body))
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(values: &[&[u8]]) -> HeaderMap {
        let name = HeaderName::from_static(IDEMPOTENCY_KEY);
        values.iter().map(|value| (name.clone(), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    #[test]
    fn a_key_is_short_and_visible_and_there_once() {
        assert_eq!(key(&headers(&[])).unwrap(), None);
        assert_eq!(key(&headers(&[b"a-1"])).unwrap().as_deref(), Some("a-1"));
        assert!(key(&headers(&[&[b'k'; 128]])).is_ok());
        let bad: [&[&[u8]]; 5] = [&[b""], &[b"a b"], &[b"\xff"], &[&[b'k'; 129]], &[b"a", b"a"]];
        for bad in bad {
            assert!(key(&headers(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nothing_moves_between_the_parts_of_a_request() {
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        assert_eq!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"ab", b"c"]));
    }
}
