//! git's configuration: `dvxir` is the only helper for the linked instances.
//!
//! git asks every helper that matches, hands `store` to all of them, and `git credential-store` then writes
//! our tokens into a file. So each instance's list begins with an empty helper, which drops those of before.

use std::env;
use std::io;
use std::process::{Command, Output};

use crate::error::{Exit, Failure, io_cause};
use crate::link::Instance;
use crate::{output, shell};

/// The end of our helper's value, by which earlier ones are recognised.
const OUR_OPERATION: &str = "dvxir git-credential";
const OUR_QUOTED_OPERATION: &str = "dvxir' git-credential";

/// Sets git up for these instances. Running it again changes nothing.
pub(super) fn set(instances: &[Instance]) -> Result<(), Failure> {
    if instances.is_empty() {
        return Ok(());
    }
    let executable = env::current_exe().map_err(|error| failed(&io_cause(&error)))?;
    let executable = executable.to_str().ok_or_else(|| failed("the path of dvxir is not UTF-8 text"))?;
    let helper = helper_value(executable);
    for instance in instances {
        let section = format!("credential.{}", instance.url);
        let key = format!("{section}.helper");
        let changed = match set_helper(&key, &helper) {
            Ok(changed) => changed,
            Err(GitError::Missing) => {
                output::note("git is not installed: its credential helper is not set up", None);
                return Ok(());
            }
            Err(GitError::Failed(why)) => return Err(failed(&why)),
        };
        if !instance.url.path().is_empty() {
            // Without it git drops the path before it asks, and the broker needs it.
            git(&["--replace-all", &format!("{section}.useHttpPath"), "true"])?;
        }
        if changed {
            output::note(&format!("git asks dvxir about {}", instance.url), None);
        }
    }
    warn_about_later_helpers(&helper)
}

fn failed(why: &str) -> Failure {
    Failure::new(Exit::Other, "cannot set git's credential helper", why)
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
fn warn_about_later_helpers(helper: &str) -> Result<(), Failure> {
    let listing =
        run_git(&["--null", "--get-regexp", r"^credential\.helper$|^credential\..*\.helper$"], &[0, 1])
            .map_err(GitError::into_failure)?;
    for other in helpers_after(&split_nul(&listing.stdout), helper) {
        output::note(
            &format!("git also hands this account's tokens to the helper {other:?}, which comes after dvxir"),
            Some("move that [credential] section to the beginning of ~/.gitconfig"),
        );
    }
    Ok(())
}

/// The helpers for every host that stand behind the last of ours. Each entry is a key and its value, with a
/// newline between them.
fn helpers_after<'a>(entries: &'a [String], helper: &str) -> Vec<&'a str> {
    let parts: Vec<(&str, &str)> =
        entries.iter().map(|entry| entry.split_once('\n').unwrap_or((entry, ""))).collect();
    let Some(ours) = parts.iter().rposition(|(_, value)| *value == helper) else { return Vec::new() };
    let mut later = Vec::new();
    for (key, value) in parts.into_iter().skip(ours + 1).filter(|(key, _)| *key == "credential.helper") {
        debug_assert_eq!(key, "credential.helper");
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

impl GitError {
    fn into_failure(self) -> Failure {
        match self {
            Self::Missing => failed("git is not installed"),
            Self::Failed(why) => failed(&why),
        }
    }
}

fn git(arguments: &[&str]) -> Result<Output, Failure> {
    run_git(arguments, &[0]).map_err(GitError::into_failure)
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
