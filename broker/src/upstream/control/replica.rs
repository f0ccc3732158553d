//! What the control plane has said, commit by commit. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use dvx_proto::agent::AgentState;
use dvx_proto::enclave::AgentDocument;
use dvx_proto::{AgentName, SecretName};

use super::error::{Violation, subject};
use crate::keyring::{AgentEntry, Credential, SecretEntry};
use crate::upstream::Degraded;

/// A secret, and what is made of it.
#[derive(Clone)]
pub(super) enum Held {
    Credential(Arc<Credential>),
    Secret(Arc<SecretEntry>),
    /// It is there and not for agents.
    Hidden,
    /// It is there and cannot be served; why.
    Unusable(Arc<str>),
}

type Secrets = BTreeMap<SecretName, Held>;

/// All that is in force.
#[derive(Default)]
pub(super) struct Replica {
    agents: BTreeMap<AgentName, Agent>,
    organisation: Secrets,
}

struct Agent {
    document: AgentDocument,
    secrets: Secrets,
    entry: Arc<AgentEntry>,
}

/// What has come since the last commit.
#[derive(Default)]
pub(super) struct Batch {
    /// What is not in it is gone.
    whole: bool,
    agents: BTreeMap<AgentName, Change>,
    organisation: BTreeMap<SecretName, Option<Held>>,
    size: usize,
}

enum Change {
    Gone,
    /// An agent, and all that it has.
    Document(AgentDocument, Secrets),
    /// Some of what it has.
    Secrets(BTreeMap<SecretName, Option<Held>>),
}

/// What a commit has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Applied {
    /// Who an agent is, or whether there is one.
    pub(super) documents: bool,
    /// The agents of which something else is served.
    pub(super) agents: Vec<AgentName>,
}

impl Batch {
    /// The most changes of one commit: ten times what the largest enclave is made for.
    const MAX: usize = 1_000_000;

    /// The beginning of a stream.
    pub(super) fn new(whole: bool) -> Self {
        Self { whole, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.whole && self.size == 0
    }

    pub(super) fn agent(&mut self, document: AgentDocument) -> Result<(), Violation> {
        self.count()?;
        self.agents.insert(document.agent.clone(), Change::Document(document, Secrets::new()));
        Ok(())
    }

    pub(super) fn agent_gone(&mut self, agent: AgentName) -> Result<(), Violation> {
        self.count()?;
        self.agents.insert(agent, Change::Gone);
        Ok(())
    }

    /// A secret as it is now, or that there is none any more.
    pub(super) fn secret(
        &mut self,
        agent: Option<&AgentName>,
        name: &SecretName,
        held: Option<Held>,
    ) -> Result<(), Violation> {
        self.count()?;
        let Some(agent) = agent else {
            self.organisation.insert(name.clone(), held);
            return Ok(());
        };
        let change = self.agents.entry(agent.clone()).or_insert_with(|| Change::Secrets(BTreeMap::new()));
        match (change, held) {
            (Change::Document(_, secrets), Some(held)) => drop(secrets.insert(name.clone(), held)),
            (Change::Document(_, secrets), None) => drop(secrets.remove(name)),
            (Change::Secrets(secrets), held) => drop(secrets.insert(name.clone(), held)),
            (Change::Gone, Some(_)) => return Err(Violation::Order("a secret of an agent that is gone")),
            (Change::Gone, None) => {}
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), Violation> {
        self.size += 1;
        if self.size > Self::MAX { Err(Violation::TooMany(Self::MAX)) } else { Ok(()) }
    }
}

impl Replica {
    /// The same value as it is held already, where it is the same, so that it is in memory once.
    pub(super) fn shared(&self, agent: Option<&AgentName>, name: &SecretName, new: Held) -> Held {
        let secrets = match agent {
            Some(agent) => self.agents.get(agent).map(|agent| &agent.secrets),
            None => Some(&self.organisation),
        };
        match (&new, secrets.and_then(|secrets| secrets.get(name))) {
            (Held::Credential(new), Some(Held::Credential(old))) if new.same_as(old) => {
                Held::Credential(Arc::clone(old))
            }
            (Held::Secret(new), Some(Held::Secret(old))) if new.same_as(old) => Held::Secret(Arc::clone(old)),
            _ => new,
        }
    }

    /// Takes over a commit.
    pub(super) fn apply(&mut self, batch: Batch) -> Applied {
        let mut applied = Applied::default();
        let organisation = self.apply_to_organisation(batch.whole, batch.organisation);
        if batch.whole {
            let kept = |name: &AgentName| matches!(batch.agents.get(name), Some(Change::Document(..)));
            let before = self.agents.len();
            self.agents.retain(|name, _| kept(name));
            applied.documents |= self.agents.len() != before;
        }
        for (name, change) in batch.agents {
            match change {
                Change::Gone => applied.documents |= self.agents.remove(&name).is_some(),
                Change::Document(document, secrets) => {
                    applied.documents |= self.replace(&name, document, secrets);
                    applied.agents.push(name);
                }
                Change::Secrets(secrets) => {
                    // Whoever is not known has nothing; all that it has comes when it becomes known.
                    let Some(agent) = self.agents.get_mut(&name) else { continue };
                    secrets.into_iter().for_each(|(name, held)| put(&mut agent.secrets, name, held));
                    applied.agents.push(name);
                }
            }
        }
        if organisation {
            applied.agents = self.agents.keys().cloned().collect();
        }
        for name in &applied.agents {
            if let Some(agent) = self.agents.get_mut(name) {
                agent.rebuild(&self.organisation);
            }
        }
        applied
    }

    fn apply_to_organisation(&mut self, whole: bool, changes: BTreeMap<SecretName, Option<Held>>) -> bool {
        let mut changed = !changes.is_empty();
        if whole {
            let before = self.organisation.len();
            self.organisation.retain(|name, _| changes.contains_key(name));
            changed |= self.organisation.len() != before;
        }
        changes.into_iter().for_each(|(name, held)| put(&mut self.organisation, name, held));
        changed
    }

    /// Whether it is known by something else now.
    fn replace(&mut self, name: &AgentName, document: AgentDocument, secrets: Secrets) -> bool {
        match self.agents.entry(name.clone()) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                let changed = known.document.unix_user != document.unix_user
                    || known.document.selectors != document.selectors;
                (known.document, known.secrets) = (document, secrets);
                changed
            }
            Entry::Vacant(place) => {
                let entry = Arc::new(AgentEntry::out_of_service(document.state, None));
                place.insert(Agent { document, secrets, entry });
                true
            }
        }
    }

