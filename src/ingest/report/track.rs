//! One track's figures, in one-second buckets by arrival.

use super::lateness::Lateness;
use super::seconds::{RECENT, Seconds};
use crate::media::{Kind, Timescale};

/// Key frame distances remembered.
const KEY_FRAMES: usize = 8;
/// A distance counts as missing media from this many percent of the usual one on, when it is also longer by [`MISSING_US`].
const MISSING_PERCENT: i64 = 175;
const MISSING_US: i64 = 15_000;
/// A second with less media than this was cut short by a burst, or is being filled: its rate is no peak.
const LEAST_PEAK_US: i64 = 500_000;
/// From fewer distances no spread is told.
const LEAST_DISTANCES: u64 = 8;
/// Distances beyond this are outages, not rates.
const LONGEST_US: i64 = 60_000_000;

/// One second of arrival.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    bytes: u64,
    /// Distances from the access unit before, as many as units.
    units: u64,
    /// Their sum, microseconds of media.
    span_us: i64,
    /// The sum of their squares.
    squares: u64,
    /// The longest of them.
    longest_us: i64,
    /// What of them is media that never came.
    dropped_us: i64,
    /// Most pictures in a row that are shown before one that came earlier.
    reordered: u32,
    /// Least and most of presentation minus decoding time.
    wait_us: Option<(i64, i64)>,
}

/// Sums over the recent buckets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    bytes: u64,
    units: u64,
    span_us: i64,
    squares: u64,
    peak_bps: u64,
    pub(super) longest_us: i64,
    pub(super) dropped_us: i64,
    pub(super) reordered: u32,
    pub(super) wait_us: i64,
}

impl Sums {
    fn seconds(&self) -> Option<f64> {
        (self.units > 0 && self.span_us > 0).then_some(self.span_us as f64 / 1e6)
    }

    /// Access units a second of media.
    pub(super) fn rate(&self) -> Option<f64> {
        self.seconds().map(|seconds| self.units as f64 / seconds)
    }

    /// Bits a second of media: all in all, and in the busiest second.
    pub(super) fn bitrate(&self) -> Option<(u64, u64)> {
        let average = (self.bytes as f64 * 8.0 / self.seconds()?).round() as u64;
        Some((average, self.peak_bps.max(average)))
    }

    /// Standard deviation of the distances, in parts of their mean.
    pub(super) fn unevenness(&self) -> Option<f64> {
        let count = self.units as f64;
        let mean = self.span_us as f64 / count;
        (self.units >= LEAST_DISTANCES && mean > 0.0)
            .then(|| (self.squares as f64 / count - mean * mean).max(0.0).sqrt() / mean)
    }
}

/// Measures one track. About 2 KiB, whatever comes.
#[derive(Debug)]
pub(super) struct TrackMeter {
    kind: Kind,
    hz: i64,
    /// Media time of the last access unit, microseconds.
    last_us: Option<i64>,
    /// The usual distance, smoothed; 0 before the first.
    usual_us: i64,
    seconds: Seconds<Second>,
    pub(super) lateness: Lateness,
    pub(super) dropped_us: i64,
    /// The latest presentation time so far, ticks.
    newest_pts: i64,
    /// Pictures in a row, up to now, that are shown before one that came earlier.
    reordered: u32,
    /// Media time of the last key frame.
    last_key_us: Option<i64>,
    /// Milliseconds between key frames, a ring of the last ones.
    key_distances: [u32; KEY_FRAMES],
    /// How many distances were ever put into it.
    keys: usize,
}

/// Distances between key frames, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct KeyFrames {
    pub(super) last: Option<f64>,
    pub(super) longest: f64,
    pub(super) shortest: Option<f64>,
}

/// An access unit as far as it is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    /// Microseconds since the publisher connected.
    pub(super) at_us: i64,
    pub(super) dts: i64,
    pub(super) pts: i64,
    pub(super) sync: bool,
    pub(super) bytes: usize,
}

impl TrackMeter {
    pub(super) fn new(kind: Kind, scale: Timescale) -> Self {
        Self {
            kind,
            hz: i64::from(scale.hz()),
            last_us: None,
            usual_us: 0,
            seconds: Seconds::default(),
            lateness: Lateness::default(),
            dropped_us: 0,
            newest_pts: i64::MIN,
            reordered: 0,
            last_key_us: None,
            key_distances: [0; KEY_FRAMES],
            keys: 0,
        }
    }

    /// The format changes: rates begin anew, totals go on.
    pub(super) fn restart(&mut self, scale: Timescale) {
        let fresh = Self::new(self.kind, scale);
        let before = std::mem::replace(self, fresh);
        self.dropped_us = before.dropped_us;
        self.lateness = before.lateness;
    }

