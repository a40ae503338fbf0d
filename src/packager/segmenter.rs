//! One track's access units become parts and segments.
//!
//! A sample's duration is known when the next access unit arrives, so one access unit is always held back; that, and nothing else, is
//! the delay of this module. Where a segment ends is decided outside (`presentation`), because all tracks of a stream are cut together.

mod saving;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::catalog::{Announced, Rendition};
use super::fmp4::chunk::{Header, Sample};
use super::part::{Init, Part, Segment};
use super::periods::Grid;
use super::window::{Rendered, Window};
use crate::media::{AccessUnit, Kind, MediaTime, Timescale, WallTime};

/// A part shorter than this share of PART-TARGET must not be listed but at the end of a segment. Spec: RFC 8216bis §4.4.4.9.
const LEAST_PART_PERCENT: i64 = 85;

/// What the presentation says of a segment that begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opening {
    /// Discontinuity sequence number of the segment: a tag stands before it where it differs from that of the segment before.
    pub(super) discontinuity_sequence: u64,
    /// Offset from media time to wall-clock time, microseconds.
    pub(super) clock_offset: i64,
    /// What is announced of the segment to DASH clients, if anything is.
    pub(super) announced: Option<Announced>,
}

/// One track's parts and segments.
#[derive(Debug)]
pub(super) struct Segmenter {
    rendition: Arc<Rendition>,
    limits: Limits,
    /// Constant delay from decoding to presentation, ticks: the composition offset of the first picture.
    reordering: i64,
    held: Option<AccessUnit>,
    last_duration: i64,
    part: Gathering,
    segments: Vec<Arc<Segment>>,
    listed: usize,
    open: Option<Segment>,
    /// Bytes of `segments` and of `open`, counted as they come and go: looking at every part for every access unit would be dear.
    complete_bytes: usize,
    open_bytes: usize,
    opening: Option<Opening>,
    /// Where the media ended, decode time in ticks, while nothing comes.
    idle: Option<i64>,
    /// Discontinuity sequence number of the last complete segment.
    discontinuities: Option<u64>,
    open_msn: u64,
    next_part: u64,
    sequence: u32,
    version: u64,
    ended: bool,
    totals: Totals,
}

/// The configuration in ticks of the track.
#[derive(Debug, Clone, Copy)]
struct Limits {
    part: i64,
    /// EXTINF rounds above TARGETDURATION from here.
    segment: i64,
    listed: i64,
    /// Most segments listed, and as many kept behind them. Only discontinuities make segments that are shorter than they should be, and a
    /// publisher of nothing else would make lists without end.
    most: usize,
    /// A larger step between access units is a hole in the timeline.
    hole: i64,
}

/// What two windows of a rendition can differ in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    next_part: u64,
    open_msn: u64,
    ended: bool,
    waiting: bool,
}

/// A part in the making.
#[derive(Debug, Default)]
struct Gathering {
    start: i64,
    duration: i64,
    samples: Vec<Sample>,
    payload: Vec<BytesMut>,
    bytes: usize,
    independent: bool,
}

/// What was measured of complete segments.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Totals {
    /// Peak segment bit rate, bits a second.
    pub(super) peak_bps: u64,
    /// Bytes of all complete segments.
    pub(super) bytes: u64,
    /// Their duration in ticks.
    pub(super) ticks: i64,
    /// Their samples.
    pub(super) samples: u64,
}