    /// What is served.
    pub(super) fn entries(&self) -> BTreeMap<AgentName, Arc<AgentEntry>> {
        self.agents.iter().map(|(name, agent)| (name.clone(), Arc::clone(&agent.entry))).collect()
    }

    pub(super) fn entry(&self, name: &AgentName) -> Option<&Arc<AgentEntry>> {
        self.agents.get(name).map(|agent| &agent.entry)
    }

    /// Who the agents are.
    pub(super) fn documents(&self) -> impl Iterator<Item = &AgentDocument> {
        self.agents.values().map(|agent| &agent.document)
    }

    /// The secrets that cannot be served.
    pub(super) fn unusable(&self) -> Vec<Degraded> {
        let owners = self.agents.iter().map(|(name, agent)| (Some(name), &agent.secrets));
        let all = std::iter::once((None, &self.organisation)).chain(owners);
        let unusable = all.flat_map(|(owner, secrets)| {
            secrets.iter().filter_map(move |(name, held)| match held {
                Held::Unusable(why) => Some(Degraded { what: subject(owner, name), why: why.to_string() }),
                Held::Credential(_) | Held::Secret(_) | Held::Hidden => None,
            })
        });
        unusable.collect()
    }
}

impl Agent {
    /// Puts together what is served. Whoever is out of service has nothing, here as well.
    fn rebuild(&mut self, organisation: &Secrets) {
        let AgentDocument { state, reason, .. } = &self.document;
        if *state != AgentState::Active {
            self.secrets.clear();
            self.entry = Arc::new(AgentEntry::out_of_service(*state, reason.clone()));
            return;
        }
        let (mut credentials, mut secrets) = (BTreeMap::new(), BTreeMap::new());
        let of_organisation = organisation.iter().filter(|(name, _)| !self.secrets.contains_key(*name));
        for (name, held) in of_organisation.chain(&self.secrets) {
            match held {
                Held::Credential(credential) => {
                    credentials.insert(credential.provider.clone(), Arc::clone(credential));
                }
                Held::Secret(secret) => drop(secrets.insert(name.clone(), Arc::clone(secret))),
                Held::Hidden | Held::Unusable(_) => {}
            }
        }
        self.entry = Arc::new(AgentEntry::active(credentials, secrets));
    }
}

fn put(secrets: &mut Secrets, name: SecretName, held: Option<Held>) {
    match held {
        Some(held) => drop(secrets.insert(name, held)),
        None => drop(secrets.remove(&name)),
    }
}
