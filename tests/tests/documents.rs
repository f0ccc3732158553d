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
        && (["#[test]", "#[tokio::test]", "#[tokio::test("].iter().any(|mark| marked(mark))
            || ["both!(", "lost!(", "refused!("].iter().any(|mark| listed(mark)))
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let mut files = Vec::new();
    for folder in ["proto", "memory", "broker", "dvxir", "control", "dvx", "gitlab", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let mut names = named(&text);
    assert!(names.len() > 50, "the tables of attacks are not where they were");
    names.retain(|(file, test)| !files.iter().any(|(path, source)| is_in(path, source, file, test)));
    assert!(names.is_empty(), "SECURITY.md names tests that do not exist: {names:#?}");
}

/// The tables of known attacks: each section with words of every row that it must have, in their order.
const ATTACKS: &[(&str, &[&str])] = &[
    (
        "git's credential protocol",
        &[
            "CVE-2020-5260",
            "CVE-2024-52006",
            "`url` attribute",
            "contain, begin with",
            "`ftp` or `ssh`",
            "CVE-2024-50349",
            "CVE-2024-52005",
            "Another project",
            "CVE-2024-53263",
            "CVE-2025-48384",
            "insteadOf",
            "`http.proxy`",
            "helper that is configured",
            "flood of `erase`",
            "in parallel",
        ],
    ),
    (
        "Unix socket and the caller's identity",
        &[
            "used again",
            "executed after",
            "pid namespace",
            "set-user-ID",
            "replaced or deleted",
            "descriptor is lost",
            "Out of descriptors",
            "are killed",
            "Half-open",
            "takes all connections",
            "socket's path",
            "two daemons",
            "open to all",
            "abstract namespace",
            "agent can write",
            "SIGKILL",
            "squatter",
            "container",
            "browser",
        ],
    ),
    (
        "Loopback listener",
        &[
            "rebinding",
            "X-Forwarded-For",
            "CORS",
            "mandatory header",
            "IPv6 form",
            "0.0.0.0",
            "hop count",
            "container",
            "longer",
            "uid 0",
            "Reset",
            "listener",
            "wrong way round",
        ],
    ),
    (
        "HTTP",
        &[
            "CL.TE",
            "was refused",
            "HTTP/2",
            "any size",
            "line end",
            "injected name",
            "read twice",
            "method",
            "redirect",
            "metadata address",
            "between check and connection",
            "returns the token",
            "self-signed",
            "expired",
            "environment",
            "pooled",
        ],
    ),
    (
        "Rotation and staleness",
        &[
            "is lost",
            "each step",
            "read-only",
            "clock",
            "Two replicas",
            "behind the broker",
            "deletes the token",
            "limits",
            "another user",
            "thousand",
            "asked ever more",
            "max_stale",
            "under way",
            "another",
            "restart",
            "half-way",
            "older copy",
        ],
    ),
    (
        "Leaks",
        &[
            "in logs",
            "Configuration errors",
            "Core dumps",
            "Swap",
            "`ps`",
            "journal",
            "Temporary files",
            "redacted",
            "Completions",
            "What exists",
        ],
    ),
    (
        "Authorisation of the control plane",
        &[
            "raises itself",
            "Registering again",
            "of others",
            "JWTs",
            "refresh token",
            "bootstrap used twice",
            "last administrator",
            "read differently",
            "Forged",
            "resumed",
            "dear to verify",
            "What exists",
            "are cut, put",
            "end of the log",
            "Two writers",
            "disk is full",
        ],
    ),
    (
        "The control plane's database",
        &["exchanged", "flipped", "hidden value", "put back", "backup", "old key-encryption key", "crash"],
    ),
    (
        "Between control plane and broker",
        &["below TLS", "exchanged", "repeated", "older state", "Cutting", "restart", "Reading"],
    ),
    (
        "A daemon that was taken over",
        &["Executing", "Files", "Connecting", "without Landlock", "D-Bus", "leads out", "one API"],
    ),
];

/// The rows of a section's table: attack and answer.
fn rows<'t>(text: &'t str, section: &str) -> Vec<(&'t str, &'t str)> {
    let (_, section) = text.split_once(&format!("\n### {section}\n")).unwrap_or_default();
    let section = section.split("\n#").next().unwrap_or_default();
    let cells = |line: &'t str| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | ");
    section.lines().filter_map(cells).filter(|(attack, _)| *attack != "attack").collect()
}

#[test]
fn every_known_attack_has_a_test_or_a_reason() {
    let text = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    assert_eq!(
        text.matches("\n| attack | answer |\n").count(),
        ATTACKS.len(),
        "each table is in the list above"
    );
    for (section, attacks) in ATTACKS {
        let rows = rows(&text, section);
        let found: Vec<&str> = rows.iter().map(|(attack, _)| *attack).collect();
        assert_eq!(found.len(), attacks.len(), "{section}: {found:#?}");
        for (words, (attack, answer)) in attacks.iter().zip(rows) {
            assert!(
                attack.contains(words),
                "{section}: a row about {words:?} is expected where {attack:?} is"
            );
            // Whoever names no test has to say why, in more than a word.
            let is_answered = !named(answer).is_empty() || answer.split(' ').count() >= 8;
            assert!(is_answered, "{section}: {attack}: neither a test nor a reason: {answer:?}");
        }
    }
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
