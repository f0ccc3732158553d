//! What was seen and read of an agent's directory, merged into what is served of it. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use dvx_proto::Fingerprint;

use super::scan::SECRETS;
use super::source::{Outcome, Part, Source, SourceName, Stamp, Step, Value};
use crate::clock::{Monotonic, Now};
use crate::keyring::AgentEntry;
use crate::upstream::Degraded;

/// The sources of one directory: those of an agent's credentials, or those of its secrets.
#[derive(Default)]
pub(super) struct Folder {
    sources: BTreeMap<SourceName, Source>,
    /// Why the directory cannot be read, if so. All of its sources are frozen then.
    unreadable: Option<String>,
    seen: bool,
}

/// One look at a directory. One that is not there has no files, like an empty one.
pub(super) type FolderLook = Result<BTreeMap<SourceName, Stamp>, String>;

/// What is to be done after a look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// What to read, and the state that must be found.
    pub(super) read: Vec<(SourceName, Stamp)>,
    /// What is gone.
    pub(super) remove: Vec<SourceName>,
}

/// What became of one source, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) name: SourceName,
    /// Of its new value; nothing where it is gone.
    pub(super) fingerprint: Option<Fingerprint>,
}

/// An agent's directories and what is served of them.
pub(super) struct Agent {
    pub(super) credentials: Folder,
    pub(super) secrets: Folder,
    pub(super) entry: Arc<AgentEntry>,
}

impl Folder {
    /// Takes note of a look.
    pub(super) fn look(&mut self, look: &FolderLook, now: Monotonic) -> Plan {
        let mut plan = Plan::default();
        let stamps = match look {
            Ok(stamps) => stamps,
            Err(why) => {
                self.unreadable = Some(why.clone());
                return plan;
            }
        };
        self.unreadable = None;
        let at_once = !self.seen;
        self.seen = true;
        for name in stamps.keys() {
            if !self.sources.contains_key(name) {
                self.sources.insert(name.clone(), Source::new(now));
            }
        }
        for (name, source) in &mut self.sources {
            let stamp = stamps.get(name).copied();
            match (source.look(stamp, now, at_once), stamp) {
                (Step::Keep, _) => {}
                (Step::Read, Some(stamp)) => plan.read.push((name.clone(), stamp)),
                (Step::Remove | Step::Read, _) => plan.remove.push(name.clone()),
            }
        }
        plan
    }

    /// Takes in what came of the plan. Returns the sources that serve something else now.
    pub(super) fn apply(&mut self, plan: Plan, outcomes: Vec<Outcome>, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        for ((name, stamp), outcome) in plan.read.into_iter().zip(outcomes) {
            let Some(source) = self.sources.get_mut(&name) else { continue };
            if source.read(stamp, outcome, now) {
                let fingerprint = source.value().map(Value::fingerprint);
                changes.push(Change { name, fingerprint });
            }
        }
        for name in plan.remove {
            let served = self.sources.remove(&name).is_some_and(|source| source.value().is_some());
            if served {
                changes.push(Change { name, fingerprint: None });
            }
        }
        changes
    }

    fn mark(&mut self) -> bool {
        let unreadable = self.unreadable.is_some();
        let mut news = false;
        for source in self.sources.values_mut() {
            news |= source.mark(unreadable);
        }
        news
    }

    fn due(&self) -> Option<Monotonic> {
        self.sources.values().filter_map(Source::due).min()
    }

    fn degraded(&self, path: &str, to: &mut Vec<Degraded>) {
        if let Some(why) = &self.unreadable {
            to.push(Degraded { what: path.to_owned(), why: why.clone() });
        }
        for (name, source) in &self.sources {
            if let Some((part, why)) = source.bad() {
                to.push(Degraded { what: format!("{path}/{}", name.file(part)), why: why.to_owned() });
            }
        }
    }

    fn values(&self) -> impl Iterator<Item = &Value> {
        self.sources.values().filter_map(Source::value)
    }
}

impl Agent {
    /// One of which nothing is known yet.
    pub(super) fn new() -> Self {
        Self {
            credentials: Folder::default(),
            secrets: Folder::default(),
            entry: Arc::new(AgentEntry::active(BTreeMap::new(), BTreeMap::new())),
        }
    }

    /// Freezes what cannot be read now and thaws the rest. Returns whether there was something to do.
    pub(super) fn mark(&mut self) -> bool {
        self.credentials.mark() | self.secrets.mark()
    }

    /// When to look again, where that is sooner than usual.
    pub(super) fn due(&self) -> Option<Monotonic> {
        self.credentials.due().into_iter().chain(self.secrets.due()).min()
    }

    /// What cannot be used of the agent's directory at `path`.
    pub(super) fn degraded(&self, path: &str, to: &mut Vec<Degraded>) {
        self.credentials.degraded(path, to);
        // What lies in an unreadable directory is named by that one.
        if self.credentials.unreadable.is_none() {
            self.secrets.degraded(&format!("{path}/{SECRETS}"), to);
        }
    }

    /// Puts together what is served.
    pub(super) fn rebuild(&mut self) {
        let mut credentials = BTreeMap::new();
        let mut secrets = BTreeMap::new();
        for value in self.credentials.values().chain(self.secrets.values()) {
            match value {
                Value::Credential(it) => drop(credentials.insert(it.provider.clone(), Arc::clone(it))),
                Value::Secret(it) => drop(secrets.insert(it.name.clone(), Arc::clone(it))),
            }
        }
        self.entry = Arc::new(AgentEntry::active(credentials, secrets));
    }
}

impl SourceName {
    /// The name of one of its files. An odd one is shown so that it cannot draw on a terminal.
    pub(super) fn file(&self, part: Part) -> String {
        match (self, part) {
            (Self::Credential(provider), Part::Value) => format!("{provider}.token"),
            (Self::Credential(provider), Part::Facts) => format!("{provider}.json"),
            (Self::Secret(name), _) => name.to_string(),
            (Self::Odd(name), _) => name.escape_debug().to_string(),
        }
    }
}
