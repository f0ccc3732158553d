//! Which agent a peer is.

use std::collections::{HashMap, HashSet};

use dvx_proto::AgentName;
use dvx_proto::agent::Transport;
use thiserror::Error;

use super::selector::{CgroupPath, UnitName};
use crate::peer::{OVERFLOW_UID, PeerFacts, PidNamespace};

/// How to know an agent: its user, and selectors that must all match where they are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentRule {
    pub(crate) name: AgentName,
    pub(crate) uid: u32,
    /// Any of the peer's groups.
    pub(crate) gid: Option<u32>,
    pub(crate) unit: Option<UnitName>,
    pub(crate) cgroup: Option<CgroupPath>,
}

/// Rules of which at most one matches any peer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Sorted by user.
    rules: Box<[AgentRule]>,
    /// Nobody has said yet which agents there are.
    awaited: bool,
}

/// Why rules cannot be in force together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum RuleError {
    #[error(
        "agents {first} and {second} both match uid {uid}; give each a unit or a cgroup that the other's \
         excludes"
    )]
    Overlap { first: AgentName, second: AgentName, uid: u32 },
    #[error("agent {name} is there twice")]
    Duplicate { name: AgentName },
    #[error("agent {name}: uid {uid} is nobody's, the kernel shows it for users that it cannot name")]
    Nobody { name: AgentName, uid: u32 },
}

/// Why a peer is nobody's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum NoMatch {
    #[error("the upstream has not said yet which agents there are")]
    Awaited,
    #[error("no agent has this uid")]
    Uid,
    #[error("uid 0 in another pid namespace is not this machine's root")]
    NestedRoot,
    #[error("uid 0 could be a container's: its pid namespace is not known")]
    UnprovenRoot,
    #[error("the agent of this uid needs a group that the peer is not in")]
    Group,
    #[error("the agent of this uid needs a group, and the peer's are not known")]
    UnknownGroups,
    #[error("the agent of this uid is another unit")]
    Unit,
    #[error("the agent of this uid is in another cgroup")]
    Cgroup,
    #[error("the agent of this uid needs a unit or a cgroup, and the peer's is not known")]
    UnknownCgroup,
}

impl Rules {
    /// Puts rules into force together, or says all that is in the way.
    pub(crate) fn new(mut rules: Vec<AgentRule>) -> Result<Self, Vec<RuleError>> {
        // Stable: of two rules that overlap, the error names the earlier one first.
        rules.sort_by_key(|rule| rule.uid);
        let errors = conflicts(&rules);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self { rules: rules.into(), awaited: false })
    }

    /// Rules that are still to come. Nobody is an agent until then, and nobody is none.
    pub(crate) fn awaited() -> Self {
        Self { awaited: true, ..Self::default() }
    }

    /// Puts into force what can be in force together: of two rules that are in each other's way the earlier one.
    pub(crate) fn admit(candidates: Vec<AgentRule>) -> (Self, Vec<RuleError>) {
        let mut errors = Vec::new();
        let mut by_uid: HashMap<u32, Vec<AgentRule>> = HashMap::new();
        let mut names = HashSet::new();
        for rule in candidates {
            let admitted = by_uid.entry(rule.uid).or_default();
            match obstacle(&rule, admitted, &names) {
                Some(error) => errors.push(error),
                None => {
                    names.insert(rule.name.clone());
                    admitted.push(rule);
                }
            }
        }
        let rules = by_uid.into_values().flatten().collect();
        // Nothing is in the way of these any more.
        (Self::new(rules).unwrap_or_default(), errors)
    }

    /// The rules that are the same in both.
    pub(crate) fn common(&self, other: &Self) -> Self {
        let same = self.rules.iter().filter(|rule| other.contains(rule));
        Self::new(same.cloned().collect()).unwrap_or_default()
    }

    /// The one agent that a peer is.
    pub(crate) fn agent_for(&self, facts: &PeerFacts) -> Result<&AgentRule, NoMatch> {
        if self.awaited {
            return Err(NoMatch::Awaited);
        }
        let rules = self.of_uid(facts.uid);
        if rules.is_empty() || facts.uid == OVERFLOW_UID {
            return Err(NoMatch::Uid);
        }
        if facts.uid == 0 {
            match facts.namespace {
                PidNamespace::Ours => {}
                PidNamespace::Nested => return Err(NoMatch::NestedRoot),
                PidNamespace::Unknown => return Err(NoMatch::UnprovenRoot),
            }
        }
        let mut refusal = NoMatch::Uid;
        for rule in rules {
            match rule.admits(facts) {
                Ok(()) => return Ok(rule),
                Err(reason) => refusal = reason,
            }
        }
        Err(refusal)
    }

    /// Whether any rule is, or may still be, about this user. Peers of other users need no more looking into.
    pub(crate) fn mentions(&self, uid: u32) -> bool {
        self.awaited || !self.of_uid(uid).is_empty()
    }

    /// Whether [`agent_for`](Self::agent_for) can only say yes after a look at the peer's processes
    /// ([`peer::owner`](crate::peer::owner)), since the kernel tells less of a TCP peer.
    pub(crate) fn needs_owner(&self, facts: &PeerFacts) -> bool {
        match facts.transport {
            Transport::Unix => false,
            Transport::Tcp => self.of_uid(facts.uid).iter().any(|rule| rule.gid.is_some() || rule.uid == 0),
        }
    }

    /// Whether exactly this rule is one of them.
    pub(crate) fn contains(&self, rule: &AgentRule) -> bool {
        self.of_uid(rule.uid).contains(rule)
    }

    /// Every rule.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &AgentRule> {
        self.rules.iter()
    }

    fn of_uid(&self, uid: u32) -> &[AgentRule] {
        let from = self.rules.partition_point(|rule| rule.uid < uid);
        let (_, rest) = self.rules.split_at_checked(from).unwrap_or_default();
        let count = rest.partition_point(|rule| rule.uid == uid);
        rest.get(..count).unwrap_or_default()
    }
}

