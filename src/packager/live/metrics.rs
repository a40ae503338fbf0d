//! What the packager measures of itself, and how often its limits were hit.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};

use crate::packager::presentation;

/// What the packager measures of itself.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// From the wall-clock time at which a part's last sample ends to the arrival of the access unit that completed it, seconds: the network's
    /// delay over the quickest access unit, and the one access unit that is held back.
    pub(super) part_delay: Histogram,
    /// From the arrival of the access unit that completes a part until viewers see the part, seconds: what this server adds.
    pub(super) part_publish: Histogram,
    /// Media kept for viewers, of all streams, in bytes.
    pub(super) media_bytes: IntGauge,
    pub(super) hits: Hits,
}

/// How often each limit on what publishers may take was hit.
#[derive(Debug, Clone)]
pub(super) struct Hits {
    /// Streams on one server: `ingest.max_streams`.
    pub(super) streams: IntCounter,
    /// Tracks of one kind in a stream.
    pub(super) tracks: IntCounter,
    /// `packager.require_keyframes`: a publisher whose key frames are too far apart.
    pub(super) key_frames: IntCounter,
    /// One segment larger than half of what the stream may keep.
    pub(super) segment_bytes: IntCounter,
    /// Segments that left early, because the stream keeps as much as it may.
    pub(super) window_bytes: IntCounter,
    /// Segments came faster than their numbers could be reserved.
    pub(super) numbers: IntCounter,
    /// All streams together keep as much as they may.
    pub(super) total_bytes: IntCounter,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When the name is registered already.
    pub fn register(registry: &prometheus::Registry) -> prometheus::Result<Self> {
        let buckets = vec![0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
        let opts =
            HistogramOpts::new("rillcast_part_delay_seconds", "Delay of a part over its own end.").buckets(buckets);
        let part_delay = Histogram::with_opts(opts)?;
        let buckets = vec![0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5];
        let opts = HistogramOpts::new(
            "rillcast_part_publish_seconds",
            "From the arrival of the access unit that completes a part until viewers see the part.",
        );
        let part_publish = Histogram::with_opts(opts.buckets(buckets))?;
        let hits = IntCounterVec::new(
            Opts::new("rillcast_packager_limit_hits_total", "How often a limit of the packager was hit."),
            &["limit"],
        )?;
        let counters = Hits {
            streams: hits.with_label_values(&["streams"]),
            tracks: hits.with_label_values(&["tracks"]),
            key_frames: hits.with_label_values(&["key_frames"]),
            segment_bytes: hits.with_label_values(&["segment_bytes"]),
            window_bytes: hits.with_label_values(&["window_bytes"]),
            numbers: hits.with_label_values(&["numbers"]),
            total_bytes: hits.with_label_values(&["total_bytes"]),
        };
        registry.register(Box::new(part_delay.clone()))?;
        registry.register(Box::new(part_publish.clone()))?;
        registry.register(Box::new(hits))?;
        let media_bytes = IntGauge::new("rillcast_media_bytes", "Bytes of media kept in memory for viewers.")?;
        registry.register(Box::new(media_bytes.clone()))?;
        Ok(Self { part_delay, part_publish, media_bytes, hits: counters })
    }

    /// Counts the limit that `error` tells of, where it tells of one.
    pub(super) fn count(&self, error: &presentation::Error) {
        match error {
            presentation::Error::TooManyTracks => self.hits.tracks.inc(),
            presentation::Error::KeyFramesTooFar(_) => self.hits.key_frames.inc(),
            presentation::Error::BitRateTooHigh(_) => self.hits.segment_bytes.inc(),
            presentation::Error::Init(_) => {}
        }
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self::register(&prometheus::Registry::new()).expect("a new registry knows no name")
    }
}
