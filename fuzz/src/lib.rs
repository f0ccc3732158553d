//! What the fuzz targets do with an input, one module each. README.md says what they check.
//!
//! A check that fails panics, which is what the fuzzer looks for.

pub mod answer;
pub mod config;
pub mod git;
pub mod gitlab;
pub mod http;
pub mod sealed;
pub mod stream;
pub mod token;
pub mod url;

mod replies;
mod world;

/// What the control plane does that brokers hear of, and its configuration: taken in as files, since all of it
/// with its databases takes longer to compile than everything else here.
#[expect(dead_code, reason = "the control plane's own")]
#[path = "../../control/src"]
mod control {
    pub(crate) mod config;
    pub(crate) mod crypto {
        pub(crate) mod seal;
    }
}

/// The parts of dvxir that read what others wrote. It is a program without a library, so they are taken in as
/// they are; the client between them is one of ours, to a broker in this process.
mod client;
#[expect(dead_code, reason = "dvxir's own")]
#[path = "../../dvxir/src/environment.rs"]
mod environment;
#[expect(dead_code, reason = "dvxir's own")]
#[path = "../../dvxir/src/error.rs"]
mod error;
mod helper;
#[path = "../../dvxir/src/link.rs"]
mod link;
#[expect(dead_code, reason = "dvxir's own")]
#[path = "../../dvxir/src/output.rs"]
mod output;

/// Takes the first byte of an input for choices, so that the rest is what it looks like.
fn choices(input: &[u8]) -> Option<(u8, &[u8])> {
    input.split_first().map(|(choices, rest)| (*choices, rest))
}

/// Whether one text is in another.
fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The input with a placeholder replaced, as often as it is there.
fn replace(text: &[u8], placeholder: &[u8], by: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(placeholder.len()).position(|window| window == placeholder) {
        replaced.extend_from_slice(&rest[..at]);
        replaced.extend_from_slice(by);
        rest = &rest[at + placeholder.len()..];
    }
    replaced.extend_from_slice(rest);
    replaced
}

/// A directory for what the programs write, in memory where there is such a place.
fn directory() -> tempfile::TempDir {
    let place = std::path::Path::new("/dev/shm");
    let place = if place.is_dir() { place.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("dvx-fuzz-").tempdir_in(place).expect("a directory")
}