    pub(super) fn unit(&mut self, unit: Unit) {
        let media_us = self.micros(unit.dts);
        self.lateness.observe(unit.at_us, unit.at_us.saturating_sub(media_us));
        let distance = self.last_us.replace(media_us).map(|last| media_us.saturating_sub(last).clamp(0, LONGEST_US));
        let dropped = distance.map_or(0, |distance| self.missing(distance));
        self.dropped_us += dropped;
        if self.kind == Kind::Video {
            if unit.pts < self.newest_pts {
                self.reordered += 1;
            } else {
                (self.newest_pts, self.reordered) = (unit.pts, 0);
            }
            if unit.sync {
                self.key_frame(media_us);
            }
        }
        let wait = self.micros(unit.pts.saturating_sub(unit.dts));
        let reordered = self.reordered;
        let Some(second) = self.seconds.at(unit.at_us) else { return };
        second.reordered = second.reordered.max(reordered);
        second.wait_us = Some(second.wait_us.map_or((wait, wait), |(least, most)| (least.min(wait), most.max(wait))));
        if let Some(distance) = distance {
            second.bytes += unit.bytes as u64;
            second.units += 1;
            second.span_us += distance;
            second.squares = second.squares.saturating_add(distance.unsigned_abs().saturating_pow(2));
            second.longest_us = second.longest_us.max(distance);
            second.dropped_us += dropped;
        }
    }

    /// What came in the ten seconds before `at_us`.
    pub(super) fn recent(&self, at_us: i64) -> Sums {
        let mut sums = Sums::default();
        let mut wait: Option<(i64, i64)> = None;
        for second in self.seconds.last(at_us, RECENT) {
            sums.bytes += second.bytes;
            sums.units += second.units;
            sums.span_us += second.span_us;
            sums.squares = sums.squares.saturating_add(second.squares);
            sums.longest_us = sums.longest_us.max(second.longest_us);
            sums.dropped_us += second.dropped_us;
            sums.reordered = sums.reordered.max(second.reordered);
            if second.span_us >= LEAST_PEAK_US {
                let bps = second.bytes.saturating_mul(8_000_000) / second.span_us.unsigned_abs();
                sums.peak_bps = sums.peak_bps.max(bps);
            }
            if let Some((least, most)) = second.wait_us {
                wait = Some(wait.map_or((least, most), |(l, m)| (l.min(least), m.max(most))));
            }
        }
        sums.wait_us = wait.map_or(0, |(least, most)| most.saturating_sub(least));
        sums
    }

    /// `None` before the first key frame.
    pub(super) fn key_frames(&self) -> Option<KeyFrames> {
        let open = self.last_us?.saturating_sub(self.last_key_us?);
        let known = self.keys.min(KEY_FRAMES);
        let distances = || self.key_distances.iter().take(known).map(|millis| f64::from(*millis) / 1e3);
        let last = self.keys.checked_sub(1).and_then(|index| self.key_distances.get(index % KEY_FRAMES));
        Some(KeyFrames {
            last: last.map(|millis| f64::from(*millis) / 1e3),
            longest: distances().fold(open as f64 / 1e6, f64::max),
            shortest: (known > 0).then(|| distances().fold(f64::INFINITY, f64::min)),
        })
    }

    fn key_frame(&mut self, media_us: i64) {
        if let Some(last) = self.last_key_us.replace(media_us)
            && let Some(place) = self.key_distances.get_mut(self.keys % KEY_FRAMES)
        {
            *place = u32::try_from(media_us.saturating_sub(last) / 1_000).unwrap_or(u32::MAX);
            self.keys += 1;
        }
    }

    /// How much of `distance` is media that never came. Keeps the usual distance.
    fn missing(&mut self, distance: i64) -> i64 {
        if self.usual_us == 0 {
            self.usual_us = distance;
            return 0;
        }
        let usual = self.usual_us;
        let extra = distance - usual;
        // One hole must not change what is usual by much.
        self.usual_us += (distance.min(usual * 2) - usual) / 8;
        let missing = distance * 100 >= usual * MISSING_PERCENT && extra >= MISSING_US;
        if missing { extra } else { 0 }
    }

