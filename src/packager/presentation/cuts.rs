//! Where the leader ends a segment and all others do, and what the DASH periods are told of it.

use std::sync::Arc;
use std::time::Duration;

use super::{Error, Presentation};
use crate::media::{AccessUnit, Kind, MediaTime, RenditionId, Timescale, WallTime};
use crate::packager::catalog::Announced;
use crate::packager::periods::{Begin, Entrant, Periods};
use crate::packager::segmenter::{Opening, Segmenter};

/// A key frame this much before `segment_target` still ends the segment: encoders' clocks and millisecond rounding.
const CUT_TOLERANCE: Duration = Duration::from_millis(50);
/// Cuts remembered for tracks that lag behind the leader.
const MAX_CUTS: usize = 64;
/// A segment that is due ends without a key frame where it holds at least this part of the time that has gone by. One with less is as good as none: the
/// publisher stands still, and gaps keep the timeline in step with the clock ([`Presentation::pause_where_due`]).
const WORTH_LISTING: i64 = 16;

/// Where the leader began a segment.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    /// Media sequence number of the segment that begins, in all renditions.
    pub(super) msn: u64,
    /// Where that is on the presentation timeline.
    pub(super) time: MediaTime,
    /// When the access unit came that made it known: the segment before is listed from then on.
    pub(super) made: WallTime,
    /// How all of them open it.
    pub(super) opening: Opening,
    /// What is announced of each rendition's segment, in its own ticks.
    pub(super) announced: Vec<(RenditionId, Announced)>,
}

impl Cut {
    pub(super) fn announced(&self, id: RenditionId) -> Option<Announced> {
        self.announced.iter().find(|(other, _)| *other == id).map(|(_, announced)| *announced)
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
    /// Presentation time of its first sample.
    pub(super) start: MediaTime,
    /// The same by the wall clock.
    pub(super) date: WallTime,
}

/// What comes before an access unit.
#[derive(Debug)]
pub(super) enum Before {
    /// The one before it, in the same segment.
    Nothing,
    /// The end of a segment. The next one opens so.
    Cut(Opening),
    /// A second break within one segment of the leader, which sequence numbers cannot express: the access unit is to be left out.
    TooManyDiscontinuities,
}

impl Presentation {
    /// The leader's next access unit is `unit`: cuts before it where it is a key frame and the segment long enough, where the segment must not
    /// become longer, and where the timeline `breaks`.
    pub(super) fn cut_where_due(&mut self, leader: usize, unit: &AccessUnit, breaks: bool) -> Result<(), Error> {
        let Some(entry) = self.tracks.get(leader) else { return Ok(()) };
        let scale = entry.segmenter.timescale();
        let target = scale.ticks(self.config.segment_target);
        let tolerance = scale.ticks(CUT_TOLERANCE).min(target / 4);
        let at_key = unit.sync && entry.segmenter.elapsed(unit) >= target - tolerance;
        let forced = entry.segmenter.must_end(unit) && !at_key && !breaks;
        if forced && self.config.require_keyframes && entry.segmenter.kind() == Kind::Video {
            return Err(Error::KeyFramesTooFar(self.config.target_duration.as_secs()));
        }
        if at_key || forced || breaks || self.is_due(scale.micros(entry.segmenter.elapsed(unit))) {
            let time = entry.segmenter.presentation_time(unit);
            self.cut(time, breaks, unit.sync);
        }
        Ok(())
    }

    /// Whether the leader's segment, which holds `elapsed` microseconds, has to be listed now: media comes slower than real time, or came so after a stall.
    /// Spec: RFC 8216bis §6.2.1.
    pub(super) fn is_due(&self, elapsed: i64) -> bool {
        let made = self.cuts.back().map_or(self.published, |cut| cut.made);
        let since = self.published.micros_since(made);
        since >= self.latest_micros() && elapsed.saturating_mul(WORTH_LISTING) >= since
    }

    /// Whether a segment of track `index` ends before `unit`: where the leader has cut, where its own timeline `breaks`, or where it must not become
    /// longer although the leader has not cut yet.
    pub(super) fn what_comes_before(&mut self, index: usize, unit: &AccessUnit, breaks: bool) -> Before {
        let leads = self.leader == Some(index);
        let Some(entry) = self.tracks.get(index) else { return Before::Nothing };
        let (id, scale) = (entry.segmenter.id(), entry.segmenter.timescale());
        let time = entry.segmenter.presentation_time(unit);
        let due = entry.segmenter.open_msn() + 1;
        let current = entry.segmenter.discontinuity_sequence();
        let leaders = self.cuts.iter().find(|cut| cut.msn == due);
        let reached = leaders.filter(|cut| leads || time >= cut.time(id, scale));
        if let Some(cut) = reached.filter(|cut| !breaks || cut.opening.discontinuity_sequence > current) {
            let discontinuity_sequence =
                entry.segmenter.next_discontinuity_sequence(cut.opening.discontinuity_sequence);
            return Before::Cut(Opening { discontinuity_sequence, ..cut.opening });
        }
        let clock_offset = self.clock.offset();
        let opening = |discontinuity_sequence| Opening { discontinuity_sequence, clock_offset };
        if breaks {
            self.count_own_break(current).map_or(Before::TooManyDiscontinuities, |own| Before::Cut(opening(own)))
        } else if !leads && entry.segmenter.must_end(unit) {
            let theirs = leaders.map_or(current, |cut| cut.opening.discontinuity_sequence);
            Before::Cut(opening(entry.segmenter.next_discontinuity_sequence(theirs)))
        } else {
            Before::Nothing
        }
    }

