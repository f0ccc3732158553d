//! What git asks: lines of `key=value`. A repository that somebody else wrote can put nearly anything into
//! the values (CVE-2020-5260, CVE-2020-11008, CVE-2024-52006), so whatever git itself would never send is
//! refused as a whole, and an attribute never changes the meaning of another one.

use dvx_proto::Fingerprint;
use thiserror::Error;

/// The largest question. git's own attributes are short; the rest is challenges of the server.
pub(crate) const MAX_INPUT_BYTES: usize = 64 * 1024;

/// The most challenges that are passed on, and the longest: they are a hint for the broker and no more.
const MAX_CHALLENGES: usize = 16;
const MAX_CHALLENGE_BYTES: usize = 1024;

/// What stands before everything that we ask git to keep for us.
pub(super) const STATE_PREFIX: &str = "dvx:";

/// What git told about the credential that it wants, or that was refused.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(super) protocol: Option<String>,
    pub(super) host: Option<String>,
    pub(super) path: Option<String>,
    /// The fingerprint of the password that came along; the password itself is not kept.
    pub(super) password: Option<Fingerprint>,
    pub(super) challenges: Vec<String>,
    /// Whether git keeps state for us between two questions of one command.
    pub(super) keeps_state: bool,
    pub(super) round: Round,
}

/// Which question of one git command this is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// The first.
    #[default]
    First,
    /// The server refused our answer to the one before: the token with this fingerprint, where git brought
    /// it back.
    Again(Option<Fingerprint>),
}

/// Why a question is refused. It never repeats a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum InvalidInput {
    #[error("it is larger than {MAX_INPUT_BYTES} bytes")]
    TooLarge,
    #[error("it has a NUL byte")]
    Nul,
    #[error("it has a carriage return")]
    CarriageReturn,
    #[error("line {line} is not of the form key=value")]
    Form { line: usize },
    #[error("{key} is given twice")]
    Twice { key: &'static str },
    #[error("{key} is not UTF-8 text")]
    NotText { key: &'static str },
    #[error("{key} has a control character")]
    Control { key: &'static str },
    #[error("it has a url, which git takes apart before it asks a helper")]
    Url,
}

impl Attributes {
    /// Reads a question, up to an empty line or the end.
    pub(crate) fn parse(input: &[u8]) -> Result<Self, InvalidInput> {
        if input.len() > MAX_INPUT_BYTES {
            return Err(InvalidInput::TooLarge);
        }
        let mut attributes = Self::default();
        for (at, line) in input.split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                break;
            }
            if line.contains(&0) {
                return Err(InvalidInput::Nul);
            }
            if line.contains(&b'\r') {
                return Err(InvalidInput::CarriageReturn);
            }
            let equals = line.iter().position(|byte| *byte == b'=').filter(|equals| *equals > 0);
            let (key, value) =
                equals.and_then(|at| line.split_at_checked(at)).ok_or(InvalidInput::Form { line: at + 1 })?;
            attributes.take(key, value.get(1..).unwrap_or_default())?;
        }
        Ok(attributes)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), InvalidInput> {
        match key {
            b"protocol" => set(&mut self.protocol, "protocol", value),
            b"host" => set(&mut self.host, "host", value),
            b"path" => set(&mut self.path, "path", value),
            b"password" => match self.password.replace(Fingerprint::of(value)) {
                None => Ok(()),
                Some(_) => Err(InvalidInput::Twice { key: "password" }),
            },
            b"url" => Err(InvalidInput::Url),
            b"capability[]" => {
                // An empty value takes back what was said before (git-credential(1)).
                self.keeps_state = !value.is_empty() && (self.keeps_state || value == b"state");
                Ok(())
            }
            b"state[]" => {
                self.take_state(value);
                Ok(())
            }
            b"wwwauth[]" => {
                self.take_challenge(value);
                Ok(())
            }
            // git adds attributes in new versions, and helpers ignore those that they do not know.
            _ => Ok(()),
        }
    }

    /// State of other helpers comes along with ours, and ours may be of another version.
    fn take_state(&mut self, value: &[u8]) {
        if value.is_empty() {
            self.round = Round::First;
            return;
        }
        let Some(ours) = std::str::from_utf8(value).ok().and_then(|text| text.strip_prefix(STATE_PREFIX))
        else {
            return;
        };
        let known = match self.round {
            Round::First => None,
            Round::Again(fingerprint) => fingerprint,
        };
        if ours.starts_with("attempt=") {
            self.round = Round::Again(known);
        } else if let Some(text) = ours.strip_prefix("fingerprint=") {
            self.round = Round::Again(text.parse().ok().or(known));
        }
    }

    fn take_challenge(&mut self, value: &[u8]) {
        if value.is_empty() {
            self.challenges.clear();
            return;
        }
        let usable = value.len() <= MAX_CHALLENGE_BYTES && self.challenges.len() < MAX_CHALLENGES;
        let text =
            std::str::from_utf8(value).ok().filter(|text| usable && !text.chars().any(char::is_control));
        self.challenges.extend(text.map(str::to_owned));
    }
}

fn set(attribute: &mut Option<String>, key: &'static str, value: &[u8]) -> Result<(), InvalidInput> {
    let text = std::str::from_utf8(value).map_err(|_| InvalidInput::NotText { key })?;
    if text.chars().any(char::is_control) {
        return Err(InvalidInput::Control { key });
    }
    match attribute.replace(text.to_owned()) {
        None => Ok(()),
        Some(_) => Err(InvalidInput::Twice { key }),
    }
}

/// Whether a question that is still being read has reached its empty line. The first `seen` bytes have been
/// looked at before.
pub(crate) fn is_complete(input: &[u8], seen: usize) -> bool {
    let news = input.get(seen.saturating_sub(1)..).unwrap_or_default();
    input.starts_with(b"\n") || news.windows(2).any(|pair| pair == b"\n\n")
}

#[cfg(test)]
mod tests;
