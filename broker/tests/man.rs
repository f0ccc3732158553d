//! The pages and completions that packages ship are those that the program prints.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

/// Compares a checked-in file with what these arguments print.
#[track_caller]
fn is_current(file: &str, arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_dvx-broker")).args(arguments).output().unwrap();
    assert!(output.status.success());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let checked_in = std::fs::read(&path).unwrap_or_default();
    assert!(
        output.stdout == checked_in,
        "write it anew: dvx-broker {} > {}",
        arguments.join(" "),
        path.display()
    );
}

#[test]
fn manual_pages_are_current() {
    is_current("man/dvx-broker.8", &["man", "dvx-broker.8"]);
    is_current("man/broker.toml.5", &["man", "broker.toml.5"]);
}

#[test]
fn completions_are_current() {
    is_current("completions/dvx-broker.bash", &["completions", "bash"]);
    is_current("completions/_dvx-broker", &["completions", "zsh"]);
    is_current("completions/dvx-broker.fish", &["completions", "fish"]);
}