impl Segmenter {
    /// Begins with segment `msn` at the first access unit.
    pub(super) fn new(rendition: Arc<Rendition>, msn: u64) -> Self {
        let scale = rendition.init.track.timescale;
        let config = &rendition.config;
        Self {
            limits: Limits {
                part: scale.ticks(config.part_target),
                segment: scale.ticks(config.target_duration) + i64::from(scale.hz()) / 2,
                listed: scale.ticks(config.listed()),
                most: usize::try_from(config.listed().as_millis() / config.segment_target.as_millis().max(1))
                    .unwrap_or(usize::MAX)
                    .saturating_mul(4)
                    .saturating_add(16),
                hole: scale.ticks(config.target_duration),
            },
            rendition,
            reordering: 0,
            held: None,
            last_duration: 0,
            part: Gathering::default(),
            segments: Vec::new(),
            listed: 0,
            open: None,
            complete_bytes: 0,
            open_bytes: 0,
            opening: None,
            idle: None,
            discontinuities: None,
            open_msn: msn,
            next_part: 0,
            sequence: 1,
            version: 0,
            ended: false,
            totals: Totals::default(),
        }
    }

    pub(super) fn rendition(&self) -> &Arc<Rendition> {
        &self.rendition
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
        self.totals
    }

    pub(super) fn has_started(&self) -> bool {
        self.opening.is_some()
    }

    /// Discontinuity sequence number of the segment in the making.
    pub(super) fn discontinuity_sequence(&self) -> u64 {
        self.opening.map_or(0, |opening| opening.discontinuity_sequence)
    }

