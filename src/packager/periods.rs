//! Decides DASH periods: where one begins, whether its segments are announced before they are made, and what is announced.
//!
//! ```text
//!   leader's cuts ──► regular? ──► low-latency period: S@t and S@d of the open segment are predictions
//!                        │              │ the key frame comes elsewhere
//!                        ▼              ▼
//!                complete segments only, in a period of their own; connected, so that players go on without a reset
//! ```
//!
//! The *leader* is the rendition that the others cut with: video, or audio where it is alone. It is the first of the renditions.
//! A prediction holds when the key frame comes within half a picture of it. What is left over is not lost: the next `S@t` is where the
//! segment was *said* to end, and the prediction after that leads back to the media.
//!
//! Not here: how the MPD is written (`playlist::dash`), what a segment holds (`presentation`).
//!
//! Specifications: ISO/IEC 23009-1 §5.3.2, §5.3.9.6; DASH-IF guidelines, timing model.

mod grid;
mod regularity;

use std::collections::VecDeque;
use std::sync::Arc;

pub use grid::Grid;

use self::regularity::Regularity;
use super::catalog::{Announced, Period, PeriodRendition};
use super::part::Init;
use crate::media::{MediaTime, RenditionId, WallTime};

/// How far the media timeline may be off the wall clock before a new period puts it right, in microseconds.
pub const DRIFT_LIMIT_MICROS: i64 = 500_000;

/// Periods kept at most, should the caller never [`retire`](Periods::retire) any. A default window holds less than a tenth of it.
pub const MAX_PERIODS: usize = 256;

/// Segments of the first period that it is held back for: when a third begins, it has shown whether it is regular, or it is not.
const UNDECIDED_SEGMENTS: u64 = 2;
/// The same of a period behind an interruption: when its first segment is complete, there is something to show, and it is known whether the stream is
/// as regular as before.
const UNDECIDED_SEGMENTS_AGAIN: u64 = 1;

/// The leader's segment begins.
#[derive(Debug)]
pub struct Begin<'a> {
    /// Media sequence number, the same in all renditions.
    pub msn: u64,
    /// Presentation time of its first sample, in the leader's timescale. Never negative.
    pub start: MediaTime,
    /// How long a picture (where audio leads, a frame) lasts, in the leader's ticks. Half of it is what a prediction may be off by.
    pub picture: i64,
    /// Its EXT-X-PROGRAM-DATE-TIME: the wall clock, without the jitter of arrival.
    pub date: WallTime,
    /// It begins with a key frame; false where it was cut because none came.
    pub independent: bool,
    /// The timeline does not run on from the segment before. [`Periods::end`] has told where that ended; otherwise it ends here.
    pub discontinuity: bool,
    /// All renditions, the leader first, in the order of the catalog.
    pub renditions: &'a [Entrant],
}

/// A rendition as it is when a segment begins.
#[derive(Debug, Clone)]
pub struct Entrant {
    /// Which one.
    pub id: RenditionId,
    /// The init that the segment needs.
    pub init: Arc<Init>,
    /// Where it can be cut. Of no meaning for the leader.
    pub grid: Grid,
}

/// The periods of one presentation. Sans-IO; all calls come from the presentation, in the order of the leader's timeline.
#[derive(Debug)]
pub struct Periods {
    /// availabilityStartTime.
    zero: WallTime,
    next_id: u64,
    list: VecDeque<Period>,
    /// The period at the back of `list` continues nothing, and is not shown before it is known what kind it is, or so many segments are complete.
    pending: Option<u64>,
    /// The period at the back of `list`, while it goes on.
    current: Option<Current>,
    regularity: Regularity,
}

/// What is known of the period that goes on.
#[derive(Debug)]
struct Current {
    /// Leader's presentation time at `Period@start`.
    anchor: MediaTime,
    /// Where the leader's newest segment really began.
    begun: MediaTime,
    /// Number of that segment.
    msn: u64,
    /// Segments begun in this period.
    count: u64,
    /// Half a picture, in leader's ticks.
    tolerance: i64,
    /// A follower began elsewhere than announced.
    broken: bool,
    /// A rendition fell silent: its next segment is not the one behind its last in number, as it would have to be within the period.
    silent: bool,
    followers: Vec<Follower>,
}

