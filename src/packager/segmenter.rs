//! One track's access units become parts and segments.
//!
//! ```text
//!   access unit ──► held ──► OpenPart ──► open segment ──► Segments ──► window
//!                    │          │              │               └ listed for `window`, then kept for those who still ask
//!                    │          │              └ ends where the presentation cuts, before EXTINF would round above TARGETDURATION at the latest
//!                    │          └ ends before it would be longer than PART-TARGET
//!                    └ until the next one comes
//! ```
//!
//! A sample's duration is known when the next access unit arrives, so one access unit is always held back; that, and nothing else, is
//! the delay of this module. Where a segment ends is decided outside (`presentation`), because all tracks of a stream are cut together.
//!
//! Beside that path: what stands in the place of media while none comes (`gaps`), what DASH clients were told ahead (`promises`), and a restart of
//! the server (`saving`).

mod gaps;
mod open_part;
mod promises;
mod saving;
mod segments;

use std::sync::Arc;

use self::open_part::OpenPart;
use self::promises::Promises;
pub(super) use self::segments::Totals;
use self::segments::{Retention, Segments};
use super::catalog::Rendition;
use super::fmp4::chunk::Header;
use super::part::{Init, Part, Segment};
use super::periods::Grid;
use super::window::{Rendered, Window};
use crate::media::{AccessUnit, Kind, MediaTime, RenditionId, Timescale, WallTime};

/// Most that the dates of a track move from one segment to the next without a discontinuity, microseconds. Where another track has begun a timeline of
/// its own and this one has not, it follows in such steps. Spec: RFC 8216bis §6.2.1 (below a second).
const MOST_DATE_STEP_MICROS: i64 = 900_000;

/// What the presentation says of a segment that begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    /// Discontinuity sequence number of the segment: a tag stands before it where it differs from that of the segment before.
    pub(super) discontinuity_sequence: u64,
    /// Offset from media time to wall-clock time, microseconds.
    pub(super) clock_offset: i64,
}

/// One track's parts and segments.
#[derive(Debug)]
pub(super) struct Segmenter {
    rendition: Arc<Rendition>,
    limits: Limits,
    /// Constant delay from decoding to presentation, ticks: the composition offset of the first picture.
    reordering: i64,
    /// The newest access unit, until the next one tells how long it lasts.
    held: Option<AccessUnit>,
    /// How long the access unit before it lasts, ticks.
    last_duration: i64,
    /// The part in the making, of the open segment or, before that has a part, of the next one.
    part: OpenPart,
    /// The segment in the making, once it has a part.
    open: Option<Segment>,
    /// Bytes of its parts, counted as they come: looking at every part for every access unit would be dear.
    open_bytes: usize,
    /// The complete ones.
    segments: Segments,
    /// How the segment in the making opens; `None` before the first access unit.
    opening: Option<Opening>,
    /// What DASH clients were told of it, and of segments behind it.
    promises: Promises,
    /// Where the media or the last gap ends, decode time in ticks, while nothing comes (`gaps`).
    idle: Option<i64>,
    /// Discontinuity sequence number of the last complete segment.
    last_discontinuity_sequence: Option<u64>,
    /// Media sequence number of the segment in the making.
    open_msn: u64,
    /// Number of the part in the making.
    next_part: u64,
    /// Sequence number of its chunk (`mfhd`).
    chunk_sequence: u32,
    /// Counts windows.
    version: u64,
    ended: bool,
}

/// The configuration in ticks of the track.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// PART-TARGET.
    part: i64,
    /// TARGETDURATION. A larger step between access units is a hole in the timeline.
    target: i64,
    /// EXTINF rounds above TARGETDURATION from here.
    segment: i64,
}

/// What two windows of a rendition can differ in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    next_part: u64,
    open_msn: u64,
    ended: bool,
    waiting: bool,
}

impl Segmenter {
    /// Begins with segment `msn` at the first access unit.
    pub(super) fn new(rendition: Arc<Rendition>, msn: u64) -> Self {
        let scale = rendition.init.track.timescale;
        let config = &rendition.config;
        let target = scale.ticks(config.target_duration);
        let limits = Limits { part: config.part_ticks(scale), target, segment: target + i64::from(scale.hz()) / 2 };
        Self {
            limits,
            segments: Segments::new(Retention::new(config, limits.segment, scale)),
            rendition,
            reordering: 0,
            held: None,
            last_duration: 0,
            part: OpenPart::default(),
            open: None,
            open_bytes: 0,
            opening: None,
            promises: Promises::default(),
            idle: None,
            last_discontinuity_sequence: None,
            open_msn: msn,
            next_part: 0,
            chunk_sequence: 1,
            version: 0,
            ended: false,
        }
    }

