//! Counters and gauges for Prometheus. No label carries the name of anything that an operator made.

use std::time::Duration;

use hyper::StatusCode;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::http::Peer;

/// All that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
    refused_identities: IntCounter,
    accepted: IntCounterVec,
    refused: IntCounter,
    connections: IntGauge,
    ready: IntGauge,
}

impl Metrics {
    /// Registers everything. It fails only on names that are malformed or there twice, which a test shows
    /// they are not.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build = IntGaugeVec::new(opts("build_info", "The running version"), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registry.register(Box::new(build))?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("request_seconds", "Time to the head of the answer, by API")
                .namespace(NAMESPACE),
            &["api"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let accepted = counters(
            &registry,
            "connections_accepted_total",
            "Connections that were let in",
            &["transport"],
        )?;
        for transport in ["unix", "https"] {
            accepted.with_label_values(&[transport]);
        }
        Ok(Self {
            requests: counters(
                &registry,
                "requests_total",
                "Requests by API and the first digit of the answer's status",
                &["api", "status"],
            )?,
            seconds,
            refused_identities: counter(
                &registry,
                "unauthenticated_requests_total",
                "Requests whose sender is nobody that is known",
            )?,
            accepted,
            refused: counter(&registry, "connections_refused_total", "Connections turned away at a limit")?,
            connections: gauge(&registry, "connections_open", "Open connections")?,
            ready: gauge(&registry, "ready", "1 while the database can be reached")?,
            registry,
        })
    }

    /// Where other parts of the process register what they count.
    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn count_request(&self, api: &'static str, status: StatusCode, took: Duration) {
        let class = match status.as_u16() {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.requests.with_label_values(&[api, class]).inc();
        let histogram: Histogram = self.seconds.with_label_values(&[api]);
        histogram.observe(took.as_secs_f64());
    }

    pub(crate) fn count_unauthenticated(&self) {
        self.refused_identities.inc();
    }

    pub(crate) fn count_accepted(&self, peer: &Peer) {
        self.accepted.with_label_values(&[peer.transport()]).inc();
    }

    pub(crate) fn count_refused(&self) {
        self.refused.inc();
    }

    /// The text that Prometheus reads (exposition format 0.0.4).
    pub(crate) fn render(&self, ready: bool, connections: u32) -> Result<Vec<u8>, prometheus::Error> {
        self.ready.set(i64::from(ready));
        self.connections.set(i64::from(connections));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry().gather(), &mut text)?;
        Ok(text)
    }
}

const NAMESPACE: &str = "dvx_control";

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
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
    fn every_counter_counts_its_own() {
        let metrics = Metrics::new().unwrap();
        metrics.count_request("operator", StatusCode::NO_CONTENT, Duration::from_millis(3));
        metrics.count_accepted(&Peer::Unix { uid: 0, pid: Some(1) });
        metrics.count_refused();
        metrics.count_unauthenticated();
        let text = String::from_utf8(metrics.render(true, 3).unwrap()).unwrap();
        for line in [
            r#"dvx_control_requests_total{api="operator",status="2xx"} 1"#,
            r#"dvx_control_request_seconds_count{api="operator"} 1"#,
            r#"dvx_control_connections_accepted_total{transport="unix"} 1"#,
            r#"dvx_control_connections_accepted_total{transport="https"} 0"#,
            "dvx_control_connections_refused_total 1",
            "dvx_control_unauthenticated_requests_total 1",
            "dvx_control_connections_open 3",
            "dvx_control_ready 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
