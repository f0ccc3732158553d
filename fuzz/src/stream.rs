//! The stream of a control plane that says whatever it likes, into what a broker serves.

use dvx_broker::fuzzing::{Replica, Taken};
use dvx_proto::enclave::{Frame, Hello, SealedSecret, seal_aad};
use dvx_proto::{AgentName, EnclaveName, SecretName};
use serde_json::Value;

use crate::contains;
use crate::control::crypto::seal::{PublicKey, Sealer};

/// The beginning of every value; then come agent, name and revision that it was sealed for.
const VALUE: &str = "VALUE-6d1f";

/// The input is lines. `connect` stands for a new connection, `@KEY@` for a key that goes with it, and what is
/// sealed is written as the text behind an `@`, or as `#agent/name/revision/enclave` where it was sealed for
/// something else than its line says.
///
/// One that says in the open how values begin tells nothing: the fuzzer finds that out.
pub fn run(input: &[u8]) {
    if contains(input, VALUE.as_bytes()) {
        return;
    }
    let mut stream = Stream::new();
    for line in input.split(|byte| *byte == b'\n').take(200) {
        if line == b"connect" {
            stream.connect();
            continue;
        }
        let line = stream.prepared(line);
        stream.take(&line);
    }
}

struct Stream {
    replica: Replica,
    sender: Sealer,
    organisation: String,
    enclave: EnclaveName,
    revision: u64,
    served: Served,
}

type Served = Vec<(String, &'static str, Vec<String>)>;

impl Stream {
    fn new() -> Self {
        let mut replica = Replica::new();
        let sender = sender(&mut replica);
        let enclave = "lab-1".parse().expect("a name");
        Self { replica, sender, organisation: String::new(), enclave, revision: 0, served: Vec::new() }
    }

    fn connect(&mut self) {
        self.sender = sender(&mut self.replica);
    }

    /// The line with everything sealed that is to be.
    fn prepared(&mut self, line: &[u8]) -> Vec<u8> {
        match serde_json::from_slice(line) {
            Ok(Frame::Hello(hello)) if hello.encapsulated_key == "@KEY@" => {
                self.organisation.clone_from(&hello.organisation);
                let encapsulated_key = self.sender.encapsulated_key().to_owned();
                encoded(&Frame::Hello(Hello { encapsulated_key, ..hello }))
            }
            Ok(Frame::Secret(secret)) => match self.sealed(&secret) {
                Some(sealed) => encoded(&Frame::Secret(SealedSecret { sealed, ..secret })),
                None => line.to_vec(),
            },
            _ => line.to_vec(),
        }
    }

    fn sealed(&mut self, secret: &SealedSecret) -> Option<String> {
        if let Some(text) = secret.sealed.strip_prefix('@') {
            let enclave = self.enclave.clone();
            return Some(self.seal(secret.agent.as_ref(), &secret.name, secret.revision, &enclave, text));
        }
        let mut place = secret.sealed.strip_prefix('#')?.split('/');
        let agent: Option<AgentName> = place.next()?.parse().ok();
        let name: SecretName = place.next()?.parse().ok()?;
        let revision = place.next()?.parse().ok()?;
        let enclave = place.next()?.parse().ok()?;
        Some(self.seal(agent.as_ref(), &name, revision, &enclave, "elsewhere"))
    }

    fn seal(
        &mut self,
        agent: Option<&AgentName>,
        name: &SecretName,
        revision: u64,
        enclave: &EnclaveName,
        text: &str,
    ) -> String {
        let owner = agent.map_or("", AgentName::as_str);
        let value = format!("{VALUE}|{owner}|{name}|{revision}|{enclave}|{text}");
        self.sender
            .seal(value.as_bytes(), &seal_aad(&self.organisation, enclave, agent, name, revision))
            .expect("a value")
    }

    fn take(&mut self, line: &[u8]) {
        let taken = self.replica.take(line);
        let (acknowledged, revision) = self.replica.revisions();
        assert_eq!(acknowledged.unwrap_or(0), revision, "what the control plane and agents are told");
        assert!(revision >= self.revision, "revision {revision} after {}", self.revision);
        let served = self.replica.served();
        if taken != Taken::Committed {
            assert_eq!(served, self.served, "changed by half a commit: {}", line.escape_ascii());
            assert_eq!(revision, self.revision);
        }
        if let Taken::Violation(why) = taken {
            assert!(!why.contains(VALUE), "{why}");
        }
        (self.served, self.revision) = (served, revision);
        self.check_served();
        let degraded = self.replica.degraded();
        assert!(degraded.iter().all(|bad| !bad.contains(VALUE)), "{degraded:?}");
    }

    /// Each agent has what was sealed for it or for all, and nothing while it is out of service.
    fn check_served(&self) {
        for (agent, state, bodies) in &self.served {
            assert!(*state == "active" || bodies.is_empty(), "{agent} is {state} and has {bodies:?}");
            for body in bodies {
                let body: Value = serde_json::from_str(body).expect("an answer is JSON");
                let value = body.get("token").or(body.get("value")).and_then(Value::as_str).expect("a value");
                let parts: Vec<&str> = value.splitn(6, '|').collect();
                let [VALUE, owner, name, revision, "lab-1", _] = parts[..] else {
                    panic!("{agent} has {value}")
                };
                assert!(owner.is_empty() || owner == agent, "{agent} has {value}");
                assert!(revision.parse().is_ok_and(|revision: u64| revision <= self.revision), "{value}");
                let named =
                    body.get("name").map_or_else(|| name.ends_with(":token"), |known| *known == *name);
                assert!(named, "{body}");
            }
        }
        let rules = self.replica.rules();
        let known = |rule: &String| self.served.iter().any(|(agent, ..)| agent == rule);
        assert!(rules.iter().all(known), "{rules:?} are in force for {:?}", self.served);
    }
}

fn sender(replica: &mut Replica) -> Sealer {
    let key = PublicKey::parse(&replica.connect()).expect("a broker's key is one");
    Sealer::new(&key).expect("a broker's key is one")
}

fn encoded(frame: &Frame) -> Vec<u8> {
    serde_json::to_vec(frame).expect("a frame is JSON")
}
