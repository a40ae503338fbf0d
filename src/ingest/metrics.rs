//! What ingest counts. Handles are made once, so that the path of media looks up no label.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::timeline::{Repair, Repairs};

/// Ingest's metrics, all protocols.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// `rillcast_publishers`.
    pub publishers: IntGauge,
    /// `rillcast_ingest_bytes_total`.
    pub bytes: IntCounter,
    /// `rillcast_rtmp_connections`.
    pub rtmp_connections: IntGauge,
    repairs: Vec<(Repair, IntCounter)>,
    refused: IntCounterVec,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When one of the names is registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let publishers = IntGauge::new("rillcast_publishers", "Streams being published now.")?;
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
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(rtmp_connections.clone()))?;
        registry.register(Box::new(repairs.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        let repairs = Repair::ALL.into_iter().map(|kind| (kind, repairs.with_label_values(&[kind.label()]))).collect();
        Ok(Self { publishers, bytes, rtmp_connections, repairs, refused })
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

    /// A connection was refused or closed; `reason` comes from a fixed set, never from the peer.
    pub fn refuse(&self, reason: &'static str) {
        self.refused.with_label_values(&[reason]).inc();
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
        metrics.refuse("protocol");
        let families = registry.gather();
        let total: f64 = families
            .iter()
            .filter(|family| family.name() == "rillcast_ingest_repairs_total")
            .flat_map(|family| family.get_metric())
            .map(|metric| metric.get_counter().get_value())
            .sum();
        assert_eq!(total, 2.0);
        assert!(Metrics::register(&registry).is_err(), "names are registered once");
    }
}
