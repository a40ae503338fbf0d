//! What happens when nothing comes: the publisher drops and comes back, or one of its tracks has fallen silent (`silence`) and comes back.
//!
//! The timeline goes on as the wall clock does. What is missing is filled with gap segments of the usual length (EXT-X-GAP), so that
//! playlists keep moving, and media that comes again is placed where the clock says it belongs: right behind the last gap. There is no
//! discontinuity then unless the format has changed.
//!
//! A publisher that is connected and brings nothing, or next to nothing, is gone for viewers, too, from when a segment is due. Its times keep their
//! meaning, so that what it brings on time goes on where the clock says. What it brings late was meant for the gap, and is left out until it has caught
//! up; where it does not, it has stood still and goes on from there, as another publisher would.
//!
//! ```text
//!   leader     ──── s7 ────┤ s8 (gap) │ s9 (gap) │ s10 (gap, cut short) ├── s11 ───
//!   follower   ──── s7 ──────┤ s8     │ s9       │ s10                    ├─ s11 ──    its last gap ends at its own first access unit
//! ```
//!
//! Specification: RFC 8216bis §4.4.4.7, §6.2.1.

use super::{Cut, Entry, Error, FirstCut, Opening, Presentation};
use crate::media::{AccessUnit, Kind, MediaTime, RenditionId, Timescale, Track, WallTime};
use crate::packager::segmenter::Segmenter;

/// The least that an interruption lasts on the timeline, so that every rendition has room for a gap.
const LEAST_GAP_MICROS: i64 = 20_000;
/// The most, whatever a wall clock says that somebody has set: longer than any resume window.
const MOST_GAP_MICROS: i64 = 3_600_000_000;

/// Media of a publisher that was silent is on time when it comes so much later than the quickest did before.
const ON_TIME_MICROS: i64 = 500_000;
/// What was held up on the way comes within this time, much faster than it was made.
const CATCH_UP_MICROS: i64 = 2_000_000;

/// A publisher that is there and brings nothing.
#[derive(Debug)]
pub(super) struct Paused {
    /// What was added to its times, microseconds.
    base: i64,
    /// When something came again that was late.
    late_since: Option<WallTime>,
}

impl Presentation {
    /// Nobody publishes any more, for now: what has come is completed. [`pass`](Self::pass) is to be called from now on, until
    /// [`rejoin_track`](Self::rejoin_track) or [`finish`](Self::finish).
    pub fn interrupt(&mut self, now: WallTime) {
        self.paused = None;
        if self.idle.is_some() || self.ended {
            return;
        }
        self.published = self.published.max(now);
        if !self.can_resume() {
            // Nothing to go on with: whoever comes next begins.
            self.tracks.clear();
            self.waiting.clear();
            self.waiting_since = None;
            return;
        }
        self.tell_periods_of_the_first_cut();
        let offset = self.clock.offset();
        let here = MediaTime::new(now.micros().saturating_sub(offset), Timescale::MICROS);
        for entry in &mut self.tracks {
            entry.segmenter.interrupt(offset, Some(here));
            entry.segmenter.forget_promises();
        }
        self.end_period();
        let started = || self.tracks.iter().map(|entry| &entry.segmenter).filter(|own| own.has_started());
        let msn = started().map(Segmenter::open_msn).max();
        // A track that had not reached the last cut yet has one segment less, and room for a gap in its place.
        let end = |own: &Segmenter| own.end().micros().saturating_add(least_micros(own.open_msn(), msn.unwrap_or(0)));
        let end = started().map(end).max().unwrap_or(0);
        if let Some(msn) = msn {
            self.fill_up_to(msn, end);
            self.next.media = msn.saturating_sub(1);
        }
        self.leader = None;
        self.waiting.clear();
        self.waiting_since = None;
        self.cuts.clear();
        self.base = None;
        self.idle = Some(end);
        self.catalog_due = true;
    }

