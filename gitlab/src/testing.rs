//! What several modules' tests need.

use dvx_proto::Token;
use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::transport::Answer;

pub(crate) mod server;

pub(crate) fn token(text: &str) -> Token {
    Token::try_from(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
}

pub(crate) fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
    let header = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: headers.iter().map(header).collect(),
        body: Zeroizing::new(body.as_bytes().to_vec()),
    }
}
