//! What git asks its helper, through the broker to what git is told.

use jiff::Timestamp;
use url::Url;

use crate::client::Client;
use crate::contains;
use crate::helper::{Attributes, Outcome, get, is_complete, report_refused};
use crate::world::{INSTANCES, shows_a_value};

/// What the helper may tell.
const KEYS: [&str; 6] =
    ["capability[]", "username", "password", "password_expiry_utc", "state[]", "continue"];

/// The input is what git writes.
pub fn run(input: &[u8]) {
    check_completeness(input);
    let Ok(asked) = Attributes::parse(input) else { return };
    let client = Client::new(1001);
    match get(&client, &asked, Timestamp::now()) {
        Ok(Outcome::Answer(lines)) => check_answer(input, &lines),
        Ok(Outcome::Quit(..)) => panic!("nobody has isolated this agent"),
        Ok(Outcome::Nothing) => {}
        // It repeats the host; a value in there is the input's own.
        Err(failure) => assert!(shows_a_value(input) || !shows_a_value(format!("{failure:?}").as_bytes())),
    }
    report_refused(&client, &asked);
}

/// A question is complete at its first empty line, in however many pieces it comes.
fn check_completeness(input: &[u8]) {
    let is_whole = input.starts_with(b"\n") || contains(input, b"\n\n");
    assert_eq!(is_complete(input, 0), is_whole);
    for seen in [1, input.len() / 2, input.len().saturating_sub(1)] {
        let before = input.get(..seen).unwrap_or_default();
        assert_eq!(is_complete(before, 0) || is_complete(input, before.len()), is_whole, "in two pieces");
    }
}

/// The password is that of the instance that git goes to, by another reader of addresses than ours.
fn check_answer(input: &[u8], lines: &[u8]) {
    let text = str::from_utf8(lines).expect("text");
    assert!(text.ends_with('\n'));
    let mut password = None;
    for line in text.split_terminator('\n') {
        assert!(!line.chars().any(char::is_control), "a control character for git: {line:?}");
        let (key, value) = line.split_once('=').expect("key=value");
        assert!(KEYS.contains(&key), "{key}");
        if key == "password" {
            assert_eq!(password.replace(value), None, "two passwords");
        }
    }
    let password = password.expect("a password");
    let asked = destination(input);
    let (instance, _) = INSTANCES.iter().find(|(_, token)| *token == password).expect("one of this agent's");
    let instance = Url::parse(instance).expect("an address");
    assert_eq!(instance.origin(), asked.origin(), "{asked}");
    let path = asked.path().strip_prefix(instance.path().trim_end_matches('/'));
    assert!(
        path.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        "{asked} is not below {instance}"
    );
}

/// Where git goes, as its question says.
fn destination(input: &[u8]) -> Url {
    let text = String::from_utf8_lossy(input);
    let question = text.split("\n\n").next().unwrap_or_default();
    let value = |key: &str| {
        let mut found = question.split('\n').filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let first = found.next();
        assert_eq!(found.next(), None, "two values of {key} and an answer");
        first.unwrap_or_default()
    };
    let (protocol, host, path) = (value("protocol"), value("host"), value("path"));
    Url::parse(&format!("{protocol}://{host}/{}", path.trim_start_matches('/'))).expect("an address")
}
