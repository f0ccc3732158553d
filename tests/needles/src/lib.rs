//! Values that are looked for, in every form in which a piece of them could stand somewhere.
//!
//! A crate of its own, which is optimised also where tests are built without: it goes through gigabytes.
#![warn(missing_docs)]

use std::collections::HashMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// As much of a value as must not be found.
const PIECE: usize = 8;

/// A value that was made to be looked for. No two have eight bytes in common.
#[derive(Debug, Clone)]
pub struct Marker {
    name: String,
    value: Vec<u8>,
}

impl Marker {
    /// A value of somebody's.
    pub fn new(name: &str, value: &[u8]) -> Self {
        assert!(value.len() >= PIECE, "{name} is too short to be looked for");
        Self { name: name.to_owned(), value: value.to_vec() }
    }

    /// What it is.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What stands for a piece of a value.
struct Pattern {
    /// What comes after the first eight bytes.
    rest: Vec<u8>,
    marker: usize,
    form: &'static str,
}

/// What is looked for.
pub struct Needles {
    names: Vec<String>,
    patterns: HashMap<[u8; PIECE], Vec<Pattern>>,
    /// Almost all places are ruled out by this.
    likely: Vec<bool>,
}

/// Something that was found: one piece, or several that lie next to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Of which value.
    pub marker: String,
    /// How it is written.
    pub form: &'static str,
    /// Where in the text.
    pub at: usize,
    /// How far it goes.
    pub length: usize,
}

impl Needles {
    /// Every piece of these, in every form.
    pub fn new<'a>(markers: impl IntoIterator<Item = &'a Marker>) -> Self {
        let mut needles =
            Self { names: Vec::new(), patterns: HashMap::new(), likely: vec![false; 1 << PLACE_BITS] };
        for marker in markers {
            let number = needles.names.len();
            needles.names.push(marker.name.clone());
            for (form, text) in forms(&marker.value) {
                needles.add(number, form, &text);
            }
        }
        needles
    }

    fn add(&mut self, marker: usize, form: &'static str, text: &[u8]) {
        let (head, rest) = text.split_at(PIECE);
        let head: [u8; PIECE] = head.try_into().unwrap();
        self.likely[place(head)] = true;
        let known = self.patterns.entry(head).or_default();
        if known.iter().all(|pattern| pattern.rest != rest) {
            known.push(Pattern { rest: rest.to_vec(), marker, form });
        }
    }

    /// What of it lies in a text.
    pub fn find(&self, text: &[u8]) -> Vec<Hit> {
        let mut hits: Vec<Hit> = Vec::new();
        for (at, window) in text.windows(PIECE).enumerate() {
            let Ok(head) = window.try_into() else { continue };
            if !self.likely[place(head)] {
                continue;
            }
            let Some(patterns) = self.patterns.get(&head) else { continue };
            let found = patterns.iter().find(|pattern| text[at + PIECE..].starts_with(&pattern.rest));
            let Some(pattern) = found else { continue };
            let (name, length) = (&self.names[pattern.marker], PIECE + pattern.rest.len());
            match hits.last_mut() {
                Some(last)
                    if last.marker == *name && last.form == pattern.form && at <= last.at + last.length =>
                {
                    last.length = at + length - last.at;
                }
                _ => hits.push(Hit { marker: name.clone(), form: pattern.form, at, length }),
            }
        }
        hits
    }
}

/// Of which the patterns of some hundred values fill a fiftieth.
const PLACE_BITS: u32 = 20;

fn place(head: [u8; PIECE]) -> usize {
    (u64::from_le_bytes(head).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - PLACE_BITS)) as usize
}

