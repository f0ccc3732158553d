//! What a request must look like besides being HTTP (RFC 9112).

use dvx_proto::Code;
use dvx_proto::limits::MAX_HEADERS;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING};
use hyper::{Method, Request, Version};

use super::error::Refusal;

/// A connection on which this fails ends: what follows on it may not be what its sender thinks it is.
pub(crate) fn check<B>(request: &Request<B>) -> Result<(), Refusal> {
    check_fields(request).map_err(Refusal::closing)
}

fn check_fields<B>(request: &Request<B>) -> Result<(), Refusal> {
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
    let mut hosts = headers.get_all(HOST).iter();
    if hosts.next().is_none() || hosts.next().is_some() {
        return Err(Refusal::bad_request("exactly one Host field is required"));
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) && has_body(headers) {
        return Err(Refusal::bad_request("a GET request has no body"));
    }
    // A proxy in front may read a length beside it, and then what follows is another request to it than to us.
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::bad_request("a body must come with Content-Length, not Transfer-Encoding"));
    }
    Ok(())
}

/// Whether a body is announced.
pub(crate) fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(
        build: impl FnOnce(hyper::http::request::Builder) -> hyper::http::request::Builder,
    ) -> Request<()> {
        build(Request::builder().uri("/api/v1/whoami")).body(()).unwrap()
    }

    #[test]
    fn what_hyper_tolerates_and_we_do_not() {
        let fine = request(|request| request.header("host", "dvx"));
        assert!(check(&fine).is_ok());
        for (what, bad) in [
            ("no host", request(|request| request)),
            ("two hosts", request(|request| request.header("host", "a").header("host", "a"))),
            ("absolute form", request(|request| request.uri("http://a/x").header("host", "a"))),
            ("authority form", request(|request| request.uri("a:1").header("host", "a"))),
            (
                "chunked body",
                request(|request| {
                    request.method("POST").header("host", "a").header("transfer-encoding", "chunked")
                }),
            ),
            ("old version", request(|request| request.version(Version::HTTP_10).header("host", "a"))),
            ("body on get", request(|request| request.header("host", "a").header("content-length", "1"))),
            (
                "chunked body on get",
                request(|request| request.header("host", "a").header("transfer-encoding", "chunked")),
            ),
        ] {
            assert_eq!(check(&bad).err().map(|refusal| refusal.code), Some(Code::BadRequest), "{what}");
        }
        let many = request(|request| {
            (0..MAX_HEADERS).fold(request.header("host", "a"), |request, _| request.header("x", "y"))
        });
        assert_eq!(check(&many).unwrap_err().code, Code::HeadersTooLarge);
    }
}
