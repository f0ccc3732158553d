//! What a request must look like before anything else is asked about it (RFC 9112).
//!
//! hyper parses; what it tolerates and this API does not is refused here.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use dvx_proto::Code;
use dvx_proto::limits::{MAX_BODY_BYTES, MAX_HEADERS};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::header::{CONTENT_LENGTH, FORWARDED, HOST, HeaderMap, HeaderName, ORIGIN, TRANSFER_ENCODING, VIA};
use hyper::{Method, Request, Version};

use crate::api::problem::Refusal;

/// How long a body may take: it is one small JSON object.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// How much of a body that is too large is read and thrown away, so that a client which is still sending
/// gets to see the answer.
const DISCARD_BYTES: usize = 1024 * 1024;

/// How long a client may pause meanwhile: one that sends nothing is waiting for the answer.
const DISCARD_PAUSE: Duration = Duration::from_millis(200);

/// Fields by which a browser or a proxy gives itself away.
const INTERMEDIARIES: [HeaderName; 6] = [
    ORIGIN,
    VIA,
    FORWARDED,
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("proxy-connection"),
];

/// Checks what holds on both transports. A connection on which this fails ends: what follows on it may not be
/// what its sender thinks it is.
pub(crate) fn check<B: Body>(request: &Request<B>) -> Result<(), Refusal> {
    check_fields(request).map_err(Refusal::closing)
}

fn check_fields<B: Body>(request: &Request<B>) -> Result<(), Refusal> {
    let headers = request.headers();
    if headers.len() > MAX_HEADERS {
        let detail =
            format!("the request has {} header fields; at most {MAX_HEADERS} are taken", headers.len());
        return Err(Refusal::new(Code::HeadersTooLarge, detail));
    }
    if request.version() != Version::HTTP_11 {
        return Err(Refusal::bad_request("only HTTP/1.1 is spoken here"));
    }
    let uri = request.uri();
    if uri.scheme().is_some() || uri.authority().is_some() || !uri.path().starts_with('/') {
        return Err(Refusal::bad_request("the request target must be a path"));
    }
    let (mut hosts, mut has_body, mut is_encoded) = (0, false, false);
    for (name, value) in headers {
        hosts += usize::from(name == HOST);
        is_encoded |= name == TRANSFER_ENCODING;
        has_body |= name == CONTENT_LENGTH && value.as_bytes() != b"0";
    }
    if hosts != 1 {
        return Err(Refusal::bad_request("exactly one Host field is required"));
    }
    if is_encoded && !is_injection(uri.path()) {
        return Err(Refusal::bad_request("a body must come with Content-Length, not Transfer-Encoding"));
    }
    if request.method() == Method::GET && (has_body || is_encoded) {
        return Err(Refusal::bad_request("a GET request has no body"));
    }
    Ok(())
}

/// The route on which bodies of any size are to stream through, once it is there.
pub(super) fn is_injection(path: &str) -> bool {
    path.starts_with("/v1/agent/proxy/")
}

/// Checks that a request on loopback TCP comes straight from a local program: DNS rebinding shows in `Host`,
/// browsers and proxies show in what they add.
pub(crate) fn check_origin(headers: &HeaderMap, port: u16) -> Result<(), Refusal> {
    let refused = |detail: String| {
        Err(Refusal::new(Code::ForbiddenOrigin, detail).with_hint(
            "connect straight to the broker: add 127.0.0.1,localhost,::1 to no_proxy, or use the Unix socket",
        ))
    };
    for name in &INTERMEDIARIES {
        if headers.contains_key(name) {
            return refused(format!("the field {name} says that a browser or a proxy is in between"));
        }
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let ours = host.rsplit_once(':').is_some_and(|(name, given)| {
        let name_is_ours = matches!(name, "127.0.0.1" | "[::1]") || name.eq_ignore_ascii_case("localhost");
        let plain = !given.starts_with('0') && given.bytes().all(|byte| byte.is_ascii_digit());
        name_is_ours && plain && given.parse() == Ok(port)
    });
    if ours { Ok(()) } else { refused("the Host field does not name this broker".to_owned()) }
}

/// The body of a request: of a connection, or a text where a test plays the client.
pub(crate) trait RequestBody:
    Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send
{
}

impl<B> RequestBody for B where B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + Send
{}

/// Reads a request's body to its end.
pub(crate) async fn read_body(body: impl RequestBody) -> Result<Bytes, Refusal> {
    let declared = body.size_hint().exact();
    if declared.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        discard(body).await;
        return Err(too_large());
    }
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::bad_request("the body ended before its declared length").closing()),
        Err(_) => Err(Refusal::bad_request("the body did not arrive within 5 seconds").closing()),
    }
}

