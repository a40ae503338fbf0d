//! How a presentation starts, and a track in it: sound waits for a first picture, and a track for a segment that it can begin with.

use std::sync::Arc;

use super::{Error, HEAD_START, MAX_WAITING, Presentation};
use crate::media::{AccessUnit, Kind, MediaTime, Timescale, WallTime};
use crate::packager::segmenter::Segmenter;

impl Presentation {
    pub(super) fn wait_for_leader(&mut self, index: usize, unit: AccessUnit, now: WallTime) {
        let Some(entry) = self.tracks.get_mut(index) else { return };
        let time = entry.segmenter.presentation_time(&unit);
        if entry.segmenter.kind() == Kind::Video {
            if !unit.sync {
                entry.undecodable += 1;
                return;
            }
            self.lead(index, unit, now);
            return;
        }
        let since = *self.waiting_since.get_or_insert(time);
        let waited = time.micros().saturating_sub(since.micros());
        if self.waiting.len() == MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back((index, unit, now));
        if waited >= HEAD_START.as_micros() as i64 {
            self.lead_without_pictures();
        }
    }

    /// No picture has come: the sound that waited for one leads, from its beginning on.
    fn lead_without_pictures(&mut self) {
        while let (None, Some((index, unit, arrived))) = (self.leader, self.waiting.pop_front()) {
            self.lead(index, unit, arrived);
        }
    }

    pub(super) fn lead(&mut self, index: usize, unit: AccessUnit, now: WallTime) {
        self.leader = Some(index);
        let start = MediaTime::new(
            unit.pts,
            self.tracks.get(index).map_or(Timescale::MILLIS, |entry| entry.segmenter.timescale()),
        );
        // The first access unit cannot fail: nothing has been cut and nothing is kept yet.
        let _ = self.write(index, unit, now);
        if !self.runs(index) {
            // It came before the last gap ends: another one leads, or another track does.
            self.leader = None;
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        for (index, unit, arrived) in waiting {
            let time = self.tracks.get(index).map(|entry| entry.segmenter.presentation_time(&unit));
            if time.is_some_and(|time| time >= start) {
                let _ = self.write(index, unit, arrived);
            }
        }
    }

    pub(super) fn start_track(&mut self, index: usize, unit: AccessUnit, now: WallTime) -> Result<(), Error> {
        let leads = self.leader == Some(index);
        let Some(entry) = self.tracks.get_mut(index) else { return Ok(()) };
        if entry.segmenter.kind() == Kind::Video && !unit.sync {
            entry.undecodable += 1;
            return Ok(());
        }
        let time = MediaTime::new(unit.pts, entry.segmenter.timescale());
        self.clock.observe(time.micros(), now);
        if leads && self.idle.is_some() {
            self.lead_again(index, time, false);
        } else if leads && self.cuts.is_empty() {
            self.start = WallTime::from_micros(self.clock.offset()).plus_micros(time.micros());
            self.open_first(time);
        }
        let mut cut = self.cut_before(time);
        if leads && self.cuts.back().is_some_and(|last| time < last.time) && cut.is_some() {
            // It arrives later than the tracks that it leads from now on, which have begun a segment behind it.
            self.cut(time, false, true);
            cut = self.cuts.back().cloned();
        }
        let Some(cut) = cut else {
            // Nothing to be presented with: the stream begins later.
            return Ok(());
        };
        let Some(entry) = self.tracks.get_mut(index) else { return Ok(()) };
        let rendition = Arc::clone(entry.segmenter.rendition());
        entry.segmenter = Segmenter::new(rendition, cut.msn);
        if let Some(init) = entry.next_init.take() {
            entry.segmenter.set_init(init);
        }
        entry.segmenter.start(unit, cut.opening);
        self.note_follower(index);
        self.catalog_due = true;
        Ok(())
    }
}
