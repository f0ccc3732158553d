//! Values that must not be seen.

use std::fmt;
use std::ops::Range;

use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes that are wiped when dropped and never printed. Reading them is spelled
/// [`expose_secret`](Secret::expose_secret), so that every place where it happens can be found.
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// The value.
    pub fn expose_secret(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(SecretSlice::from(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.into_bytes()))
    }
}

/// What authenticates at a provider: 1 to 4,096 visible ASCII characters. No white space and no control
/// characters, so it can stand in a header or in one line of git's credential protocol.
pub struct Token(Secret);

/// Why a value is not a token. It never repeats the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidToken {
    /// Nothing was given.
    #[error("the token is empty")]
    Empty,
    /// Longer than [`Token::MAX_BYTES`].
    #[error("the token is longer than {} bytes", Token::MAX_BYTES)]
    TooLong,
    /// Something else than visible ASCII, such as a space, a newline or a byte above 126.
    #[error("the token has a character that no token has (byte {at}): white space, control or non-ASCII")]
    Character {
        /// Its place, counted from 0.
        at: usize,
    },
}

impl Token {
    /// The longest token. GitLab's routable tokens end at 254 characters; others put claims into theirs.
    pub const MAX_BYTES: usize = 4096;

    /// Where the token lies in the text of a file or a pipe: all of it but one line end.
    ///
    /// The bytes stay where they are, which lets the caller keep them in protected memory.
    pub fn locate(text: &[u8]) -> Result<Range<usize>, InvalidToken> {
        let line = text.strip_suffix(b"\n").map_or(text, |line| line.strip_suffix(b"\r").unwrap_or(line));
        match line.len() {
            0 => return Err(InvalidToken::Empty),
            length if length > Self::MAX_BYTES => return Err(InvalidToken::TooLong),
            _ => {}
        }
        match line.iter().position(|byte| !byte.is_ascii_graphic()) {
            Some(at) => Err(InvalidToken::Character { at }),
            None => Ok(0..line.len()),
        }
    }

    /// The value.
    pub fn expose_secret(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl TryFrom<Zeroizing<Vec<u8>>> for Token {
    type Error = InvalidToken;

    /// Takes the text of a file, a prompt or a pipe; one line end is dropped.
    fn try_from(mut text: Zeroizing<Vec<u8>>) -> Result<Self, InvalidToken> {
        let range = Self::locate(&text)?;
        text.truncate(range.end);
        Ok(Self(Secret::from(std::mem::take(&mut *text))))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?.into_bytes());
        Self::try_from(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<u8>, InvalidToken> {
        let token = Token::try_from(Zeroizing::new(text.as_bytes().to_vec()))?;
        Ok(token.expose_secret().to_vec())
    }

    #[test]
    fn one_line_end_is_dropped_and_no_more() {
        assert_eq!(parse("glpat-x.01.y").unwrap(), b"glpat-x.01.y");
        assert_eq!(parse("glpat-x\n").unwrap(), b"glpat-x");
        assert_eq!(parse("glpat-x\r\n").unwrap(), b"glpat-x");
        assert_eq!(parse("glpat-x\n\n"), Err(InvalidToken::Character { at: 7 }));
    }

    #[test]
    fn white_space_control_and_non_ascii_are_refused() {
        for bad in ["a b", " a", "a\tb", "a\0", "a\rb", "é", "\u{7f}"] {
            assert!(matches!(parse(bad), Err(InvalidToken::Character { .. })), "{bad:?}");
        }
        assert_eq!(parse(""), Err(InvalidToken::Empty));
        assert_eq!(parse("\n"), Err(InvalidToken::Empty));
        assert_eq!(parse(&"a".repeat(4097)), Err(InvalidToken::TooLong));
    }

    #[test]
    fn debug_shows_nothing_of_the_value() {
        let token = Token::try_from(Zeroizing::new(b"glpat-visible".to_vec())).unwrap();
        assert_eq!(format!("{token:?}"), "Token([redacted])");
        assert_eq!(format!("{:?}", Secret::from(b"visible".to_vec())), "Secret([redacted])");
    }
}