    /// The publisher is there and has brought nothing for a while: where a segment is due, this is an interruption, until it brings something again.
    /// [`pass`](Self::pass) is to be called from then on, too, once viewers were shown what was completed: after a night of a suspended machine the gaps
    /// fill the window. Spec: RFC 8216bis §6.2.1.
    pub fn pause_where_due(&mut self, now: WallTime) {
        let Some(made) = self.cuts.back().map(|cut| cut.made).filter(|_| self.idle.is_none()) else { return };
        if now.micros_since(made) < self.silent_micros() || self.ended {
            return;
        }
        let base = self.base;
        self.interrupt(now);
        self.paused = base.map(|base| Paused { base, late_since: None });
    }

    /// Whether `unit`, of a publisher that was silent, was meant for the gap. Decides, too, where on the presentation timeline its next media goes.
    pub(super) fn comes_late(&mut self, index: usize, unit: &AccessUnit, now: WallTime) -> bool {
        let (Some(entry), Some(paused)) = (self.tracks.get_mut(index), &mut self.paused) else { return false };
        let here = now.micros().saturating_sub(self.clock.offset());
        let late = here.saturating_sub(paused.base.saturating_add(entry.source.micros(unit.pts)));
        if late.saturating_abs() < ON_TIME_MICROS {
            self.base = Some(paused.base);
        } else if late > 0 && now.micros_since(*paused.late_since.get_or_insert(now)) < CATCH_UP_MICROS {
            entry.undecodable += 1;
            return true;
        }
        self.paused = None;
        false
    }

    /// How far media has come, presentation time in microseconds; `None` where no track has any, or all are interrupted.
    pub fn newest_micros(&self) -> Option<i64> {
        let running = self.tracks.iter().map(|entry| &entry.segmenter).filter(|own| own.is_running());
        running.map(|segmenter| segmenter.end().micros()).max()
    }

    /// Whether anything was published that could be gone on with.
    pub fn can_resume(&self) -> bool {
        self.tracks.iter().any(|entry| entry.segmenter.has_started())
    }

    /// While interrupted: adds the gaps that are due at `now`. Returns when the next one is, `None` where nothing is interrupted.
    pub fn pass(&mut self, now: WallTime) -> Option<WallTime> {
        let media_now = now.micros().saturating_sub(self.clock.offset());
        self.pass_until(media_now);
        let next = self.idle?.saturating_add(self.segment_micros());
        Some(WallTime::from_micros(next.saturating_add(self.clock.offset())))
    }

    fn pass_until(&mut self, media_micros: i64) {
        let step = self.segment_micros();
        while let Some(from) = self.idle.filter(|from| from.saturating_add(step) <= media_micros) {
            self.next.media += 1;
            let until = from.saturating_add(step);
            self.fill_up_to(self.next.media.saturating_add(1), until);
            self.idle = Some(until);
            self.catalog_due = true;
            if media_micros.saturating_sub(until) > MOST_GAP_MICROS {
                return;
            }
        }
    }

    /// Another publisher, or the same again, brings the `index`th track of its kind. Where there is a rendition of that place it is gone on
    /// with, in a new format if need be; else a new one is added.
    ///
    /// # Errors
    /// [`Error::TooManyTracks`], [`Error::Init`].
    pub fn rejoin_track(&mut self, index: u8, track: Track) -> Result<RenditionId, Error> {
        let id = RenditionId { kind: track.format.kind(), index };
        let Some(entry) = self.tracks.iter_mut().find(|entry| entry.segmenter.id() == id) else {
            return self.add_track(track);
        };
        entry.source = track.timescale;
        let own = &entry.segmenter.rendition().init.track;
        if own.format == track.format && own.language == track.language {
            entry.next_init = None;
            return Ok(id);
        }
        self.set_track(id, track)?;
        Ok(id)
    }