    /// A track whose discontinuity sequence number is `current` breaks off by itself: the number behind the break. `None` where it has done so
    /// already since the leader's last cut, since one discontinuity in a segment of the leader is all that the numbers can express.
    pub(super) fn count_own_break(&mut self, current: u64) -> Option<u64> {
        if current > self.next.discontinuity {
            return None;
        }
        let own = current + 1;
        self.discontinuity_due |= own > self.next.discontinuity;
        Some(own)
    }

    /// The leader begins the very first segment at `time`.
    pub(super) fn open_first(&mut self, time: MediaTime) {
        let opening = Opening { discontinuity_sequence: self.next.discontinuity, clock_offset: self.clock.offset() };
        let date = WallTime::from_micros(time.micros()).plus_micros(self.clock.offset());
        self.periods = Some(Periods::new(self.start, 0));
        self.first = Some(FirstCut { msn: self.next.media, start: time, date });
        self.cuts.push_back(Cut { msn: self.next.media, time, made: self.published, opening, announced: Vec::new() });
    }

    /// The leader begins a segment at `time`, with a key frame where `independent`.
    pub(super) fn cut(&mut self, time: MediaTime, discontinuity: bool, independent: bool) {
        if discontinuity {
            self.tell_periods_of_the_first_cut();
            self.end_period();
            // The offset of the old timeline means nothing on the new one.
            self.clock.reset();
            self.clock.observe(time.micros(), self.published);
        }
        let due = std::mem::take(&mut self.discontinuity_due);
        if discontinuity || due {
            self.next.discontinuity += 1;
        }
        self.next.media += 1;
        let opening =
            Opening { discontinuity_sequence: self.next.discontinuity, clock_offset: self.clock.segment_begins() };
        self.fill_silent_followers(time);
        let announced = self.begin_in_periods(time, opening.clock_offset, discontinuity || due, independent);
        if self.cuts.len() == MAX_CUTS {
            self.cuts.pop_front();
        }
        self.promise(&announced);
        self.cuts.push_back(Cut { msn: self.next.media, time, made: self.published, opening, announced });
    }

    /// DASH clients are told this of the tracks' segments, which may have begun, or are yet to.
    pub(super) fn promise(&mut self, announced: &[(RenditionId, Announced)]) {
        for (id, announced) in announced {
            let Some(entry) = self.tracks.iter_mut().find(|entry| entry.segmenter.id() == *id) else {
                continue;
            };
            entry.segmenter.promise(*announced);
            if let (Some(start), Some(periods)) = (entry.segmenter.start_of(announced.msn), &mut self.periods) {
                periods.follower_begins(*id, *announced, start);
            }
        }
    }

    /// Track `index` was at segment `before` and may have begun others since, where that was announced or where its own media made it: the period ends
    /// with one that begins elsewhere than DASH clients were told.
    pub(super) fn note_where_it_began(&mut self, index: usize, before: u64) {
        let Some(entry) = self.tracks.get(index) else { return };
        let (id, segmenter) = (entry.segmenter.id(), &entry.segmenter);
        let Some(periods) = self.periods.as_mut().filter(|_| segmenter.open_msn() > before) else { return };
        for cut in self.cuts.iter().filter(|cut| cut.msn > before) {
            if let (Some(announced), Some(start)) = (cut.announced(id), segmenter.start_of(cut.msn)) {
                periods.follower_begins(id, announced, start);
            }
        }
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
        let picture = self.leading().map_or(0, Segmenter::last_duration);
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
        let picture = self.leading().map_or(0, Segmenter::last_duration);
        if let Some(periods) = &mut self.periods {
            let FirstCut { msn, start, date } = first;
            let begin =
                Begin { msn, start, picture, date, independent: true, discontinuity: false, renditions: &renditions };
            periods.segment_begins(&begin);
        }
    }

    /// The timeline that DASH clients know ends where the leader's media does. They have been told of its first cut.
    pub(super) fn end_period(&mut self) {
        let end = self.leading().map(Segmenter::end);
        if let (Some(periods), Some(end)) = (&mut self.periods, end) {
            periods.end(end);
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
        // Its segment began before the cut was known, which may have moved the dates: all renditions map media to the same ones (RFC 8216bis §6.2.4).
        let offset = self.cuts.back().filter(|cut| cut.msn == msn).map(|cut| cut.opening.clock_offset);
        if let (Some(offset), Some(entry)) = (offset, self.tracks.get_mut(index)) {
            entry.segmenter.date_segment(offset);
        }
    }
}
