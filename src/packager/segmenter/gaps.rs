//! What a track does while nothing comes: its last segment is completed, gaps stand for the time that passes, and media may follow behind them.
//!
//! ```text
//!   media ── interrupt ──► idle ── resume ──► media
//!                          │  ▲
//!                          └──┘ gap
//! ```
//!
//! When that is, and how long gaps are, is decided outside (`presentation::resume`, `presentation::silence`).
//!
//! Specification: RFC 8216bis §4.4.4.7 (EXT-X-GAP).

use std::sync::Arc;
use std::time::Duration;

use super::promises::Promises;
use super::{Opening, Segmenter};
use crate::media::{AccessUnit, MediaTime};
use crate::packager::part::Segment;

/// The least that the last access unit before an interruption lasts, however soon that came.
const SHORTEST_LAST: Duration = Duration::from_millis(20);
/// The least that a gap lasts: dates have milliseconds, of which ticks are fractions, and each has to be later than the one before.
const SHORTEST_GAP: Duration = Duration::from_millis(2);

impl Segmenter {
    /// It has media, and the last of it was no gap.
    pub(in crate::packager) fn is_running(&self) -> bool {
        self.has_started() && !self.is_idle()
    }

    /// It was interrupted, and not resumed since.
    pub(in crate::packager) fn is_idle(&self) -> bool {
        self.idle.is_some()
    }

    /// Nothing comes any more for now: as [`finish`](Self::finish), but [`gap`](Self::gap) and [`resume`](Self::resume) may follow. What was announced of
    /// segments behind this one stands, should they come.
    /// `here` is where the wall clock stands on the presentation timeline, where that is known: a picture that was to last beyond it is cut short,
    /// or what comes next would be dated in the future.
    pub(in crate::packager) fn interrupt(&mut self, clock_offset: i64, here: Option<MediaTime>) {
        let Some(held) = self.held.take() else { return };
        let most = here.map_or(i64::MAX, |here| {
            self.decode_time(here).saturating_sub(held.dts).max(self.timescale().ticks(SHORTEST_LAST))
        });
        let duration = self.last_duration.clamp(1, most.max(1));
        let end = held.dts.saturating_add(duration);
        self.add(held, duration, clock_offset);
        // Nothing follows that this segment would have to last for.
        let promises = self.promises.take_next();
        self.end_segment();
        self.promises = promises;
        self.idle = Some(end);
    }

    /// No rendition has anything of the segments that were announced and not begun: their numbers are free for what comes next.
    pub(in crate::packager) fn forget_promises(&mut self) {
        self.promises = Promises::default();
    }

    /// Whether `unit` can follow what there is: while idle, only behind the last gap, or the end that was assumed, and one gap more.
    pub(in crate::packager) fn comes_too_early(&self, unit: &AccessUnit) -> bool {
        self.idle.is_some_and(|end| unit.dts < end.saturating_add(self.shortest_gap()))
    }

    /// A gap up to `until` would be longer than a segment may be.
    pub(in crate::packager) fn is_too_long_a_gap(&self, until: i64) -> bool {
        self.idle.is_some_and(|start| until.saturating_sub(start) >= self.limits.segment)
    }

    /// A segment without media, from where the last one ended to `until` (decode time, ticks): at least [`SHORTEST_GAP`], and never longer than a segment
    /// may be, even if it ends too early then. Only while idle.
    pub(in crate::packager) fn gap(&mut self, until: i64, opening: Opening) {
        let Some(start) = self.idle else { return };
        let shortest = self.shortest_gap();
        let longest = self.limits.segment.saturating_sub(1).max(shortest);
        let end = until.clamp(start.saturating_add(shortest), start.saturating_add(longest));
        let presentation_start = start.saturating_add(self.reordering);
        let opening = self.dated(opening);
        let before = self.last_discontinuity_sequence.replace(opening.discontinuity_sequence);
        self.segments.push(Arc::new(Segment {
            msn: self.open_msn,
            discontinuity: before.is_some_and(|before| before != opening.discontinuity_sequence),
            discontinuity_sequence: opening.discontinuity_sequence,
            init: Arc::clone(&self.rendition.init),
            start,
            presentation_start,
            duration: end.saturating_sub(start),
            announced: None,
            date: self.date(presentation_start, opening.clock_offset),
            independent: false,
            parts: Vec::new(),
            parts_listed: false,
        }));
        self.opening = Some(opening);
        self.open_msn += 1;
        self.idle = Some(end);
        self.segments.retire();
    }

    /// Media comes again: `unit` is the first of the segment that opens so. It is moved to where the last gap ends if it is decoded before
    /// that: a gap lasts at least [`SHORTEST_GAP`], and a deeper reordering than before reaches further back.
    pub(in crate::packager) fn resume(&mut self, mut unit: AccessUnit, opening: Opening) {
        if let Some(end) = self.idle.take() {
            let late = end.saturating_sub(unit.dts).max(0);
            unit.dts = unit.dts.saturating_add(late);
            unit.pts = unit.pts.saturating_add(late);
        }
        self.start(unit, opening);
    }

    fn shortest_gap(&self) -> i64 {
        self.timescale().ticks(SHORTEST_GAP).max(1)
    }
}
