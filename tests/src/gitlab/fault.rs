//! Failures that a test asks for.
//!
//! `{"path": "/api/v4/groups/*/service_accounts", "method": "POST", "skip": 1, "times": 2, "action": {"kind":
//! "lose_answer"}}` lets one creation through and drops the next two connections after the accounts were made.
//! In paths `*` is one segment and a last `**` whatever follows; without `method` every method is meant;
//! `"times": null` means always; with `token` (a fingerprint) only requests that carry it count.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A failure for requests that fit it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    path: String,
    method: Option<String>,
    token: Option<String>,
    /// How many requests pass before.
    #[serde(default)]
    skip: u32,
    #[serde(default = "once")]
    times: Option<u32>,
    action: Action,
    /// How many requests fitted, whether they failed or not.
    #[serde(default)]
    seen: u32,
}

fn once() -> Option<u32> {
    Some(1)
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Action {
    /// Another answer, and no effect.
    Status {
        status: u16,
        #[serde(default)]
        body: String,
        #[serde(default)]
        headers: BTreeMap<String, String>,
    },
    /// The middleware's 429, and no effect.
    Throttled { retry_after: i64 },
    /// The application's 429, and no effect.
    LimitReached { retry_after: Option<i64> },
    /// The answer comes, effect and all, after a while.
    Delay { ms: u64 },
    /// A while between the check of the token and the effect.
    Pause { ms: u64 },
    /// No answer until the client gives up.
    Hang {
        #[serde(default)]
        after_effect: bool,
    },
    /// The connection is lost before anything happened.
    LoseRequest,
    /// The connection is lost after it happened.
    LoseAnswer,
    /// Half of the answer's body, then the connection is lost.
    Truncate,
    /// To another place, and no effect.
    Redirect { location: String, status: Option<u16> },
    /// Something that is not HTTP, and no effect.
    Garbage,
}

/// All that were asked for, oldest first.
#[derive(Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn all(&self) -> &[Fault] {
        &self.0
    }

    /// The action of the first fault that strikes this request. All that fit count it.
    pub(super) fn strike(&mut self, method: &str, path: &str, token: Option<&str>) -> Option<Action> {
        let mut struck = None;
        for fault in self.0.iter_mut().filter(|fault| fault.fits(method, path, token)) {
            fault.seen += 1;
            let due = fault.seen > fault.skip;
            let left = fault.times.is_none_or(|times| fault.seen - fault.skip.min(fault.seen) <= times);
            if due && left && struck.is_none() {
                struck = Some(fault.action.clone());
            }
        }
        struck
    }
}

impl Fault {
    fn fits(&self, method: &str, path: &str, token: Option<&str>) -> bool {
        self.method.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(method))
            && self.token.as_deref().is_none_or(|wanted| Some(wanted) == token)
            && path_fits(&self.path, path)
    }
}

fn path_fits(pattern: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for word in pattern.split('/') {
        if word == "**" {
            return true;
        }
        if !segments.next().is_some_and(|segment| word == "*" || word == segment) {
            return false;
        }
    }
    segments.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_segments_one_by_one_and_the_rest_at_once() {
        for (pattern, path, fits) in [
            ("/a/b", "/a/b", true),
            ("/a/b", "/a/b/c", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a", false),
            ("/*/c", "/a/c", true),
            ("/a/**", "/a/b/c", true),
            ("/**", "/", true),
        ] {
            assert_eq!(path_fits(pattern, path), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn a_fault_strikes_as_often_as_it_says_after_those_it_lets_pass() {
        let mut faults = Faults::default();
        let fault = r#"{"path": "/**", "skip": 1, "times": 2, "action": {"kind": "garbage"}}"#;
        faults.add(serde_json::from_str(fault).unwrap());
        let struck: Vec<bool> = (0..5).map(|_| faults.strike("GET", "/a", None).is_some()).collect();
        assert_eq!(struck, [false, true, true, false, false]);
    }
}
