//! The control plane's part is played by what is here: a sealer for values and, in [`fake`], a server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use dvx_proto::agent::AgentState;
use dvx_proto::enclave::{AgentDocument, Frame, Hello, Mode, SEAL_INFO, SealedSecret, seal_aad};
use dvx_proto::{AgentName, Fingerprint, ProviderName, SecretName};
use hpke::aead::{AeadCtxS, AesGcm256};
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeS, Serializable};

use super::*;
use crate::policy::Rules;

mod agents;
mod commits;
mod fake;
mod leak;
mod rejected;
mod shipping;
mod wire;

const ORGANISATION: &str = "0197-org";

/// What the server would do.
#[derive(Default)]
struct FakeHost {
    rules: Mutex<Rules>,
    /// The names in force after each change.
    history: Mutex<Vec<Vec<String>>>,
    settled: Mutex<Vec<Fingerprint>>,
}

impl FakeHost {
    fn names(&self) -> Vec<String> {
        names(&self.rules.lock().unwrap())
    }

    fn replace(&self, rules: &Rules) {
        *self.rules.lock().unwrap() = rules.clone();
        self.history.lock().unwrap().push(names(rules));
    }
}

fn names(rules: &Rules) -> Vec<String> {
    let mut names: Vec<_> = rules.iter().map(|rule| format!("{}={}", rule.name, rule.uid)).collect();
    names.sort_unstable();
    names
}

impl Host for FakeHost {
    fn narrow(&self, rules: &Rules) {
        self.replace(rules);
    }

    fn enforce(&self, rules: Rules) {
        self.replace(&rules);
    }

    fn max_stale(&self) -> Duration {
        Duration::from_secs(3600)
    }

    fn settle(&self, _: &AgentName, _: &ProviderName, fingerprint: Fingerprint) {
        self.settled.lock().unwrap().push(fingerprint);
    }
}

/// Seals values for one broker.
pub(super) struct Sealer {
    context: AeadCtxS<AesGcm256, HkdfSha256, X25519HkdfSha256>,
    encapsulated_key: String,
}

impl Sealer {
    pub(super) fn new(public_key: &str) -> Self {
        let bytes = URL_SAFE_NO_PAD.decode(public_key).unwrap();
        let key = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&bytes).unwrap();
        let (encapsulated, context) = hpke::setup_sender(&OpModeS::Base, &key, SEAL_INFO).unwrap();
        Self { context, encapsulated_key: URL_SAFE_NO_PAD.encode(encapsulated.to_bytes()) }
    }

    pub(super) fn hello(&self, mode: Mode) -> Hello {
        Hello {
            organisation: ORGANISATION.to_owned(),
            enclave: "lab-1".parse().unwrap(),
            mode,
            encapsulated_key: self.encapsulated_key.clone(),
            audit_seq: 0,
            audit_head: None,
        }
    }

    fn seal(&mut self, value: &[u8], aad: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.context.seal(value, aad).unwrap())
    }

    /// A secret of an agent, or of the organisation where the name is empty.
    pub(super) fn secret(&mut self, agent: &str, name: &str, value: &[u8], revision: u64) -> SealedSecret {
        let agent: Option<AgentName> = (!agent.is_empty()).then(|| agent.parse().unwrap());
        let name: SecretName = name.parse().unwrap();
        let enclave = "lab-1".parse().unwrap();
        let aad = seal_aad(ORGANISATION, &enclave, agent.as_ref(), &name, revision);
        let sealed = self.seal(value, &aad);
        SealedSecret {
            agent_accessible: name.provider().is_none(),
            agent,
            name,
            revision,
            credential: None,
            display_name: None,
            auth_type: None,
            instance_url: None,
            expires_at: None,
            sealed,
        }
    }
}

fn document(agent: &str, user: &str) -> AgentDocument {
    AgentDocument {
        agent: agent.parse().unwrap(),
        unix_user: user.parse().unwrap(),
        selectors: Default::default(),
        state: AgentState::Active,
        reason: None,
    }
}

fn agent(name: &str, user: &str) -> Frame {
    Frame::Agent(document(name, user))
}

