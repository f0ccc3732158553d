//! Frames in, what is served out.

use std::sync::Arc;

use dvx_memory::Arena;
use dvx_proto::agent::AgentState;
use dvx_proto::enclave::{Ack, Degraded as AckDegraded, Frame, Hello, Mode, SealedSecret, seal_aad};
use dvx_proto::{AgentName, EnclaveName, SecretName, without_trace};
use tracing::{debug, info};

use super::error::Violation;
use super::replica::{Applied, Batch, Held, Replica};
use super::roster::Roster;
use super::seal::{Opener, Recipient, SealError};
use crate::clock::Monotonic;
use crate::keyring::{AgentEntry, Credential, CredentialFacts, Keyring, SecretEntry, Snapshot, ValueError};
use crate::policy::Rules;
use crate::upstream::{Degraded, Host};

/// Holds what is in force, and puts what comes into force.
pub(super) struct Worker {
    enclave: EnclaveName,
    keyring: Arc<Keyring>,
    arena: Arena,
    host: Arc<dyn Host>,
    roster: Roster,
    replica: Replica,
    /// In force; none before the first commit.
    rules: Option<Rules>,
    revision: Option<u64>,
    /// Which revision of that number it is.
    mark: Option<u64>,
    organisation: Option<String>,
    /// The agents that are refused.
    refused: Vec<Degraded>,
    /// These, and the secrets that cannot be served.
    degraded: Vec<Degraded>,
}

/// One stream of frames.
pub(super) struct Stream {
    opener: Opener,
    organisation: String,
    batch: Batch,
    /// The revision of the sealed values since the last commit, and one of them.
    sealed: Option<(SecretName, u64)>,
    committed: bool,
}

/// What a frame has led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing yet.
    More,
    /// The control plane stands by what is in force.
    Confirmed,
    /// Something else is in force.
    Committed,
}

impl Worker {
    pub(super) fn new(
        enclave: EnclaveName,
        keyring: Arc<Keyring>,
        arena: Arena,
        host: Arc<dyn Host>,
        roster: Roster,
    ) -> Self {
        Self {
            enclave,
            keyring,
            arena,
            host,
            roster,
            replica: Replica::default(),
            rules: None,
            revision: None,
            mark: None,
            organisation: None,
            refused: Vec::new(),
            degraded: Vec::new(),
        }
    }

    /// What is in force, and by what the control plane knows it from another revision of that number.
    pub(super) fn revision(&self) -> Option<(u64, Option<u64>)> {
        Some((self.revision?, self.mark))
    }

    /// What could not be taken over.
    pub(super) fn degraded(&self) -> &[Degraded] {
        &self.degraded
    }

    /// What the control plane is told after a commit.
    pub(super) fn ack(&self) -> Option<Ack> {
        let degraded = |bad: &Degraded| AckDegraded { what: bad.what.clone(), why: bad.why.clone() };
        Some(Ack { revision: self.revision?, degraded: self.degraded.iter().map(degraded).collect() })
    }

    /// Whether an agent's user is missing.
    pub(super) fn misses_users(&self) -> bool {
        self.roster.is_incomplete()
    }

    /// Looks the agents' users up again. True if that has changed what is in force.
    pub(super) fn look_up_users(&mut self, all: bool) -> bool {
        self.roster.refresh(all);
        let Some(in_force) = &self.rules else { return false };
        let (rules, refused) = self.roster.rules(self.replica.documents(), in_force);
        if rules == *in_force && refused == self.refused {
            return false;
        }
        self.host.narrow(&in_force.common(&rules));
        self.enforce(rules, refused);
        true
    }