/// Reads a JSON body. The parser's own message could repeat the value, so only the place is told.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Refusal::bad_request(format!("the body is not the JSON object that this path takes ({place})"))
    })
}

fn too_large() -> Refusal {
    let detail = format!("a request body has at most {MAX_BODY_BYTES} bytes");
    Refusal::new(Code::BodyTooLarge, detail).closing()
}

/// Reads on for a moment; whatever comes of it, the answer is the same.
async fn discard(body: impl RequestBody) {
    let rest = async {
        let mut body = Limited::new(body, DISCARD_BYTES);
        while let Ok(Some(Ok(_))) = tokio::time::timeout(DISCARD_PAUSE, body.frame()).await {}
    };
    if tokio::time::timeout(BODY_TIMEOUT, rest).await.is_err() {
        tracing::debug!("a client is still sending a body that is too large");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn only_our_own_name_and_port_are_a_host() {
        for good in ["127.0.0.1:8471", "localhost:8471", "[::1]:8471", "LOCALHOST:8471"] {
            assert!(check_origin(&headers(&[("host", good)]), 8471).is_ok(), "{good}");
        }
        for bad in [
            "127.0.0.1",
            "127.0.0.1:8472",
            "127.0.0.1:",
            "127.0.0.1:+8471",
            "127.0.0.1:008471",
            "evil.example:8471",
            "127.0.0.1.evil.example:8471",
            "localhost.:8471",
            "0.0.0.0:8471",
            "[::]:8471",
            "u@127.0.0.1:8471",
            "",
        ] {
            assert!(check_origin(&headers(&[("host", bad)]), 8471).is_err(), "{bad}");
        }
    }

    #[test]
    fn browsers_and_proxies_are_refused() {
        for name in ["origin", "via", "forwarded", "sec-fetch-site", "x-forwarded-for", "proxy-connection"] {
            let given = headers(&[("host", "127.0.0.1:8471"), (name, "x")]);
            assert!(check_origin(&given, 8471).is_err(), "{name}");
        }
    }

    fn request(
        build: impl FnOnce(hyper::http::request::Builder) -> hyper::http::request::Builder,
    ) -> Request<String> {
        build(Request::builder().uri("/v1/agent/whoami")).body(String::new()).unwrap()
    }

    #[test]
    fn what_hyper_tolerates_and_we_do_not() {
        let ok = request(|request| request.header("host", "dvx"));
        assert!(check(&ok).is_ok());
        let chunked = |method: &'static str| {
            request(move |request| {
                let request = request.method(method).uri("/v1/agent/proxy/gitlab/x").header("host", "dvx");
                request.header("transfer-encoding", "chunked")
            })
        };
        assert!(check(&chunked("POST")).is_ok());
        for (what, bad) in [
            ("no host", request(|request| request)),
            ("two hosts", request(|request| request.header("host", "a").header("host", "a"))),
            ("absolute form", request(|request| request.uri("http://a/x").header("host", "a"))),
            ("authority form", request(|request| request.uri("a:1").header("host", "a"))),
            ("asterisk form", request(|request| request.method("OPTIONS").uri("*").header("host", "a"))),
            ("old version", request(|request| request.version(Version::HTTP_10).header("host", "a"))),
            ("body on get", request(|request| request.header("host", "a").header("content-length", "1"))),
            ("chunked body on get", chunked("GET")),
            (
                "chunked",
                request(|request| request.header("host", "a").header("transfer-encoding", "chunked")),
            ),
        ] {
            assert_eq!(check(&bad).err().map(|refusal| refusal.code), Some(Code::BadRequest), "{what}");
        }
    }
}
