//! The agents of a configuration file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use dvx_proto::{AgentName, quoted};

use super::error::Cause;
use super::reader::{Document, Section, Value};
use super::values::{self, Kind};
use crate::policy::{AgentRule, CgroupPath, RuleError, Rules, UnitName};

/// Reads every agent and puts them into force together. Those with an error are left out.
pub(super) fn read(
    sections: Vec<Section<'_, '_>>,
    document: &Document<'_>,
    uid_of: &dyn Fn(&str) -> Option<u32>,
) -> (Vec<AgentRule>, Rules) {
    let mut agents: Vec<AgentRule> = Vec::new();
    let mut lines = HashMap::new();
    for section in sections {
        let Some((agent, line)) = agent(section, uid_of) else { continue };
        match lines.entry(agent.name.clone()) {
            Entry::Occupied(first) => {
                let cause = Cause::Duplicate { name: agent.name, line: *first.get() };
                document.report(line, Some("agents.name".to_owned()), cause);
            }
            Entry::Vacant(place) => {
                place.insert(line);
                agents.push(agent);
            }
        }
    }
    let rules = Rules::new(agents.clone()).unwrap_or_else(|errors| {
        for error in errors {
            report(document, &lines, error);
        }
        Rules::default()
    });
    (agents, rules)
}

/// An error about agents that are sound by themselves: it is the later one's.
fn report(document: &Document<'_>, lines: &HashMap<AgentName, usize>, error: RuleError) {
    let line_of = |name| lines.get(name).copied().unwrap_or(1);
    let (line, cause) = match error {
        RuleError::Overlap { first, second, .. } => {
            (line_of(&second), Cause::Overlap { line: line_of(&first), first, second })
        }
        RuleError::Duplicate { ref name } | RuleError::Nobody { ref name, .. } => {
            (line_of(name), Cause::Rule(error))
        }
    };
    document.report(line, Some("agents".to_owned()), cause);
}

/// One agent and the line of its name.
fn agent(mut section: Section<'_, '_>, uid_of: &dyn Fn(&str) -> Option<u32>) -> Option<(AgentRule, usize)> {
    let name = section.required("name", Kind::name("a name such as \"my-agent\""), values::name);
    let by_name = section.has("user");
    let by_number = section.has("uid");
    let of_user = section.optional("user", Kind::USER, |value, kind| user(value, kind, uid_of));
    let number = section.optional("uid", Kind::UID, values::id);
    match (by_name, by_number) {
        (true, true) => section.conflict("uid", Cause::Conflict("given beside user; expected one of them")),
        (false, false) => section.conflict("user", Cause::Conflict("missing; expected user or uid")),
        _ => {}
    }
    let gid = section.optional("gid", Kind::GID, values::id);
    let unit = section.optional("unit", Kind::UNIT, unit);
    let cgroup = section.optional("cgroup", Kind::CGROUP, cgroup);
    let line = section.line_of("name");
    section.finish();
    Some((AgentRule { name: name?, uid: of_user.or(number)?, gid, unit, cgroup }, line))
}

fn user(value: &Value<'_, '_>, kind: Kind, uid_of: &dyn Fn(&str) -> Option<u32>) -> Result<u32, Cause> {
    let name = value.text(kind)?;
    uid_of(name).ok_or_else(|| Cause::NoUser(quoted(name)))
}

fn unit(value: &Value<'_, '_>, kind: Kind) -> Result<UnitName, Cause> {
    value.text(kind)?.parse().map_err(|_| value.invalid(kind))
}

fn cgroup(value: &Value<'_, '_>, kind: Kind) -> Result<CgroupPath, Cause> {
    value.text(kind)?.parse().map_err(|_| value.invalid(kind))
}