    /// Begins a stream.
    pub(super) fn begin(&self, recipient: &Recipient, hello: &Hello) -> Result<Stream, Violation> {
        if hello.enclave != self.enclave {
            let (found, expected) = (hello.enclave.clone(), self.enclave.clone());
            return Err(Violation::Enclave { found, expected });
        }
        if self.organisation.as_ref().is_some_and(|held| *held != hello.organisation) {
            return Err(Violation::Organisation);
        }
        if hello.mode == Mode::Resume && self.revision.is_none() {
            return Err(Violation::Order("there is nothing to resume"));
        }
        Ok(Stream {
            opener: recipient.opener(&hello.encapsulated_key).map_err(Violation::Key)?,
            organisation: hello.organisation.clone(),
            batch: Batch::new(hello.mode == Mode::Snapshot),
            sealed: None,
            committed: false,
        })
    }

    /// Takes the next frame.
    pub(super) fn take(
        &mut self,
        stream: &mut Stream,
        frame: Frame,
        now: Monotonic,
    ) -> Result<Outcome, Violation> {
        match frame {
            Frame::Hello(_) => return Err(Violation::Order("a second hello")),
            Frame::Agent(document) => stream.batch.agent(document)?,
            Frame::AgentGone { agent } => stream.batch.agent_gone(agent)?,
            Frame::Secret(secret) => {
                let held = without_trace(|| self.open(stream, &secret))?;
                stream.batch.secret(secret.agent.as_ref(), &secret.name, Some(held))?;
            }
            Frame::SecretGone { agent, name } => stream.batch.secret(agent.as_ref(), &name, None)?,
            Frame::SecretUnavailable { agent, name } => {
                let held = Held::Unusable("the control plane cannot read it".into());
                stream.batch.secret(agent.as_ref(), &name, Some(held))?;
            }
            Frame::Commit { revision, mark } => {
                let outcome = self.commit(stream, revision, now)?;
                self.mark = mark;
                return Ok(outcome);
            }
            Frame::Heartbeat { revision } => return self.heartbeat(stream, revision, now),
            Frame::Unknown => debug!("a frame of a type that this version does not know"),
        }
        Ok(Outcome::More)
    }

    fn open(&self, stream: &mut Stream, secret: &SealedSecret) -> Result<Held, Violation> {
        let SealedSecret { agent, name, revision, .. } = secret;
        self.check_age(*revision)?;
        match &stream.sealed {
            Some((_, first)) if first != revision => {
                let (sealed, commit) = (*revision, *first);
                return Err(Violation::Revision { name: name.clone(), sealed, commit });
            }
            Some(_) => {}
            None => stream.sealed = Some((name.clone(), *revision)),
        }
        let aad = seal_aad(&stream.organisation, &self.enclave, agent.as_ref(), name, *revision);
        let failed =
            |source: SealError| Violation::Sealed { agent: agent.clone(), name: name.clone(), source };
        let value = stream.opener.open(&secret.sealed, &aad, &self.arena).map_err(failed)?;
        let held = render(secret, value.expose_secret(), &self.arena)
            .unwrap_or_else(|error| Held::Unusable(error.to_string().into()));
        Ok(self.replica.shared(agent.as_ref(), name, held))
    }

    fn check_age(&self, found: u64) -> Result<(), Violation> {
        match self.revision {
            Some(held) if found < held => Err(Violation::Older { found, held }),
            Some(_) | None => Ok(()),
        }
    }

    fn commit(&mut self, stream: &mut Stream, revision: u64, now: Monotonic) -> Result<Outcome, Violation> {
        self.check_age(revision)?;
        if let Some((name, sealed)) = stream.sealed.take()
            && sealed != revision
        {
            return Err(Violation::Revision { name, sealed, commit: revision });
        }
        let batch = std::mem::take(&mut stream.batch);
        let unchanged = batch.is_empty() && self.revision == Some(revision);
        stream.committed = true;
        self.organisation.get_or_insert_with(|| stream.organisation.clone());
        if unchanged {
            self.keyring.confirm(now);
            return Ok(Outcome::Committed);
        }
        let before = self.revision.replace(revision).map(|_| self.keyring.load().snapshot.clone());
        let applied = self.replica.apply(batch);
        self.put_in_force(&applied, revision, now);
        match before {
            None => {
                let agents = self.replica.documents().count();
                info!(revision, agents, "the control plane's secrets are in force");
            }
            Some(before) => log_changes(&applied, &self.replica, |name| before.agents.get(name)),
        }
        Ok(Outcome::Committed)
    }