    pub(super) fn rendition(&self) -> &Arc<Rendition> {
        &self.rendition
    }

    pub(super) fn id(&self) -> RenditionId {
        self.rendition.id
    }

    pub(super) fn kind(&self) -> Kind {
        self.rendition.id.kind
    }

    pub(super) fn timescale(&self) -> Timescale {
        self.rendition.init.track.timescale
    }

    pub(super) fn open_msn(&self) -> u64 {
        self.open_msn
    }

    pub(super) fn totals(&self) -> Totals {
        self.segments.totals()
    }

    pub(super) fn has_started(&self) -> bool {
        self.opening.is_some()
    }

    /// Discontinuity sequence number of the segment in the making.
    pub(super) fn discontinuity_sequence(&self) -> u64 {
        self.opening.map_or(0, |opening| opening.discontinuity_sequence)
    }

    /// The discontinuity sequence number of the next segment where that of the other renditions is `theirs`. A tag counts one: who has missed some
    /// that the others had follows one at a time.
    pub(super) fn next_discontinuity_sequence(&self, theirs: u64) -> u64 {
        let current = self.discontinuity_sequence();
        theirs.clamp(current, current.saturating_add(1))
    }

    pub(super) fn complete(&self) -> &[Arc<Segment>] {
        self.segments.all()
    }

    /// The inits of the next part and of all segments that playlists list, the newest first.
    pub(super) fn listed_inits(&self) -> Vec<Arc<Init>> {
        let mut inits = vec![Arc::clone(&self.rendition.init)];
        for segment in self.segments.all().iter().skip(self.segments.listed()).rev() {
            if inits.last().is_some_and(|last| last.number != segment.init.number) {
                inits.push(Arc::clone(&segment.init));
            }
        }
        inits
    }

    /// Where `unit` is presented on the track's timeline, without the reordering of single pictures.
    pub(super) fn presentation_time(&self, unit: &AccessUnit) -> MediaTime {
        MediaTime::new(unit.dts.saturating_add(self.reordering), self.timescale())
    }

    /// Where on the track's timeline `time` is decoded, ticks, likewise.
    pub(super) fn decode_time(&self, time: MediaTime) -> i64 {
        time.in_scale(self.timescale()).saturating_sub(self.reordering)
    }

    /// Where the media taken so far ends on the presentation timeline; the last access unit is assumed to be as long as the one before.
    pub(super) fn end(&self) -> MediaTime {
        let held = self.held.as_ref().map(|held| held.dts.saturating_add(self.last_duration));
        let end = held.or(self.idle).unwrap_or(0);
        MediaTime::new(end.saturating_add(self.reordering), self.timescale())
    }

    /// Where the track can be cut: at every audio frame; at any tick where it is video, whose pictures come as they come.
    pub(super) fn grid(&self) -> Grid {
        match (self.rendition.init.track.format.sound(), &self.held) {
            // A track that changed its sample rate keeps its timescale, in which a frame is no whole number of ticks.
            (Some(sound), Some(held)) if sound.sample_rate == self.timescale().hz() => {
                Grid { origin: held.dts, step: i64::from(sound.frame_samples) }
            }
            _ => Grid::EVERY_TICK,
        }
    }

    /// Duration of the last access unit taken, ticks.
    pub(super) fn last_duration(&self) -> i64 {
        self.last_duration
    }

    /// Constant delay from decoding to presentation, ticks.
    pub(super) fn reordering(&self) -> i64 {
        self.reordering
    }

    /// The oldest segment that is kept, and shown with those of the tracks that bring media.
    pub(super) fn oldest_msn(&self) -> u64 {
        let survivor = self.segments.survivor().filter(|_| !self.is_idle());
        survivor.or(self.segments.all().first()).map_or(self.open_msn, |segment| segment.msn)
    }

    /// How long the segment in the making would be if `unit` were the first of the next one, ticks.
    pub(super) fn elapsed(&self, unit: &AccessUnit) -> i64 {
        unit.dts.saturating_sub(self.open_start().unwrap_or(unit.dts))
    }

    /// Where the segment in the making begins, decode time in ticks, if anything of it has come.
    fn open_start(&self) -> Option<i64> {
        let held = self.held.as_ref().map(|held| held.dts);
        let gathered = Some(self.part.start()).filter(|_| !self.part.is_empty());
        self.open.as_ref().map(|open| open.start).or(gathered).or(held)
    }

