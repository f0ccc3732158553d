//! Bodies of requests: read within limits, and parsed in one step.

use std::time::Duration;

use bytes::Bytes;
use dvx_proto::Code;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;

use super::error::Refusal;

/// How long a body may take: it is one small JSON object.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of a body that is too large is read and thrown away, so that a client which is still sending
/// gets to see the answer.
const DISCARD_BYTES: usize = 1024 * 1024;

/// How long a client may pause meanwhile: one that sends nothing is waiting for the answer.
const DISCARD_PAUSE: Duration = Duration::from_millis(200);

/// What a path takes for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepts {
    /// None, or one without anything in it.
    Nothing,
    /// A JSON object.
    Json,
    /// A JSON object with a value that must not be seen.
    Secret,
}

impl Accepts {
    /// How large a body may be.
    const fn limit(self) -> usize {
        match self {
            Self::Nothing | Self::Json => 16 * 1024,
            // Each byte of the largest value may be an escape of six, and there is room for what goes with it.
            Self::Secret => 6 * dvx_proto::limits::MAX_SECRET_BYTES + 16 * 1024,
        }
    }
}

/// Reads a request's body to its end.
pub(crate) async fn read(body: Incoming, headers: &HeaderMap, accepts: Accepts) -> Result<Bytes, Refusal> {
    let limit = accepts.limit();
    if body.size_hint().exact().is_some_and(|length| length > limit as u64) {
        discard(body).await;
        return Err(too_large(accepts));
    }
    let is_empty = body.is_end_stream();
    if accepts != Accepts::Nothing && !is_json(headers) {
        discard(body).await;
        let detail = "the body must be JSON and say so";
        return Err(Refusal::bad_request(detail)
            .with_hint("send it with the field Content-Type: application/json")
            .closing());
    }
    if is_empty {
        return Ok(Bytes::new());
    }
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(accepts)),
        Ok(Err(_)) => Err(Refusal::bad_request("the body ended before its declared length").closing()),
        Err(_) => Err(Refusal::bad_request("the body did not arrive within 10 seconds").closing()),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(given) = headers.get(CONTENT_TYPE).and_then(|given| given.to_str().ok()) else { return false };
    let essence = given.split_once(';').map_or(given, |(essence, _)| essence);
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn too_large(accepts: Accepts) -> Refusal {
    match accepts {
        Accepts::Nothing | Accepts::Json => {
            let detail = format!("the body of this request has at most {} bytes", accepts.limit());
            Refusal::new(Code::BodyTooLarge, detail).closing()
        }
        Accepts::Secret => value_too_large().closing(),
    }
}

/// A secret that is above the limit.
pub(crate) fn value_too_large() -> Refusal {
    let limit = dvx_proto::limits::MAX_SECRET_BYTES;
    Refusal::new(Code::BodyTooLarge, format!("a secret's value has at most {limit} bytes"))
}

/// Reads on for a moment; whatever comes of it, the answer is the same.
pub(crate) async fn discard(body: Incoming) {
    let rest = async {
        let mut body = Limited::new(body, DISCARD_BYTES);
        while let Ok(Some(Ok(_))) = tokio::time::timeout(DISCARD_PAUSE, body.frame()).await {}
    };
    if tokio::time::timeout(BODY_TIMEOUT, rest).await.is_err() {
        tracing::debug!("a client is still sending a body that nobody takes");
    }
}

/// Reads a JSON object. What the parser says is passed on where it cannot repeat a value.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8], accepts: Accepts) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        let text = error.to_string();
        let message = text.split_once(" at line ").map_or(text.as_str(), |(message, _)| message);
        let about_members = ["unknown field", "missing field", "duplicate field"]
            .iter()
            .any(|start| message.starts_with(start));
        let is_safe = about_members || (error.is_data() && accepts == Accepts::Json);
        let detail = if is_safe {
            format!("the body is not the JSON object that this path takes: {} ({place})", shortened(message))
        } else {
            format!("the body is not the JSON object that this path takes ({place})")
        };
        Refusal::bad_request(detail)
    })
}

/// A message about hostile input is not as long as that.
fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 300;
    text.chars().filter(|c| !c.is_control()).take(MAX_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use dvx_proto::operator::{CreateAgent, SetSecret};

    use super::*;

    #[test]
    fn json_must_be_called_json() {
        for (given, fine) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/jsonp", false),
            ("", false),
        ] {
            let headers = [(CONTENT_TYPE, given.parse().unwrap())].into_iter().collect();
            assert_eq!(is_json(&headers), fine, "{given}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn what_is_wrong_is_said_without_a_value() {
        let bodies = [
            r#"{"value":"planted","agent_accessible":"planted"}"#,
            r#"{"value":"planted","auth_type":"planted"}"#,
            r#"{"value":"planted","instance_url":"http://planted@x"}"#,
            r#"{"value":"x","expires_at":"planted"}"#,
            r#"{"value":["planted"]}"#,
            r#"{"value":"planted""#,
            r#""planted""#,
            "planted",
        ];
        for body in bodies {
            let refusal = parse::<SetSecret>(body.as_bytes(), Accepts::Secret).unwrap_err();
            assert!(!format!("{refusal:?}").contains("planted"), "{body}: {refusal:?}");
        }
        let unknown = parse::<SetSecret>(br#"{"value":"planted","accessible":false}"#, Accepts::Secret);
        assert!(unknown.unwrap_err().detail.contains("unknown field `accessible`, expected"));
    }

    #[test]
    fn misspelt_members_are_refused_also_beside_flat_ones() {
        let body = br#"{"name":"a","enclave":"e","unix_user":"u","unti":"a.service"}"#;
        let refusal = parse::<CreateAgent>(body, Accepts::Json).unwrap_err();
        assert!(refusal.detail.contains("unknown field `unti`"), "{}", refusal.detail);
        let body = br#"{"name":"A","enclave":"e","unix_user":"u"}"#;
        let refusal = parse::<CreateAgent>(body, Accepts::Json).unwrap_err();
        assert!(refusal.detail.contains("\"A\" is not an agent's name"), "{}", refusal.detail);
    }

    #[test]
    fn the_largest_value_fits_however_it_is_escaped() {
        let value = "\\u0001".repeat(dvx_proto::limits::MAX_SECRET_BYTES);
        assert!(value.len() + "{\"value\":\"\"}".len() < Accepts::Secret.limit());
    }
}
