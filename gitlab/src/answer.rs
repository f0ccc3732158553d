//! What an answer says: GitLab has four shapes for errors, and a proxy before it has its own.

use std::time::Duration;

use dvx_proto::Token;
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::call::Repeat;
use crate::error::{Error, Loss};
use crate::text::ServerText;
use crate::transport::Answer;
use crate::types::{MintedToken, TokenInfo, TokenValue};

/// The longest wait that is believed, of which GitLab's longest ban is a fifth of an hour.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// What an answer says, by its shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// `{"message": "…"}`, or `{"message": {"field": ["…"]}}` put into one line.
    Message(ServerText),
    /// `{"error": "…", "error_description": "…"}` about a token that is known, with `scope` where that lacks.
    OAuth { error: String, description: ServerText, scope: Option<ServerText> },
    /// `{"error": "…"}` about a parameter, or about a path that is none.
    Error(ServerText),
    /// Text that is not JSON.
    Text(ServerText),
    /// JSON of some other shape.
    OtherJson,
    /// Nothing at all.
    Nothing,
}

#[derive(Deserialize)]
struct Body {
    message: Option<Value>,
    error: Option<Value>,
    error_description: Option<String>,
    scope: Option<String>,
}

impl Said {
    /// Reads an answer whose status is an error. `token` is the one that was presented.
    pub(crate) fn by(answer: &Answer, token: Option<&Token>) -> Self {
        let clean = |text: &str| ServerText::new(text, token);
        if answer.body.trim_ascii().is_empty() {
            return Self::Nothing;
        }
        if !is_json(&answer.headers) {
            return Self::Text(clean(&String::from_utf8_lossy(&answer.body)));
        }
        let Ok(body) = serde_json::from_slice::<Body>(&answer.body) else { return Self::OtherJson };
        match (body.message, body.error, body.error_description) {
            (Some(message), _, _) => Self::Message(clean(&flat(&message))),
            (None, Some(Value::String(error)), Some(description)) => {
                let scope = body.scope.as_deref().map(clean);
                Self::OAuth { error, description: clean(&description), scope }
            }
            (None, Some(error), None) => Self::Error(clean(&flat(&error))),
            _ => Self::OtherJson,
        }
    }

    /// The text, if there is any, of whatever shape.
    pub(crate) fn text(&self) -> Option<&ServerText> {
        match self {
            Self::Message(text) | Self::Error(text) | Self::Text(text) => Some(text),
            Self::OAuth { description, .. } => Some(description),
            Self::OtherJson | Self::Nothing => None,
        }
    }
}

