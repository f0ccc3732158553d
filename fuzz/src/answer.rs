//! What dvxir reads from whoever listens at the broker's address.

use serde_json::Value;

use crate::client::{read, refused};
use crate::error::Exit;
use crate::link::instances;
use crate::output::{harmless, harmless_json};

/// The longest text that a person is shown.
const MOST_SHOWN_CHARS: usize = 601 * 10;

/// The input is the answer.
pub fn run(input: &[u8]) {
    for length in [input.len() / 3, input.len() / 2] {
        // However much of it has come, what there is of it is no other answer.
        let _partial = read(input.get(..length).unwrap_or_default().to_vec());
    }
    let Ok(Some(answer)) = read(input.to_vec()) else { return };
    check_links(answer.links());
    if let Ok(value) = answer.json::<Value>() {
        let text = value.to_string();
        let shown = harmless_json(&text);
        assert!(!shown.chars().any(acts), "JSON that does something to a terminal");
        let read = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert_eq!(read(&shown), read(&text));
    }
    let Some(error) = refused(answer) else { return };
    assert_eq!(error.status().map(|status| (200..300).contains(&status)), Some(false));
    let failure = error.into_failure("no credential");
    let shown = harmless(&format!("{failure:?}"));
    assert!(shown.chars().count() <= MOST_SHOWN_CHARS && !shown.chars().any(acts));
    assert!(Exit::for_status(404).code() == 3);
}

/// Addresses in `Link` fields become git configuration, so they must be nothing but addresses.
fn check_links(links: &[String]) {
    for instance in instances(links) {
        let text = instance.url.to_string();
        assert!(text.chars().all(|character| character.is_ascii_graphic()), "{text:?}");
        assert!(text.starts_with("https://") || text.starts_with("http://"));
        assert_eq!(text.parse().as_ref(), Ok(&instance.url));
    }
}

fn acts(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
