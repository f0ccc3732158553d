//! Answers with secrets in them, written straight into the arena: serde_json would put them together on the
//! heap and leave a copy there.

use dvx_memory::{Arena, MemoryError, Slot};
use jiff::Timestamp;

/// A piece of a JSON text.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    /// JSON already.
    Raw(&'a str),
    /// The inside of a JSON string.
    Text(&'a str),
}

/// Puts the pieces together.
pub(super) fn render(parts: &[Part<'_>], arena: &Arena) -> Result<Slot, MemoryError> {
    let mut slot = arena.allocate(parts.iter().map(|part| part.length()).sum())?;
    let mut rest = slot.as_mut();
    for part in parts {
        rest = part.write(rest);
    }
    debug_assert!(rest.is_empty(), "parts are as long as they say");
    Ok(slot.freeze())
}

/// A time as it is served: RFC 3339 in UTC with whole seconds, or null.
pub(super) fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "null".to_owned(), |time| format!("\"{time:.0}\""))
}

impl Part<'_> {
    fn length(self) -> usize {
        match self {
            Self::Raw(json) => json.len(),
            Self::Text(text) => text.bytes().map(|byte| Form::of(byte).length()).sum(),
        }
    }

    /// Writes to the beginning of `out` and returns the rest of it.
    fn write(self, mut out: &mut [u8]) -> &mut [u8] {
        let mut text = match self {
            Self::Raw(json) => return put(out, json.as_bytes()),
            Self::Text(text) => text.as_bytes(),
        };
        loop {
            let plain = text.iter().take_while(|byte| Form::of(**byte) == Form::Plain).count();
            let (run, rest) = text.split_at_checked(plain).unwrap_or((text, &[]));
            out = put(out, run);
            let Some((byte, rest)) = rest.split_first() else { return out };
            out = match Form::of(*byte) {
                Form::Plain => put(out, &[*byte]),
                Form::Short(letter) => put(out, &[b'\\', letter]),
                Form::Number => put(put(out, b"\\u00"), &[hex(byte >> 4), hex(byte & 0xf)]),
            };
            text = rest;
        }
    }
}

/// How a byte stands in a JSON string (RFC 8259 section 7), in the shortest way. Bytes of a longer UTF-8
/// sequence stand as they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    /// A backslash and this.
    Short(u8),
    /// `\u` and four digits.
    Number,
}

impl Form {
    const fn of(byte: u8) -> Self {
        match byte {
            b'"' | b'\\' => Self::Short(byte),
            0x08 => Self::Short(b'b'),
            0x0c => Self::Short(b'f'),
            b'\n' => Self::Short(b'n'),
            b'\r' => Self::Short(b'r'),
            b'\t' => Self::Short(b't'),
            0..0x20 => Self::Number,
            _ => Self::Plain,
        }
    }

    const fn length(self) -> usize {
        match self {
            Self::Plain => 1,
            Self::Short(_) => 2,
            Self::Number => 6,
        }
    }
}

const fn hex(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }
}

fn put<'a>(out: &'a mut [u8], bytes: &[u8]) -> &'a mut [u8] {
    // The length was counted before with the same rules, so there is always room.
    let Some((place, rest)) = out.split_at_mut_checked(bytes.len()) else { return &mut [] };
    place.copy_from_slice(bytes);
    rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rendered(text: &str) -> Vec<u8> {
        let arena = Arena::new(false).unwrap();
        render(&[Part::Raw("\""), Part::Text(text), Part::Raw("\"")], &arena)
            .unwrap()
            .expose_secret()
            .to_vec()
    }

    #[test]
    fn every_character_of_ascii_is_written_as_serde_json_does() {
        let all: String = (0..=0x7f_u8).map(char::from).collect();
        assert_eq!(rendered(&all), serde_json::to_vec(&all).unwrap());
    }

    #[test]
    fn times_have_whole_seconds_and_no_offset() {
        for (given, expected) in [
            ("2027-01-01T00:00:00Z", "\"2027-01-01T00:00:00Z\""),
            ("2027-01-01T01:00:00.999+02:00", "\"2026-12-31T23:00:00Z\""),
        ] {
            assert_eq!(time(Some(given.parse().unwrap())), expected);
        }
        assert_eq!(time(None), "null");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_written_as_serde_json_does(text in prop_oneof![any::<String>(), "[\\x00-\\x7f]{0,64}"]) {
            prop_assert_eq!(rendered(&text), serde_json::to_vec(&text).unwrap());
        }
    }
}
