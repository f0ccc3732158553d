//! What the broker says of itself.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dvx_memory::Arena;
use dvx_proto::agent::AgentState;
use dvx_proto::{AgentName, EnclaveName};
use serde::{Deserialize, Serialize};

use crate::api::Api;
use crate::clock::{self, Monotonic};
use crate::keyring::Freshness;
use crate::listener::gate::Gate;
use crate::metrics::Levels;
use crate::upstream::Degraded;

/// Answer of `/readyz`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Readiness {
    /// Whether agents are served.
    pub(crate) ready: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// What is wrong without keeping the rest from being served.
    pub(crate) degraded: Vec<Degraded>,
}

/// Answer of `/status`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) version: String,
    pub(crate) enclave: EnclaveName,
    pub(crate) ready: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) upstream: UpstreamStatus,
    pub(crate) memory: MemoryStatus,
    pub(crate) listen: ListenStatus,
    pub(crate) agents: Vec<AgentStatus>,
    pub(crate) connections: ConnectionStatus,
    pub(crate) audit: AuditStatus,
    pub(crate) degraded: Vec<Degraded>,
}

/// The state of the upstream.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UpstreamStatus {
    pub(crate) kind: String,
    /// Absent where the upstream is no connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connected: Option<bool>,
    pub(crate) revision: u64,
    pub(crate) age_seconds: Option<u64>,
    pub(crate) max_stale_seconds: u64,
    pub(crate) synchronised: bool,
}

/// The state of protected memory: `secretmem`, `locked` or `plain`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MemoryStatus {
    pub(crate) protection: String,
    pub(crate) capacity_bytes: usize,
    pub(crate) used_bytes: usize,
}

/// Where the broker really listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ListenStatus {
    pub(crate) unix: PathBuf,
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) admin: PathBuf,
    pub(crate) agents: PathBuf,
}

/// One agent and how much it has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AgentStatus {
    pub(crate) name: AgentName,
    pub(crate) uid: u32,
    pub(crate) state: AgentState,
    pub(crate) credentials: usize,
    pub(crate) secrets: usize,
}

/// Connections of agents.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConnectionStatus {
    pub(crate) open: u32,
}

/// The audit log.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AuditStatus {
    pub(crate) sink: String,
    pub(crate) ok: bool,
}

/// Everything that is looked at to answer an operator.
pub(crate) struct View {
    pub(crate) api: Arc<Api>,
    pub(crate) gate: Gate,
    pub(crate) arena: Arena,
    pub(crate) listen: ListenStatus,
    troubles: Mutex<Troubles>,
}

/// What other parts found wrong at their last try.
#[derive(Default)]
struct Troubles {
    token_files: Vec<Degraded>,
    reload: Option<Degraded>,
}

impl View {
    pub(crate) fn new(api: Arc<Api>, gate: Gate, arena: Arena, listen: ListenStatus) -> Self {
        Self { api, gate, arena, listen, troubles: Mutex::default() }
    }

    pub(crate) fn set_token_file_troubles(&self, troubles: Vec<Degraded>) {
        self.troubles().token_files = troubles;
    }

    pub(crate) fn set_reload_trouble(&self, trouble: Option<Degraded>) {
        self.troubles().reload = trouble;
    }

    pub(crate) fn readiness(&self) -> Readiness {
        let reason = self.reason(clock::monotonic());
        Readiness { ready: reason.is_none(), reason, degraded: self.degraded() }
    }

    pub(crate) fn status(&self) -> Status {
        let now = clock::monotonic();
        let reason = self.reason(now);
        let usage = self.arena.usage();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            enclave: self.api.enclave.clone(),
            ready: reason.is_none(),
            reason,
            upstream: self.upstream(now),
            memory: MemoryStatus {
                protection: self.arena.protection().as_str().to_owned(),
                capacity_bytes: usage.capacity_bytes,
                used_bytes: usage.used_bytes,
            },
            listen: self.listen.clone(),
            agents: self.agents(),
            connections: ConnectionStatus { open: self.gate.open() },
            audit: AuditStatus { sink: self.api.audit.sink(), ok: self.api.audit.health().is_none() },
            degraded: self.degraded(),
        }
    }

    pub(crate) fn metrics(&self) -> Result<Vec<u8>, prometheus::Error> {
        let now = clock::monotonic();
        let usage = self.arena.usage();
        self.api.metrics.render(&Levels {
            ready: self.reason(now).is_none(),
            connections: self.gate.open(),
            revision: self.api.keyring.load().snapshot.revision,
            age_seconds: self.age_seconds(now),
            degraded: self.degraded().len(),
            connected: self.api.upstream.health().borrow().connected,
            memory_used_bytes: usage.used_bytes,
            memory_capacity_bytes: usage.capacity_bytes,
        })
    }

    /// Why agents are not served, if they are not.
    fn reason(&self, now: Monotonic) -> Option<String> {
        let max_stale = self.api.settings.load().max_stale;
        match self.api.keyring.freshness(now, max_stale) {
            Freshness::Never => return Some(self.never_read()),
            Freshness::Stale { age } => {
                return Some(format!(
                    "the upstream was last read {} s ago; max_stale is {} s",
                    age.as_secs(),
                    max_stale.as_secs()
                ));
            }
            Freshness::Fresh { .. } => {}
        }
        self.api.audit.health().map(|why| format!("the audit log cannot be written: {why}"))
    }

    fn never_read(&self) -> String {
        let health = self.api.upstream.health();
        let health = health.borrow();
        match (health.connected, health.degraded.first()) {
            (None, _) => "the upstream has not been read yet".to_owned(),
            (Some(_), None) => "the control plane has not sent anything yet".to_owned(),
            (Some(_), Some(Degraded { what, why })) => {
                format!("the control plane has not sent anything yet: {what}: {why}")
            }
        }
    }

    fn degraded(&self) -> Vec<Degraded> {
        let mut all = self.api.upstream.health().borrow().degraded.clone();
        let troubles = self.troubles();
        all.extend(troubles.token_files.iter().cloned());
        all.extend(troubles.reload.clone());
        all
    }

    fn upstream(&self, now: Monotonic) -> UpstreamStatus {
        let max_stale = self.api.settings.load().max_stale;
        let health = self.api.upstream.health().borrow().clone();
        UpstreamStatus {
            kind: health.kind.to_owned(),
            connected: health.connected,
            revision: self.api.keyring.load().snapshot.revision,
            age_seconds: self.age_seconds(now),
            max_stale_seconds: max_stale.as_secs(),
            synchronised: matches!(self.api.keyring.freshness(now, max_stale), Freshness::Fresh { .. }),
        }
    }

    fn age_seconds(&self, now: Monotonic) -> Option<u64> {
        match self.api.keyring.freshness(now, self.api.settings.load().max_stale) {
            Freshness::Never => None,
            Freshness::Fresh { age } | Freshness::Stale { age } => Some(age.as_secs()),
        }
    }

    fn agents(&self) -> Vec<AgentStatus> {
        let view = self.api.keyring.load();
        let settings = self.api.settings.load();
        let status = |rule: &crate::policy::AgentRule| {
            let entry = view.snapshot.agents.get(&rule.name);
            AgentStatus {
                name: rule.name.clone(),
                uid: rule.uid,
                state: entry.map_or(AgentState::Active, |entry| entry.state),
                credentials: entry.map_or(0, |entry| entry.credentials.len()),
                secrets: entry.map_or(0, |entry| entry.secrets.len()),
            }
        };
        settings.rules.iter().map(status).collect()
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
