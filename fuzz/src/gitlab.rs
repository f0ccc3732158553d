//! What a provider answers, or whoever stands before it.

use std::time::Duration;

use dvx_gitlab::fuzzing::hear;
use dvx_proto::Token;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{StatusCode, Uri};
use zeroize::Zeroizing;

use crate::{contains, replace};

/// The token that the answers are about; in an input, `@TOKEN@`.
const TOKEN: &str = "glpat-presented-4c7d.01.0x9";

/// The input is the answer, head and body.
pub fn run(input: &[u8]) {
    let bytes = replace(input, b"@TOKEN@", TOKEN.as_bytes());
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = head.parse(&bytes) else { return };
    let Some(Ok(status)) = head.code.map(StatusCode::from_u16) else { return };
    let mut headers = HeaderMap::new();
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            headers.append(name, value);
        }
    }
    let token = Token::try_from(Zeroizing::new(TOKEN.as_bytes().to_vec())).expect("a token");
    let heard = hear(status, &headers, &bytes[length..], &token);
    for shown in &heard.shown {
        let lower = shown.to_ascii_lowercase();
        assert!(!lower.contains(&TOKEN.to_ascii_lowercase()), "the token is shown: {shown}");
        assert!(!shown.contains(['\n', '\r', '\u{1b}']), "more than a line: {shown:?}");
        assert!(shown.chars().count() < 2000, "a long story: {shown}");
        if let Some(minted) = &heard.minted {
            assert!(minted.len() < 8 || !contains(shown.as_bytes(), minted), "a new token is shown: {shown}");
        }
    }
    assert!(heard.waits.iter().all(|wait| *wait <= Duration::from_secs(24 * 3600)), "{:?}", heard.waits);
    if let Some(query) = &heard.next {
        let path = "/api/v4/groups/1/service_accounts";
        let target: Uri = format!("{path}?{query}").parse().expect("a target");
        assert_eq!((target.path(), target.host()), (path, None), "{query}");
    }
}