    /// `unit` is so far from the one before that the timeline has a hole.
    pub(super) fn is_hole(&self, unit: &AccessUnit) -> bool {
        self.held.as_ref().is_some_and(|held| unit.dts.saturating_sub(held.dts) > self.limits.target)
    }

    /// The segment must end before `unit`, or its EXTINF would round above TARGETDURATION with it.
    pub(super) fn must_end(&self, unit: &AccessUnit) -> bool {
        self.elapsed(unit).saturating_add(self.last_duration) >= self.limits.segment
    }

    /// The first access unit: `opening` is that of the first segment.
    pub(super) fn start(&mut self, unit: AccessUnit, opening: Opening) {
        self.reordering = unit.pts.saturating_sub(unit.dts).max(0);
        self.begin_segment(opening);
        self.part = OpenPart::starting(unit.dts);
        self.held = Some(unit);
    }

    /// Takes the next access unit. With `cut`, the segment in the making ends before it and the next one opens so.
    pub(super) fn push(&mut self, unit: AccessUnit, cut: Option<Opening>, clock_offset: i64) {
        let mut unit = unit;
        if let Some(held) = self.held.take() {
            // The timeline promises increasing times; a sample without duration would end the decoder's patience, not ours.
            unit.dts = unit.dts.max(held.dts.saturating_add(1));
            let hole = unit.dts.saturating_sub(held.dts) > self.limits.target;
            let duration = if hole { self.last_duration.max(1) } else { unit.dts - held.dts };
            self.add(held, duration, clock_offset);
        }
        if let Some(opening) = cut {
            self.end_segment();
            self.begin_segment(opening);
        }
        self.held = Some(unit);
    }

    /// The segment in the making opens so, and is what was announced under its number.
    fn begin_segment(&mut self, opening: Opening) {
        self.opening = Some(opening);
        self.promises.begin(self.open_msn);
    }

    /// The segment in the making opens with `clock_offset` after all, where nothing of it has been dated yet.
    pub(super) fn date_segment(&mut self, clock_offset: i64) {
        if self.open.is_none() {
            self.opening = self.opening.map(|opening| Opening { clock_offset, ..opening });
        }
    }

    /// Where segment `msn` begins on the presentation timeline, ticks, if it has.
    pub(super) fn start_of(&self, msn: u64) -> Option<i64> {
        let start = if msn == self.open_msn {
            self.open_start()?
        } else {
            self.complete().iter().rev().find(|segment| segment.msn == msn)?.start
        };
        Some(start.saturating_add(self.reordering))
    }

    /// Uses another init from the next segment on.
    pub(super) fn set_init(&mut self, init: Arc<Init>) {
        self.segments.forget_samples();
        let old = &self.rendition;
        self.rendition = Arc::new(Rendition { id: old.id, epoch: old.epoch, init, config: Arc::clone(&old.config) });
    }

    /// No access unit follows: the held one gets the duration of the one before, the segment ends.
    pub(super) fn finish(&mut self, clock_offset: i64) {
        if let Some(held) = self.held.take() {
            self.add(held, self.last_duration.max(1), clock_offset);
        }
        self.promises.take_next();
        self.end_segment();
        self.ended = true;
    }

    /// Puts the access unit that was held into the part in the making, now that it is known how long it lasts, and ends what must end before it
    /// or behind it.
    fn add(&mut self, unit: AccessUnit, duration: i64, clock_offset: i64) {
        let in_segment = self.open.as_ref().map_or(0, |open| open.duration) + self.part.duration();
        if in_segment > 0 && in_segment.saturating_add(duration) >= self.limits.segment {
            self.force_segment_end(clock_offset);
        }
        let target = self.limits.part;
        let key_frame = unit.sync && self.kind() == Kind::Video;
        if !self.part.has_room(duration, target) || key_frame && self.part.is_long_enough(target) {
            self.end_part();
        }
        self.part.add(unit, duration);
        self.last_duration = duration;
        if duration > target {
            // Longer than PART-TARGET by itself: no part can carry it, so the segment is listed whole (ARCHITECTURE §6).
            self.end_part();
            if let Some(open) = &mut self.open {
                open.parts_listed = false;
            }
            self.force_segment_end(clock_offset);
        } else if self.part.is_long_enough(target) && !self.part.has_room(duration, target) {
            // The next one will hardly be shorter. Viewers need not wait for it.
            self.end_part();
        }
    }

