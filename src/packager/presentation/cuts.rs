//! Where the leader ends a segment and all others do, and what the DASH periods are told of it.

use std::sync::Arc;

use super::{MAX_CUTS, Presentation};
use crate::media::{MediaTime, RenditionId, Timescale, WallTime};
use crate::packager::catalog::Announced;
use crate::packager::periods::{Begin, Entrant, Periods};
use crate::packager::segmenter::Opening;

/// Where the leader began a segment.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub(super) msn: u64,
    pub(super) time: MediaTime,
    pub(super) opening: Opening,
    /// What is announced of each rendition's segment, in its own ticks.
    pub(super) announced: Vec<(RenditionId, Announced)>,
}

impl Cut {
    pub(super) fn announced(&self, id: RenditionId) -> Option<Announced> {
        self.announced.iter().find(|(other, _)| *other == id).map(|(_, announced)| *announced)
    }

    /// How rendition `id` opens its segment here.
    pub(super) fn opening(&self, id: RenditionId) -> Opening {
        Opening { announced: self.announced(id), ..self.opening }
    }

    /// Where rendition `id`, whose clock is `scale`, is cut: where that was announced, else where the leader is.
    pub(super) fn time(&self, id: RenditionId, scale: Timescale) -> MediaTime {
        self.announced(id).map_or(self.time, |announced| MediaTime::new(announced.start, scale))
    }
}

/// The first segment's beginning, kept for the DASH periods.
#[derive(Debug, Clone, Copy)]
pub(super) struct FirstCut {
    pub(super) msn: u64,
    pub(super) start: MediaTime,
    pub(super) date: WallTime,
}

impl Presentation {
    pub(super) fn open_first(&mut self, time: MediaTime) {
        let opening = Opening {
            discontinuity_sequence: self.next.discontinuity,
            clock_offset: self.clock.offset(),
            announced: None,
        };
        let date = WallTime::from_micros(time.micros()).plus_micros(self.clock.offset());
        self.periods = Some(Periods::new(self.start, 0));
        self.first = Some(FirstCut { msn: self.next.media, start: time, date });
        self.cuts.push_back(Cut { msn: self.next.media, time, opening, announced: Vec::new() });
    }

    /// The leader begins a segment at `time`, with a key frame where `independent`.
    pub(super) fn cut(&mut self, time: MediaTime, discontinuity: bool, independent: bool) {
        if discontinuity {
            let end = self.leader.and_then(|leader| self.tracks.get(leader)).map(|entry| entry.segmenter.end());
            self.tell_periods_of_the_first_cut();
            if let (Some(periods), Some(end)) = (&mut self.periods, end) {
                periods.end(end);
            }
            // The offset of the old timeline means nothing on the new one.
            self.clock.reset();
            self.clock.observe(time.micros(), self.published);
        }
        let due = std::mem::take(&mut self.discontinuity_due);
        if discontinuity || due {
            self.next.discontinuity += 1;
        }
        self.next.media += 1;
        let opening = Opening {
            discontinuity_sequence: self.next.discontinuity,
            clock_offset: self.clock.segment_begins(),
            announced: None,
        };
        self.fill_silent_followers(time);
        let announced = self.begin_in_periods(time, opening.clock_offset, discontinuity || due, independent);
        if self.cuts.len() == MAX_CUTS {
            self.cuts.pop_front();
        }
        self.cuts.push_back(Cut { msn: self.next.media, time, opening, announced });
    }

    pub(super) fn begin_in_periods(
        &mut self,
        start: MediaTime,
        clock_offset: i64,
        discontinuity: bool,
        independent: bool,
    ) -> Vec<(RenditionId, Announced)> {
        self.tell_periods_of_the_first_cut();
        let renditions = self.entrants();
        let picture =
            self.leader.and_then(|leader| self.tracks.get(leader)).map_or(0, |entry| entry.segmenter.last_duration());
        let oldest = self
            .tracks
            .iter()
            .filter(|entry| entry.segmenter.has_started())
            .map(|entry| entry.segmenter.oldest_msn())
            .min();
        let Some(periods) = &mut self.periods else { return Vec::new() };
        let date = WallTime::from_micros(start.micros()).plus_micros(clock_offset);
        let msn = self.next.media;
        periods.segment_begins(&Begin {
            msn,
            start,
            picture,
            date,
            independent,
            discontinuity,
            renditions: &renditions,
        });
        periods.retire(oldest.unwrap_or(0));
        renditions.iter().filter_map(|entrant| Some((entrant.id, periods.announced(entrant.id)?))).collect()
    }

    /// Which tracks a stream has shows during its first segment, and the first period must name them all.
    pub(super) fn tell_periods_of_the_first_cut(&mut self) {
        let Some(first) = self.first.take() else { return };
        let renditions = self.entrants();
        let picture =
            self.leader.and_then(|leader| self.tracks.get(leader)).map_or(0, |entry| entry.segmenter.last_duration());
        if let Some(periods) = &mut self.periods {
            let FirstCut { msn, start, date } = first;
            let begin =
                Begin { msn, start, picture, date, independent: true, discontinuity: false, renditions: &renditions };
            periods.segment_begins(&begin);
        }
    }

    /// The renditions that have media, the leader first.
    pub(super) fn entrants(&self) -> Vec<Entrant> {
        let mut entrants: Vec<(bool, Entrant)> = self
            .tracks
            .iter()
            .enumerate()
            .filter(|(index, entry)| {
                entry.segmenter.has_started() && (!entry.segmenter.is_idle() || self.leader == Some(*index))
            })
            .map(|(index, entry)| {
                let rendition = entry.segmenter.rendition();
                let leads = self.leader == Some(index);
                let init = entry.next_init.as_ref().filter(|_| leads).unwrap_or(&rendition.init);
                (!leads, Entrant { id: rendition.id, init: Arc::clone(init), grid: entry.segmenter.grid() })
            })
            .collect();
        entrants.sort_by_key(|(follows, entrant)| (*follows, entrant.id));
        entrants.into_iter().map(|(_, entrant)| entrant).collect()
    }

    /// The leader ended a segment by itself, at an access unit that turned out to be too long: the others follow.
    pub(super) fn follow_forced_cuts(&mut self, index: usize) {
        let Some(entry) = self.tracks.get(index) else { return };
        let (msn, scale) = (entry.segmenter.open_msn(), entry.segmenter.timescale());
        let end = entry
            .segmenter
            .complete()
            .last()
            .map(|segment| segment.presentation_start.saturating_add(segment.duration));
        while self.cuts.back().is_some_and(|cut| cut.msn < msn) {
            self.cut(MediaTime::new(end.unwrap_or(0), scale), false, false);
            self.catalog_due = true;
        }
    }
}