    /// Puts an access unit of a publisher's own timeline on that of the presentation.
    pub(super) fn place(&mut self, index: usize, unit: &mut AccessUnit, now: WallTime) {
        let Some(entry) = self.tracks.get(index) else { return };
        let (source, own) = (entry.source, entry.segmenter.timescale());
        let base = match self.base {
            Some(base) => base,
            None => {
                let end = self.idle.unwrap_or(0);
                let here = now.micros().saturating_sub(self.clock.offset());
                let start = here.clamp(end.saturating_add(LEAST_GAP_MICROS), end.saturating_add(MOST_GAP_MICROS));
                // Decoding times are not negative on a publisher's own timeline, and must not become so on this one.
                let base = start.saturating_sub(source.micros(unit.pts)).max(0);
                *self.base.insert(base)
            }
        };
        if base == 0 && source == own {
            return;
        }
        let shift = MediaTime::new(base, Timescale::MICROS).in_scale(own);
        unit.dts = source.rescale(unit.dts, own).saturating_add(shift);
        unit.pts = source.rescale(unit.pts, own).saturating_add(shift);
    }

    /// Whether the track is idle, and `unit` comes behind all of its gaps.
    pub(super) fn can_rejoin(&self, index: usize, unit: &AccessUnit) -> bool {
        self.tracks.get(index).is_some_and(|entry| entry.segmenter.is_idle() && !entry.segmenter.comes_too_early(unit))
    }

    /// The first access unit of a track after it was interrupted.
    pub(super) fn rejoin(&mut self, index: usize, unit: AccessUnit, now: WallTime) {
        let leads = self.leader == Some(index);
        let Some(entry) = self.tracks.get_mut(index) else { return };
        let decodable = unit.sync || entry.segmenter.kind() == Kind::Audio;
        if !decodable || entry.segmenter.comes_too_early(&unit) {
            entry.undecodable += 1;
            if decodable {
                self.note_missed(index);
            }
            return;
        }
        let scale = entry.segmenter.timescale();
        // Another delay of reordering is another relation of decoding to presentation, which players must be told of.
        let reordering = unit.pts.saturating_sub(unit.dts).max(0);
        let changes = entry.next_init.is_some() || reordering != entry.segmenter.reordering();
        let time = MediaTime::new(unit.pts, scale);
        if leads {
            self.clock.observe(time.micros(), now);
            self.lead_again(index, time, changes);
        }
        let Some(cut) = self.cut_before(time) else {
            // Nothing to be presented with.
            return;
        };
        if !leads && self.waits_for_a_cut(index, cut.msn, time) {
            if cut.msn < self.next.media {
                self.note_missed(index);
            }
            return;
        }
        self.fill_behind(index, cut.msn, cut.time);
        let Some(entry) = self.tracks.get_mut(index) else { return };
        let mut opening = cut.opening;
        let before = entry.segmenter.discontinuity_sequence();
        // A tag counts one, and there are two here: before the last gap, and behind it.
        opening.discontinuity_sequence = opening.discontinuity_sequence.clamp(before, before.saturating_add(2));
        let changes = changes || entry.segmenter.is_too_long_a_gap(unit.dts);
        let own = if changes && opening.discontinuity_sequence == before {
            self.count_own_break(before)
        } else {
            Some(opening.discontinuity_sequence)
        };
        let Some(entry) = self.tracks.get_mut(index) else { return };
        let Some(own) = own else {
            entry.undecodable += 1;
            return;
        };
        opening.discontinuity_sequence = own;
        let last_gap = entry.segmenter.next_discontinuity_sequence(own.saturating_sub(1));
        entry.segmenter.gap(unit.dts, Opening { discontinuity_sequence: last_gap, ..cut.opening });
        if let Some(init) = entry.next_init.take() {
            entry.segmenter.set_init(init);
        }
        entry.segmenter.resume(unit, opening);
        self.catalog_due = true;
    }