    pub(super) fn complete(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// Where `unit` is presented on the track's timeline, without the reordering of single pictures.
    pub(super) fn presentation_time(&self, unit: &AccessUnit) -> MediaTime {
        MediaTime::new(unit.dts.saturating_add(self.reordering), self.timescale())
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
                Grid { origin: held.dts, frame: i64::from(sound.frame_samples) }
            }
            _ => Grid::EVERY_TICK,
        }
    }

    /// Duration of the last access unit taken, ticks.
    pub(super) fn last_duration(&self) -> i64 {
        self.last_duration
    }

    /// The oldest segment that is kept.
    pub(super) fn oldest_msn(&self) -> u64 {
        self.segments.first().map_or(self.open_msn, |segment| segment.msn)
    }

    /// How long the segment in the making would be if `unit` were the first of the next one, ticks.
    pub(super) fn elapsed(&self, unit: &AccessUnit) -> i64 {
        let start = self.open.as_ref().map_or(self.part.start, |open| open.start);
        let begun = self.open.is_some() || !self.part.samples.is_empty();
        let start = if begun { start } else { self.held.as_ref().map_or(unit.dts, |held| held.dts) };
        unit.dts.saturating_sub(start)
    }

    /// `unit` is so far from the one before that the timeline has a hole.
    pub(super) fn is_hole(&self, unit: &AccessUnit) -> bool {
        self.held.as_ref().is_some_and(|held| unit.dts.saturating_sub(held.dts) > self.limits.hole)
    }

    /// The segment must end before `unit`, or its EXTINF would round above TARGETDURATION with it.
    pub(super) fn must_end(&self, unit: &AccessUnit) -> bool {
        self.elapsed(unit).saturating_add(self.last_duration) >= self.limits.segment
    }

    /// The first access unit: `opening` is that of the first segment.
    pub(super) fn start(&mut self, unit: AccessUnit, opening: Opening) {
        self.reordering = unit.pts.saturating_sub(unit.dts).max(0);
        self.opening = Some(opening);
        self.part.start = unit.dts;
        self.held = Some(unit);
    }

    /// Takes the next access unit. With `cut`, the segment in the making ends before it and the next one opens so.
    pub(super) fn push(&mut self, unit: AccessUnit, cut: Option<Opening>, clock_offset: i64) {
        let mut unit = unit;
        if let Some(held) = self.held.take() {
            // The timeline promises increasing times; a sample without duration would end the decoder's patience, not ours.
            unit.dts = unit.dts.max(held.dts.saturating_add(1));
            let hole = unit.dts.saturating_sub(held.dts) > self.limits.hole;
            let duration = if hole { self.last_duration.max(1) } else { unit.dts - held.dts };
            self.add(held, duration, clock_offset);
        }
        if let Some(opening) = cut {
            self.end_segment();
            self.opening = Some(opening);
        }
        self.held = Some(unit);
    }

    /// Uses another init from the next segment on.
    pub(super) fn set_init(&mut self, init: Arc<Init>) {
        let old = &self.rendition;
        self.rendition = Arc::new(Rendition { id: old.id, epoch: old.epoch, init, config: Arc::clone(&old.config) });
    }

    /// No access unit follows: the held one gets the duration of the one before, the segment ends.
    pub(super) fn finish(&mut self, clock_offset: i64) {
        if let Some(held) = self.held.take() {
            self.add(held, self.last_duration.max(1), clock_offset);
        }
        self.end_segment();
        self.ended = true;
    }

    /// Nothing comes any more for now: as [`finish`](Self::finish), but [`gap`](Self::gap) and [`resume`](Self::resume) may follow.
    /// `here` is where the wall clock stands on the presentation timeline, where that is known: a picture that was to last for a second is cut
    /// short, or what comes next would be dated in the future.
    pub(super) fn interrupt(&mut self, clock_offset: i64, here: Option<MediaTime>) {
        let Some(held) = self.held.take() else { return };
        let most = here.map_or(i64::MAX, |here| {
            let until = here.in_scale(self.timescale()).saturating_sub(self.reordering);
            until.saturating_sub(held.dts).max(self.limits.part)
        });
        let duration = self.last_duration.clamp(1, most.max(1));
        let end = held.dts.saturating_add(duration);
        self.add(held, duration, clock_offset);
        self.end_segment();
        self.idle = Some(end);
    }

    /// Whether `unit` can follow what there is: while idle, only behind the last gap, or the end that was assumed.
    pub(super) fn comes_too_early(&self, unit: &AccessUnit) -> bool {
        self.idle.is_some_and(|end| unit.dts <= end)
    }

    /// It was interrupted, and not resumed since.
    pub(super) fn is_idle(&self) -> bool {
        self.idle.is_some()
    }

    /// Constant delay from decoding to presentation, ticks.
    pub(super) fn reordering(&self) -> i64 {
        self.reordering
    }

    /// A gap up to `until` would be longer than a segment may be.
    pub(super) fn is_too_long_a_gap(&self, until: i64) -> bool {
        self.idle.is_some_and(|start| until.saturating_sub(start) >= self.limits.segment)
    }

    /// A segment without media, from where the last one ended to `until` (decode time, ticks): at least a tick, and never longer than a segment
    /// may be, even if it ends too early then. Only while idle.
    pub(super) fn gap(&mut self, until: i64, opening: Opening) {
        let Some(start) = self.idle else { return };
        let end =
            until.clamp(start.saturating_add(1), start.saturating_add(self.limits.segment.saturating_sub(1).max(1)));
        let presentation_start = start.saturating_add(self.reordering);
        let before = self.discontinuities.replace(opening.discontinuity_sequence);
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
        self.retire();
    }

    /// Media comes again: `unit` is the first of the segment that opens so. It is moved to where the last gap ends if it is decoded before
    /// that: a gap lasts at least a tick, and a deeper reordering than before reaches further back.
    pub(super) fn resume(&mut self, mut unit: AccessUnit, opening: Opening) {
        if let Some(end) = self.idle.take() {
            let late = end.saturating_sub(unit.dts).max(0);
            unit.dts = unit.dts.saturating_add(late);
            unit.pts = unit.pts.saturating_add(late);
        }
        self.start(unit, opening);
    }

    fn add(&mut self, unit: AccessUnit, duration: i64, clock_offset: i64) {
        let in_segment = self.open.as_ref().map_or(0, |open| open.duration) + self.part.duration;
        if in_segment > 0 && in_segment.saturating_add(duration) >= self.limits.segment {
            // Only now is it known how long the access unit lasts. The segment it opens is a forced one.
            let opening = self.opening;
            self.end_segment();
            self.opening = opening.map(|opening| Opening { clock_offset, announced: None, ..opening });
        }
        let sync_boundary = unit.sync && self.kind() == Kind::Video && self.is_long_enough();
        if !self.part.samples.is_empty() && (self.part.duration + duration > self.limits.part || sync_boundary) {
            self.end_part();
        }
        if self.part.samples.is_empty() {
            self.part.start = unit.dts;
            self.part.independent = unit.sync;
        }
        let composition_offset = unit.pts.saturating_sub(unit.dts).clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        self.part.samples.push(Sample {
            duration: u32::try_from(duration).unwrap_or(u32::MAX),
            size: u32::try_from(unit.data.len()).unwrap_or(u32::MAX),
            composition_offset: composition_offset as i32,
            sync: unit.sync,
        });
        self.part.duration += duration;
        self.part.bytes += unit.data.len();
        join(&mut self.part.payload, unit.data);
        self.last_duration = duration;
        if duration > self.limits.part {
            // Longer than PART-TARGET by itself: no part can carry it, so the segment is listed whole (ARCHITECTURE §6).
            self.end_part();
            if let Some(open) = &mut self.open {
                open.parts_listed = false;
            }
            let opening = self.opening;
            self.end_segment();
            self.opening = opening.map(|opening| Opening { clock_offset, announced: None, ..opening });
        } else if self.is_long_enough() && self.part.duration + duration > self.limits.part {
            self.end_part();
        }
    }

    fn is_long_enough(&self) -> bool {
        self.part.duration.saturating_mul(100) >= self.limits.part.saturating_mul(LEAST_PART_PERCENT)
    }

    fn end_part(&mut self) {
        let Some(opening) = self.opening.filter(|_| !self.part.samples.is_empty()) else { return };
        let gathered = std::mem::take(&mut self.part);
        let presented = gathered.start.saturating_add(self.reordering);
        let date = self.date(presented, opening.clock_offset);
        let header = Header {
            sequence: self.sequence,
            opens_segment: self.open.is_none(),
            decode_time: u64::try_from(gathered.start).unwrap_or(0),
            reference: (u64::try_from(presented).unwrap_or(0), date),
            samples: &gathered.samples,
        };
        let part = Arc::new(Part {
            number: self.next_part,
            duration: gathered.duration,
            independent: gathered.independent,
            header: header.write(),
            payload: gathered.payload.into_iter().map(BytesMut::freeze).collect::<Vec<Bytes>>(),
        });
        self.next_part += 1;
        self.sequence = self.sequence.wrapping_add(1);
        self.totals.samples += gathered.samples.len() as u64;
        self.open_bytes += part.len();
        match &mut self.open {
            Some(open) => {
                open.duration += part.duration;
                open.parts.push(part);
            }
            None => {
                self.open = Some(Segment {
                    msn: self.open_msn,
                    discontinuity: self.discontinuities.is_some_and(|before| before != opening.discontinuity_sequence),
                    discontinuity_sequence: opening.discontinuity_sequence,
                    init: Arc::clone(&self.rendition.init),
                    start: gathered.start,
                    presentation_start: opening.announced.map_or(presented, |announced| announced.start),
                    duration: part.duration,
                    announced: opening.announced.map(|announced| announced.duration),
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
        let Some(open) = self.open.take() else { return };
        self.discontinuities = Some(open.discontinuity_sequence);
        let bytes = std::mem::take(&mut self.open_bytes);
        self.complete_bytes += bytes;
        self.totals.bytes += bytes as u64;
        self.totals.ticks += open.duration;
        self.segments.push(Arc::new(open));
        self.totals.peak_bps = self.totals.peak_bps.max(self.newest_rate());
        self.open_msn += 1;
        self.retire();
    }

    /// The highest bit rate of a contiguous set of segments that ends with the newest and is 0.5 to 1.5 target durations long, bits a second: the
    /// stump that a publisher leaves who drops is little more than a key frame, and no peak by itself. Where all that came is shorter than that,
    /// it is the rate of all of it. Spec: RFC 8216bis §4.4.6.2 (BANDWIDTH), §1 (peak segment bit rate).
    fn newest_rate(&self) -> u64 {
        let hz = u64::from(self.timescale().hz());
        // A two-second segment whose times were rounded to milliseconds counts by itself.
        let (least, most) = (self.limits.hole / 2 - self.limits.hole / 40, self.limits.hole.saturating_mul(3) / 2);
        let (mut bytes, mut ticks, mut highest) = (0_u64, 0_i64, None);
        for segment in self.segments.iter().rev().take_while(|segment| !segment.is_gap()) {
            bytes += segment.len() as u64;
            ticks += segment.duration;
            if ticks > most {
                break;
            }
            if ticks >= least {
                highest = highest.max(Some(rate(bytes, ticks, hz)));
            }
        }
        highest.unwrap_or_else(|| if self.totals.peak_bps == 0 { rate(bytes, ticks, hz) } else { 0 })
    }

    /// Takes segments off the playlist, and drops those that nobody may ask for any more. Spec: RFC 8216bis §6.2.2: a removed
    /// segment stays for its own duration and that of the longest playlist that listed it.
    fn retire(&mut self) {
        let mut listed: i64 = self.segments.iter().skip(self.listed).map(|segment| segment.duration).sum();
        while self.segments.len() - self.listed > 6 {
            let Some(first) = self.segments.get(self.listed).map(|segment| segment.duration) else { break };
            if listed - first < self.limits.listed && self.segments.len() - self.listed <= self.limits.most {
                break;
            }
            listed -= first;
            self.listed += 1;
        }
        let longest = self.limits.listed + 3 * self.limits.segment;
        let mut kept = 0;
        let unlisted = self.segments.iter().take(self.listed).rev().take(self.limits.most);
        let keep = unlisted.take_while(|segment| {
            kept += segment.duration;
            kept <= longest + segment.duration
        });
        let drop = self.listed - keep.count();
        self.complete_bytes -= self.segments.drain(..drop).map(|segment| segment.len()).sum::<usize>();
        self.listed -= drop;
    }

    /// Forgets the oldest segment to save memory, listed or not. False where only the newest is left.
    pub(super) fn drop_oldest(&mut self) -> bool {
        if self.segments.len() < 2 {
            return false;
        }
        self.complete_bytes -= self.segments.remove(0).len();
        self.listed = self.listed.saturating_sub(1);
        true
    }

    /// Bytes of everything kept, and of the segment in the making alone.
    pub(super) fn bytes(&self) -> (usize, usize) {
        let open = self.open_bytes + self.part.bytes;
        (self.complete_bytes + open, open)
    }

    fn date(&self, presented: i64, clock_offset: i64) -> WallTime {
        WallTime::from_micros(self.timescale().micros(presented)).plus_micros(clock_offset)
    }

    /// What has been cut so far, as viewers will see it.
    pub(super) fn window(&mut self) -> Window {
        self.version += 1;
        Window {
            rendition: Arc::clone(&self.rendition),
            segments: self.segments.clone(),
            listed: self.listed,
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

fn rate(bytes: u64, ticks: i64, hz: u64) -> u64 {
    bytes.saturating_mul(8).saturating_mul(hz) / u64::try_from(ticks.max(1)).unwrap_or(1)
}

/// Appends `data`, without a copy where it lies right behind the last slice.
fn join(payload: &mut Vec<BytesMut>, data: BytesMut) {
    if data.is_empty() {
        return;
    }
    match payload.last_mut() {
        // The same allocation, in all likelihood: then `unsplit` only moves a length. Two allocations that happen to touch are
        // copied together, which is rare and harmless.
        Some(last) if last.as_ptr() as usize + last.len() == data.as_ptr() as usize => last.unsplit(data),
        _ => payload.push(data),
    }
}
