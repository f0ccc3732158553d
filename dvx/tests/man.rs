//! The pages and completions that packages ship are those that the program prints.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

fn dvx(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dvx")).args(arguments).output().unwrap()
}

/// Compares a checked-in file with what these arguments print.
#[track_caller]
fn is_current(file: &str, arguments: &[&str]) {
    let output = dvx(arguments);
    assert!(output.status.success());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let is_current = output.stdout == std::fs::read(&path).unwrap_or_default();
    assert!(is_current, "write it anew: dvx {} > {}", arguments.join(" "), path.display());
}

#[test]
fn manual_pages_are_current() {
    let pages = String::from_utf8(dvx(&["man"]).stdout).unwrap();
    assert_eq!(pages.lines().count(), 10);
    for page in pages.lines() {
        is_current(&format!("man/{page}.1"), &["man", page]);
    }
}

#[test]
fn every_page_is_packaged() {
    let manifest = include_str!("../Cargo.toml");
    for page in String::from_utf8(dvx(&["man"]).stdout).unwrap().lines() {
        assert!(manifest.contains(&format!("[\"man/{page}.1\", ")), "{page}");
    }
}

#[test]
fn completions_are_current_and_show_nothing_internal() {
    is_current("completions/dvx.bash", &["completions", "bash"]);
    is_current("completions/_dvx", &["completions", "zsh"]);
    is_current("completions/dvx.fish", &["completions", "fish"]);
    assert!(!String::from_utf8(dvx(&["completions", "bash"]).stdout).unwrap().contains("keeper"));
}

#[test]
fn an_unknown_page_is_a_usage_error() {
    let output = dvx(&["man", "dvx-tea"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "dvx: no page dvx-tea: the pages are dvx, dvx-agent, dvx-audit, dvx-credential-provider, dvx-dev, \
         dvx-enclave, dvx-login, dvx-operator, dvx-secret, dvx-status\n"
    );
    assert!(output.stdout.is_empty());
}
