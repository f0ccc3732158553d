//! What an instance says, made fit for errors and logs.

use std::fmt;

use dvx_proto::Token;

/// At most so many characters of an instance's text are kept: its longest known message has 180.
const MAX_CHARS: usize = 400;

/// No provider's tokens are shorter than twice this. A single letter that somebody typed for a token must not be
/// cut out of every word: the words tell the cause.
const MIN_TOKEN_BYTES: usize = 8;

/// What takes the place of a token.
const REDACTED: &str = "[redacted]";

/// How tokens of GitLab and GitHub begin.
const PREFIXES: [&str; 18] = [
    "glpat-",
    "gloas-",
    "gldt-",
    "glrt-",
    "glrtr-",
    "glcbt-",
    "glptt-",
    "glft-",
    "glimt-",
    "glagent-",
    "glwt-",
    "glsoat-",
    "glffct-",
    "github_pat_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
];

/// A text that an instance answered with: one line, shortened, and without the token that the request carried
/// or anything that looks like one. An instance knows our token and may say what it likes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerText(String);

impl ServerText {
    pub(crate) fn new(text: &str, presented: Option<&Token>) -> Self {
        let text = match presented.and_then(recognisable) {
            Some(token) => text.replace(token, REDACTED),
            None => text.to_owned(),
        };
        let line: String = text.chars().map(|c| if is_plain(c) { c } else { ' ' }).collect();
        let mut clean: String = line.split(' ').map(redact_word).collect::<Vec<_>>().join(" ");
        if let Some((at, _)) = clean.char_indices().nth(MAX_CHARS) {
            clean.truncate(at);
            clean.push('…');
        }
        Self(clean.trim().to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the text contains `phrase`, whatever the case of its letters.
    pub(crate) fn says(&self, phrase: &str) -> bool {
        self.0.to_ascii_lowercase().contains(&phrase.to_ascii_lowercase())
    }
}

/// The token's text, if it is long enough to be one.
pub(crate) fn recognisable(token: &Token) -> Option<&str> {
    let text = std::str::from_utf8(token.expose_secret()).ok()?;
    (text.len() >= MIN_TOKEN_BYTES).then_some(text)
}

/// Control characters end lines in logs and move cursors; the invisible format characters turn text around.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether a name can be kept and shown: one word, and not the token that was sent, which an instance could make a
/// name out of.
pub(crate) fn is_name(name: &str, presented: &Token) -> bool {
    const MAX_CHARS: usize = 255;
    let shows = recognisable(presented).is_some_and(|token| name.contains(token));
    let plain = name.chars().all(|c| is_plain(c) && !c.is_whitespace());
    !name.is_empty() && name.chars().count() <= MAX_CHARS && plain && !shows
}

fn redact_word(word: &str) -> String {
    let token = PREFIXES.iter().filter_map(|prefix| word.find(prefix)).min();
    match token.and_then(|at| word.get(..at)) {
        Some(before) => format!("{before}{REDACTED}"),
        None => word.to_owned(),
    }
}

impl fmt::Display for ServerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;

    fn token(text: &str) -> Token {
        Token::try_from(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn tokens_do_not_come_back() {
        let own = token("opaque.value");
        let text = ServerText::new("bad opaque.value, \"glpat-other.01.x\"\nand (ghp_abcdef)", Some(&own));
        assert_eq!(text.as_str(), "bad [redacted], \"[redacted] and ([redacted]");
    }

    #[test]
    fn a_text_is_one_short_line() {
        let text = ServerText::new(&"a\r\n\u{1b}[31m\u{202e}".repeat(200), None);
        assert!(text.as_str().chars().count() <= MAX_CHARS + 1);
        assert!(text.as_str().chars().all(is_plain));
    }

    #[test]
    fn a_name_is_a_word_and_not_the_token() {
        let own = token("glpat-opaque.value");
        for good in ["root", "project_7_bot_0123", "group.name-x", "grüße"] {
            assert!(is_name(good, &own), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a\u{1b}[31m",
            "a\u{202e}",
            "glpat-opaque.value",
            "x-glpat-opaque.value",
            &"a".repeat(256),
        ] {
            assert!(!is_name(bad, &own), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_presented_token_never_survives(before in ".{0,40}", value in "[!-~]{8,80}", after in ".{0,40}") {
            let text = ServerText::new(&format!("{before}{value}{after}"), Some(&token(&value)));
            prop_assert!(!text.as_str().contains(&value));
        }
    }
}
