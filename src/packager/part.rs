//! What viewers fetch: init segments, parts, segments. All immutable, all shared by reference.

use std::sync::Arc;

use bytes::Bytes;

use crate::media::{Track, WallTime};

/// A CMAF header: `ftyp` and `moov` of one rendition, good until the format changes.
#[derive(Debug, PartialEq, Eq)]
pub struct Init {
    /// K of `init-K.mp4`, counting from 0 within the epoch.
    pub number: u32,
    /// The whole file.
    pub bytes: Bytes,
    /// The format it describes.
    pub track: Track,
}

/// What EXT-X-PART lists: exactly one chunk (`moof` + `mdat`).
#[derive(Debug)]
pub struct Part {
    /// N of `pN.m4s`. Numbers run on across segment borders and never go back within an epoch.
    pub number: u64,
    /// Sum of its samples' durations, in ticks of the track.
    pub duration: i64,
    /// It begins with a picture that decoding can start at; always true for audio.
    pub independent: bool,
    /// Everything before the payload: `styp` (first of a segment only), `prft`, `moof`, and the header of `mdat`.
    pub header: Bytes,
    /// The payload: one slice of the track's slab, or a few where the part straddles two allocations.
    pub payload: Vec<Bytes>,
}

impl Part {
    /// Length of the file in bytes.
    pub fn len(&self) -> usize {
        self.header.len() + self.payload.iter().map(Bytes::len).sum::<usize>()
    }

    /// Always false: a part holds a `moof`.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file as slices, cloned by reference.
    pub fn slices(&self) -> impl Iterator<Item = Bytes> + '_ {
        std::iter::once(&self.header).chain(&self.payload).cloned()
    }
}

/// The parts from one cut to the next; complete, or still in the making as [`Window::open`](super::Window::open).
#[derive(Debug, Clone)]
pub struct Segment {
    /// Media sequence number; `sMSN.m4s`.
    pub msn: u64,
    /// A discontinuity stands before it.
    pub discontinuity: bool,
    /// Discontinuity sequence number of this segment itself.
    pub discontinuity_sequence: u64,
    /// The init that it needs.
    pub init: Arc<Init>,
    /// Decode time of its first sample (`tfdt`), in ticks of the track.
    pub start: i64,
    /// Presentation time of its first sample on the track's timeline, in ticks: `start` plus the track's constant reordering delay.
    /// This is the `S@t` of DASH.
    pub presentation_start: i64,
    /// Sum of its parts' durations, in ticks of the track.
    pub duration: i64,
    /// The duration that follows from what DASH clients were told of it when it was opened, or of the next one, where they were; `S@d` says this for ever.
    pub announced: Option<i64>,
    /// EXT-X-PROGRAM-DATE-TIME of its first sample.
    pub date: WallTime,
    /// Its parts, in order. Empty for a gap, and for nothing else.
    pub parts: Vec<Arc<Part>>,
    /// It begins with a picture that decoding can start at; always true for audio.
    pub independent: bool,
    /// False where an access unit longer than PART-TARGET keeps its parts out of playlists, and for a gap.
    pub parts_listed: bool,
}

impl Segment {
    /// It stands for time in which nothing was published, and holds nothing. Spec: RFC 8216bis §4.4.4.7 (EXT-X-GAP).
    pub fn is_gap(&self) -> bool {
        self.parts.is_empty()
    }

    /// The durations in ticks of the parts that a playlist lists for a gap: PART-TARGET each, `target` ticks, and what is left. A player that
    /// follows parts would otherwise lose the end of the playlist at a gap. None for what is not a gap. Spec: RFC 8216bis §4.4.4.9 (GAP).
    pub fn gap_parts(&self, target: i64) -> impl ExactSizeIterator<Item = i64> + use<> {
        let target = target.max(1);
        let duration = if self.is_gap() { self.duration.max(0) } else { 0 };
        let count = usize::try_from((duration + target - 1) / target).unwrap_or(0);
        let last = duration - (duration - 1).max(0) / target * target;
        (0..count).map(move |index| if index + 1 == count { last } else { target })
    }
}

impl Segment {
    /// Length of the file in bytes: its parts in a row.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Only a gap is empty.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// `S@d` of DASH: what was announced, else what it holds.
    pub fn dash_duration(&self) -> i64 {
        self.announced.unwrap_or(self.duration)
    }

    /// The file as slices, cloned by reference.
    pub fn slices(&self) -> impl Iterator<Item = Bytes> + '_ {
        self.parts.iter().flat_map(|part| part.slices())
    }
}
