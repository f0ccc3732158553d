//! A request that has been let in, as its handler sees it.

use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use dvx_proto::Code;
use hyper::Uri;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::RequestId;
use super::body::{self, Accepts};
use super::error::Refusal;
use super::idempotency;
use crate::app::App;
use crate::domain::{Actor, Cause, OrgId};

/// Who asks, for what, and with what. Only the router makes one, when the caller's role is enough.
pub(crate) struct Call {
    pub(super) app: Arc<App>,
    pub(super) actor: Actor,
    pub(super) id: RequestId,
    pub(super) now: Timestamp,
    pub(super) method: &'static str,
    pub(super) uri: Uri,
    /// What stands where the route has braces, unescaped.
    pub(super) names: Vec<String>,
    pub(super) accepts: Accepts,
    pub(super) body: Bytes,
    pub(super) idempotency_key: Option<String>,
}

impl Call {
    pub(crate) fn app(&self) -> &Arc<App> {
        &self.app
    }

    pub(crate) fn actor(&self) -> &Actor {
        &self.actor
    }

    pub(crate) fn org(&self) -> &OrgId {
        &self.actor.org
    }

    /// When the request came.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// What its changes are put down to.
    pub(crate) fn cause(&self) -> Cause {
        let request_id = Some(self.id.as_str().to_owned());
        Cause { actor: self.actor.clone(), request_id, time: self.now, repeatable: None }
    }

    /// The same, of what is carried out once if the request has a key.
    pub(crate) fn cause_once(&self) -> Cause {
        Cause { repeatable: idempotency::repeatable(self), ..self.cause() }
    }

    /// The n-th name of the path. What cannot be a name is not the name of anything.
    pub(crate) fn name<T: FromStr>(&self, index: usize, what: &'static str) -> Result<T, Refusal> {
        self.text(index).parse().map_err(|_| Refusal::not_found(what))
    }

    /// The n-th name of the path, for something that may be made.
    pub(crate) fn new_name<T: FromStr<Err: std::error::Error>>(&self, index: usize) -> Result<T, Refusal> {
        self.text(index).parse().map_err(|error: T::Err| Refusal::bad_request(error.to_string()))
    }

    fn text(&self, index: usize) -> &str {
        self.names.get(index).map_or("", String::as_str)
    }

    /// What is asked for behind the question mark.
    pub(crate) fn query<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let query = axum::extract::Query::<T>::try_from_uri(&self.uri);
        query.map(|query| query.0).map_err(|error| {
            let cause =
                std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
            Refusal::new(Code::BadRequest, format!("the query is not one that this path takes{cause}"))
        })
    }

    /// Nothing may be asked for behind a question mark.
    pub(crate) fn no_query(&self) -> Result<(), Refusal> {
        match self.uri.query() {
            None | Some("") => Ok(()),
            Some(_) => Err(Refusal::bad_request("this path takes no query")),
        }
    }

    /// The body.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        body::parse(&self.body, self.accepts)
    }

    /// What the caller knows the request by, to make it one that is carried out once.
    pub(super) fn idempotency_key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }

    /// All that makes the request this one and not another.
    pub(super) fn identity(&self) -> [&[u8]; 4] {
        let path = self.uri.path().as_bytes();
        let query = self.uri.query().unwrap_or_default().as_bytes();
        [self.method.as_bytes(), path, query, &self.body]
    }
}

/// Text for people: on one line, and not ever so long.
pub(crate) fn text(what: &'static str, text: &str, max_bytes: usize) -> Result<(), Refusal> {
    if text.trim().is_empty() || text.len() > max_bytes || text.chars().any(char::is_control) {
        let detail = format!("{what} is 1 to {max_bytes} bytes of text without control characters");
        return Err(Refusal::bad_request(detail));
    }
    Ok(())
}
