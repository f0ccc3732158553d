//! A broker with agents whose values are known, so that every one of them is recognised wherever it turns up.

use std::cell::RefCell;

use dvx_broker::fuzzing::{Broker, Caller, Exchange};
use dvx_proto::Fingerprint;
use jiff::Timestamp;
use tempfile::TempDir;

use crate::{contains, directory, replace};

/// Of the agent `one`, which runs as uid 1001.
pub(crate) const ONE: [&str; 4] =
    ["glpat-one-GITLAB-5e1f", "one-FORGE-77a0", "one-EXPIRED-c3d2", "one-KEY-9b4e"];
/// Of the agent `two`, which runs as uid 1002.
pub(crate) const TWO: [&str; 3] = ["glpat-two-GITLAB-08ad", "two-FORGE-1c9f", "two-KEY-e6b3"];

/// Whether one of these values is in a text.
pub(crate) fn shows_a_value(text: &[u8]) -> bool {
    ONE.iter().chain(&TWO).any(|value| contains(text, value.as_bytes()))
}

/// Where the credentials of `one` may be sent.
pub(crate) const INSTANCES: [(&str, &str); 2] =
    [("https://gitlab.example.com:8443", ONE[0]), ("http://127.0.0.1:3000/forge", ONE[1])];

/// What can be in an input instead of what no input can know.
const PLACEHOLDERS: [&[u8]; 4] = [b"@ONE@", b"@TWO@", b"@FP@", b"@FP2@"];

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

struct World {
    broker: Broker,
    tokens: [String; 2],
    made: Timestamp,
    _directory: TempDir,
}

impl World {
    fn new() -> Self {
        let directory = directory();
        let mut broker = Broker::new(directory.path());
        let past = Some(Timestamp::UNIX_EPOCH);
        let one = [
            ("gitlab", ONE[0], INSTANCES[0].0, None),
            ("forge", ONE[1], INSTANCES[1].0, None),
            ("old", ONE[2], "https://old.example.com", past),
        ];
        broker.agent("one", 1001, &one, &[("KEY", ONE[3])]);
        let two = [
            ("gitlab", TWO[0], "https://gitlab.other.example", None),
            ("forge", TWO[1], "http://127.0.0.1:3000/other", None),
        ];
        broker.agent("two", 1002, &two, &[("KEY", TWO[2])]);
        broker.isolated("three", 1003);
        let tokens = [broker.token("one", 1001), broker.token("two", 1002)];
        Self { broker, tokens, made: Timestamp::now(), _directory: directory }
    }

    /// Tokens end after five minutes.
    fn refresh(&mut self) {
        let now = Timestamp::now();
        if now.duration_since(self.made).as_secs() > 60 {
            self.tokens = [self.broker.token("one", 1001), self.broker.token("two", 1002)];
            self.made = now;
        }
    }
}

/// Serves a connection, with the placeholders in what comes on it replaced.
pub(crate) fn serve(caller: Caller, input: &[u8]) -> Exchange {
    WORLD.with_borrow_mut(|world| {
        world.refresh();
        let fingerprints = [ONE[0], TWO[0]].map(|token| Fingerprint::of(token.as_bytes()).to_string());
        let values = [&world.tokens[0], &world.tokens[1], &fingerprints[0], &fingerprints[1]];
        let mut bytes = input.to_vec();
        for (placeholder, value) in PLACEHOLDERS.iter().zip(values) {
            bytes = replace(&bytes, placeholder, value.as_bytes());
        }
        world.broker.serve(caller, &bytes)
    })
}
