//! What the edge counts. Handles are made once; counting is one atomic addition.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::time::Instant;

use http::{StatusCode, Version};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::media::peer::Throttle;

/// What was asked for, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Playlist,
    Manifest,
    Init,
    Part,
    Segment,
    Api,
    Page,
    Other,
}

impl Kind {
    /// As metrics and logs call it.
    pub(crate) fn label(self) -> &'static str {
        KINDS.get(self as usize).copied().unwrap_or("other")
    }
}

const KINDS: [&str; 8] = ["playlist", "manifest", "init", "part", "segment", "api", "page", "other"];
const PROTOCOLS: [&str; 3] = ["h1", "h2", "h3"];
/// Codes that have a label of their own; all others share `other`, which bounds the number of series whatever the API answers.
const CODES: [u16; 20] =
    [200, 201, 202, 204, 206, 304, 400, 401, 403, 404, 405, 409, 410, 413, 416, 422, 429, 500, 503, 0];

/// The edge's metrics.
#[derive(Debug)]
pub struct Metrics {
    requests: IntCounterVec,
    /// One cell per kind, protocol and code, filled when first used, so that no label is looked up twice.
    cells: Vec<OnceLock<IntCounter>>,
    /// `rillcast_http_waiting`.
    pub(crate) waiting: IntGauge,
    /// `rillcast_http_connections`.
    pub(crate) connections: IntGauge,
    /// `rillcast_viewers`.
    pub(crate) viewers: IntGauge,
    /// `rillcast_part_first_byte_seconds`: from the moment a part can be seen to the first byte sent to a viewer who waited for it.
    pub(crate) first_byte: Histogram,
    /// `rillcast_http_limit_hits_total{limit}`.
    pub(crate) limits: Limits,
}

/// Each limit: how often it was hit, and the log line that says so.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) connections: Limit,
    pub(crate) connections_per_ip: Limit,
    pub(crate) waiting: Limit,
    pub(crate) waiting_per_ip: Limit,
    pub(crate) header: Limit,
    pub(crate) write: Limit,
    pub(crate) handshake: Limit,
    /// The body of a request that did not come in time.
    pub(crate) body: Limit,
    /// A TLS handshake that failed.
    pub(crate) tls: Limit,
    /// HTTP that breaks its rules.
    pub(crate) protocol: Limit,
    /// Much is sent and little is asked for.
    pub(crate) chatter: Limit,
    pub(crate) descriptors: Limit,
    /// Connections that were idle when others needed their places.
    pub(crate) idle: Limit,
    pub(crate) viewers: IntCounter,
}

/// One limit.
#[derive(Debug)]
pub(crate) struct Limit {
    name: &'static str,
    hits: IntCounter,
    throttle: Throttle,
}

impl Limit {
    /// `peer` came up against it; `rule` says what that means. One line a second at most is logged.
    pub(crate) fn hit(&self, peer: IpAddr, rule: &str) {
        self.hits.inc();
        if let Some(silent) = self.throttle.speak(Instant::now()) {
            tracing::info!(%peer, limit = self.name, silent, "{rule}");
        }
    }

    #[cfg(test)]
    pub(crate) fn get(&self) -> u64 {
        self.hits.get()
    }
}

impl Metrics {
    /// Registers all of them in `registry`.
    ///
    /// # Errors
    /// Where a name is taken, i.e. when called twice for one registry.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("rillcast_http_requests_total", "HTTP requests answered."),
            &["kind", "code", "proto"],
        )?;
        let limits = IntCounterVec::new(
            Opts::new("rillcast_http_limit_hits_total", "How often a limit of the edge was hit."),
            &["limit"],
        )?;
        let gauge = |name: &str, help: &str| IntGauge::new(name, help);
        let waiting = gauge("rillcast_http_waiting", "Requests that wait for media.")?;
        let connections = gauge("rillcast_http_connections", "Open HTTP connections.")?;
        let viewers =
            gauge("rillcast_viewers", "Connections that asked for a playlist in the last 15 seconds, an estimate.")?;
        let first_byte = HistogramOpts::new(
            "rillcast_part_first_byte_seconds",
            "From the moment a part can be seen to the first byte of the answer to a viewer who waited for it.",
        );
        let buckets = vec![0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.5];
        let first_byte = Histogram::with_opts(first_byte.buckets(buckets))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(first_byte.clone()))?;
        registry.register(Box::new(limits.clone()))?;
        for gauge in [&waiting, &connections, &viewers] {
            registry.register(Box::new(gauge.clone()))?;
        }
        let limit = |name: &'static str| -> Result<Limit, prometheus::Error> {
            let hits = limits.get_metric_with_label_values(&[name])?;
            Ok(Limit { name, hits, throttle: Throttle::default() })
        };
        let limits = Limits {
            connections: limit("connections")?,
            connections_per_ip: limit("connections_per_ip")?,
            waiting: limit("waiting")?,
            waiting_per_ip: limit("waiting_per_ip")?,
            header: limit("header_timeout")?,
            write: limit("write_timeout")?,
            handshake: limit("handshake_timeout")?,
            body: limit("body_timeout")?,
            tls: limit("tls")?,
            protocol: limit("protocol")?,
            chatter: limit("chatter")?,
            descriptors: limit("descriptors")?,
            idle: limit("idle")?,
            viewers: limits.get_metric_with_label_values(&["viewers"])?,
        };
        let cells = (0..KINDS.len() * PROTOCOLS.len() * CODES.len()).map(|_| OnceLock::new()).collect();
        Ok(Self { requests, cells, waiting, connections, viewers, first_byte, limits })
    }

    /// Counts one answer.
    pub(crate) fn answered(&self, kind: Kind, code: StatusCode, version: Version) {
        let proto = match version {
            Version::HTTP_3 => 2,
            Version::HTTP_2 => 1,
            _ => 0,
        };
        let code = CODES.iter().position(|known| *known == code.as_u16()).unwrap_or(CODES.len() - 1);
        let index = (kind as usize * PROTOCOLS.len() + proto) * CODES.len() + code;
        let Some(cell) = self.cells.get(index) else { return };
        let (Some(kind), Some(proto), Some(code)) = (KINDS.get(kind as usize), PROTOCOLS.get(proto), CODES.get(code))
        else {
            return;
        };
        let counter = cell.get_or_init(|| {
            let code = if *code == 0 { "other".to_owned() } else { code.to_string() };
            self.requests.with_label_values(&[kind, code.as_str(), proto])
        });
        counter.inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_kind_code_and_protocol() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).expect("fresh names");
        metrics.answered(Kind::Part, StatusCode::OK, Version::HTTP_2);
        metrics.answered(Kind::Part, StatusCode::OK, Version::HTTP_2);
        metrics.answered(Kind::Other, StatusCode::IM_A_TEAPOT, Version::HTTP_11);
        let count = |kind, code, proto| metrics.requests.with_label_values(&[kind, code, proto]).get();
        assert_eq!(count("part", "200", "h2"), 2);
        assert_eq!(count("other", "other", "h1"), 1);
        assert!(Metrics::new(&registry).is_err());
    }
}
