//! One call: its attempts, what is repeated, and what the log says.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use dvx_proto::{Origin, RemoteUrl, Token};
use http_body_util::Full;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request};
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use crate::clock::Stopwatch;
use crate::error::{Error, Loss};
use crate::transport::{Answer, Failure, MAX_BODY_BYTES, Outgoing, Sent, Transport};

/// A call is attempted this often at most.
const MAX_ATTEMPTS: u32 = 3;

/// The longest wait before the second attempt; each further one may take twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(400);

/// Whether a call may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing.
    Reads,
    /// Its second time finds what the first has done, and says so.
    Idempotent,
    /// It makes something: only if nothing was sent.
    Creates,
    /// Not even then.
    Never,
}

/// A call before it becomes a request.
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Its name in logs: the path with placeholders.
    pub(crate) route: &'static str,
    /// Path and query, below the instance's own path.
    pub(crate) target: String,
    /// A JSON document; none of these has a secret in it.
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) repeat: Repeat,
    /// What authenticates, and other headers of the provider's.
    pub(crate) headers: HeaderMap,
    /// What it means when no such provider can have answered.
    pub(crate) not_ours: fn(&'static str) -> Error,
}

impl Repeat {
    const fn changes(self) -> bool {
        !matches!(self, Self::Reads)
    }

    /// Whether to try again after an attempt that went like this.
    fn again(self, outcome: &Result<Answer, Failure>) -> bool {
        let safe = matches!(self, Self::Reads | Self::Idempotent);
        match outcome {
            Ok(answer) => safe && answer.status.is_server_error(),
            // Without a connection nothing was sent, and what may have been sent before was not tried again.
            Err(Failure::Unreachable(_)) => self != Self::Never,
            Err(Failure::Lost) => safe,
            Err(Failure::Refused(_) | Failure::Tls(_) | Failure::Garbage | Failure::TooLarge) => false,
        }
    }
}

/// Makes the call, and again where that is safe. Any answer is one, whatever its status, but for redirects.
pub(crate) async fn perform(transport: &Transport, url: &RemoteUrl, call: Call) -> Result<Answer, Error> {
    let sent = Sent::default();
    let (route, repeat) = (call.route, call.repeat);
    match timeout(transport.limit(), attempts(transport, url, call, &sent)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            tracing::info!(route, sent = sent.is_set(), "call took too long");
            Err(lost_or(repeat, &sent, Loss::TimedOut, || Error::TimedOut))
        }
    }
}

async fn attempts(transport: &Transport, url: &RemoteUrl, call: Call, sent: &Sent) -> Result<Answer, Error> {
    let (method, route, repeat, not_ours) = (call.method.clone(), call.route, call.repeat, call.not_ours);
    let outgoing = call.into_outgoing(url)?;
    let mut attempt = 1;
    loop {
        let stopwatch = Stopwatch::start();
        let outcome = transport.exchange(outgoing.clone(), sent).await;
        log(&method, route, attempt, stopwatch.elapsed(), &outcome);
        if attempt < MAX_ATTEMPTS && repeat.again(&outcome) {
            sleep(wait_before(attempt, transport.random())).await;
            attempt += 1;
            continue;
        }
        return match outcome {
            Ok(answer) if answer.status.is_redirection() => Err(redirected(&answer)),
            Ok(answer) => Ok(answer),
            Err(failure) => Err(error_of(failure, &outgoing.origin, repeat, sent, not_ours)),
        };
    }
}

/// Between half of the longest wait and all of it: never at once, and not in step with others.
fn wait_before(attempt: u32, random: f64) -> Duration {
    let longest = FIRST_WAIT.saturating_mul(1 << attempt.saturating_sub(1).min(8));
    longest.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
}

fn lost_or(repeat: Repeat, sent: &Sent, loss: Loss, otherwise: impl FnOnce() -> Error) -> Error {
    if repeat.changes() && sent.is_set() { Error::ResponseLost { loss } } else { otherwise() }
}

fn error_of(
    failure: Failure,
    origin: &Origin,
    repeat: Repeat,
    sent: &Sent,
    not_ours: fn(&'static str) -> Error,
) -> Error {
    let host = origin.host_and_port().0.to_owned();
    match failure {
        // An address that is refused at the second attempt says nothing about what the first one did.
        Failure::Refused(refusal) => lost_or(repeat, sent, Loss::Closed, || Error::AddressRefused(refusal)),
        Failure::Unreachable(source) => {
            lost_or(repeat, sent, Loss::Closed, || Error::Unreachable { host, source })
        }
        Failure::Tls(source) => lost_or(repeat, sent, Loss::Closed, || Error::Tls { host, source }),
        Failure::Lost => lost_or(repeat, sent, Loss::Closed, || Error::Unreachable {
            host,
            source: io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the connection ended before the answer did",
            ),
        }),
        Failure::Garbage => {
            lost_or(repeat, sent, Loss::Unreadable, || not_ours("an answer that is not HTTP"))
        }
        Failure::TooLarge => {
            lost_or(repeat, sent, Loss::Unreadable, || Error::TooLarge { limit: MAX_BODY_BYTES })
        }
    }
}

