//! Names at providers.

use dvx_proto::AgentName;

use crate::domain::{AgentId, MintedId};

/// Names of users are not longer.
const MAX_USERNAME: usize = 255;

/// The name of an agent's service account. Where that is taken, by one that is still being deleted, the end of an
/// id makes it another one.
pub(super) fn username(agent: &AgentId, name: &AgentName, distinct: Option<&MintedId>) -> String {
    let suffix = distinct.map_or(String::new(), |id| {
        let id = id.as_str();
        format!("-{}", id.get(id.len().saturating_sub(8)..).unwrap_or(id))
    });
    let mut text = format!("dvx-agent-{agent}-{name}");
    text.truncate(MAX_USERNAME - suffix.len());
    let text = text.trim_end_matches(['.', '-', '_']);
    format!("{text}{suffix}")
}
