//! Other people's text in messages.

/// A text as a message may repeat it: quoted, on one line, and its beginning where it is long.
///
/// What has the looks of a key or of a password is not repeated: whoever puts one in the wrong place must not find
/// it in a log as well.
pub fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    if looks_secret(text) {
        return "(not shown)".to_owned();
    }
    let mut short: String = text.chars().take(MAX_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// The same of a word such as a key in a file, which needs no quotes where it is plain.
pub fn quoted_unless_plain(word: &str) -> String {
    let quoted = quoted(word);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner.filter(|inner| !inner.is_empty() && inner.chars().all(is_plain)) {
        Some(plain) => plain.to_owned(),
        None => quoted,
    }
}

/// Keys and tokens are long words of letters and digits, and passwords stand before a host.
fn looks_secret(text: &str) -> bool {
    /// Of tokens that are in use, the shortest have this many letters and digits behind their prefix.
    const MIN_CHARS: usize = 20;
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_');
    let is_key = |word: &str| word.len() >= MIN_CHARS && word.bytes().any(|byte| byte.is_ascii_digit());
    text.split(|c| !is_of_word(c)).any(is_key)
        || text.rsplit_once('@').is_some_and(|(before, _)| before.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_repeated_on_one_line_and_not_for_long() {
        assert_eq!(quoted("Lab 1"), r#""Lab 1""#);
        assert_eq!(quoted("a\n\u{1b}[31mb"), r#""a\n\u{1b}[31mb""#);
        assert_eq!(quoted(&"a".repeat(61)), format!("\"{}…\"", "a".repeat(60)));
        assert_eq!(quoted("https://gitlab.com"), r#""https://gitlab.com""#);
    }

    #[test]
    fn plain_words_need_no_quotes() {
        for (word, expected) in
            [("max_stale", "max_stale"), ("a b", "\"a b\""), ("a\nb", "\"a\\nb\""), ("", "\"\"")]
        {
            assert_eq!(quoted_unless_plain(word), expected);
        }
    }

    #[test]
    fn keys_and_passwords_are_not_repeated() {
        for secret in [
            "dvxe_6f1d0c9ab35e47288d21f0a4b7c3e956",
            "glpat-0123456789abcdefghij",
            "q83vEjRWeJASNFZ4kBI0VniQEjRWeJASNFZ4kBI0Vng=",
            "token: glpat-0123456789abcdefghij!",
            "postgres://dvx:hunter2@db.example/dvx",
            "dvx:hunter2@db.example",
            "someone@example.com:hunter2@db.example",
        ] {
            assert_eq!(quoted(secret), "(not shown)", "{secret}");
        }
    }
}
