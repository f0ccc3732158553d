//! Agent tokens: nothing verifies but what was issued, for whom it was issued and while it lasts.

use std::cell::RefCell;

use dvx_broker::fuzzing::Tokens;
use jiff::{SignedDuration, Timestamp};

use crate::choices;

/// Of a token, in seconds.
const LIFETIME: i64 = 300;

thread_local! {
    static ISSUERS: RefCell<Issuers> = RefCell::new(Issuers::new());
}

/// A broker, and another one of the same enclave with a key of its own.
struct Issuers {
    ours: Tokens,
    issued: [(String, &'static str, u32); 2],
    theirs: String,
    start: Timestamp,
    second: i64,
}

impl Issuers {
    fn new() -> Self {
        let (ours, theirs) = (Tokens::new("lab-1"), Tokens::new("lab-1"));
        let start = Timestamp::from_second(1_800_000_000).expect("a time");
        let issued =
            [("one", 1001), ("two", 1002)].map(|(agent, uid)| (ours.issue(agent, uid, start), agent, uid));
        let theirs = theirs.issue("one", 1001, start);
        Self { ours, issued, theirs, start, second: 0 }
    }

    /// Each look is in another second: in one, only so many tokens are looked at.
    fn next_second(&mut self) -> Timestamp {
        self.second = (self.second + 1) % LIFETIME;
        self.start + SignedDuration::from_secs(self.second)
    }
}

/// The first byte says what becomes a token and how.
pub fn run(input: &[u8]) {
    let Some((choices, rest)) = choices(input) else { return };
    ISSUERS.with_borrow_mut(|issuers| {
        let base =
            if choices & 1 == 0 { &issuers.issued[usize::from(choices >> 4 & 1)].0 } else { &issuers.theirs };
        let presented = match choices >> 1 & 3 {
            0 => rest.to_vec(),
            1 => edited(base.as_bytes(), rest),
            2 => with_parts(base, rest),
            _ => spliced(&issuers.issued[0].0, &issuers.issued[1].0, rest),
        };
        let now = issuers.next_second();
        let verified = issuers.ours.verify(&presented, 1001, now);
        let issued = issuers.issued.iter().find(|(token, ..)| is_same(token.as_bytes(), &presented));
        match (verified, issued) {
            (Ok((agent, uid)), Some((_, of, by))) => assert_eq!((agent.as_str(), uid), (*of, *by)),
            (Ok(_), None) => panic!("{} verifies", presented.escape_ascii()),
            (Err(error), Some((token, ..))) => assert_ne!(token.as_bytes(), presented, "{error}"),
            (Err(_), None) => {}
        }
        for ((token, ..), off) in issuers.issued.iter().zip([-1, LIFETIME]) {
            assert!(
                issuers
                    .ours
                    .verify(token.as_bytes(), 1001, issuers.start + SignedDuration::from_secs(off))
                    .is_err()
            );
        }
    });
}

/// A signature has a twin that is as good; what is signed must be the same.
fn is_same(issued: &[u8], presented: &[u8]) -> bool {
    let signed = |token: &[u8]| token.iter().rposition(|byte| *byte == b'.').map(|at| token[..at].to_vec());
    signed(issued) == signed(presented)
}

/// Pairs of a place and what is put there.
fn edited(token: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut token = token.to_vec();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % token.len();
        token[at] = edit[2];
    }
    token
}

/// Other text in the place of one of the three parts, by its first byte.
fn with_parts(token: &str, text: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = token.as_bytes().split(|byte| *byte == b'.').collect();
    let Some((which, part)) = choices(text) else { return token.as_bytes().to_vec() };
    let encoded = encode(part);
    match which % 6 {
        at @ 0..3 => parts[usize::from(at)] = part,
        at => parts[usize::from(at - 3)] = encoded.as_bytes(),
    }
    parts.join(&b'.')
}

/// The parts of two tokens, in any order.
fn spliced(one: &str, two: &str, order: &[u8]) -> Vec<u8> {
    let parts: Vec<&str> = one.split('.').chain(two.split('.')).collect();
    let chosen = order.iter().take(8).map(|which| parts[usize::from(*which) % parts.len()]);
    chosen.collect::<Vec<_>>().join(".").into_bytes()
}

/// Base64url without padding.
fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]));
        }
    }
    text
}
