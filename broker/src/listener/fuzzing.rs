//! Connections over memory in the place of sockets, for the fuzz targets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use dvx_memory::Arena;
use dvx_proto::AgentName;
use dvx_proto::agent::{AgentState, Transport};
use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connection;
use super::progress::Sweeper;
use crate::api::{Api, Parts, Peer, Rates, Rejections, Settings};
use crate::audit::Audit;
use crate::clock;
use crate::config::AuditSink;
use crate::fuzzing::name;
use crate::identity::Issuer;
use crate::keyring::{AgentEntry, Credential, CredentialFacts, Keyring, SecretEntry, Snapshot};
use crate::metrics::Metrics;
use crate::peer::{Groups, PeerError, PeerFacts, PidNamespace, Unidentified};
use crate::policy::{AgentRule, Rules};
use crate::upstream::fuzzing::settling;

const ENCLAVE: &str = "lab-1";

/// What brokers are made of: each connection gets a new one, so that no input depends on the one before.
pub struct Broker {
    arena: Arena,
    agents: BTreeMap<AgentName, Arc<AgentEntry>>,
    rules: Vec<AgentRule>,
    issuer: Arc<Issuer>,
    log: PathBuf,
    runtime: tokio::runtime::Runtime,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// By loopback TCP, port 8471, instead of by the Unix socket.
    pub tcp: bool,
    /// As the kernel tells it, if it does.
    pub uid: Option<u32>,
    /// How much goes through the stream at a time.
    pub chunk_bytes: usize,
}

/// What came of a connection.
pub struct Exchange {
    /// Every byte that the caller got.
    pub answer: Vec<u8>,
    /// The audit log.
    pub log: Vec<u8>,
}

impl Broker {
    /// With nobody to serve, and a log in this directory.
    pub fn new(directory: &Path) -> Self {
        Self {
            arena: Arena::new(false).expect("memory"),
            agents: BTreeMap::new(),
            rules: Vec::new(),
            issuer: Arc::new(Issuer::new(name(ENCLAVE)).expect("a key")),
            log: directory.join("audit.jsonl"),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"),
        }
    }

    /// Adds an agent: credentials by provider with token, instance and end, and secrets by name.
    pub fn agent(
        &mut self,
        agent: &str,
        uid: u32,
        credentials: &[(&str, &str, &str, Option<Timestamp>)],
        secrets: &[(&str, &str)],
    ) {
        let credentials = credentials.iter().map(|(provider, token, instance, expires_at)| {
            let mut facts = CredentialFacts::defaults(name(provider));
            (facts.instance, facts.expires_at) = (Some(name(instance)), *expires_at);
            let made = Credential::new(facts, token.as_bytes(), &self.arena).expect("a credential");
            (made.provider.clone(), Arc::new(made))
        });
        let secrets = secrets.iter().map(|(named, value)| {
            let made = SecretEntry::new(name(named), value.as_bytes(), &self.arena).expect("a secret");
            (made.name.clone(), Arc::new(made))
        });
        let entry = AgentEntry::active(credentials.collect(), secrets.collect());
        self.agents.insert(name(agent), Arc::new(entry));
        self.rules.push(AgentRule { name: name(agent), uid, gid: None, unit: None, cgroup: None });
    }

    /// Adds an agent that an operator has isolated.
    pub fn isolated(&mut self, agent: &str, uid: u32) {
        self.agent(agent, uid, &[], &[]);
        let entry = AgentEntry::out_of_service(AgentState::Isolated, Some("a test".to_owned()));
        self.agents.insert(name(agent), Arc::new(entry));
    }

    /// A token as the agent finds it in its file.
    pub fn token(&self, agent: &str, uid: u32) -> String {
        let issued = self.issuer.issue(&name(agent), uid, clock::wall()).expect("a token");
        issued.token.as_str().to_owned()
    }

    /// Serves one connection on which these bytes come, and no more.
    pub fn serve(&self, caller: Caller, bytes: &[u8]) -> Exchange {
        // What is left of the connection before.
        let _none_before_the_first = std::fs::remove_file(&self.log);
        let answer = self.runtime.block_on(self.converse(caller, bytes));
        Exchange { answer, log: std::fs::read(&self.log).expect("the log") }
    }

    async fn converse(&self, caller: Caller, bytes: &[u8]) -> Vec<u8> {
        let (server, client) = tokio::io::duplex(caller.chunk_bytes);
        let (mut from_server, mut to_server) = tokio::io::split(client);
        let watched = Sweeper::default().watch();
        let serve = connection::serve(server, peer(caller), Arc::new(self.api()), watched);
        let send = async {
            // A broker that hangs up before all has come may do so.
            let _sent = to_server.write_all(bytes).await;
            let _ended = to_server.shutdown().await;
        };
        let mut answer = Vec::new();
        let receive = async {
            let _received = from_server.read_to_end(&mut answer).await;
        };
        tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(serve, send, receive) })
            .await
            .expect("a connection comes to its end when its client does");
        answer
    }

    fn api(&self) -> Api {
        let keyring = Arc::new(Keyring::new());
        keyring.publish(Snapshot { revision: 7, agents: self.agents.clone() }, clock::monotonic());
        let rejections = Arc::new(Rejections::default());
        let rules = Arc::new(Rules::new(self.rules.clone()).expect("rules"));
        let rates = Rates::new(None, rules.iter().map(|rule| &rule.name), None);
        let settings = Settings { rules, rates, max_stale: Duration::from_secs(3600) };
        let enclave = name(ENCLAVE);
        Api::new(Parts {
            audit: Audit::open(&AuditSink::File(self.log.clone()), &enclave).expect("a log"),
            enclave,
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            upstream: settling(Arc::clone(&rejections), Arc::clone(&keyring)),
            rejections,
            keyring,
            issuer: Arc::clone(&self.issuer),
            metrics: Metrics::new().expect("metrics"),
            transports: vec![Transport::Unix, Transport::Tcp],
        })
    }
}

fn peer(caller: Caller) -> Peer {
    let (transport, tcp_port) = if caller.tcp { (Transport::Tcp, 8471) } else { (Transport::Unix, 0) };
    let unidentified = Unidentified { transport, uid: None, gid: None, pid: None, reason: PeerError::Nobody };
    let identity = caller.uid.ok_or(unidentified).map(|uid| PeerFacts {
        transport,
        uid,
        gid: Some(uid),
        groups: Groups::from([uid].as_slice()),
        pid: Some(4711),
        cgroup: None,
        namespace: PidNamespace::Ours,
        socket: None,
    });
    Peer { transport, tcp_port, identity }
}
