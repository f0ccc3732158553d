//! The receiving end of the control plane's stream, for the fuzz targets.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dvx_memory::{Arena, Slot};
use dvx_proto::enclave::Frame;
use dvx_proto::{AgentName, Fingerprint, ProviderName};

use super::roster::Roster;
use super::seal::{Opener, Recipient};
use super::worker::{Outcome, Stream, Worker};
use super::{Host, parse};
use crate::clock;
use crate::fuzzing::name;
use crate::keyring::{AgentEntry, Keyring};
use crate::policy::Rules;

/// A key pair, and what was sealed for it.
pub struct Receiver {
    recipient: Recipient,
    opener: Option<Opener>,
    arena: Arena,
}

impl Receiver {
    /// With a fresh key pair.
    pub fn new() -> Self {
        Self { recipient: Recipient::new(), opener: None, arena: Arena::new(false).expect("memory") }
    }

    /// What has to be sealed to.
    pub fn public(&self) -> &str {
        self.recipient.public()
    }

    /// Begins with this encapsulated key. False where it is none.
    pub fn begin(&mut self, encapsulated_key: &str) -> bool {
        self.opener = self.recipient.opener(encapsulated_key).ok();
        self.opener.is_some()
    }

    /// The next value, if it is one.
    pub fn open(&mut self, sealed: &str, aad: &[u8]) -> Option<Vec<u8>> {
        let value = self.opener.as_mut()?.open(sealed, aad, &self.arena).ok()?;
        Some(value.expose_secret().to_vec())
    }

    /// How much of the protected memory is in use.
    pub fn used_bytes(&self) -> usize {
        self.arena.usage().used_bytes
    }
}

/// What a line of a stream has led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Something else may be in force.
    Committed,
    /// Nothing yet.
    Other,
    /// The stream is over; why.
    Violation(String),
}

/// All of the control upstream behind its connection, over one stream after another.
pub struct Replica {
    worker: Worker,
    keyring: Arc<Keyring>,
    host: Arc<FuzzHost>,
    stream: Option<(Recipient, Option<Stream>)>,
}

#[derive(Default)]
struct FuzzHost(Mutex<Rules>);

impl Replica {
    /// Of the enclave `lab-1`, which has nothing yet. Users are numbers here; no name is looked up.
    pub fn new() -> Self {
        let (keyring, host) = (Arc::new(Keyring::new()), Arc::new(FuzzHost::default()));
        let arena = Arena::new(false).expect("memory");
        let roster = Roster::new(|_| Ok(None));
        let worker = Worker::new(name("lab-1"), Arc::clone(&keyring), arena, host.clone(), roster);
        Self { worker, keyring, host, stream: None }
    }

    /// Connects anew. Gives the key that values have to be sealed to.
    pub fn connect(&mut self) -> String {
        let recipient = Recipient::new();
        let public = recipient.public().to_owned();
        self.stream = Some((recipient, None));
        public
    }

    /// Takes a line, the first one as `hello`.
    pub fn take(&mut self, line: &[u8]) -> Taken {
        self.try_take(line).unwrap_or_else(|why| {
            self.stream = None;
            Taken::Violation(why)
        })
    }

    fn try_take(&mut self, line: &[u8]) -> Result<Taken, String> {
        let frame = parse(line).map_err(|error| error.to_string())?;
        let (recipient, stream) = self.stream.as_mut().ok_or("there is no stream")?;
        let outcome = match (stream.as_mut(), frame) {
            (None, Frame::Hello(hello)) => {
                *stream = Some(self.worker.begin(recipient, &hello).map_err(|error| error.to_string())?);
                Outcome::More
            }
            (None, _) => return Err("a stream begins with hello".to_owned()),
            (Some(stream), frame) => {
                self.worker.take(stream, frame, clock::monotonic()).map_err(|error| error.to_string())?
            }
        };
        Ok(if outcome == Outcome::Committed { Taken::Committed } else { Taken::Other })
    }

    /// The revision that is in force, as the control plane and as agents are told.
    pub fn revisions(&self) -> (Option<u64>, u64) {
        (self.worker.ack().map(|ack| ack.revision), self.keyring.load().snapshot.revision)
    }

    /// What could not be taken over.
    pub fn degraded(&self) -> Vec<String> {
        self.worker.degraded().iter().map(|bad| format!("{}: {}", bad.what, bad.why)).collect()
    }

    /// The agents that have a rule.
    pub fn rules(&self) -> Vec<String> {
        let rules = self.host.0.lock().unwrap_or_else(PoisonError::into_inner);
        rules.iter().map(|rule| rule.name.to_string()).collect()
    }

    /// What is served: agent, state, and the answers with values.
    pub fn served(&self) -> Vec<(String, &'static str, Vec<String>)> {
        let view = self.keyring.load();
        let mut served: Vec<_> = view.snapshot.agents.iter().map(agent).collect();
        served.sort_unstable();
        served
    }
}

fn agent((name, entry): (&AgentName, &Arc<AgentEntry>)) -> (String, &'static str, Vec<String>) {
    let text = |body: &Slot| String::from_utf8_lossy(body.expose_secret()).into_owned();
    let credentials = entry.credentials.values().map(|held| text(&held.body));
    let secrets = entry.secrets.values().map(|held| text(&held.body));
    (name.to_string(), entry.state.as_str(), credentials.chain(secrets).collect())
}

impl Host for FuzzHost {
    fn narrow(&self, rules: &Rules) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rules.clone();
    }

    fn enforce(&self, rules: Rules) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    fn max_stale(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn settle(&self, _: &AgentName, _: &ProviderName, _: Fingerprint) {}
}
