//! What the environment asks for.

use std::fmt::Debug;
use std::path::PathBuf;
use std::str::FromStr;

use crate::binary;

/// Cargo also runs benchmarks as tests, and then they are not asked to measure.
pub fn is_asked_to_measure() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// A variable's value, unless it is missing or empty.
pub fn setting(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// A number.
#[track_caller]
pub fn number<N: FromStr<Err: Debug>>(variable: &str, default: N) -> N {
    let Some(text) = setting(variable) else { return default };
    text.trim().parse().unwrap_or_else(|why| panic!("{variable}: {text}: {why:?}"))
}

/// A list with commas.
pub fn words(variable: &str, default: &str) -> Vec<String> {
    let text = setting(variable).unwrap_or_else(|| default.to_owned());
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// A program of the workspace as it is installed: optimised.
#[track_caller]
pub fn release_program(name: &str) -> PathBuf {
    if cfg!(debug_assertions) {
        panic!("a debug build measures nothing: run cargo bench, which is optimised as a release is");
    }
    let path = crate::directory_of_programs().join(name);
    assert!(path.exists(), "{} is missing: run cargo build --release -p {name}", path.display());
    binary(name)
}

/// The same, linked statically, as it is packaged; or why there is none.
pub fn static_program(name: &str) -> Result<PathBuf, String> {
    let triple = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let target = crate::directory_of_programs().join("..").join(&triple);
    let path = target.join("release").join(name);
    let missing =
        || format!("the static {name}, which cargo build --release -p {name} --target {triple} makes");
    if path.exists() { Ok(path) } else { Err(missing()) }
}