/// `{"name": ["is too short", "is taken"]}` as `name: is too short, is taken`.
fn flat(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(flat).collect::<Vec<_>>().join(", "),
        Value::Object(map) => {
            let fields = map.iter().map(|(name, value)| format!("{name}: {}", flat(value)));
            fields.collect::<Vec<_>>().join("; ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// Whether the answer calls itself JSON.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = value.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Reads what a call that succeeded has brought. `not_ours` says what it means if nothing can be read.
pub(crate) fn decode<T: DeserializeOwned>(
    answer: &Answer,
    repeat: Repeat,
    not_ours: fn(&'static str) -> Error,
) -> Result<T, Error> {
    let unreadable = |found| match repeat {
        Repeat::Reads => not_ours(found),
        Repeat::Idempotent | Repeat::Creates | Repeat::Never => {
            Error::ResponseLost { loss: Loss::Unreadable }
        }
    };
    if !is_json(&answer.headers) {
        return Err(unreadable("an answer that is not JSON"));
    }
    // serde's own message may quote what it does not understand, which may be a secret.
    serde_json::from_slice(&answer.body).map_err(|_| unreadable("JSON of another shape"))
}

/// Whether a change of which nothing else is to be read was made: by an empty answer, or by one in JSON. A page
/// that something before the instance shows for everything says nothing about it.
pub(crate) fn acknowledged(answer: &Answer) -> Result<(), Error> {
    if answer.status == StatusCode::NO_CONTENT || is_json(&answer.headers) {
        return Ok(());
    }
    Err(Error::ResponseLost { loss: Loss::Unreadable })
}

/// Reads a token that was just made.
pub(crate) fn decode_minted(
    answer: &Answer,
    not_ours: fn(&'static str) -> Error,
) -> Result<MintedToken, Error> {
    let info: TokenInfo = decode(answer, Repeat::Creates, not_ours)?;
    let TokenValue { token } = decode(answer, Repeat::Creates, not_ours)?;
    Ok(MintedToken { info, token })
}

/// How long to wait, by whichever header says it: `Retry-After` as seconds or as a date, or the time of the
/// reset that `reset` names. Dates are compared with the answer's own, so that no clock of ours matters.
pub(crate) fn retry_after(headers: &HeaderMap, reset: &str) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let date = |text: &str| DateTimeParser::new().parse_timestamp(text).ok();
    let now = || text("date").and_then(date);
    let until = |then: Timestamp| {
        let seconds = then.as_second().saturating_sub(now()?.as_second());
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    };
    let wait = match text("retry-after") {
        Some(value) => match value.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => date(value).and_then(until),
        },
        None => {
            text(reset)?.parse().ok().and_then(|second| Timestamp::from_second(second).ok()).and_then(until)
        }
    };
    wait.map(|wait| wait.min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{answer, token};

    #[test]
    fn the_four_shapes_are_told_apart() {
        let json = "application/json; charset=utf-8";
        let clean = |text: &str| ServerText::new(text, None);
        for (kind, body, expected) in [
            (json, r#"{"message":"401 Unauthorized"}"#, Said::Message(clean("401 Unauthorized"))),
            (
                json,
                r#"{"message":{"access_level":["is lower","is odd"],"x":1}}"#,
                Said::Message(clean("access_level: is lower, is odd; x: 1")),
            ),
            (
                json,
                r#"{"error":"insufficient_scope","error_description":"More.","scope":"api read_api"}"#,
                Said::OAuth {
                    error: "insufficient_scope".to_owned(),
                    description: clean("More."),
                    scope: Some(clean("api read_api")),
                },
            ),
            (json, r#"{"error":"name is missing"}"#, Said::Error(clean("name is missing"))),
            ("text/plain", "Retry later\n", Said::Text(clean("Retry later"))),
            ("text/html", r#"{"message":"x"}"#, Said::Text(clean(r#"{"message":"x"}"#))),
            (json, "[]", Said::OtherJson),
            (json, r#"{"id":1}"#, Said::OtherJson),
            (json, r#"{"mess"#, Said::OtherJson),
            (json, " \n", Said::Nothing),
        ] {
            assert_eq!(Said::by(&answer(400, &[("content-type", kind)], body), None), expected, "{body}");
        }
    }

    #[test]
    fn an_echo_of_the_token_is_not_kept() {
        let own = token("opaque-value");
        let answer =
            answer(400, &[("content-type", "application/json")], r#"{"message":"opaque-value is bad"}"#);
        assert_eq!(Said::by(&answer, Some(&own)).text().unwrap().as_str(), "[redacted] is bad");
    }

    #[test]
    fn the_wait_is_read_from_whichever_header_has_it() {
        let date = ("date", "Wed, 25 Nov 2026 20:00:00 GMT");
        for (headers, seconds) in [
            (vec![("retry-after", "37")], Some(37)),
            (vec![("retry-after", "37"), ("ratelimit-reset", "1")], Some(37)),
            (vec![("retry-after", "Wed, 25 Nov 2026 20:01:30 GMT"), date], Some(90)),
            (vec![("retry-after", "Wed, 25 Nov 2026 19:00:00 GMT"), date], Some(0)),
            (vec![("retry-after", "Wed, 25 Nov 2026 20:01:30 GMT")], None),
            (vec![("ratelimit-reset", "1795636860"), date], Some(60)),
            (vec![("ratelimit-reset", "1795636860")], None),
            (vec![("retry-after", "99999999999")], Some(86_400)),
            (vec![("retry-after", "-5")], None),
            (vec![("retry-after", "soon")], None),
            (vec![], None),
        ] {
            let answer = answer(429, &headers, "");
            let wait = retry_after(&answer.headers, "ratelimit-reset").map(|wait| wait.as_secs());
            assert_eq!(wait, seconds, "{headers:?}");
        }
    }
}
