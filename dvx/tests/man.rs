//! The manual pages that are checked in are the ones that the program makes.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "clippy takes helpers of tests in a folder of their own for production code"
)]

use std::path::Path;
use std::process::Command;

fn dvx(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_dvx")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_manual_pages_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let names: Vec<String> = dvx(&["man"]).lines().map(str::to_owned).collect();
    assert!(names.len() >= 2);
    for name in &names {
        let file = folder.join(format!("{name}.1"));
        let checked_in = std::fs::read_to_string(&file).unwrap_or_default();
        let hint = format!("dvx man {name} > {}", file.display());
        assert!(dvx(&["man", name]) == checked_in, "out of date; run: {hint}");
    }
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        names.len(),
        "a page that the program does not know"
    );
}

#[test]
fn an_unknown_page_is_a_usage_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_dvx")).args(["man", "dvx-tea"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "dvx: no page dvx-tea: the pages are dvx and dvx-dev\n"
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn completions_know_the_commands_and_nothing_internal() {
    for shell in ["bash", "zsh", "fish"] {
        let script = dvx(&["completions", shell]);
        assert!(script.contains("instance-url"), "{shell}");
        assert!(!script.contains("keeper"), "{shell}");
    }
}
