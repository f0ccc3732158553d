//! Counters and gauges for Prometheus. No label carries the name of an agent, a user or a secret.

use dvx_proto::agent::Transport;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::audit::{Action, Verdict};

/// All that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    /// One counter for each action and verdict, found without a look-up.
    requests: Vec<[IntCounter; Verdict::ALL.len()]>,
    tokens: IntCounter,
    audit_failures: IntCounter,
    accepted: [IntCounter; 2],
    refused: IntCounter,
    gauges: Gauges,
}

/// What is read off the rest of the broker when somebody asks.
struct Gauges {
    ready: IntGauge,
    connections: IntGauge,
    revision: IntGauge,
    age: IntGauge,
    connected: IntGauge,
    degraded: IntGauge,
    memory_used: IntGauge,
    memory_capacity: IntGauge,
}

/// The values of the gauges at one moment.
pub(crate) struct Levels {
    pub(crate) ready: bool,
    pub(crate) connections: u32,
    pub(crate) revision: u64,
    pub(crate) age_seconds: Option<u64>,
    pub(crate) degraded: usize,
    /// None where the upstream is no connection.
    pub(crate) connected: Option<bool>,
    pub(crate) memory_used_bytes: usize,
    pub(crate) memory_capacity_bytes: usize,
}

impl Metrics {
    /// Registers everything. It fails only on names that are malformed or there twice, which a test shows
    /// they are not.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build = IntGaugeVec::new(opts("build_info", "The running version"), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))?;
        let requests = counters(
            &registry,
            "requests_total",
            "Requests of agents by what was asked and decided",
            &["action", "decision"],
        )?;
        let accepted = counters(
            &registry,
            "connections_accepted_total",
            "Connections that were let in",
            &["transport"],
        )?;
        let row = |action: &Action| {
            Verdict::ALL.map(|verdict| requests.with_label_values(&[action.as_str(), verdict.as_str()]))
        };
        Ok(Self {
            requests: Action::ALL.iter().map(row).collect(),
            accepted: [Transport::Unix, Transport::Tcp]
                .map(|transport| accepted.with_label_values(&[transport.as_str()])),
            refused: counter(&registry, "connections_refused_total", "Connections turned away at a limit")?,
            tokens: counter(&registry, "agent_tokens_issued_total", "Agent tokens given out on request")?,
            audit_failures: counter(
                &registry,
                "audit_failures_total",
                "Audit lines that could not be written",
            )?,
            gauges: Gauges::register(&registry)?,
            registry,
        })
    }

    pub(crate) fn count(&self, action: Action, verdict: Verdict) {
        if let Some(counter) = self.requests.get(action as usize).and_then(|row| row.get(verdict as usize)) {
            counter.inc();
        }
    }

    pub(crate) fn count_token(&self) {
        self.tokens.inc();
    }

    pub(crate) fn count_audit_failure(&self) {
        self.audit_failures.inc();
    }

    pub(crate) fn count_accepted(&self, transport: Transport) {
        let [unix, tcp] = &self.accepted;
        match transport {
            Transport::Unix => unix.inc(),
            Transport::Tcp => tcp.inc(),
        }
    }

    pub(crate) fn count_refused(&self) {
        self.refused.inc();
    }

    /// The text that Prometheus reads (exposition format 0.0.4).
    pub(crate) fn render(&self, levels: &Levels) -> Result<Vec<u8>, prometheus::Error> {
        self.gauges.set(levels);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl Gauges {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        Ok(Self {
            ready: gauge(registry, "ready", "1 while agents are served")?,
            connections: gauge(registry, "connections_open", "Open connections of agents")?,
            revision: gauge(registry, "revision", "Revision of the secrets that are served")?,
            age: gauge(
                registry,
                "upstream_age_seconds",
                "Time since the upstream last confirmed its secrets; -1 before the first time",
            )?,
            connected: gauge(
                registry,
                "upstream_connected",
                "1 while connected to the upstream; -1 where it is no connection",
            )?,
            degraded: gauge(registry, "degraded", "Things that readiness names as degraded")?,
            memory_used: gauge(
                registry,
                "protected_memory_used_bytes",
                "Protected memory that holds secrets now",
            )?,
            memory_capacity: gauge(registry, "protected_memory_bytes", "Protected memory that is set aside")?,
        })
    }

    fn set(&self, levels: &Levels) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.ready.set(i64::from(levels.ready));
        self.connections.set(i64::from(levels.connections));
        self.revision.set(number(levels.revision));
        self.age.set(levels.age_seconds.map_or(-1, number));
        self.connected.set(levels.connected.map_or(-1, i64::from));
        self.degraded.set(number(levels.degraded as u64));
        self.memory_used.set(number(levels.memory_used_bytes as u64));
        self.memory_capacity.set(number(levels.memory_capacity_bytes as u64));
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("dvx_broker")
}

fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let counters = IntCounterVec::new(opts(name, help), labels)?;
    registry.register(Box::new(counters.clone()))?;
    Ok(counters)
}

fn counter(registry: &Registry, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    let counter = IntCounter::with_opts(opts(name, help))?;
    registry.register(Box::new(counter.clone()))?;
    Ok(counter)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::with_opts(opts(name, help))?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_is_there_from_the_start_and_counts_its_own() {
        let metrics = Metrics::new().unwrap();
        metrics.count(Action::CredentialGet, Verdict::Served);
        let levels = Levels {
            ready: true,
            connections: 3,
            revision: 7,
            age_seconds: None,
            degraded: 0,
            connected: Some(true),
            memory_used_bytes: 64,
            memory_capacity_bytes: 4096,
        };
        let text = String::from_utf8(metrics.render(&levels).unwrap()).unwrap();
        for line in [
            r#"dvx_broker_requests_total{action="credential.get",decision="served"} 1"#,
            r#"dvx_broker_requests_total{action="credential.get",decision="denied"} 0"#,
            "dvx_broker_connections_open 3",
            "dvx_broker_upstream_age_seconds -1",
            "dvx_broker_upstream_connected 1",
            "dvx_broker_protected_memory_used_bytes 64",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
