//! `GET /v1/enclave/watch`: the stream on which a broker learns what there is and what changes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use dvx_proto::Code;
use dvx_proto::enclave::{MAX_STALE, PUBLIC_KEY};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Request, Response};
use serde::Deserialize;

use super::auth::{Caller, invalid};
use crate::app::App;
use crate::crypto::seal::{PublicKey, Sealer};
use crate::domain::{Revision, SessionId};
use crate::http::answer::Answer;
use crate::http::error::Refusal;
use crate::hub::{self, Opened, Opening, Session};

/// The longest that a broker may serve without word from us, as its configuration has it.
const MAX_STALE_SECONDS: u64 = 30 * 24 * 3600;

#[derive(Deserialize)]
struct Query {
    revision: Option<u64>,
    mark: Option<u64>,
}

pub(super) async fn answer(app: &Arc<App>, caller: Caller, request: Request<Body>) -> Answer {
    let query = axum::extract::Query::<Query>::try_from_uri(request.uri())
        .map_err(|_| Refusal::bad_request("revision or mark is not a number"))?;
    let key = PublicKey::parse(field(request.headers(), PUBLIC_KEY)?)
        .map_err(|error| Refusal::bad_request(format!("{PUBLIC_KEY} is {error}")))?;
    let max_stale = max_stale(request.headers())?;
    let sealer =
        Sealer::new(&key).map_err(|error| Refusal::bad_request(format!("{PUBLIC_KEY} is {error}")))?;
    let session = Session::new(SessionId::from(key.session().to_owned()), caller.enclave, caller.key);
    let Query { revision, mark } = query.0;
    let opening = Opening { session, sealer, revision: revision.map(Revision), mark, max_stale };
    match hub::open(&app.hub, opening).await? {
        Opened::Stream(lines) => {
            let mut answer = Response::new(Body::new(lines));
            let lines = HeaderValue::from_static("application/x-ndjson");
            answer.headers_mut().insert(CONTENT_TYPE, lines);
            Ok(answer)
        }
        Opened::Deleted => Err(invalid()),
        Opened::Unrecorded => {
            Err(Refusal::new(Code::StoreUnavailable, "the database cannot be used at the moment"))
        }
    }
}

fn field<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, Refusal> {
    let mut fields = headers.get_all(name).iter();
    match (fields.next().map(HeaderValue::to_str), fields.next()) {
        (Some(Ok(text)), None) => Ok(text),
        _ => Err(Refusal::bad_request(format!("exactly one field {name} is required"))),
    }
}

fn max_stale(headers: &HeaderMap) -> Result<Duration, Refusal> {
    match field(headers, MAX_STALE)?.parse() {
        Ok(seconds) if (1..=MAX_STALE_SECONDS).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => {
            let detail = format!("{MAX_STALE} is not a number of seconds from 1 to {MAX_STALE_SECONDS}");
            Err(Refusal::bad_request(detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_says_once_for_how_long_it_serves() {
        let stale = |values: &[&'static str]| {
            let headers = values.iter().map(|v| (MAX_STALE.parse().unwrap(), v.parse().unwrap())).collect();
            max_stale(&headers).ok()
        };
        assert_eq!(stale(&["3600"]), Some(Duration::from_secs(3600)));
        for bad in [&[][..], &["1", "1"], &["0"], &["2592001"], &["-1"], &["1h"], &[""]] {
            assert_eq!(stale(bad), None, "{bad:?}");
        }
    }
}