#[derive(Debug)]
struct Follower {
    id: RenditionId,
    /// How far its start may be off what was announced, in ticks of its track: one frame.
    slack: i64,
}

/// Why a segment opens a new period.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Border {
    /// Nothing before it, or nothing that it continues.
    Fresh,
    /// Other renditions or inits; the timeline runs on.
    Format,
    /// The timeline runs on, its place on the wall clock is corrected.
    Drift,
    /// The timeline runs on; what is announced, or whether anything is, changes.
    Addressing,
}

impl Periods {
    /// No period yet. `zero` is availabilityStartTime ([`Catalog::start`](super::Catalog::start)), `first_id` the id of the first period:
    /// 0 in a new epoch, past the last one where an epoch is taken up again.
    pub fn new(zero: WallTime, first_id: u64) -> Self {
        Self {
            zero,
            next_id: first_id,
            list: VecDeque::new(),
            pending: None,
            current: None,
            regularity: Regularity::default(),
        }
    }

    /// Periods of before, all of them closed, none shown for the first time. The next one is numbered past the last. `regular` is what the
    /// leader's segments last lasted, in its ticks, if they were regular.
    pub fn taken_up(zero: WallTime, list: Vec<Period>, regular: Option<i64>) -> Self {
        let next_id = list.last().map_or(0, |last| last.id + 1);
        Self { list: list.into(), regularity: Regularity::remembering(regular), ..Self::new(zero, next_id) }
    }

    /// The leader's segment begins; to be called before any rendition has a part of it. Returns where the segment is predicted to end when
    /// the period is a low-latency one; [`announced`](Self::announced) then says the same for each rendition in its own ticks.
    pub fn segment_begins(&mut self, begin: &Begin<'_>) -> Option<MediaTime> {
        let tolerance = tolerance(begin);
        let runs_on = self.current.as_ref().is_some_and(|current| {
            !begin.discontinuity && begin.start.scale == current.begun.scale && begin.start > current.begun
        });
        if runs_on {
            self.regularity.segment_ends(begin.start.ticks, begin.independent, tolerance);
        } else {
            self.regularity.restart(begin.start.ticks, begin.independent);
        }
        match self.border(begin, tolerance) {
            Some(border) => self.open(begin, border),
            None => self.carry_on(),
        }
        if let Some(current) = &mut self.current {
            current.begun = begin.start;
            current.msn = begin.msn;
            current.tolerance = tolerance;
            current.count += 1;
        }
        self.announce(begin)
    }

    /// What was announced of rendition `id`'s newest segment. In a low-latency period [`Segment::announced`](super::Segment::announced) and
    /// [`Segment::presentation_start`](super::Segment::presentation_start) are to be set from it, and a follower is to be cut at its
    /// `start`.
    pub fn announced(&self, id: RenditionId) -> Option<Announced> {
        self.current.as_ref()?;
        self.list.back()?.renditions.iter().find(|rendition| rendition.id == id)?.announced
    }

    /// A follower's segment of which `announced` was announced really begins at `start` (presentation time, ticks of its track), for instance because
    /// its timeline was repaired. When that is further than a frame from what was announced, the leader's next segment opens a new period.
    pub fn follower_begins(&mut self, id: RenditionId, announced: Announced, start: i64) {
        let Some(current) = &mut self.current else { return };
        let Some(follower) = current.followers.iter().find(|follower| follower.id == id) else { return };
        current.broken |= start.saturating_sub(announced.start).saturating_abs() > follower.slack;
    }

    /// A rendition has ended its segment before the leader's next one begins, and may be back by then: that one opens a new period.
    pub fn falls_silent(&mut self) {
        if let Some(current) = &mut self.current {
            current.silent = true;
        }
    }

    /// The timeline ends at `at` (leader's presentation time): the stream is over, the publisher has gone, or a discontinuity follows.
    pub fn end(&mut self, at: MediaTime) {
        let Some(current) = self.current.take() else { return };
        // A segment that was begun but holds nothing does not exist; its number is free for the next one.
        let end_msn = if at > current.begun { current.msn + 1 } else { current.msn };
        self.close(at.micros().saturating_sub(current.anchor.micros()), end_msn);
        self.pending = None;
        self.regularity.interrupt();
    }

