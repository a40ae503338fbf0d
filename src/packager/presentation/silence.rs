//! What happens when one track falls silent while others go on: a follower gets gaps, and a leader is replaced.
//!
//! A follower's segments are numbered as the leader's are, so that its gaps end where the leader cuts. The last one is kept open, since media that
//! comes again takes the number behind it, which must not be ahead of the leader's:
//!
//! ```text
//!   leader     ──── s7 ──────┼──── s8 ──────┼──── s9 ──────┼──── s10 ─────
//!   follower   ─── s7 ─       s8 (gap), listed at the latest when a segment is due │ s9 (gap), ends where media begins ├─ s10 ──
//! ```
//!
//! Where the leader's segments are long, a new segment is due before the gap behind it has begun. It is listed then, and media that comes before the
//! leader's next cut waits for that.
//!
//! Tracks may arrive seconds apart and bring all that belongs to them. So what counts is how far the others have come since a track brought something,
//! not how far behind them it is. When it comes back after a silence, what it brings may lie before a cut that was made meanwhile, each time: where that
//! came too late for its gap, the next gap is listed no sooner than it is due.
//!
//! Specification: RFC 8216bis §6.2.1.

use super::cuts::Cut;
use super::{Entry, Presentation};
use crate::media::{AccessUnit, Kind, MediaTime};
use crate::packager::segmenter::Segmenter;

/// How far tracks may arrive apart, by their times: what is further apart is moved together before it comes here (`ingest::timeline`).
const APART_MICROS: i64 = 3_000_000;

/// How a track keeps up with the leader, by the leader's presentation time in microseconds.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Pace {
    /// The segment in the making; `None` before the leader has seen one.
    msn: Option<u64>,
    /// Where the leader was when it began to be that.
    since: i64,
    /// Where the leader was when the track brought something last.
    brought: i64,
    /// Where the leader was when something came last with which the track could have begun again, had the gap there not been listed already.
    missed: Option<i64>,
    /// How far the track was ahead of the leader when that brought something last, at most [`APART_MICROS`]; less than nothing where it was behind.
    ahead: i64,
}

impl Presentation {
    /// The leader cuts at `time`: tracks that brought nothing during the whole segment that ends there get gaps, so that their playlists go on.
    pub(super) fn fill_silent_followers(&mut self, time: MediaTime) {
        let (msn, offset) = (self.next.media, self.clock.offset());
        let (here, memory) = (self.leaders_end(), 2 * self.target_micros());
        let silent = self.segment_micros() / 2;
        let (late, earliest) = (APART_MICROS + silent, self.earliest_msn());
        let brings = |entry: &Entry| {
            let on_its_way = here.saturating_sub(entry.segmenter.end().micros()) < late;
            here.saturating_sub(entry.pace.brought) < silent && on_its_way && entry.segmenter.open_msn() >= earliest
        };
        let awaited = |entry: &Entry| {
            let missed = entry.pace.missed.is_some_and(|missed| here.saturating_sub(missed) < memory);
            missed && entry.segmenter.open_msn() >= earliest
        };
        let sound_leads = self.leading().map(Segmenter::kind) == Some(Kind::Audio);
        for index in 0..self.tracks.len() {
            let Some(entry) = self.tracks.get_mut(index).filter(|entry| entry.segmenter.has_started()) else {
                continue;
            };
            // The last gap is kept open for media that begins within the leader's segment. A picture needs none: it takes the lead, and cuts.
            let leads_again = sound_leads && entry.segmenter.kind() == Kind::Video && entry.segmenter.is_idle();
            let next = msn + u64::from(leads_again);
            let late = if entry.segmenter.is_idle() { awaited(entry) } else { brings(entry) };
            if self.leader == Some(index) || entry.segmenter.open_msn() + 2 > next || late {
                continue;
            }
            entry.segmenter.interrupt(offset, None);
            self.fill_behind(index, next, time);
        }
    }

    /// The cut that media of a track begins behind that is presented at `time`, where it is not too late for that.
    pub(super) fn cut_before(&self, time: MediaTime) -> Option<Cut> {
        let earliest = self.earliest_msn();
        self.cuts.iter().rev().take_while(|cut| cut.msn >= earliest).find(|cut| time >= cut.time).cloned()
    }

    /// The earliest segment that a track may be at while it brings media: tracks arrive apart, and some segments are short.
    fn earliest_msn(&self) -> u64 {
        self.next.media.saturating_sub(u64::try_from(APART_MICROS / self.segment_micros()).unwrap_or(0) + 3)
    }

    /// The leader has brought something.
    pub(super) fn note_leader(&mut self) {
        let here = self.leaders_end();
        for entry in &mut self.tracks {
            entry.pace.ahead = entry.segmenter.end().micros().saturating_sub(here).clamp(-APART_MICROS, APART_MICROS);
        }
    }

    /// Track `index`, which follows, has brought something.
    pub(super) fn note_follower(&mut self, index: usize) {
        let here = self.leaders_end();
        if let Some(entry) = self.tracks.get_mut(index) {
            entry.pace.brought = here;
        }
    }

