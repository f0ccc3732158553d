//! What is counted of brokers.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Opts, Registry};

const NAMESPACE: &str = "dvx_control";

/// All of it.
pub(crate) struct Metrics {
    enclaves: IntGauge,
    streams: IntGauge,
    frames: IntCounter,
    snapshots: IntCounter,
    acks: IntCounter,
    delivery: Histogram,
    audit_lines: IntCounter,
    audit_findings: IntCounter,
}

impl Metrics {
    #[expect(clippy::expect_used, reason = "the names are constants, and a test makes them")]
    pub(crate) fn new() -> Self {
        let opts = |name, help| Opts::new(name, help).namespace(NAMESPACE);
        let gauge = |name, help| IntGauge::with_opts(opts(name, help)).expect("a name that is well-formed");
        let counter =
            |name, help| IntCounter::with_opts(opts(name, help)).expect("a name that is well-formed");
        let buckets = vec![0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0];
        let delivery = HistogramOpts::new(
            "delivery_seconds",
            "Time from when this process knew of a change until a broker had it in force",
        );
        Self {
            enclaves: gauge("enclaves_connected", "Enclaves with a broker that is connected to this process"),
            streams: gauge("watch_streams", "Open streams"),
            frames: counter("watch_frames_total", "Lines that were written to streams"),
            snapshots: counter("watch_snapshots_total", "Streams that began with a snapshot"),
            acks: counter("acks_total", "Revisions that brokers have confirmed"),
            delivery: Histogram::with_opts(delivery.namespace(NAMESPACE).buckets(buckets))
                .expect("a name that is well-formed"),
            audit_lines: counter("audit_lines_total", "Lines of brokers' audit logs that were stored"),
            audit_findings: counter(
                "audit_findings_total",
                "Gaps and breaks in the chains of brokers' audit logs",
            ),
        }
    }

    /// Makes all of it visible.
    pub(crate) fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.enclaves.clone()))?;
        registry.register(Box::new(self.streams.clone()))?;
        registry.register(Box::new(self.frames.clone()))?;
        registry.register(Box::new(self.snapshots.clone()))?;
        registry.register(Box::new(self.acks.clone()))?;
        registry.register(Box::new(self.delivery.clone()))?;
        registry.register(Box::new(self.audit_lines.clone()))?;
        registry.register(Box::new(self.audit_findings.clone()))
    }

    pub(super) fn count_streams(&self, (streams, enclaves): (usize, usize)) {
        self.streams.set(i64::try_from(streams).unwrap_or(i64::MAX));
        self.enclaves.set(i64::try_from(enclaves).unwrap_or(i64::MAX));
    }

    pub(super) fn count_frame(&self) {
        self.frames.inc();
    }

    pub(super) fn count_snapshot(&self) {
        self.snapshots.inc();
    }

    pub(super) fn count_ack(&self, took: Option<Duration>) {
        self.acks.inc();
        if let Some(took) = took {
            self.delivery.observe(took.as_secs_f64());
        }
    }

    pub(crate) fn count_audit(&self, lines: u64, findings: u64) {
        self.audit_lines.inc_by(lines);
        self.audit_findings.inc_by(findings);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_can_be_registered_once() {
        let (metrics, registry) = (Metrics::new(), Registry::new());
        metrics.register(&registry).unwrap();
        metrics.count_streams((3, 2));
        metrics.count_ack(Some(Duration::from_millis(7)));
        assert_eq!(registry.gather().len(), 8);
        assert!(metrics.register(&registry).is_err());
    }
}