fn isolated(name: &str, user: &str) -> Frame {
    let reason = Some("test".to_owned());
    Frame::Agent(AgentDocument { state: AgentState::Isolated, reason, ..document(name, user) })
}

fn commit(revision: u64) -> Frame {
    Frame::Commit { revision, mark: None }
}

fn gone(agent: &str, name: &str) -> Frame {
    Frame::SecretGone { agent: agent.parse().ok(), name: name.parse().unwrap() }
}

/// What is served of a keyring: `agent/name` and the answer with the value.
fn served(keyring: &Keyring) -> BTreeMap<String, String> {
    let text = |body: &dvx_memory::Slot| String::from_utf8(body.expose_secret().to_vec()).unwrap();
    let mut all = BTreeMap::new();
    for (agent, entry) in &keyring.load().snapshot.agents {
        for (provider, credential) in &entry.credentials {
            all.insert(format!("{agent}/{provider}:token"), text(&credential.body));
        }
        for (name, secret) in &entry.secrets {
            all.insert(format!("{agent}/{name}"), text(&secret.body));
        }
    }
    all
}

/// The keys of [`served`], the token or value behind each.
fn values(keyring: &Keyring) -> Vec<String> {
    let value = |body: &str| {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let value = body.get("token").or_else(|| body.get("value")).unwrap();
        value.as_str().unwrap().to_owned()
    };
    served(keyring).iter().map(|(name, body)| format!("{name}={}", value(body))).collect()
}

/// Users `agent1` and up have numbers from 1001 on.
fn look_up(name: &str) -> Result<Option<u32>, nix::errno::Errno> {
    let number = name.strip_prefix("agent").and_then(|number| number.parse::<u32>().ok());
    Ok(number.map(|number| 1000 + number))
}

/// A worker and one stream after another.
struct World {
    keyring: Arc<Keyring>,
    arena: Arena,
    host: Arc<FakeHost>,
    worker: Worker,
    sealer: Sealer,
    stream: worker::Stream,
}

impl World {
    /// With a stream that has just begun with a snapshot.
    fn new() -> Self {
        Self::with(look_up)
    }

    fn with(look_up: fn(&str) -> Result<Option<u32>, nix::errno::Errno>) -> Self {
        let (keyring, arena) = (Arc::new(Keyring::new()), Arena::new(false).unwrap());
        let host = Arc::new(FakeHost::default());
        let worker = Worker::new(
            "lab-1".parse().unwrap(),
            keyring.clone(),
            arena.clone(),
            host.clone(),
            Roster::new(look_up),
        );
        let (sealer, stream) = begin(&worker, Mode::Snapshot).unwrap();
        Self { keyring, arena, host, worker, sealer, stream }
    }

    fn reconnect(&mut self, mode: Mode) {
        (self.sealer, self.stream) = begin(&self.worker, mode).unwrap();
    }

    fn take(&mut self, frame: Frame) -> Result<Outcome, Violation> {
        self.worker.take(&mut self.stream, frame, clock::monotonic())
    }

    fn frames(&mut self, frames: impl IntoIterator<Item = Frame>) {
        for frame in frames {
            self.take(frame).unwrap();
        }
    }

    /// Sends a secret that is sealed for this stream.
    fn secret(&mut self, agent: &str, name: &str, value: &str, revision: u64) {
        let secret = self.sealer.secret(agent, name, value.as_bytes(), revision);
        self.take(Frame::Secret(secret)).unwrap();
    }

    fn values(&self) -> Vec<String> {
        values(&self.keyring)
    }

    fn degraded(&self) -> Vec<String> {
        self.worker.degraded().iter().map(|bad| format!("{}: {}", bad.what, bad.why)).collect()
    }
}

fn begin(worker: &Worker, mode: Mode) -> Result<(Sealer, worker::Stream), Violation> {
    let recipient = Recipient::new();
    let sealer = Sealer::new(recipient.public());
    let stream = worker.begin(&recipient, &sealer.hello(mode))?;
    Ok((sealer, stream))
}
