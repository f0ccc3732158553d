//! Sealed values: what is not the next one for this receiver and this place never becomes a value.

use dvx_broker::fuzzing::Receiver;

use crate::choices;
use crate::control::crypto::seal::{PublicKey, Sealer};

/// Values that a stream carries, each with what it is bound to.
const VALUES: [(&[u8], &[u8]); 3] =
    [(b"glpat-first", b"a/gitlab:token/1"), (b"", b"a/EMPTY/1"), (b"third", b"b/KEY/2")];

/// Each value is spoiled in the way that a byte says, with what follows it, or left alone. From the first one
/// that is spoiled nothing opens any more.
pub fn run(input: &[u8]) {
    let Some((start, mut rest)) = choices(input) else { return };
    let mut receiver = Receiver::new();
    let key = PublicKey::parse(receiver.public()).expect("a receiver's key is one");
    let mut sender = Sealer::new(&key).expect("a receiver's key is one");
    let mut is_good = begin(&mut receiver, &sender, start, rest);
    let stray = sender.seal(b"left out", b"a/LEFT/1").expect("a value");
    if start & 2 == 0 {
        is_good &= receiver.open(&stray, b"a/LEFT/1").is_some();
    } else {
        is_good = false;
    }
    for (value, aad) in VALUES {
        let sealed = sender.seal(value, aad).expect("a value");
        let (how, material) = choices(rest).unwrap_or((0, &[]));
        let (used, behind) = material.split_at(material.len().min(24));
        let (text, bound) = spoiled(&sealed, aad, how, used, &stray);
        is_good &= text == sealed && bound == aad;
        let opened = receiver.open(&text, &bound);
        assert_eq!(opened.as_deref(), is_good.then_some(value), "{text} for {}", bound.escape_ascii());
        assert_eq!(receiver.used_bytes(), 0, "what is opened or not leaves nothing behind");
        rest = behind;
    }
}

/// The stream begins with its own key or, where the choice says so, with what the input has.
fn begin(receiver: &mut Receiver, sender: &Sealer, choice: u8, material: &[u8]) -> bool {
    if choice & 1 == 0 {
        assert!(receiver.begin(sender.encapsulated_key()), "the sender's key is one");
        return true;
    }
    let key = String::from_utf8_lossy(material).into_owned();
    receiver.begin(&key);
    key == sender.encapsulated_key()
}

fn spoiled(sealed: &str, aad: &[u8], how: u8, material: &[u8], stray: &str) -> (String, Vec<u8>) {
    let same = || (sealed.to_owned(), aad.to_vec());
    match how % 8 {
        1 => (String::from_utf8_lossy(material).into_owned(), aad.to_vec()),
        2 => (sealed.to_owned(), material.to_vec()),
        3 => (edited(sealed, material), aad.to_vec()),
        4 => (stray.to_owned(), aad.to_vec()),
        5 => (sealed[..sealed.len().saturating_sub(usize::from(how >> 3))].to_owned(), aad.to_vec()),
        6 => (format!("{sealed}{}", String::from_utf8_lossy(material)), aad.to_vec()),
        7 => (sealed.to_owned(), [aad, material].concat()),
        _ => same(),
    }
}

/// Pairs of a place and what is put there.
fn edited(sealed: &str, edits: &[u8]) -> String {
    let mut text = sealed.as_bytes().to_vec();
    for edit in edits.chunks_exact(2) {
        let at = usize::from(edit[0]) % text.len();
        text[at] = edit[1] & 0x7f;
    }
    String::from_utf8(text).expect("ASCII")
}
