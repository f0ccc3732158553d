//! What a provider answers, or whoever stands before it.

use std::time::Duration;

use dvx_gitlab::fuzzing::{Heard, hear};
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
    let Some(heard) = heard(&bytes) else { return };
    for shown in &heard.shown {
        let lower = shown.to_ascii_lowercase();
        assert!(!lower.contains(&TOKEN.to_ascii_lowercase()), "the token is shown: {shown}");
        assert!(!shown.contains(['\n', '\r', '\u{1b}']), "more than a line: {shown:?}");
        assert!(shown.chars().count() < 2000, "a long story: {shown}");
        if let Some(minted) = &heard.minted {
            let is_shown = minted.len() >= 8 && contains(shown.as_bytes(), minted);
            assert!(!is_shown || is_said_anyway(&bytes, minted), "a new token is shown: {shown}");
        }
    }
    assert!(heard.waits.iter().all(|wait| *wait <= Duration::from_secs(24 * 3600)), "{:?}", heard.waits);
    if let Some(query) = &heard.next {
        let path = "/api/v4/groups/1/service_accounts";
        let target: Uri = format!("{path}?{query}").parse().expect("a target");
        assert_eq!((target.path(), target.host()), (path, None), "{query}");
    }
}

/// What is heard of an answer, if it is one.
fn heard(bytes: &[u8]) -> Option<Heard> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(length)) = head.parse(bytes) else { return None };
    let status = StatusCode::from_u16(head.code?).ok()?;
    let mut headers = HeaderMap::new();
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(field.value)) {
            headers.append(name, value);
        }
    }
    let token = Token::try_from(Zeroizing::new(TOKEN.as_bytes().to_vec())).expect("a token");
    Some(hear(status, &headers, &bytes[length..], &token))
}

/// Whether a text is said of an answer also where another new token stands in it: then it is a word of ours, which
/// the fuzzer has taken for a token.
fn is_said_anyway(bytes: &[u8], minted: &[u8]) -> bool {
    let other = heard(&replace(bytes, minted, &vec![b'~'; minted.len()]));
    other.is_some_and(|other| other.shown.iter().any(|shown| contains(shown.as_bytes(), minted)))
}
