//! What a stream has to send after some changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use dvx_proto::{AgentName, SecretName};

use crate::domain::{AgentId, Change, ChangedObject};

/// Something whose present state has to be sent. Brokers know agents by name, so an agent that was deleted and
/// made anew in between is one target. Agents sort first: their secrets mean something only after them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The agent with all that it has.
    Agent(AgentName),
    /// One secret: the organisation's, or that of one agent and not of another one that has its name now.
    Secret(Option<(AgentName, AgentId)>, SecretName),
}

/// What has to be sent after some changes: each thing once, however often it has changed, since it is its
/// state at the time of sending that counts.
pub(crate) fn coalesce<'c>(changes: impl IntoIterator<Item = &'c Arc<Change>>) -> BTreeSet<Target> {
    let mut targets: BTreeSet<Target> = changes
        .into_iter()
        .filter_map(|change| match &change.object {
            ChangedObject::Agent { agent, .. } | ChangedObject::AgentGone { agent, .. } => {
                Some(Target::Agent(agent.clone()))
            }
            ChangedObject::Secret { agent, name } => {
                let agent = agent.as_ref().map(|(_, id, agent)| (agent.clone(), id.clone()));
                Some(Target::Secret(agent, name.clone()))
            }
            ChangedObject::EnclaveGone { .. } => None,
        })
        .collect();
    let whole: Vec<AgentName> = targets
        .iter()
        .filter_map(|target| match target {
            Target::Agent(agent) => Some(agent.clone()),
            Target::Secret(..) => None,
        })
        .collect();
    if !whole.is_empty() {
        // An agent is sent with all of its secrets. `whole` is sorted, as the set is.
        targets.retain(|target| match target {
            Target::Secret(Some((agent, _)), _) => whole.binary_search(agent).is_err(),
            Target::Secret(None, _) | Target::Agent(_) => true,
        });
    }
    targets
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    use crate::domain::{EnclaveId, Revision};

    pub(crate) fn enclave(id: &str) -> EnclaveId {
        EnclaveId::from(id.to_owned())
    }

    pub(crate) fn agent_changed(revision: u64, on: &str, agent: &str) -> Change {
        let (id, agent) = (AgentId::from(format!("id-{agent}")), agent.parse().unwrap());
        let object = ChangedObject::Agent { enclave: enclave(on), id, agent };
        Change { revision: Revision(revision), mark: revision * 1000, object }
    }

    pub(crate) fn agent_secret(revision: u64, on: &str, agent: &str, name: &str) -> Change {
        let id = AgentId::from(format!("id-{agent}"));
        let agent = Some((enclave(on), id, agent.parse().unwrap()));
        let object = ChangedObject::Secret { agent, name: name.parse().unwrap() };
        Change { revision: Revision(revision), mark: revision * 1000, object }
    }

    pub(crate) fn org_secret(revision: u64, name: &str) -> Change {
        let object = ChangedObject::Secret { agent: None, name: name.parse().unwrap() };
        Change { revision: Revision(revision), mark: revision * 1000, object }
    }

    fn coalesced(changes: impl IntoIterator<Item = Change>) -> Vec<String> {
        let changes: Vec<_> = changes.into_iter().map(Arc::new).collect();
        let shown = |target: &Target| match target {
            Target::Agent(agent) => format!("agent {agent}"),
            Target::Secret(Some((agent, _)), name) => format!("secret {agent}/{name}"),
            Target::Secret(None, name) => format!("secret {name}"),
        };
        coalesce(&changes).iter().map(shown).collect()
    }

    #[test]
    fn what_has_changed_often_is_sent_once() {
        let changes = [
            agent_secret(1, "e", "a", "gitlab:token"),
            org_secret(2, "S"),
            agent_secret(3, "e", "a", "gitlab:token"),
            org_secret(4, "S"),
        ];
        assert_eq!(coalesced(changes), ["secret S", "secret a/gitlab:token"]);
    }

    #[test]
    fn an_agent_comes_before_and_with_its_secrets() {
        let changes = [
            agent_secret(1, "e", "a", "X"),
            org_secret(2, "X"),
            agent_changed(3, "e", "a"),
            agent_secret(4, "e", "a", "Y"),
            agent_secret(5, "e", "b", "X"),
        ];
        assert_eq!(coalesced(changes), ["agent a", "secret X", "secret b/X"]);
    }
}