pub(crate) fn redirected(answer: &Answer) -> Error {
    let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let to = location.and_then(|text| {
        let (scheme, rest) = text.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next()?;
        Origin::from_protocol_and_host(scheme, host).ok()
    });
    Error::Redirected { to }
}

/// One line for each attempt: at `info` what changes something or goes wrong.
fn log(method: &Method, route: &str, attempt: u32, took: Duration, outcome: &Result<Answer, Failure>) {
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match outcome {
        Ok(answer) => {
            let (status, request_id) = (answer.status.as_u16(), request_id(&answer.headers));
            if answer.status.is_success() && *method == Method::GET {
                tracing::debug!(%method, route, attempt, status, request_id, duration_ms, "call answered");
            } else {
                tracing::info!(%method, route, attempt, status, request_id, duration_ms, "call answered");
            }
        }
        Err(failure) => {
            let cause = failure.cause();
            tracing::info!(%method, route, attempt, cause, duration_ms, "call not answered");
        }
    }
}

/// The provider's own name of the request, by which its operators find it in their logs.
fn request_id(headers: &HeaderMap) -> &str {
    let value = headers.get("x-request-id").or_else(|| headers.get("x-github-request-id"));
    let plain = |text: &&str| {
        text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':' | b'_'))
    };
    value.and_then(|value| value.to_str().ok()).filter(plain).unwrap_or("")
}

impl Failure {
    const fn cause(&self) -> &'static str {
        match self {
            Self::Refused(_) => "address refused",
            Self::Unreachable(_) => "unreachable",
            Self::Tls(_) => "no secure connection",
            Self::Lost => "connection lost",
            Self::Garbage => "not HTTP",
            Self::TooLarge => "answer too large",
        }
    }
}

impl Call {
    fn into_outgoing(self, url: &RemoteUrl) -> Result<Outgoing, Error> {
        let origin = url.origin().clone();
        let malformed = |error: hyper::http::Error| Error::Unreachable {
            host: origin.host_and_port().0.to_owned(),
            source: io::Error::new(io::ErrorKind::InvalidInput, error),
        };
        let has_body = self.body.is_some();
        let body = Full::new(self.body.map(Bytes::from).unwrap_or_default());
        let builder = Request::builder().method(self.method).uri(format!("{}{}", url.path(), self.target));
        let mut request = builder.body(body).map_err(malformed)?;
        let text = origin.to_string();
        let authority = text.split_once("://").map_or(text.as_str(), |(_, authority)| authority);
        let host = HeaderValue::from_str(authority).map_err(|error| malformed(error.into()))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers
            .insert(header::USER_AGENT, HeaderValue::from_static(concat!("dvx/", env!("CARGO_PKG_VERSION"))));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        if has_body {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        headers.extend(self.headers);
        Ok(Outgoing { origin, request })
    }
}

/// A header with a token in it: `prefix` and the token, in memory that is wiped, and marked as not to be shown.
pub(crate) fn credential(name: &'static str, prefix: &str, token: &Token) -> HeaderMap {
    let mut bytes = Zeroizing::new(Vec::with_capacity(prefix.len() + token.expose_secret().len()));
    bytes.extend_from_slice(prefix.as_bytes());
    bytes.extend_from_slice(token.expose_secret());
    let mut headers = HeaderMap::new();
    // A token is visible ASCII, so this does not fail; if it did, the call would go without it and be refused.
    if let Ok(mut value) = HeaderValue::from_maybe_shared(Bytes::from_owner(bytes)) {
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_between_half_and_all_of_the_longest() {
        for (attempt, longest) in [(1, 400), (2, 800), (3, 1600)] {
            assert_eq!(wait_before(attempt, 0.0), Duration::from_millis(longest / 2));
            assert_eq!(wait_before(attempt, 1.0), Duration::from_millis(longest));
        }
        assert!(wait_before(u32::MAX, 1.0) < Duration::from_secs(300));
    }

    #[test]
    fn a_header_with_a_token_shows_nothing() {
        let token = Token::try_from(Zeroizing::new(b"glpat-visible".to_vec())).unwrap();
        let headers = credential("private-token", "", &token);
        assert_eq!(headers.get("private-token").unwrap().as_bytes(), b"glpat-visible");
        assert!(!format!("{headers:?}").contains("visible"));
    }
}