    /// All segments before `first_kept_msn` have left the windows, and with them the periods that hold no other.
    pub fn retire(&mut self, first_kept_msn: u64) {
        while self.list.len() > 1 && self.list.front().is_some_and(|period| ends_by(period, first_kept_msn)) {
            self.list.pop_front();
        }
    }

    /// [`Catalog::periods`](super::Catalog::periods): what may be shown, oldest first.
    pub fn snapshot(&self) -> Vec<Period> {
        self.list.iter().take(self.list.len() - usize::from(self.pending.is_some())).cloned().collect()
    }

    /// Whether, and why, a new period begins here.
    fn border(&mut self, begin: &Begin<'_>, tolerance: i64) -> Option<Border> {
        let (Some(current), Some(period)) = (&self.current, self.list.back()) else { return Some(Border::Fresh) };
        // Time that stands still or runs backwards is a discontinuity that nobody named.
        if begin.discontinuity || begin.start <= current.begun {
            return Some(Border::Fresh);
        }
        let same = |(held, entrant): (&PeriodRendition, &Entrant)| {
            held.id == entrant.id && held.init.number == entrant.init.number
        };
        let entrants = begin.renditions;
        if current.silent
            || period.renditions.len() != entrants.len()
            || !period.renditions.iter().zip(entrants).all(same)
        {
            return Some(Border::Format);
        }
        let elapsed = begin.start.micros().saturating_sub(current.anchor.micros());
        let expected = self.zero.plus_micros(period.start_micros).plus_micros(elapsed);
        if begin.date.micros_since(expected).saturating_abs() >= DRIFT_LIMIT_MICROS {
            return Some(Border::Drift);
        }
        if !period.low_latency {
            // The first period may still become what it should have been from its start.
            return (self.regularity.is_regular() && self.pending.is_none()).then_some(Border::Addressing);
        }
        let said = period.renditions.first().and_then(|leader| leader.announced).map(|announced| announced.end());
        let missed = said.is_none_or(|said| begin.start.ticks.saturating_sub(said).saturating_abs() > tolerance);
        if missed || !begin.independent {
            self.regularity.mispredicted();
            return Some(Border::Addressing);
        }
        self.regularity.predicted();
        current.broken.then_some(Border::Addressing)
    }

    /// The segment belongs to the period that goes on.
    fn carry_on(&mut self) {
        let begun = self.current.as_ref().map_or(0, |current| current.count);
        let Some(undecided) = self.pending else { return };
        if self.regularity.is_regular() {
            self.pending = None;
            if let Some(period) = self.list.back_mut() {
                period.low_latency = true;
            }
        } else if begun >= undecided {
            self.pending = None;
        }
    }

    /// The segment opens a period.
    fn open(&mut self, begin: &Begin<'_>, border: Border) {
        let date_micros = begin.date.micros_since(self.zero).max(0);
        let first_ever = self.list.is_empty();
        let start_micros = self.leave(begin, border, date_micros);
        let undecided = if first_ever { UNDECIDED_SEGMENTS } else { UNDECIDED_SEGMENTS_AGAIN };
        self.pending = (border == Border::Fresh).then_some(undecided);
        self.list.push_back(Period {
            id: self.next_id,
            start_micros,
            duration_micros: None,
            connected: matches!(border, Border::Drift | Border::Addressing),
            low_latency: self.regularity.is_regular(),
            renditions: begin.renditions.iter().map(|entrant| first_of(begin, entrant)).collect(),
        });
        self.next_id += 1;
        if self.list.len() > MAX_PERIODS {
            self.list.pop_front();
        }
        let follower = |entrant: &Entrant| {
            // Pictures of another video rendition have no grid of their own; they last as long as the leader's.
            let picture = MediaTime::new(begin.picture, begin.start.scale).in_scale(entrant.init.track.timescale);
            let slack = if entrant.grid == Grid::EVERY_TICK { picture } else { entrant.grid.step };
            Follower { id: entrant.id, slack }
        };
        self.current = Some(Current {
            anchor: begin.start,
            begun: begin.start,
            msn: begin.msn,
            count: 0,
            tolerance: 0,
            broken: false,
            silent: false,
            followers: begin.renditions.iter().skip(1).map(follower).collect(),
        });
    }

