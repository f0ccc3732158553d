//! Requests, as the commands make them.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde::Serialize;

use super::ClientError;

/// What is to be asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: Method,
    path: String,
    body: Option<Bytes>,
    idempotency_key: Option<String>,
    patience: Option<Duration>,
}

impl Request {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, None)
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, None)
    }

    /// A change that may be made twice: it says how things are to be.
    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path, None)
    }

    pub(crate) fn post_json(path: impl Into<String>, body: &impl Serialize) -> Result<Self, ClientError> {
        Ok(Self::new(Method::POST, path, Some(json(body)?)))
    }

    pub(crate) fn put_json(path: impl Into<String>, body: &impl Serialize) -> Result<Self, ClientError> {
        Ok(Self::new(Method::PUT, path, Some(json(body)?)))
    }

    /// Something new, which a second request with the same key does not make again.
    pub(crate) fn create(path: impl Into<String>, body: &impl Serialize) -> Result<Self, ClientError> {
        Self::post_json(path, body)?.keyed()
    }

    /// The same, with a key of its own.
    pub(crate) fn keyed(self) -> Result<Self, ClientError> {
        let mut bytes = [0; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .map_err(|_| ClientError::Unspeakable)?;
        let key = bytes.iter().fold(String::new(), |mut key, byte| {
            // Writing to a String cannot fail.
            write!(key, "{byte:02x}").ok();
            key
        });
        Ok(Self { idempotency_key: Some(key), ..self })
    }

    /// The same, with a patience of its own.
    #[must_use]
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    fn new(method: Method, path: impl Into<String>, body: Option<Bytes>) -> Self {
        Self { method, path: path.into(), body, idempotency_key: None, patience: None }
    }

    /// Whether it does no harm to send it again when nobody knows what became of it. After a deletion that
    /// was carried out, a second one would say that there is no such thing.
    pub(super) fn is_repeatable(&self) -> bool {
        self.method != Method::DELETE
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn has_body(&self) -> bool {
        self.body.is_some()
    }

    pub(super) fn body(&self) -> Bytes {
        self.body.clone().unwrap_or_default()
    }

    pub(super) fn idempotency_key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }

    pub(super) fn patience(&self) -> Option<Duration> {
        self.patience
    }
}

fn json(body: &impl Serialize) -> Result<Bytes, ClientError> {
    Ok(serde_json::to_vec(body).map_err(|_| ClientError::Unspeakable)?.into())
}

/// A path with those parts of a query that have a value.
pub(crate) fn with_query(path: &str, query: &[(&str, Option<String>)]) -> String {
    let mut text = path.to_owned();
    let mut separator = if path.contains('?') { '&' } else { '?' };
    for (name, value) in query {
        if let Some(value) = value {
            text.push(separator);
            text.push_str(name);
            text.push('=');
            escape(value, &mut text);
            separator = '&';
        }
    }
    text
}

/// Percent-encoding of everything but what RFC 3986 calls unreserved, so that a value is a value.
fn escape(value: &str, text: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(byte.into());
        } else {
            // Writing to a String cannot fail.
            write!(text, "%{byte:02X}").ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_the_values_that_are_there_and_nothing_in_them_means_anything() {
        let query = [("a", Some("x&b=1 +é".to_owned())), ("b", None), ("c", Some("t:00Z".to_owned()))];
        assert_eq!(with_query("/p", &query), "/p?a=x%26b%3D1%20%2B%C3%A9&c=t%3A00Z");
        assert_eq!(with_query("/p?z=1", &[("a", Some("2".into()))]), "/p?z=1&a=2");
        assert_eq!(with_query("/p", &[]), "/p");
    }

    #[test]
    fn every_creation_has_a_key_of_its_own_and_keeps_it() {
        let request = Request::create("/p", &()).unwrap();
        let key = request.idempotency_key().unwrap().to_owned();
        assert_eq!(key.len(), 32);
        assert_eq!(request.clone().idempotency_key(), Some(key.as_str()));
        assert_ne!(Request::create("/p", &()).unwrap().idempotency_key(), Some(key.as_str()));
    }
}