    /// What is served, and who gets it: whoever will not be who they were goes first, and new ones come last.
    fn put_in_force(&mut self, applied: &Applied, revision: u64, now: Monotonic) {
        let rules = match &self.rules {
            Some(_) if !applied.documents => None,
            Some(in_force) => {
                let rules = self.roster.rules(self.replica.documents(), in_force);
                self.host.narrow(&in_force.common(&rules.0));
                Some(rules)
            }
            None => Some(self.roster.rules(self.replica.documents(), &Rules::default())),
        };
        self.keyring.publish(Snapshot { revision, agents: self.replica.entries() }, now);
        match rules {
            Some((rules, refused)) => self.enforce(rules, refused),
            None => self.collect_degraded(),
        }
    }

    fn enforce(&mut self, rules: Rules, refused: Vec<Degraded>) {
        self.host.enforce(rules.clone());
        self.rules = Some(rules);
        self.refused = refused;
        self.collect_degraded();
    }

    fn collect_degraded(&mut self) {
        self.degraded = self.refused.iter().cloned().chain(self.replica.unusable()).collect();
    }

    fn heartbeat(&self, stream: &Stream, revision: u64, now: Monotonic) -> Result<Outcome, Violation> {
        // Before the first commit, or between two, there is nothing that it could be about.
        if !stream.committed || !stream.batch.is_empty() {
            return Ok(Outcome::More);
        }
        self.check_age(revision)?;
        if self.revision != Some(revision) {
            return Err(Violation::Order("a heartbeat of a revision that was not committed"));
        }
        self.keyring.confirm(now);
        Ok(Outcome::Confirmed)
    }
}

/// What agents get of a secret, if anything.
fn render(secret: &SealedSecret, value: &[u8], arena: &Arena) -> Result<Held, ValueError> {
    if secret.agent_accessible {
        return Ok(Held::Secret(Arc::new(SecretEntry::new(secret.name.clone(), value, arena)?)));
    }
    let Some(provider) = secret.name.provider() else { return Ok(Held::Hidden) };
    let defaults = CredentialFacts::defaults(provider);
    let facts = CredentialFacts {
        id: secret.credential.as_deref().map(Into::into),
        display_name: secret.display_name.clone().unwrap_or(defaults.display_name),
        auth_type: secret.auth_type.unwrap_or(defaults.auth_type),
        expires_at: secret.expires_at,
        instance: secret.instance_url.clone().or(defaults.instance),
        provider: defaults.provider,
    };
    Ok(Held::Credential(Arc::new(Credential::new(facts, value, arena)?)))
}

/// A line for each credential and each agent's state that has changed.
fn log_changes<'b>(
    applied: &Applied,
    replica: &Replica,
    before: impl Fn(&AgentName) -> Option<&'b Arc<AgentEntry>>,
) {
    for agent in &applied.agents {
        let (Some(old), Some(new)) = (before(agent), replica.entry(agent)) else { continue };
        if old.state != new.state {
            info!(%agent, state = new.state.as_str(), "the agent's state has changed");
        }
        if new.state != AgentState::Active {
            continue;
        }
        for (provider, credential) in &new.credentials {
            let same = |old: &Arc<Credential>| Arc::ptr_eq(old, credential);
            if !old.credentials.get(provider).is_some_and(same) {
                info!(%agent, %provider, fingerprint = %credential.fingerprint, "credential changed");
            }
        }
        for provider in old.credentials.keys().filter(|name| !new.credentials.contains_key(*name)) {
            info!(%agent, %provider, "credential is gone");
        }
    }
}
