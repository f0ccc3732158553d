//! Percent-encoding.

use std::fmt::Write;

/// The text that a segment of a path stands for.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'%').then(|| hex_pair(after)).flatten();
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The same in queries and forms, where `+` is a space.
pub(super) fn decoded_form(text: &str) -> String {
    decoded(&text.replace('+', " "))
}

fn hex_pair(text: &[u8]) -> Option<u8> {
    let pair = std::str::from_utf8(text.get(..2)?).ok()?;
    u8::from_str_radix(pair, 16).ok()
}

pub(super) fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("texts can be written to");
        }
    }
    encoded
}
