//! The agents of a configuration file.

use dvx_proto::AgentName;

use super::error::Cause;
use super::reader::{Document, Entry, Section};
use super::values::{self, Kind};

/// Who an agent is: a user, and what else must be true of its processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentRule {
    pub(crate) name: AgentName,
    pub(crate) uid: u32,
    pub(crate) gid: Option<u32>,
    pub(crate) unit: Option<String>,
    pub(crate) cgroup: Option<String>,
}

/// Reads every agent; those with an error are left out.
pub(super) fn read(
    sections: Vec<Section<'_, '_>>,
    document: &Document<'_>,
    uid_of: &dyn Fn(&str) -> Option<u32>,
) -> Vec<AgentRule> {
    let mut rules: Vec<(AgentRule, usize)> = Vec::new();
    for section in sections {
        let Some((rule, line)) = agent(section, uid_of) else { continue };
        let earlier = rules.iter().find(|(earlier, _)| earlier.name == rule.name);
        if let Some((_, line_of_first)) = earlier {
            let cause = Cause::Duplicate { name: rule.name, line: *line_of_first };
            document.report(line, Some("agents.name".to_owned()), cause);
        } else {
            rules.push((rule, line));
        }
    }
    rules.into_iter().map(|(rule, _)| rule).collect()
}

/// One agent and the line of its name.
fn agent(mut section: Section<'_, '_>, uid_of: &dyn Fn(&str) -> Option<u32>) -> Option<(AgentRule, usize)> {
    let name = section.required("name", Kind::name("a name such as \"my-agent\""), values::name);
    let by_name = section.has("user");
    let by_number = section.has("uid");
    let of_user = section.optional("user", Kind::USER, |entry, kind| user(entry, kind, uid_of));
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

fn user(entry: &Entry<'_, '_>, kind: Kind, uid_of: &dyn Fn(&str) -> Option<u32>) -> Result<u32, Cause> {
    let name = entry.text(kind)?;
    uid_of(name).ok_or_else(|| Cause::NoUser(name.to_owned()))
}

fn unit(entry: &Entry<'_, '_>, kind: Kind) -> Result<String, Cause> {
    Ok(entry.text(kind)?.to_owned())
}

fn cgroup(entry: &Entry<'_, '_>, kind: Kind) -> Result<String, Cause> {
    Ok(entry.text(kind)?.to_owned())
}
