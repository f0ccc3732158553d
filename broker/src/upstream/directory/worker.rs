//! From one look to the next: what is read, what is published, and what is said about it.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use dvx_memory::Arena;
use dvx_proto::{AgentName, without_trace};
use tracing::{info, warn};

use super::DirectorySettings;
use super::merge::{Agent, Change, Plan};
use super::scan::{AgentLook, Identity, SECRETS, Scanner};
use super::source::SourceName;
use super::watch::Watcher;
use crate::clock::{Monotonic, Now};
use crate::keyring::{Keyring, Snapshot};
use crate::upstream::Degraded;

/// What is known of the root, and what is made of it.
pub(super) struct Worker {
    scanner: Scanner,
    watcher: Option<Watcher>,
    keyring: Arc<Keyring>,
    agents: BTreeMap<AgentName, Agent>,
    /// An agent was added or removed since the last snapshot.
    agents_changed: bool,
    revision: u64,
    /// The last look at a readable root.
    confirmed: Option<Monotonic>,
    degraded: Vec<Degraded>,
}

impl Worker {
    pub(super) fn new(settings: DirectorySettings, keyring: Arc<Keyring>, arena: Arena) -> Self {
        let allow_mode = settings.allow_mode.unwrap_or(0);
        Self {
            scanner: Scanner { root: settings.path, allow_mode, arena },
            watcher: Watcher::new(),
            keyring,
            agents: settings.agents.into_iter().map(|name| (name, Agent::new())).collect(),
            agents_changed: false,
            revision: 0,
            confirmed: None,
            degraded: Vec::new(),
        }
    }

    pub(super) fn watcher(&self) -> Option<&Watcher> {
        self.watcher.as_ref()
    }

    /// What cannot be used.
    pub(super) fn degraded(&self) -> &[Degraded] {
        &self.degraded
    }

    /// When a change has settled, where one has been seen.
    pub(super) fn due(&self) -> Option<Monotonic> {
        self.agents.values().filter_map(Agent::due).min()
    }

    /// Replaces the set of agents. The next look publishes it.
    pub(super) fn set_agents(&mut self, names: Vec<AgentName>) {
        let mut old = std::mem::take(&mut self.agents);
        for name in names {
            let known = old.remove(&name);
            self.agents_changed |= known.is_none();
            self.agents.insert(name, known.unwrap_or_else(Agent::new));
        }
        self.agents_changed |= !old.is_empty();
        if let Some(watcher) = &mut self.watcher {
            old.keys().for_each(|name| watcher.forget_below(&self.scanner.root.join(name.as_str())));
        }
    }

    /// Looks at everything, reads what has changed, and publishes it.
    pub(super) fn look(&mut self, now: Now) {
        let mut degraded = Vec::new();
        match self.look_at_agents(now) {
            Ok(changed) => {
                self.confirmed = Some(now.mono);
                if changed || self.agents_changed || self.revision == 0 {
                    self.publish(now.mono);
                } else {
                    self.keyring.confirm(now.mono);
                }
            }
            Err(why) => {
                degraded.push(Degraded { what: self.scanner.root.display().to_string(), why });
                // Who is no agent any more is not served, even now.
                if let Some(confirmed) = self.confirmed.filter(|_| self.agents_changed) {
                    self.publish(confirmed);
                }
            }
        }
        for (name, agent) in &self.agents {
            agent.degraded(&self.scanner.root.join(name.as_str()).display().to_string(), &mut degraded);
        }
        self.report(degraded);
    }

    /// Returns whether something else is to be served.
    fn look_at_agents(&mut self, now: Now) -> Result<bool, String> {
        let root = self.scanner.open_root()?;
        let mut changed = false;
        for (name, agent) in &mut self.agents {
            let look = self.scanner.look(root.as_fd(), name);
            let changes = take_in(&self.scanner, &look, agent, now);
            if self.revision > 0 {
                changes.iter().for_each(|change| change.log(name));
            }
            if agent.mark() || !changes.is_empty() {
                agent.rebuild();
                changed = true;
            }
            if let Some(watcher) = &mut self.watcher {
                let path = self.scanner.root.join(name.as_str());
                watcher.watch(&path.join(SECRETS), look.secrets_dir.as_ref().and_then(Identity::of));
                watcher.watch(&path, look.agent_dir.as_ref().and_then(Identity::of));
            }
        }
        if let Some(watcher) = &mut self.watcher {
            watcher.watch(&self.scanner.root, Identity::of(&root));
        }
        Ok(changed)
    }

    fn publish(&mut self, at: Monotonic) {
        self.revision += 1;
        self.agents_changed = false;
        let agents: BTreeMap<_, _> =
            self.agents.iter().map(|(name, agent)| (name.clone(), Arc::clone(&agent.entry))).collect();
        if self.revision == 1 {
            let credentials: usize = agents.values().map(|entry| entry.credentials.len()).sum();
            let secrets: usize = agents.values().map(|entry| entry.secrets.len()).sum();
            let (path, agents) = (self.scanner.root.display(), agents.len());
            info!(%path, agents, credentials, secrets, "directory read");
        }
        self.keyring.publish(Snapshot { revision: self.revision, agents }, at);
    }

    /// Remembers what cannot be used, and logs what has become of it: a line for each change.
    fn report(&mut self, degraded: Vec<Degraded>) {
        if degraded == self.degraded {
            return;
        }
        let old: BTreeMap<_, _> = self.degraded.iter().map(|bad| (&bad.what, &bad.why)).collect();
        let new: BTreeMap<_, _> = degraded.iter().map(|bad| (&bad.what, &bad.why)).collect();
        for (path, why) in &new {
            if old.get(path) != Some(why) {
                warn!(%path, %why, "cannot be used; what it gave before is served for max_stale");
            }
        }
        for path in old.keys().filter(|path| !new.contains_key(*path)) {
            info!(%path, "no longer a problem");
        }
        self.degraded = degraded;
    }
}

/// Reads what has changed since the look before.
fn take_in(scanner: &Scanner, look: &AgentLook, agent: &mut Agent, now: Now) -> Vec<Change> {
    let mut changes = Vec::new();
    for (folder, seen) in [(&mut agent.credentials, &look.credentials), (&mut agent.secrets, &look.secrets)] {
        let plan = folder.look(seen, now.mono);
        if plan == Plan::default() {
            continue;
        }
        let read = || plan.read.iter().map(|(name, stamp)| scanner.read(look, name, *stamp)).collect();
        let outcomes = without_trace(read);
        changes.extend(folder.apply(plan, outcomes, now));
    }
    changes
}

impl Change {
    fn log(&self, agent: &AgentName) {
        match (&self.name, self.fingerprint) {
            (SourceName::Credential(provider), Some(fingerprint)) => {
                info!(%agent, %provider, %fingerprint, "credential changed");
            }
            (SourceName::Credential(provider), None) => info!(%agent, %provider, "credential is gone"),
            (SourceName::Secret(secret), Some(_)) => info!(%agent, %secret, "secret changed"),
            (SourceName::Secret(secret), None) => info!(%agent, %secret, "secret is gone"),
            (SourceName::Odd(_), _) => {}
        }
    }
}