    /// Exact, without the cost of 128 bits.
    fn micros(&self, ticks: i64) -> i64 {
        (ticks / self.hz).saturating_mul(1_000_000).saturating_add(ticks % self.hz * 1_000_000 / self.hz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `count` units of a 90 kHz track, `step` ticks apart, arriving on time.
    fn feed(meter: &mut TrackMeter, from: i64, count: i64, step: i64, mut change: impl FnMut(i64, &mut Unit)) -> i64 {
        for n in 0..count {
            let dts = from + n * step;
            let mut unit = Unit { at_us: dts * 100 / 9, dts, pts: dts, sync: n == 0, bytes: 1_000 };
            change(n, &mut unit);
            meter.unit(unit);
        }
        from + count * step
    }

    fn video() -> TrackMeter {
        TrackMeter::new(Kind::Video, Timescale::NINETY_KHZ)
    }

    #[test]
    fn a_steady_track_has_its_rate_and_bitrate() {
        let mut meter = video();
        feed(&mut meter, 0, 600, 3_000, |_, _| ());
        let sums = meter.recent(19_990_000);
        assert_eq!(sums.rate().map(|rate| (rate * 1e3).round()), Some(30_000.0));
        assert_eq!(sums.bitrate(), Some((240_000, 240_000)));
        assert!(sums.unevenness().is_some_and(|part| part < 0.001), "{sums:?}");
        assert_eq!((meter.dropped_us, sums.reordered, sums.wait_us), (0, 0, 0));
    }

    #[test]
    fn what_is_older_than_ten_seconds_counts_no_more() {
        let mut meter = video();
        let end = feed(&mut meter, 0, 300, 3_000, |_, unit| unit.bytes = 9_000);
        feed(&mut meter, end, 330, 3_000, |_, _| ());
        assert_eq!(meter.recent(20_990_000).bitrate(), Some((240_000, 240_000)));
        assert_eq!(meter.recent(60_000_000).rate(), None, "and silence has no rate");
    }

    #[test]
    fn the_busiest_second_is_the_peak() {
        let mut meter = video();
        feed(&mut meter, 0, 270, 3_000, |n, unit| unit.bytes = if (90..120).contains(&n) { 5_000 } else { 1_000 });
        let (average, peak) = meter.recent(8_990_000).bitrate().unwrap();
        assert!((300_000..400_000).contains(&average) && (1_100_000..1_300_000).contains(&peak), "{average} {peak}");
    }

    #[test]
    fn missing_pictures_are_counted_as_time() {
        let mut meter = video();
        let end = feed(&mut meter, 0, 60, 3_000, |_, _| ());
        // Three pictures are missing, then one.
        let end = feed(&mut meter, end + 9_000, 30, 3_000, |_, _| ());
        feed(&mut meter, end + 3_000, 30, 3_000, |_, _| ());
        let missing = meter.dropped_us / 1_000;
        assert!((130..=134).contains(&missing), "{missing} ms");
        let sums = meter.recent(4_400_000);
        assert_eq!(sums.dropped_us, meter.dropped_us);
        assert!((133_333..=133_334).contains(&sums.longest_us));
    }

    #[test]
    fn a_variable_rate_is_uneven() {
        let mut meter = video();
        let mut dts = 0;
        for n in 0..200 {
            dts += if n % 7 < 3 { 1_500 } else { 9_000 };
            meter.unit(Unit { at_us: dts * 100 / 9, dts, pts: dts, sync: false, bytes: 1 });
        }
        assert!(meter.recent(12_800_000).unevenness().is_some_and(|part| part > 0.4));
    }

    #[test]
    fn b_frames_are_seen_by_the_order_of_presentation() {
        let mut meter = video();
        // I P B b b: the offsets that x264 writes for three B-frames with a pyramid.
        let offsets = [2, 5, 2, 0, 0];
        feed(&mut meter, 0, 5, 3_000, |n, unit| unit.pts = unit.dts + offsets[n as usize] * 3_000);
        let sums = meter.recent(100_000);
        assert_eq!((sums.reordered, sums.wait_us), (3, 166_666));
    }

    #[test]
    fn distances_of_key_frames_grow_while_none_comes() {
        let mut meter = video();
        assert_eq!(meter.key_frames(), None);
        let end = feed(&mut meter, 0, 150, 3_000, |n, unit| unit.sync = n % 60 == 0);
        let keys = meter.key_frames().unwrap();
        assert_eq!((keys.last, keys.longest, keys.shortest), (Some(2.0), 2.0, Some(2.0)));
        feed(&mut meter, end, 150, 3_000, |_, unit| unit.sync = false);
        let longest = meter.key_frames().unwrap().longest;
        assert!((5.9..6.0).contains(&longest), "{longest}");
    }

    #[test]
    fn a_new_format_keeps_totals_alone() {
        let mut meter = video();
        let end = feed(&mut meter, 0, 60, 3_000, |_, _| ());
        feed(&mut meter, end + 90_000, 60, 3_000, |_, _| ());
        let dropped = meter.dropped_us;
        assert!(dropped > 900_000);
        meter.restart(Timescale::NINETY_KHZ);
        assert_eq!((meter.dropped_us, meter.recent(5_000_000).rate(), meter.key_frames()), (dropped, None, None));
    }

    #[test]
    fn absurd_times_overflow_nothing() {
        let mut meter = video();
        for (at_us, dts) in [(0, i64::MIN / 4), (i64::MAX / 4, i64::MAX / 4), (5, 0), (i64::MAX / 4, 1)] {
            meter.unit(Unit { at_us, dts, pts: dts + 90_000, sync: true, bytes: usize::MAX >> 16 });
        }
        let _ = (meter.recent(i64::MAX / 4), meter.key_frames(), meter.lateness.lag_us(0));
    }
}