    /// Ends the segment where the presentation could not know that it must: what it said of this one goes for the next one too.
    fn force_segment_end(&mut self, clock_offset: i64) {
        self.end_segment();
        if let Some(opening) = self.opening {
            self.begin_segment(Opening { clock_offset, ..opening });
        }
    }

    /// `opening`, with the date that the segment may have.
    fn dated(&self, opening: Opening) -> Opening {
        let last = self.segments.all().last();
        let Some(last) = last.filter(|last| last.discontinuity_sequence == opening.discontinuity_sequence) else {
            return opening;
        };
        let before =
            last.date.micros().saturating_sub(self.date(last.start.saturating_add(self.reordering), 0).micros());
        let least = before.saturating_sub(MOST_DATE_STEP_MICROS);
        let clock_offset = opening.clock_offset.clamp(least, before.saturating_add(MOST_DATE_STEP_MICROS));
        Opening { clock_offset, ..opening }
    }

    fn end_part(&mut self) {
        let Some(mut opening) = self.opening.filter(|_| !self.part.is_empty()) else { return };
        if self.open.is_none() {
            opening = self.dated(opening);
            self.opening = Some(opening);
        }
        let gathered = std::mem::take(&mut self.part);
        let start = gathered.start();
        let presented = start.saturating_add(self.reordering);
        let date = self.date(presented, opening.clock_offset);
        let header = Header {
            sequence: self.chunk_sequence,
            opens_segment: self.open.is_none(),
            decode_time: u64::try_from(start).unwrap_or(0),
            reference: (u64::try_from(presented).unwrap_or(0), date),
            samples: gathered.samples(),
        };
        let header = header.write();
        self.segments.count_samples(gathered.samples().len());
        let part = Arc::new(Part {
            number: self.next_part,
            duration: gathered.duration(),
            independent: gathered.is_independent(),
            header,
            payload: gathered.into_payload(),
        });
        self.next_part += 1;
        self.chunk_sequence = self.chunk_sequence.wrapping_add(1);
        self.open_bytes += part.len();
        match &mut self.open {
            Some(open) => {
                open.duration += part.duration;
                open.parts.push(part);
            }
            None => {
                let announced = self.promises.current();
                self.open = Some(Segment {
                    msn: self.open_msn,
                    discontinuity: self
                        .last_discontinuity_sequence
                        .is_some_and(|before| before != opening.discontinuity_sequence),
                    discontinuity_sequence: opening.discontinuity_sequence,
                    init: Arc::clone(&self.rendition.init),
                    start,
                    presentation_start: announced.map_or(presented, |announced| announced.start),
                    duration: part.duration,
                    announced: announced.map(|announced| announced.duration),
                    date,
                    independent: part.independent,
                    parts: vec![part],
                    parts_listed: true,
                });
            }
        }
    }

    fn end_segment(&mut self) {
        self.end_part();
        self.end_where_next_begins();
        let Some(open) = self.open.take() else { return };
        self.open_bytes = 0;
        self.last_discontinuity_sequence = Some(open.discontinuity_sequence);
        self.segments.push(Arc::new(open));
        self.segments.measure(self.limits.target, self.timescale());
        self.open_msn += 1;
        self.segments.retire();
    }

    /// Forgets the oldest segment to save memory, listed or not. False where only the newest is left.
    pub(super) fn drop_oldest(&mut self) -> bool {
        self.segments.drop_oldest()
    }

    /// Bytes of everything kept, and of the segment in the making alone.
    pub(super) fn bytes(&self) -> (usize, usize) {
        let open = self.open_bytes + self.part.bytes();
        (self.segments.bytes() + open, open)
    }

    fn date(&self, presented: i64, clock_offset: i64) -> WallTime {
        WallTime::from_micros(self.timescale().micros(presented)).plus_micros(clock_offset)
    }

    /// What has been cut so far, as viewers will see it.
    pub(super) fn window(&mut self) -> Window {
        self.version += 1;
        Window {
            rendition: Arc::clone(&self.rendition),
            segments: self.segments.all().to_vec(),
            listed: self.segments.listed(),
            survivor: self.segments.survivor().cloned(),
            open: self.open.clone().map(Arc::new),
            open_msn: self.open_msn,
            next_part: self.next_part,
            ended: self.ended,
            waiting: self.idle.is_some() && !self.ended,
            version: self.version,
            published: Default::default(),
            rendered: Rendered::default(),
        }
    }

    /// Counts parts and segments made so far; when it moves, a new window is due.
    pub(super) fn progress(&self) -> Progress {
        Progress { next_part: self.next_part, open_msn: self.open_msn, ended: self.ended, waiting: self.idle.is_some() }
    }
}
