//! What the documents promise about the tests holds.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All source files below a directory.
fn sources(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// The tests that a text names: `file::test` in backquotes.
fn named(text: &str) -> Vec<(&str, &str)> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let code = text.split('`').skip(1).step_by(2);
    code.filter_map(|code| code.split_once("::"))
        .filter(|(file, test)| !file.is_empty() && file.bytes().chain(test.bytes()).all(letter))
        .collect()
}

/// Whether a file holds a test of this name.
fn is_in(path: &Path, source: &str, file: &str, test: &str) -> bool {
    let below = path.with_extension("");
    let marked = |mark: &str| {
        source.split(mark).skip(1).any(|after| {
            let definition = after.split_once("fn ").map_or("", |(_, definition)| definition);
            definition.strip_prefix(test).is_some_and(|rest| rest.starts_with('('))
        })
    };
    // Macros make a test of each name that they are given: first in a list, or first in their parentheses.
    let listed = |mark: &str| {
        source.split(mark).skip(1).any(|list| {
            let list = list.split(')').next().unwrap_or_default();
            list.split(',').any(|name| name.trim() == test)
        })
    };
    below.components().any(|part| part.as_os_str() == file)
        && (["#[test]", "#[tokio::test]"].iter().any(|mark| marked(mark))
            || ["both!(", "lost!(", "refused!("].iter().any(|mark| listed(mark)))
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let mut files = Vec::new();
    for folder in ["proto", "broker", "dvxir", "control", "dvx", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let mut names = named(&text);
    assert!(names.len() > 50, "the tables of attacks are not where they were");
    names.retain(|(file, test)| !files.iter().any(|(path, source)| is_in(path, source, file, test)));
    assert!(names.is_empty(), "SECURITY.md names tests that do not exist: {names:#?}");
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    for document in ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let is_there = target.starts_with("https://") || root().join(target).exists();
            assert!(is_there, "{document}: {target}");
        }
    }
}

#[test]
fn the_readme_is_short_and_its_commands_are_the_ones_that_are_checked() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() < 200);
    assert!(readme.contains("\ncargo build --release && target/release/dvx dev\n"));
    let checks = fs::read_to_string(root().join(".ci/run")).unwrap();
    let tests = "\ncargo test --workspace\n";
    assert!(readme.contains(tests) && checks.contains(tests), "`.ci/run` runs the README's tests");
}
