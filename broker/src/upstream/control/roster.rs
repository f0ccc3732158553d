//! The agents of the control plane as rules of this machine.

use std::collections::HashMap;

use dvx_proto::UnixUser;
use dvx_proto::enclave::AgentDocument;
use nix::errno::Errno;

use crate::policy::{AgentRule, RuleError, Rules};
use crate::upstream::Degraded;

/// Knows the Unix users. Looking one up may take its time.
pub(super) struct Roster {
    look_up: fn(&str) -> Result<Option<u32>, Errno>,
    /// Nothing for those that there are not.
    users: HashMap<UnixUser, Option<u32>>,
}

impl Roster {
    pub(super) fn new(look_up: fn(&str) -> Result<Option<u32>, Errno>) -> Self {
        Self { look_up, users: HashMap::new() }
    }

    /// The users of this machine.
    pub(super) fn of_this_machine() -> Self {
        Self::new(|name| Ok(nix::unistd::User::from_name(name)?.map(|user| user.uid.as_raw())))
    }

    /// Looks the users up again: all of them, or those that there were not.
    pub(super) fn refresh(&mut self, all: bool) {
        for (user, uid) in &mut self.users {
            if all || uid.is_none() {
                *uid = resolve(self.look_up, user, *uid);
            }
        }
    }

    /// Whether somebody is missing.
    pub(super) fn is_incomplete(&self) -> bool {
        self.users.values().any(Option::is_none)
    }

    /// The rules of these agents, and the agents of which there can be none. Of two that are in each other's
    /// way, the one that is in force already stays, else the first by name.
    pub(super) fn rules<'a>(
        &mut self,
        documents: impl Iterator<Item = &'a AgentDocument>,
        in_force: &Rules,
    ) -> (Rules, Vec<Degraded>) {
        let mut refused = Vec::new();
        let mut candidates = Vec::new();
        let mut users = HashMap::new();
        for document in documents {
            let user = &document.unix_user;
            let known = self.users.get(user).copied();
            let uid = known.unwrap_or_else(|| resolve(self.look_up, user, None));
            users.insert(user.clone(), uid);
            match rule(document, uid) {
                Ok(rule) => candidates.push(rule),
                Err(why) => refused.push(Degraded { what: format!("agent {}", document.agent), why }),
            }
        }
        self.users = users;
        candidates.sort_by_cached_key(|rule| !in_force.contains(rule));
        let (rules, errors) = Rules::admit(candidates);
        refused.extend(errors.iter().map(refusal));
        (rules, refused)
    }
}

fn resolve(
    look_up: fn(&str) -> Result<Option<u32>, Errno>,
    user: &UnixUser,
    before: Option<u32>,
) -> Option<u32> {
    if user.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
        return user.as_str().parse().ok();
    }
    // A name service that fails says nothing about the user.
    look_up(user.as_str()).unwrap_or_else(|error| {
        tracing::warn!(%user, %error, "the user cannot be looked up");
        before
    })
}

fn rule(document: &AgentDocument, uid: Option<u32>) -> Result<AgentRule, String> {
    let selectors = &document.selectors;
    Ok(AgentRule {
        name: document.agent.clone(),
        uid: uid.ok_or_else(|| format!("this machine has no user {}", document.unix_user))?,
        gid: selectors.gid,
        unit: selectors
            .unit
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error| format!("unit: {error}"))?,
        cgroup: selectors
            .cgroup
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error| format!("cgroup: {error}"))?,
    })
}

fn refusal(error: &RuleError) -> Degraded {
    let name = match error {
        RuleError::Overlap { second, .. } => second,
        RuleError::Duplicate { name } | RuleError::Nobody { name, .. } => name,
    };
    Degraded { what: format!("agent {name}"), why: error.to_string() }
}
