//! Reading audit files as a stranger would: without the broker's own code.

use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The members of a line, in their order.
const KEYS: &[&str] = &[
    "time",
    "seq",
    "enclave",
    "agent",
    "uid",
    "gid",
    "pid",
    "cgroup",
    "transport",
    "action",
    "subject",
    "decision",
    "reason",
    "fingerprint",
    "revision",
    "request_id",
    "prev",
];

/// One decision.
#[derive(Debug, Clone)]
pub struct AuditLine {
    /// The line without its newline.
    pub text: String,
    json: Value,
}

impl AuditLine {
    /// A member as text; an empty text where it is null.
    #[track_caller]
    pub fn text_of(&self, key: &str) -> String {
        match self.json.get(key) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) => String::new(),
            Some(other) => other.to_string(),
            None => panic!("{key} is missing: {}", self.text),
        }
    }

    /// A member as a number.
    #[track_caller]
    pub fn number_of(&self, key: &str) -> u64 {
        self.json[key].as_u64().unwrap_or_else(|| panic!("{key} is not a number: {}", self.text))
    }

    /// `action subject decision`, to compare many at once.
    pub fn summary(&self) -> String {
        format!("{} {} {}", self.text_of("action"), self.text_of("subject"), self.text_of("decision"))
    }

    fn parse(text: &str) -> Self {
        let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let mut rest = text;
        for key in KEYS {
            let at = rest
                .find(&format!("\"{key}\":"))
                .unwrap_or_else(|| panic!("{key} is missing or too early: {text}"));
            rest = &rest[at..];
        }
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(KEYS.len()), "{text}");
        Self { text: text.to_owned(), json }
    }
}

/// The lines of a file, each checked for its members; the last one must be whole.
#[track_caller]
pub fn audit_lines(path: &Path) -> Vec<AuditLine> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(text.is_empty() || text.ends_with('\n'), "torn last line: {text}");
    text.lines().map(AuditLine::parse).collect()
}

/// Checks numbers and hashes over the lines of one chain, by the contract's words. Whether the first line is the
/// first of all is for the caller to say.
#[track_caller]
pub fn assert_chain(lines: &[AuditLine]) {
    for pair in lines.windows(2) {
        let [line, next] = pair else { unreachable!("windows of two have two") };
        assert_eq!(next.number_of("seq"), line.number_of("seq") + 1, "{}", next.text);
        assert_eq!(next.text_of("prev"), sha256_hex(line.text.as_bytes()), "{}", next.text);
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
