//! What a presentation consists of: renditions, their measured rates, DASH periods.

use std::sync::Arc;

use super::config::Config;
use super::part::Init;
use super::window::Text;
use crate::media::{Epoch, RenditionId, WallTime};

/// One track's segments under one name.
#[derive(Debug)]
pub struct Rendition {
    /// `v0`, `a0`, …
    pub id: RenditionId,
    /// The epoch that its URLs carry.
    pub epoch: Epoch,
    /// Its newest init: that of the next part. It becomes so when the media that needs it has come, and no sooner.
    pub init: Arc<Init>,
    /// The rules it is packaged by, the same for all renditions.
    pub config: Arc<Config>,
}

/// A presentation as multivariant playlists, MPDs and the API show it. A new one is published when a segment completes, a track is
/// added, or the stream ends.
#[derive(Debug)]
pub struct Catalog {
    /// The life that this describes.
    pub epoch: Epoch,
    /// When the first sample was presented, by the publisher's timeline: availabilityStartTime of the MPD.
    pub start: WallTime,
    /// All renditions, video first. Empty until the first segment has been measured.
    pub renditions: Vec<Measured>,
    /// DASH periods, oldest first; the last one is current. Empty until DASH can be offered.
    pub periods: Vec<Period>,
    /// The longest segment so far, of any rendition, microseconds. Never falls.
    pub longest_micros: i64,
    /// When this catalog was made: publishTime of the MPD. Never goes back.
    pub published: WallTime,
    /// Which one it is of those that were made since the start or the restart: several can be made at one moment.
    pub number: u64,
    /// The stream is over.
    pub ended: bool,
    /// The multivariant playlist, made when first asked for.
    pub multivariant: Text,
}

/// A rendition and what was measured of it.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Which one.
    pub rendition: Arc<Rendition>,
    /// The inits of the next part and of all segments that playlists list, the newest first.
    pub inits: Vec<Arc<Init>>,
    /// Highest bit rate of a segment so far, rounded up with some headroom, bits a second. Never falls.
    pub peak_bps: u64,
    /// Bit rate over all segments so far, rounded up, bits a second.
    pub average_bps: u64,
    /// Pictures a second, 0 for audio: of the VUI or the usual rate that the timestamps fit, else measured.
    pub frame_rate: f64,
    /// Closed captions have been seen in its pictures.
    pub captions: bool,
}

/// A DASH period: a stretch of the timeline with one set of renditions and one way of addressing.
#[derive(Debug, Clone, PartialEq)]
pub struct Period {
    /// `Period@id`: counts from 0 within the epoch.
    pub id: u64,
    /// `Period@start`: microseconds after availabilityStartTime.
    pub start_micros: i64,
    /// `Period@duration` in microseconds, once it is closed.
    pub duration_micros: Option<i64>,
    /// The one before ends where this begins and may be appended to without a reset (ISO/IEC 23009-1 §5.3.2.4 period connectivity).
    pub connected: bool,
    /// Segments are announced while they are made: `S@d` of the open one is a prediction and availabilityTimeOffset is written.
    pub low_latency: bool,
    /// Its renditions, in the order of [`Catalog::renditions`].
    pub renditions: Vec<PeriodRendition>,
}

/// One rendition's share of a period.
#[derive(Debug, Clone, PartialEq)]
pub struct PeriodRendition {
    /// Which one.
    pub id: RenditionId,
    /// The init that all its segments need.
    pub init: Arc<Init>,
    /// Media sequence number of its first segment.
    pub first_msn: u64,
    /// Media sequence number of the first segment that belongs to the next period, once closed.
    pub end_msn: Option<u64>,
    /// `@presentationTimeOffset`: the presentation time at the period's start, in ticks of the track. Never negative.
    pub offset: i64,
    /// In a low-latency period that goes on: the segment that the leader has begun, whether this rendition has a part of it yet or not.
    pub announced: Option<Announced>,
}

/// What DASH clients are told of a segment before it is made. It stands for ever: what is announced is never edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Media sequence number.
    pub msn: u64,
    /// `S@t`, in ticks of the track: where the segment before it was said to end.
    pub start: i64,
    /// `S@d`, in ticks of the track.
    pub duration: i64,
}

impl Announced {
    /// Where it is said to end, in ticks of the track: `S@t` of the segment that follows in the same period.
    pub fn end(&self) -> i64 {
        self.start.saturating_add(self.duration)
    }
}
