//! Other people's text, fit for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// The longest text of somebody else's that is shown.
const MAX_SHOWN_CHARS: usize = 2000;

/// Text of somebody else's, fit for a terminal and for one line: control characters and those that turn the
/// direction of writing (CVE-2021-42574) are spelled out, and a very long text is cut.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for (count, character) in text.chars().enumerate() {
        if count == MAX_SHOWN_CHARS {
            shown.push('…');
            break;
        }
        match character {
            '\t' | '\n' | '\r' => shown.push(' '),
            _ if acts_on_terminals(character) => shown.extend(character.escape_unicode()),
            _ => shown.push(character),
        }
    }
    shown
}

/// JSON that means the same and does nothing to a terminal. Control characters below a space cannot stand
/// in JSON; the others that act on terminals occur in strings only, where an escape says the same.
pub(crate) fn harmless_json(json: &str) -> Cow<'_, str> {
    let bad = |character: char| acts_on_terminals(character) && !character.is_ascii_whitespace();
    if !json.contains(bad) {
        return json.into();
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if bad(character) {
            // Writing to a String cannot fail.
            write!(shown, "\\u{:04x}", u32::from(character)).ok();
        } else {
            shown.push(character);
        }
    }
    shown.into()
}

fn acts_on_terminals(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_spelled_out() {
        assert_eq!(harmless("a\u{1b}[31m\u{9b}0m\nb\u{202e}"), r"a\u{1b}[31m\u{9b}0m b\u{202e}");
        assert_eq!(harmless("grüße"), "grüße");
        assert_eq!(harmless(&"x".repeat(5000)).chars().count(), MAX_SHOWN_CHARS + 1);
    }

    #[test]
    fn json_keeps_its_meaning() {
        let json = "[\n {\"a\":\"x\u{9b}y\u{7f}\u{202e}\"}]";
        let shown = harmless_json(json);
        assert_eq!(shown, "[\n {\"a\":\"x\\u009by\\u007f\\u202e\"}]");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(json), value(&shown));
    }
}
