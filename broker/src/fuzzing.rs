//! What the fuzz targets in `fuzz/` reach of this crate. It is compiled with `--cfg fuzzing` alone, so no broker
//! that serves anybody has it.

use std::path::Path;

use jiff::Timestamp;

pub use crate::listener::fuzzing::{Broker, Caller, Exchange};
pub use crate::upstream::control::fuzzing::{Receiver, Replica, Taken};

use crate::config::{Config, UpstreamConfig};
use crate::identity::Issuer;
use crate::peer::{Groups, PeerFacts, PidNamespace};

/// Agent tokens of one broker.
pub struct Tokens(Issuer);

impl Tokens {
    /// With a key of its own.
    pub fn new(enclave: &str) -> Self {
        Self(Issuer::new(name(enclave)).unwrap_or_else(|error| panic!("{error}")))
    }

    /// A fresh token.
    pub fn issue(&self, agent: &str, uid: u32, now: Timestamp) -> String {
        let issued = self.0.issue(&name(agent), uid, now).unwrap_or_else(|error| panic!("{error}"));
        issued.token.as_str().to_owned()
    }

    /// Whom a token names, if it is one; else why not.
    pub fn verify(&self, presented: &[u8], bearer: u32, now: Timestamp) -> Result<(String, u32), String> {
        let verified = self.0.verify(presented, bearer, now).map_err(|error| error.to_string())?;
        Ok((verified.agent.to_string(), verified.uid))
    }
}

/// What a configuration says, as far as it can be checked from outside.
#[derive(Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Where and from what it serves whom, as text.
    pub debug: String,
    /// Whether other machines can connect.
    pub is_exposed: bool,
    /// Of the limits that are at least 1, the lowest.
    pub lowest_limit: u32,
    /// For how many seconds secrets are served without word from the upstream.
    pub max_stale_seconds: u64,
    /// How many agents there are, and how many of them are in force.
    pub agents: (usize, usize),
    /// The first agent that some process of its own user and cgroup is not, by rules that are in force.
    pub lost_agent: Option<String>,
}

/// Reads a file as the broker does; each error is a line.
pub fn configuration(
    path: &Path,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Configuration, Vec<String>> {
    let config = Config::load(path, env)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let in_force = match config.upstream {
        UpstreamConfig::Directory { .. } => config.rules.iter().len(),
        UpstreamConfig::Control(_) => 0,
    };
    Ok(Configuration {
        // But for the rules, which are the agents again in an order that differs from time to time.
        debug: format!("{:?} {:?} {:?} {:?}", config.listen, config.upstream, config.agents, config.audit),
        is_exposed: config.listen.tcp.is_some_and(|address| !address.ip().is_loopback()),
        lowest_limit: config.limits.connections.min(config.limits.total_connections),
        max_stale_seconds: config.max_stale.as_secs(),
        agents: (config.agents.len(), in_force),
        lost_agent: lost_agent(&config),
    })
}

/// A process that is all that a rule asks for must be that rule's agent, and nobody else's.
fn lost_agent(config: &Config) -> Option<String> {
    let lost = config.rules.iter().find(|rule| {
        let cgroup = match (&rule.unit, &rule.cgroup) {
            (_, Some(cgroup)) if rule.unit.is_none() => cgroup.to_string(),
            // As systemd writes names that begin like the kernel's own files or with its own escape.
            (Some(unit), None) if unit.to_string().starts_with(['_', '.']) => {
                format!("/system.slice/_{unit}")
            }
            (Some(unit), None) => format!("/system.slice/{unit}"),
            // Whether a unit can be below a path is not looked into here.
            _ => return false,
        };
        let facts = PeerFacts {
            transport: dvx_proto::agent::Transport::Unix,
            uid: rule.uid,
            gid: rule.gid,
            groups: Groups::from(rule.gid.as_slice()),
            pid: Some(1),
            cgroup: Some(cgroup.into()),
            namespace: PidNamespace::Ours,
            socket: None,
        };
        !config.rules.agent_for(&facts).is_ok_and(|found| found == *rule)
    });
    lost.map(|rule| rule.name.to_string())
}

pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}