impl AgentRule {
    /// Whether every selector matches. What is not known does not match.
    fn admits(&self, facts: &PeerFacts) -> Result<(), NoMatch> {
        if let Some(gid) = self.gid {
            match facts.in_group(gid) {
                Some(true) => {}
                Some(false) => return Err(NoMatch::Group),
                None => return Err(NoMatch::UnknownGroups),
            }
        }
        if self.unit.is_none() && self.cgroup.is_none() {
            return Ok(());
        }
        let path = facts.cgroup.as_deref().ok_or(NoMatch::UnknownCgroup)?;
        if self.unit.as_ref().is_some_and(|unit| !unit.holds(path)) {
            return Err(NoMatch::Unit);
        }
        if self.cgroup.as_ref().is_some_and(|cgroup| !cgroup.holds(path)) {
            return Err(NoMatch::Cgroup);
        }
        Ok(())
    }

    /// Whether no peer matches both rules. Groups never exclude each other: a process can be in both.
    fn excludes(&self, other: &Self) -> bool {
        self.uid != other.uid
            || both(&self.unit, &other.unit, |a, b| a != b)
            || both(&self.cgroup, &other.cgroup, CgroupPath::excludes)
            || both(&self.cgroup, &other.unit, CgroupPath::excludes_unit)
            || both(&other.cgroup, &self.unit, CgroupPath::excludes_unit)
    }
}

fn both<A, B>(a: &Option<A>, b: &Option<B>, exclude: impl Fn(&A, &B) -> bool) -> bool {
    a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| exclude(a, b))
}

/// What keeps a rule from being in force beside those of the same user, and those of these names.
fn obstacle(rule: &AgentRule, beside: &[AgentRule], names: &HashSet<AgentName>) -> Option<RuleError> {
    let name = || rule.name.clone();
    if names.contains(&rule.name) {
        return Some(RuleError::Duplicate { name: name() });
    }
    if matches!(rule.uid, OVERFLOW_UID | u32::MAX) {
        return Some(RuleError::Nobody { name: name(), uid: rule.uid });
    }
    let first = beside.iter().find(|other| !rule.excludes(other))?;
    Some(RuleError::Overlap { first: first.name.clone(), second: name(), uid: rule.uid })
}

/// All that keeps rules from being in force together. They are sorted by user.
fn conflicts(rules: &[AgentRule]) -> Vec<RuleError> {
    let mut errors = Vec::new();
    let mut names = HashSet::new();
    for (index, rule) in rules.iter().enumerate() {
        if !names.insert(&rule.name) {
            errors.push(RuleError::Duplicate { name: rule.name.clone() });
        }
        if matches!(rule.uid, OVERFLOW_UID | u32::MAX) {
            errors.push(RuleError::Nobody { name: rule.name.clone(), uid: rule.uid });
        }
        let later = rules.get(index + 1..).unwrap_or_default().iter();
        for other in later.take_while(|other| other.uid == rule.uid) {
            if rule.name != other.name && !rule.excludes(other) {
                let (first, second) = (rule.name.clone(), other.name.clone());
                errors.push(RuleError::Overlap { first, second, uid: rule.uid });
            }
        }
    }
    errors
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
