//! A segmenter put down while nothing comes, and taken up again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Opening, Segmenter, Totals};
use crate::packager::catalog::Rendition;
use crate::packager::part::{Init, Segment};
use crate::packager::saved::{LineState, Payload, Refused, SegmentState, length, number, tick};

impl Segmenter {
    /// The inits that its segments, or the next ones, need.
    pub(in crate::packager) fn inits(&self) -> BTreeMap<u32, Arc<Init>> {
        let segments = self.segments.survivor().into_iter().chain(self.segments.all());
        let inits = segments.map(|segment| &segment.init).chain([&self.rendition.init]);
        inits.map(|init| (init.number, Arc::clone(init))).collect()
    }

    /// What it holds; the segments' bytes go to the end of `payload`. `None` where it has not started, or is in the middle of something.
    pub(in crate::packager) fn save(&self, payload: &mut Vec<Bytes>) -> Option<LineState> {
        let (opening, idle) = (self.opening?, self.idle?);
        let totals = self.segments.totals();
        Some(LineState {
            reordering: self.reordering,
            last_duration: self.last_duration,
            idle,
            discontinuity_sequence: opening.discontinuity_sequence,
            open_msn: self.open_msn,
            next_part: self.next_part,
            chunk_sequence: self.chunk_sequence,
            version: self.version,
            totals: (totals.peak_bps, totals.bytes, totals.ticks, totals.samples_throughout()),
            listed: u32::try_from(self.segments.listed()).unwrap_or(u32::MAX),
            survivor: self.segments.survivor().map(|own| (own.msn, SegmentState::of(own, payload))),
            segments: self.segments.all().iter().map(|segment| SegmentState::of(segment, payload)).collect(),
        })
    }

    /// A segmenter that goes on behind `line`, whose next segment is `msn` as in all other renditions.
    ///
    /// # Errors
    /// [`Refused`] where `line` could not be what [`save`](Self::save) gave.
    pub(in crate::packager) fn restore(
        rendition: Arc<Rendition>,
        msn: u64,
        clock_offset: i64,
        line: &LineState,
        inits: &BTreeMap<u32, Arc<Init>>,
        payload: &mut Payload<'_>,
    ) -> Result<Self, Refused> {
        let count = line.segments.len() as u64;
        let listed = usize::try_from(line.listed).unwrap_or(usize::MAX);
        let first = line.open_msn.checked_sub(count).filter(|_| line.open_msn == msn && count > 0);
        let Some(first) = first.filter(|_| listed <= line.segments.len()) else {
            return Err(Refused::Wrong("segments are missing, or too many"));
        };
        if line.reordering != 0 {
            length(line.reordering)?;
        }
        let new = Self::new(rendition, msn);
        let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(line.segments.len());
        let (mut next_part, mut end) = (0, i64::MIN);
        let survivor = line.survivor.iter().map(|(msn, state)| (*msn, state));
        if survivor.clone().any(|(msn, state)| msn >= first || state.parts.is_empty()) {
            return Err(Refused::Wrong("the newest media is none"));
        }
        let survived = survivor.len();
        for (index, (msn, state)) in survivor.chain((first..).zip(&line.segments)).enumerate() {
            let init = inits.get(&state.init).ok_or(Refused::Wrong("an init is missing"))?;
            let segment = state.segment(msn, Arc::clone(init), payload)?;
            if let Some(part) = segment.parts.first() {
                if part.number < next_part {
                    return Err(Refused::Wrong("parts are not in order"));
                }
                next_part = part.number + segment.parts.len() as u64;
            }
            if segment.start < end {
                return Err(Refused::Wrong("segments overlap"));
            }
            // Between the newest media and the first gap that is kept, others are missing.
            new.check_rules(&segment, segments.last().filter(|_| index > survived))?;
            end = segment.start + segment.duration;
            segments.push(Arc::new(segment));
        }
        let survivor = (survived > 0).then(|| segments.remove(0));
        if line.next_part < next_part || line.idle < end {
            return Err(Refused::Wrong("what follows began before"));
        }
        let last_discontinuity_sequence = segments.last().map(|last| last.discontinuity_sequence);
        let (peak_bps, bytes, ticks, samples) = line.totals;
        let totals = Totals {
            peak_bps: number(peak_bps)?,
            bytes: number(bytes)?,
            ticks,
            samples: number(samples)?,
            sampled_ticks: if samples > 0 { ticks } else { 0 },
            longest: 0,
        };
        if tick(ticks)? < 0 {
            return Err(Refused::Wrong("a duration is impossible"));
        }
        let discontinuity_sequence = number(line.discontinuity_sequence)?;
        Ok(Self {
            reordering: line.reordering,
            last_duration: length(line.last_duration)?,
            segments: new.segments.restored(survivor, segments, listed, totals),
            opening: Some(Opening { discontinuity_sequence, clock_offset }),
            idle: Some(tick(line.idle)?),
            last_discontinuity_sequence,
            next_part: number(line.next_part)?,
            chunk_sequence: line.chunk_sequence,
            version: number(line.version)?,
            ..new
        })
    }

    /// Whether playlists may list `segment` behind `before`.
    fn check_rules(&self, segment: &Segment, before: Option<&Arc<Segment>>) -> Result<(), Refused> {
        let (sequence, counted) = (segment.discontinuity_sequence, u64::from(segment.discontinuity));
        let right = before.map_or(sequence >= counted, |before| sequence == before.discontinuity_sequence + counted);
        if !right {
            return Err(Refused::Wrong("discontinuities are counted wrongly"));
        }
        if !segment.discontinuity && before.is_some_and(|before| before.start + before.duration != segment.start) {
            return Err(Refused::Wrong("time is missing between segments"));
        }
        let parts = || segment.parts.iter().map(|part| part.duration);
        let too_long = parts().any(|part| part > self.limits.part) && segment.parts_listed;
        if too_long || segment.duration >= self.limits.segment {
            return Err(Refused::Wrong("a segment or a part is too long"));
        }
        if !segment.is_gap() && parts().sum::<i64>() != segment.duration {
            return Err(Refused::Wrong("a segment is not as long as its parts"));
        }
        Ok(())
    }
}
