//! What the fuzz target in `fuzz/` reaches of this crate. It is compiled with `--cfg fuzzing` alone.

use std::time::Duration;

use dvx_proto::Token;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use zeroize::Zeroizing;

use crate::answer::{acknowledged, decode, decode_minted, retry_after};
use crate::call::{Repeat, redirected};
use crate::transport::Answer;
use crate::types::{Group, Member, Project, ServiceAccount, TokenInfo, User};
use crate::{classify, github, page};

/// What was made of an answer.
#[derive(Debug, Default)]
pub struct Heard {
    /// Everything that a person or a log may be shown of it.
    pub shown: Vec<String>,
    /// Every wait that was read out of it.
    pub waits: Vec<Duration>,
    /// The query of the next page.
    pub next: Option<String>,
    /// The value of a token that it brought.
    pub minted: Option<Vec<u8>>,
}

/// Reads an answer in each of the ways that there are, as one to this token.
pub fn hear(status: StatusCode, headers: &HeaderMap, body: &[u8], token: &Token) -> Heard {
    let answer = || Answer { status, headers: headers.clone(), body: Zeroizing::new(body.to_vec()) };
    let mut heard = Heard { next: page::next(headers, page::FIRST), ..Heard::default() };
    if status.is_redirection() {
        heard.shown.push(redirected(&answer()).without(token).to_string());
        return heard;
    }
    for outcome in [classify::check(answer(), Some(token)), github::check(answer(), token)] {
        heard.shown.extend(outcome.err().map(|error| format!("{error} {error:?}")));
    }
    heard.waits.extend(
        ["ratelimit-reset", "x-ratelimit-reset"].iter().filter_map(|name| retry_after(headers, name)),
    );
    heard.shown.push(format!("{:?}", github::read_user(&answer(), token)));
    let user = decode::<User>(&answer(), Repeat::Reads, classify::not_gitlab);
    let named = user.and_then(|user| user.checked(token)).map(|user| user.username);
    heard.shown.push(format!("{named:?}"));
    heard.read(&answer());
    heard
}

impl Heard {
    fn read(&mut self, answer: &Answer) {
        let repeat = Repeat::Reads;
        macro_rules! read {
            ($($kind:ty),*) => {
                $(if let Err(error) = decode::<$kind>(answer, repeat, classify::not_gitlab) {
                    self.shown.push(format!("{error} {error:?}"));
                })*
            };
        }
        read!(User, TokenInfo, Group, Vec<Group>, Vec<Member>, Project, Vec<ServiceAccount>);
        self.shown.extend(acknowledged(answer).err().map(|error| error.to_string()));
        match decode_minted(answer, classify::not_gitlab) {
            Ok(minted) => {
                self.shown.push(format!("{:?}", minted.token));
                self.shown.push(format!("{:?} {:?}", minted.info.scopes, minted.info.ends_at()));
                self.minted = Some(minted.token.expose_secret().to_vec());
            }
            Err(error) => self.shown.push(error.to_string()),
        }
    }
}