    /// The leader of what comes now begins at `time`: the gap before it gets its number, and so does its first segment.
    pub(super) fn lead_again(&mut self, index: usize, time: MediaTime, changes: bool) {
        self.pass_until(time.micros().saturating_sub(LEAST_GAP_MICROS / 2));
        let others_run =
            self.tracks.iter().enumerate().any(|(other, entry)| other != index && entry.segmenter.is_running());
        if others_run {
            self.fill_behind(index, self.next.media.saturating_add(1), time);
        } else {
            self.next.media += 1;
        }
        let is_too_long = |own: &Segmenter| own.is_too_long_a_gap(own.decode_time(time));
        let too_long = self.tracks.get(index).is_some_and(|entry| is_too_long(&entry.segmenter));
        let changes = changes || too_long;
        let new_format_anywhere =
            self.tracks.iter().any(|entry| entry.segmenter.is_idle() && entry.next_init.is_some());
        if changes || (new_format_anywhere && !others_run) {
            self.discontinuity_due = true;
        }
        self.idle = None;
        self.next.media += 1;
        if std::mem::take(&mut self.discontinuity_due) {
            self.next.discontinuity += 1;
        }
        if changes && let Some(entry) = self.tracks.get(index) {
            // It may have had one by itself already, which the others only learn of now.
            let own = entry.segmenter.discontinuity_sequence().saturating_add(1);
            self.next.discontinuity = self.next.discontinuity.max(own);
        }
        let opening =
            Opening { discontinuity_sequence: self.next.discontinuity, clock_offset: self.clock.segment_begins() };
        let announced = if others_run {
            self.begin_in_periods(time, opening.clock_offset, false, true)
        } else {
            // Which tracks come back shows during the first segment, and the period must name them all.
            let date = WallTime::from_micros(time.micros()).plus_micros(opening.clock_offset);
            self.first = Some(FirstCut { msn: self.next.media, start: time, date });
            Vec::new()
        };
        self.promise(&announced);
        self.cuts.push_back(Cut { msn: self.next.media, time, made: self.published, opening, announced });
    }

    /// Gaps in every idle track so that its next segment is `msn`; the last of them ends at `until`, microseconds on the presentation timeline.
    fn fill_up_to(&mut self, msn: u64, until: i64) {
        let clock_offset = self.clock.offset();
        for entry in self.tracks.iter_mut().filter(|entry| entry.segmenter.is_idle()) {
            let scale = entry.segmenter.timescale();
            let until = entry.segmenter.decode_time(MediaTime::new(until, Timescale::MICROS));
            while entry.segmenter.open_msn() < msn {
                let behind = least_micros(entry.segmenter.open_msn() + 1, msn);
                let behind = MediaTime::new(behind, Timescale::MICROS).in_scale(scale);
                gap(entry, until.saturating_sub(behind), clock_offset, self.next.discontinuity);
            }
        }
    }

    /// Gaps in one idle track, up to but not including the one that ends at `time`, where segment `msn` begins. Others may have been cut later than that:
    /// then its gaps share what time there is.
    pub(super) fn fill_behind(&mut self, index: usize, msn: u64, time: MediaTime) {
        let clock_offset = self.clock.offset();
        let Some(entry) = self.tracks.get_mut(index) else { return };
        while entry.segmenter.open_msn() + 1 < msn {
            let due = entry.segmenter.open_msn() + 1;
            let end = self.cuts.iter().find(|cut| cut.msn >= due).map_or(time, |cut| cut.time);
            let room = time.micros().saturating_sub(least_micros(due, msn));
            let end = if end > time { MediaTime::new(room, Timescale::MICROS) } else { end };
            let until = entry.segmenter.decode_time(end);
            let cut = self.cuts.iter().rev().find(|cut| cut.msn < due).map(|cut| cut.opening);
            let (theirs, offset) = cut.map_or((0, clock_offset), |cut| (cut.discontinuity_sequence, cut.clock_offset));
            gap(entry, until, offset, theirs);
        }
    }
}

/// The least that gaps last which are numbered from `from` to before `to`, microseconds.
fn least_micros(from: u64, to: u64) -> i64 {
    i64::try_from(to.saturating_sub(from)).unwrap_or(i64::MAX).saturating_mul(LEAST_GAP_MICROS)
}

/// A gap whose discontinuity sequence number follows that of the other renditions, `theirs`: a tag counts one.
fn gap(entry: &mut Entry, until: i64, clock_offset: i64, theirs: u64) {
    let discontinuity_sequence = entry.segmenter.next_discontinuity_sequence(theirs);
    entry.segmenter.gap(until, Opening { discontinuity_sequence, clock_offset });
}

#[cfg(test)]
mod tests;