    /// Something with which the silent track `index` could have begun again came behind the gap that it belongs before.
    pub(super) fn note_missed(&mut self, index: usize) {
        let here = self.leaders_end();
        if let Some(entry) = self.tracks.get_mut(index) {
            entry.pace.missed = Some(here);
        }
    }

    /// The leader goes on: followers that are silent get the segment that is due, unless it has not ended yet. Where the leader's timeline `breaks`,
    /// it says nothing of how long others were silent.
    pub(super) fn list_what_is_due(&mut self, breaks: bool) {
        let (here, Some(cut)) = (self.leaders_end(), self.cuts.back().map(|cut| cut.time)) else { return };
        let latest = self.latest_micros();
        let silent = self.segment_micros() / 2;
        for index in 0..self.tracks.len() {
            let Some(entry) = self.tracks.get_mut(index).filter(|entry| entry.segmenter.has_started()) else {
                continue;
            };
            let (msn, pace) = (entry.segmenter.open_msn(), &mut entry.pace);
            if pace.msn != Some(msn) || breaks {
                *pace = Pace { msn: Some(msn), since: here, brought: here, ..*pace };
            }
            let follows = self.leader != Some(index) && msn < self.next.media;
            if !follows || here.saturating_sub(pace.since) < latest {
                continue;
            }
            if entry.segmenter.is_idle() {
                self.fill_behind(index, msn + 2, cut);
            } else if here.saturating_sub(pace.brought) >= silent {
                self.interrupt_track(index);
            } else {
                continue;
            }
            self.catalog_due = true;
        }
    }

    /// Media of the silent follower `index`, presented at `time`, comes while the leader's segment is `msn`: whether it has to wait for the next one,
    /// since the gap before it had to be listed. Nobody would cut where the leader is silent too.
    pub(super) fn waits_for_a_cut(&self, index: usize, msn: u64, time: MediaTime) -> bool {
        let Some(entry) = self.tracks.get(index) else { return false };
        let silent = time.micros().saturating_sub(self.leaders_end()) > self.silence_micros();
        entry.segmenter.open_msn() >= msn && !silent
    }

    /// `unit` of another track comes long after the leader's last access unit: that track leads from here.
    pub(super) fn replace_silent_leader(&mut self, leader: usize, index: usize, unit: &AccessUnit) {
        let Some(entry) = self.tracks.get(index) else { return };
        if !entry.segmenter.has_started() || entry.segmenter.is_idle() {
            return;
        }
        let time = entry.segmenter.presentation_time(unit).micros();
        let on_time = entry.segmenter.open_msn() >= self.next.media;
        let silent = self.silence_micros();
        let Some(old) = self.tracks.get(leader) else { return };
        // One picture does not say yet how long pictures last. Sound that arrives behind its pictures has still to be ahead of them when it cuts.
        let silent = if old.segmenter.last_duration() == 0 { silent * 2 } else { silent };
        let silent = silent.saturating_add(entry.pace.ahead).max(silent / 4);
        if on_time && !old.segmenter.is_idle() && time.saturating_sub(old.segmenter.end().micros()) > silent {
            self.interrupt_track(leader);
            self.leader = Some(index);
            self.catalog_due = true;
            // It may have had to end a segment already while it waited for the old leader to.
            self.follow_forced_cuts(index);
        }
    }

    /// Track `index` is silent within the leader's segment.
    fn interrupt_track(&mut self, index: usize) {
        // It has a share in the period that goes on, though not in the next.
        self.tell_periods_of_the_first_cut();
        if let Some(periods) = &mut self.periods {
            periods.falls_silent();
        }
        let offset = self.clock.offset();
        if let Some(entry) = self.tracks.get_mut(index) {
            entry.segmenter.interrupt(offset, None);
        }
    }

    /// Where the leader's media ends, presentation time in microseconds.
    fn leaders_end(&self) -> i64 {
        self.leading().map_or(0, |leading| leading.end().micros())
    }

    /// A leader is silent when others are so far ahead of it: a segment of the new one goes by before the first gap can be listed, and no more than
    /// 1.5 target durations may go by before a new segment is (RFC 8216bis §6.2.1).
    fn silence_micros(&self) -> i64 {
        self.segment_micros() * 3 / 4
    }

    /// A new segment is to be listed within 1.5 target durations of the one before (RFC 8216bis §6.2.1). An eighth is left for the way to viewers.
    pub(super) fn latest_micros(&self) -> i64 {
        self.target_micros() / 8 * 11
    }

    /// Where nothing comes, there are gaps an eighth earlier than that: who looks after a publisher looks every eighth, and finds it silent before the
    /// little that it may have brought is listed as a segment ([`is_due`](Self::is_due)), which another track might not reach.
    pub(super) fn silent_micros(&self) -> i64 {
        self.target_micros() / 8 * 10
    }

    fn target_micros(&self) -> i64 {
        i64::try_from(self.config.target_duration.as_micros()).unwrap_or(i64::MAX)
    }

    pub(super) fn segment_micros(&self) -> i64 {
        i64::try_from(self.config.segment_target.as_micros()).unwrap_or(i64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests;
