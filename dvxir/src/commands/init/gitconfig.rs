//! git's configuration: `dvxir` is the only helper for the linked instances.
//!
//! git asks every helper that matches, hands `store` to all of them, and `git credential-store` then writes
//! our tokens into a file. So each instance's list begins with an empty helper, which drops those of before.

use std::env;
use std::io;
use std::process::{Command, Output};

use super::Note;
use crate::error::{Exit, Failure, io_cause};
use crate::link::Instance;
use crate::shell;

/// The end of our helper's value, by which earlier ones are recognised.
const OUR_OPERATION: &str = "dvxir git-credential";
const OUR_QUOTED_OPERATION: &str = "dvxir' git-credential";

/// Sets git up for these instances. Running it again changes nothing.
pub(super) fn set(instances: &[Instance]) -> Result<Vec<Note>, Failure> {
    match try_set(instances) {
        Ok(notes) => Ok(notes),
        Err(GitError::Missing) => {
            Ok(vec![Note::new("git is not installed: its credential helper is not set up")])
        }
        Err(GitError::Failed(why)) => {
            Err(Failure::new(Exit::Other, "cannot set git's credential helper", why))
        }
    }
}

fn try_set(instances: &[Instance]) -> Result<Vec<Note>, GitError> {
    let mut notes = Vec::new();
    if instances.is_empty() {
        return Ok(notes);
    }
    let executable = env::current_exe().map_err(|error| GitError::Failed(io_cause(&error)))?;
    let executable = executable.to_str();
    let helper =
        helper_value(executable.ok_or_else(|| GitError::Failed("dvxir's path is not UTF-8 text".into()))?);
    for instance in instances {
        let section = format!("credential.{}", instance.url);
        if set_helper(&format!("{section}.helper"), &helper)? {
            notes.push(Note::new(format!("git asks dvxir about {}", instance.url)));
        }
        if !instance.url.path().is_empty() {
            // Without it git drops the path before it asks, and the broker needs it.
            run_git(&["--replace-all", &format!("{section}.useHttpPath"), "true"], &[0])?;
        }
    }
    notes.extend(warnings(&helper)?);
    Ok(notes)
}

/// How git is to call us. An absolute path is run by a shell as it is; one that needs quotes must say with
/// `!` that it is a command (gitcredentials(7)).
fn helper_value(executable: &str) -> String {
    let quoted = shell::quote(executable);
    let mark = if quoted == executable { "" } else { "!" };
    format!("{mark}{quoted} git-credential")
}

fn is_ours(value: &str) -> bool {
    value.ends_with(&format!("/{OUR_OPERATION}")) || value.ends_with(&format!("/{OUR_QUOTED_OPERATION}"))
}

/// Lets the values of `key` end with the empty one and ours. What a person has put before stays there, and
/// is without effect.
fn set_helper(key: &str, helper: &str) -> Result<bool, GitError> {
    let values = values(key)?;
    let ends_with_ours = matches!(values.as_slice(), [.., reset, last] if reset.is_empty() && last == helper);
    let ours = values.iter().filter(|value| is_ours(value) || *value == helper).count();
    if ends_with_ours && ours == 1 {
        return Ok(false);
    }
    for value in values.iter().filter(|value| is_ours(value) || *value == helper) {
        // The same value twice is gone with the first.
        run_git(&["--fixed-value", "--unset-all", key, value], &[0, 5])?;
    }
    if self::values(key)?.last().is_none_or(|last| !last.is_empty()) {
        run_git(&["--add", key, ""], &[0])?;
    }
    run_git(&["--add", key, helper], &[0])?;
    Ok(true)
}

/// All values of a key, in their order.
fn values(key: &str) -> Result<Vec<String>, GitError> {
    // 1: the key is not there.
    let output = run_git(&["--null", "--get-all", key], &[0, 1])?;
    Ok(split_nul(&output.stdout))
}

/// Helpers that come after ours in git's configuration are asked as well, and told to store.
fn warnings(helper: &str) -> Result<Vec<Note>, GitError> {
    let listing = run_git(&["--null", "--get-regexp", r"^credential\.(.*\.)?helper$"], &[0, 1])?;
    let entries = split_nul(&listing.stdout);
    let warning = |other: &str| Note {
        text: format!(
            "git also hands this account's tokens to the helper {other:?}, which comes after dvxir"
        ),
        hint: Some("move that [credential] section to the beginning of ~/.gitconfig"),
    };
    Ok(helpers_after(&entries, helper).into_iter().map(warning).collect())
}

/// The helpers for every host that stand behind the last of ours. Each entry is a key and its value, with a
/// newline between them.
fn helpers_after<'a>(entries: &'a [String], helper: &str) -> Vec<&'a str> {
    let parts: Vec<(&str, &str)> =
        entries.iter().map(|entry| entry.split_once('\n').unwrap_or((entry, ""))).collect();
    let Some(ours) = parts.iter().rposition(|(_, value)| *value == helper) else { return Vec::new() };
    let mut later = Vec::new();
    for (_, value) in parts.into_iter().skip(ours + 1).filter(|(key, _)| *key == "credential.helper") {
        if value.is_empty() { later.clear() } else { later.push(value) }
    }
    later
}

fn split_nul(bytes: &[u8]) -> Vec<String> {
    let mut parts: Vec<String> =
        bytes.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
    // What follows the last NUL is nothing.
    parts.pop();
    parts
}

enum GitError {
    Missing,
    Failed(String),
}

/// `git config --global`, in which these exit codes are no failure.
fn run_git(arguments: &[&str], fine: &[i32]) -> Result<Output, GitError> {
    let output = Command::new("git").args(["config", "--global"]).args(arguments).env("LC_ALL", "C").output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => GitError::Missing,
        _ => GitError::Failed(format!("git: {}", io_cause(&error))),
    })?;
    if output.status.code().is_some_and(|code| fine.contains(&code)) {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(GitError::Failed(match said.lines().next() {
        Some(line) => format!("git config: {line}"),
        None => format!("git config: {}", output.status),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_runs_the_helper_s_own_path() {
        assert_eq!(helper_value("/usr/bin/dvxir"), "/usr/bin/dvxir git-credential");
        assert_eq!(helper_value("/a b/dvxir"), "!'/a b/dvxir' git-credential");
        assert!(is_ours("/usr/bin/dvxir git-credential") && is_ours("!'/a b/dvxir' git-credential"));
        for other in ["", "store", "!glab auth git-credential", "/usr/bin/notdvxir git-credential"] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn only_general_helpers_behind_ours_are_told_about() {
        let entries = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>();
        let ours = "credential.https://gitlab.com.helper\n/usr/bin/dvxir git-credential";
        let after = |list: &[&str]| helpers_after(&entries(list), "/usr/bin/dvxir git-credential").join(" ");
        assert_eq!(after(&["credential.helper\nstore", ours]), "");
        assert_eq!(after(&[ours, "credential.helper\nstore", "credential.helper\ncache"]), "store cache");
        assert_eq!(after(&[ours, "credential.helper\nstore", "credential.helper\n"]), "");
        assert_eq!(after(&[ours, "credential.https://github.com.helper\ncache"]), "");
        assert_eq!(after(&["credential.helper\nstore"]), "");
    }
}
