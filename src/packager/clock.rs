//! Which wall-clock time belongs to a media time: the dates of EXT-X-PROGRAM-DATE-TIME and of the MPD.
//!
//! The offset follows the quickest access units, because everything else that delays one is the network. It stays where it is while they keep
//! within [`BAND_MICROS`] of it, and moves at segment starts only, by little: hls.js lays its playlists of picture and sound beside each other by the
//! dates of different segments, and waits for ever at a segment's end where dates and durations disagree by more than it has loaded.

use std::collections::VecDeque;

use crate::media::WallTime;

/// So much earlier or later than dated the quickest media may come before dates follow: neither jitter nor a slow start shows then.
const BAND_MICROS: i64 = 60_000;
/// Steps are this part of the media since the last one, more than any clock is off,
const PACE: i64 = 64;
/// or this part of what is missing,
const SHARE: i64 = 8;
/// and never larger, microseconds. Spec: RFC 8216bis §6.2.1 allows an overlap below one second.
const STEP_MICROS: i64 = 40_000;
/// How many segments the quickest access unit is looked for in. One congested segment does not make the publisher's clock slow.
const SEGMENTS: usize = 8;

/// The offset from media time to wall-clock time, in microseconds.
#[derive(Debug, Default)]
pub(super) struct Clock {
    offset: Option<i64>,
    /// Smallest offset seen since the last segment start.
    quickest: Option<i64>,
    /// Smallest offsets of the segments before.
    history: VecDeque<i64>,
    /// The newest media time, and the one at the last segment start.
    newest: i64,
    last_start: i64,
}

impl Clock {
    /// A clock that was known before, by its offset.
    pub(super) fn at(offset: i64) -> Self {
        Self { offset: Some(offset), ..Self::default() }
    }

    /// An access unit presented at `media_micros` arrived at `now`.
    pub(super) fn observe(&mut self, media_micros: i64, now: WallTime) {
        let offset = now.micros().saturating_sub(media_micros);
        self.quickest = Some(self.quickest.map_or(offset, |least| least.min(offset)));
        if self.offset.is_none() {
            self.offset = Some(offset);
            (self.newest, self.last_start) = (media_micros, media_micros);
        }
        self.newest = self.newest.max(media_micros);
    }

    /// A segment of the leading track begins: moves the offset if it has to, and returns it.
    pub(super) fn segment_begins(&mut self) -> i64 {
        if let Some(quickest) = self.quickest.take() {
            self.history.push_back(quickest);
            if self.history.len() > SEGMENTS {
                self.history.pop_front();
            }
        }
        let current = self.offset.unwrap_or(0);
        let quickest = self.history.iter().copied().min().unwrap_or(current);
        let passed = self.newest.saturating_sub(std::mem::replace(&mut self.last_start, self.newest));
        let error = quickest.saturating_sub(current);
        let excess = error.saturating_sub(error.clamp(-BAND_MICROS, BAND_MICROS));
        let most = (passed / PACE).max(excess.saturating_abs() / SHARE).clamp(0, STEP_MICROS);
        if excess != 0 {
            self.offset = Some(current.saturating_add(excess.clamp(-most, most)));
        }
        self.offset()
    }

    /// The offset now.
    pub(super) fn offset(&self) -> i64 {
        self.offset.unwrap_or(0)
    }

    /// Forgets what was learnt of a timeline that has ended; the next access unit sets the offset anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_start_moves_no_date_and_a_very_slow_one_few() {
        let start = 1_000_000_000;
        for (late, steps) in [(10_000, 0), (55_000, 0), (100_000, 6), (400_000, 26)] {
            let mut clock = Clock::default();
            clock.observe(0, WallTime::from_micros(start + late));
            let mut offsets = vec![clock.segment_begins()];
            for segment in 0..30 {
                for unit in 1..100 {
                    let media = segment * 2_000_000 + unit * 20_000;
                    clock.observe(media, WallTime::from_micros(start + media));
                }
                offsets.push(clock.segment_begins());
            }
            let moved = offsets.windows(2).filter(|pair| pair[0] != pair[1]).count();
            assert!(moved <= steps, "{late} µs late: {offsets:?}");
            let ahead = offsets[30] - start;
            assert!((0..=BAND_MICROS).contains(&ahead), "still {ahead} µs in the future");
        }
    }

    #[test]
    fn jitter_moves_nothing_and_drift_is_followed_in_small_steps() {
        let mut clock = Clock::default();
        let start = 1_700_000_000_000_000;
        clock.observe(0, WallTime::from_micros(start));
        let mut last = clock.segment_begins();
        for segment in 1..600_i64 {
            for unit in 0..60 {
                let media = segment * 2_000_000 + unit * 33_333;
                // A publisher whose clock is 0.1 % slow, over a network that delays by up to 50 ms.
                let jitter = (segment * 7 + unit * 13) % 50 * 1_000;
                clock.observe(media, WallTime::from_micros(start + media + media / 1_000 + jitter));
            }
            let offset = clock.segment_begins();
            assert!((offset - last).abs() < 8_000);
            last = offset;
        }
        let drift = 599 * 2_000;
        assert!((last - start - drift).abs() < 150_000, "{}", last - start - drift);
    }

    /// OvenMediaEngine #1940 (and #1845, #1002): a relayed stream, days later, dated in the future, so that players waited for it. The
    /// relay's clock begins anywhere and runs fast.
    #[test]
    fn media_is_not_dated_in_the_future_however_long_a_fast_clock_runs() {
        const DAYS: i64 = 5;
        for ahead_ppm in [0, 50, 1_000] {
            let mut clock = Clock::default();
            let start = 1_700_000_000_000_000;
            let began = (1_i64 << 32) * 1_000;
            for segment in 0..DAYS * 43_200 {
                let real = segment * 2_000_000;
                let media = began + real + real / 1_000_000 * ahead_ppm;
                for (unit, jitter) in [(0, 0), (1_000_000, 30_000)] {
                    clock.observe(media + unit, WallTime::from_micros(start + real + unit + jitter));
                }
                let ahead = media + clock.segment_begins() - (start + real);
                assert!(ahead <= BAND_MICROS + 2_000, "{ahead} µs in the future after {segment} segments");
                assert!(ahead >= -BAND_MICROS, "{ahead} µs late after {segment} segments");
            }
        }
    }
}