/// All the texts that give a piece of a value away: eight bytes of it in the clear, or written as numbers or with
/// escapes. Of base64, which depends on where a value begins in a group of three, ten characters: they have seven
/// bytes and the half of another.
fn forms(value: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut found = Vec::new();
    for piece in value.windows(PIECE) {
        found.push(("in the clear", piece.to_vec()));
        found.push(("hex", escaped(piece, |byte| Some(format!("{byte:02x}")))));
        found.push(("hex", escaped(piece, |byte| Some(format!("{byte:02X}")))));
        for escape in [json as fn(u8) -> Option<String>, json_long, url, url_small, debug] {
            let text = escaped(piece, escape);
            if text != piece {
                found.push(("escaped", text));
            }
        }
    }
    for shift in 0..3 {
        for mut text in [STANDARD_NO_PAD.encode(&value[shift..]), URL_SAFE_NO_PAD.encode(&value[shift..])] {
            // The last character depends on what comes behind the value.
            text.pop();
            found.extend(text.as_bytes().windows(10).map(|piece| ("base64", piece.to_vec())));
        }
    }
    found
}

fn escaped(piece: &[u8], escape: impl Fn(u8) -> Option<String>) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in piece {
        match escape(*byte) {
            Some(escaped) => text.extend(escaped.into_bytes()),
            None => text.push(*byte),
        }
    }
    text
}

fn json(byte: u8) -> Option<String> {
    let text = serde_json::to_string(&char::from(byte)).unwrap();
    byte.is_ascii().then(|| text[1..text.len() - 1].to_owned())
}

fn json_long(byte: u8) -> Option<String> {
    (!byte.is_ascii_alphanumeric()).then(|| format!("\\u{byte:04x}"))
}

fn url(byte: u8) -> Option<String> {
    (!byte.is_ascii_alphanumeric() && !b"-._~".contains(&byte)).then(|| format!("%{byte:02X}"))
}

fn url_small(byte: u8) -> Option<String> {
    url(byte).map(|text| text.to_ascii_lowercase())
}

/// As Rust prints a list of bytes.
fn debug(byte: u8) -> Option<String> {
    let mut text = String::new();
    write!(text, "{byte}, ").unwrap();
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "q7Zk2\"Wd\\9/+Tm\nP4xR";

    fn found(text: &[u8]) -> Vec<&'static str> {
        let marker = Marker::new("a value", VALUE.as_bytes());
        Needles::new([&marker]).find(text).into_iter().map(|hit| hit.form).collect()
    }

    #[test]
    fn eight_bytes_of_a_value_are_found_in_the_clear_and_seven_are_not() {
        assert_eq!(found(format!("..{}..", &VALUE[3..11]).as_bytes()), ["in the clear"]);
        assert!(found(&[b"..", &VALUE.as_bytes()[3..10], b".."].concat()).is_empty());
    }

    #[test]
    fn a_whole_value_is_one_place_and_two_are_two() {
        let marker = Marker::new("a value", VALUE.as_bytes());
        let hits = Needles::new([&marker]).find(format!("{VALUE}, {VALUE}").as_bytes());
        let places: Vec<_> = hits.iter().map(|hit| (hit.at, hit.length)).collect();
        assert_eq!(places, [(0, VALUE.len()), (VALUE.len() + 2, VALUE.len())]);
    }

    #[test]
    fn a_value_is_found_in_every_alignment_of_base64() {
        for before in 0..3 {
            for after in 0..3 {
                let text = [&vec![b'.'; before], VALUE.as_bytes(), &vec![b'.'; after]].concat();
                assert!(found(STANDARD_NO_PAD.encode(&text).as_bytes()).contains(&"base64"), "{before}");
                assert!(found(URL_SAFE_NO_PAD.encode(&text).as_bytes()).contains(&"base64"), "{before}");
            }
        }
    }

    #[test]
    fn a_value_is_found_as_numbers_and_with_escapes() {
        let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found(hex.as_bytes()), ["hex"]);
        assert_eq!(found(hex.to_uppercase().as_bytes()), ["hex"]);
        assert!(found(serde_json::to_string(VALUE).unwrap().as_bytes()).contains(&"escaped"));
        assert!(found(format!("{:?}", VALUE.as_bytes()).as_bytes()).contains(&"escaped"));
        let percent: String =
            VALUE.bytes().map(|byte| url(byte).unwrap_or(char::from(byte).into())).collect();
        assert!(found(percent.as_bytes()).contains(&"escaped"));
    }
}