    /// Closes what went before a segment that opens a period. Returns `Period@start` of that one.
    fn leave(&mut self, begin: &Begin<'_>, border: Border, date_micros: i64) -> i64 {
        let Some(last) = self.list.back_mut() else { return date_micros };
        if let Some(duration) = last.duration_micros {
            // Closed and shown. The number of a segment that never came may be used again.
            for rendition in &mut last.renditions {
                rendition.end_msn = rendition.end_msn.map(|end| end.min(begin.msn));
            }
            return date_micros.max(last.start_micros.saturating_add(duration));
        }
        let from = last.start_micros;
        let held =
            self.current.as_ref().map_or(0, |current| begin.start.micros().saturating_sub(current.anchor.micros()));
        let start = match border {
            Border::Format | Border::Addressing => from.saturating_add(held.max(1)),
            Border::Fresh | Border::Drift => date_micros.max(from.saturating_add(1)),
        };
        // Where the clock is put back, the end of what was held is cut off: periods do not overlap. Where it is put forward, there is a gap.
        let duration = if border == Border::Fresh { start - from } else { held.min(start - from) };
        self.close(duration, begin.msn);
        start
    }

    fn close(&mut self, duration_micros: i64, end_msn: u64) {
        if let Some(last) = self.list.back_mut() {
            last.duration_micros = Some(duration_micros.max(1));
            for rendition in &mut last.renditions {
                rendition.end_msn = Some(end_msn);
                rendition.announced = None;
            }
        }
    }

    /// Predicts the segment that has just begun, in a low-latency period.
    fn announce(&mut self, begin: &Begin<'_>) -> Option<MediaTime> {
        let period = self.list.back_mut().filter(|period| period.low_latency)?;
        let tolerance = self.current.as_ref()?.tolerance;
        let mut predicted = None;
        for (rendition, entrant) in period.renditions.iter_mut().zip(begin.renditions) {
            let before = rendition.announced;
            let announced = match predicted {
                None => {
                    let start = before.map_or(begin.start.ticks, |before| before.end());
                    let duration = self.regularity.predict(begin.start.ticks, start, tolerance);
                    predicted = Some(MediaTime::new(start.saturating_add(duration), begin.start.scale));
                    Announced { msn: begin.msn, start, duration }
                }
                Some(end) => {
                    let scale = entrant.init.track.timescale;
                    let grid = entrant.grid;
                    let start = before.map_or_else(|| grid.first_possible(begin.start, scale), |before| before.end());
                    let end = grid.end(start, begin.start, end, scale);
                    // A segment without duration cannot be written; it takes a timeline that jumps to get here.
                    let duration = end.saturating_sub(start).max(grid.step).max(1);
                    Announced { msn: begin.msn, start, duration }
                }
            };
            rendition.announced = Some(announced);
        }
        predicted
    }
}

/// Half a picture, but a millisecond at least: that is how finely RTMP tells time. Never more than half of a usual picture: where one was long,
/// the next ones need not be, and clients allow a segment to begin a picture off.
fn tolerance(begin: &Begin<'_>) -> i64 {
    let hz = i64::from(begin.start.scale.hz());
    (begin.picture / 2).min(hz / 60).max(hz / 1_000).max(1)
}

fn ends_by(period: &Period, msn: u64) -> bool {
    period.renditions.iter().all(|rendition| rendition.end_msn.is_some_and(|end| end <= msn))
}

fn first_of(begin: &Begin<'_>, entrant: &Entrant) -> PeriodRendition {
    PeriodRendition {
        id: entrant.id,
        init: entrant.init.clone(),
        first_msn: begin.msn,
        end_msn: None,
        offset: begin.start.in_scale(entrant.init.track.timescale),
        announced: None,
    }
}

#[cfg(test)]
mod tests;
