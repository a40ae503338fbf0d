//! What ingest counts. Handles are made once, so that the path of media looks up no label.

use std::sync::Arc;
use std::time::Instant;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::timeline::{Repair, Repairs};
use crate::media::Gauged;
use crate::media::peer::Throttle;

/// Why RTMP peers are refused or disconnected, as a label. What is not listed counts as the last.
const REASONS: [&str; 17] = [
    "max_connections",
    "max_per_ip",
    "descriptors",
    "handshake",
    "chunk",
    "message",
    "reply",
    "formats",
    "command_rate",
    "timeout",
    "write_timeout",
    "track",
    "bad_name",
    "unauthorized",
    "denied",
    "unavailable",
    "other",
];

/// Ingest's metrics, all protocols.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// `rillcast_publishers`.
    pub publishers: IntGauge,
    /// `rillcast_publishers_by_protocol{protocol}`.
    by_protocol: IntGaugeVec,
    /// `rillcast_ingest_bytes_total`.
    pub bytes: IntCounter,
    /// `rillcast_rtmp_connections`.
    pub rtmp_connections: IntGauge,
    /// `rillcast_streams_by_health{health}`.
    by_health: IntGaugeVec,
    repairs: Vec<(Repair, IntCounter)>,
    refused: Arc<[Refused; REASONS.len()]>,
}

/// One reason to refuse: how often, and when it was logged last.
#[derive(Debug)]
struct Refused {
    count: IntCounter,
    throttle: Throttle,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When one of the names is registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let publishers = IntGauge::new("rillcast_publishers", "Streams being published now.")?;
        let by_protocol = IntGaugeVec::new(
            Opts::new("rillcast_publishers_by_protocol", "Streams being published now, by protocol."),
            &["protocol"],
        )?;
        // From the start, so that a graph begins at zero.
        by_protocol.with_label_values(&["rtmp"]).set(0);
        let by_health = IntGaugeVec::new(
            Opts::new("rillcast_streams_by_health", "Streams being published now, by what their ingest report says."),
            &["health"],
        )?;
        let bytes = IntCounter::new("rillcast_ingest_bytes_total", "Bytes received from publishers.")?;
        let rtmp_connections = IntGauge::new("rillcast_rtmp_connections", "RTMP connections open now.")?;
        let repairs = IntCounterVec::new(
            Opts::new(
                "rillcast_ingest_repairs_total",
                "Access units and timestamps that had to be repaired or dropped.",
            ),
            &["kind"],
        )?;
        let refused = IntCounterVec::new(
            Opts::new("rillcast_rtmp_refused_total", "RTMP connections closed by the server, by reason."),
            &["reason"],
        )?;
        registry.register(Box::new(publishers.clone()))?;
        registry.register(Box::new(by_protocol.clone()))?;
        registry.register(Box::new(by_health.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(rtmp_connections.clone()))?;
        registry.register(Box::new(repairs.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        let refused = REASONS
            .map(|reason| Refused { count: refused.with_label_values(&[reason]), throttle: Throttle::default() });
        let refused = Arc::new(refused);
        let repairs = Repair::ALL.into_iter().map(|kind| (kind, repairs.with_label_values(&[kind.label()]))).collect();
        let metrics = Self { publishers, by_protocol, by_health, bytes, rtmp_connections, repairs, refused };
        metrics.set_health([0; 3]);
        Ok(metrics)
    }

    /// Counts a publisher over `protocol`, one of a fixed set, for as long as what is returned is kept.
    pub(crate) fn publishing(&self, protocol: &'static str) -> [Gauged; 2] {
        [Gauged::one(&self.publishers), Gauged::one(&self.by_protocol.with_label_values(&[protocol]))]
    }

    /// How many streams are in good, fair and poor health.
    pub fn set_health(&self, counts: [i64; 3]) {
        for (label, count) in ["good", "fair", "poor"].into_iter().zip(counts) {
            self.by_health.with_label_values(&[label]).set(count);
        }
    }

    /// Adds what a session has repaired since it was asked last.
    pub fn add_repairs(&self, repairs: &Repairs) {
        if repairs.is_empty() {
            return;
        }
        for (kind, counter) in &self.repairs {
            counter.inc_by(repairs.count(*kind));
        }
    }

    /// A connection was refused or closed. Where a log line about that reason may be written now, gives how many were not since the last: one a
    /// second may, so that a flood of peers is no flood of lines.
    pub fn refuse(&self, reason: &'static str) -> Option<u64> {
        let index = REASONS.iter().position(|known| *known == reason).unwrap_or(REASONS.len() - 1);
        let refused = self.refused.get(index)?;
        refused.count.inc();
        refused.throttle.speak(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_counted_by_kind() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let mut repairs = Repairs::default();
        repairs.add(Repair::Jump, 0);
        repairs.add(Repair::Jump, 0);
        metrics.add_repairs(&repairs);
        assert_eq!((metrics.refuse("chunk"), metrics.refuse("chunk"), metrics.refuse("new")), (Some(0), None, Some(0)));
        let families = registry.gather();
        let total: f64 = families
            .iter()
            .filter(|family| family.name() == "rillcast_ingest_repairs_total")
            .flat_map(|family| family.get_metric())
            .map(|metric| metric.get_counter().get_value())
            .sum();
        assert_eq!(total, 2.0);
        let refused = families.iter().find(|family| family.name() == "rillcast_rtmp_refused_total").unwrap();
        assert_eq!(refused.get_metric().len(), REASONS.len(), "every reason is there from the start");
        let total: f64 = refused.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum();
        assert_eq!(total, 3.0);
        assert!(Metrics::register(&registry).is_err(), "names are registered once");
    }
}
