//! Three kinds of time, kept apart: media time (ticks of a timescale), wall-clock time (a value that shells pass in),
//! and the peer's wrapping clock.

use std::cmp::Ordering;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// Ticks per second of a track's clock. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timescale(NonZeroU32);

impl Timescale {
    /// RTMP timestamps: milliseconds.
    pub const MILLIS: Self = Self::constant(1_000);
    /// What is compared with the wall clock: microseconds.
    pub const MICROS: Self = Self::constant(1_000_000);
    /// Video tracks: divides evenly into every usual picture rate but the 1001 ones.
    pub const NINETY_KHZ: Self = Self::constant(90_000);

    #[expect(clippy::panic, reason = "evaluated while compiling, for the constants above alone")]
    const fn constant(hz: u32) -> Self {
        match NonZeroU32::new(hz) {
            Some(hz) => Self(hz),
            None => panic!("a timescale constant is never zero"),
        }
    }

    /// `None` for zero.
    pub fn new(hz: u32) -> Option<Self> {
        NonZeroU32::new(hz).map(Self)
    }

    /// Ticks per second.
    pub fn hz(self) -> u32 {
        self.0.get()
    }

    /// The whole number of ticks nearest to `duration`, saturating.
    pub fn ticks(self, duration: Duration) -> i64 {
        rescale_wide(duration.as_nanos() as i128, 1_000_000_000, self.hz())
    }

    /// `ticks` as seconds, for text that people and players read.
    pub fn seconds(self, ticks: i64) -> f64 {
        ticks as f64 / f64::from(self.hz())
    }

    /// `ticks` in whole microseconds, rounded to nearest, saturating.
    pub fn micros(self, ticks: i64) -> i64 {
        rescale_wide(i128::from(ticks), self.hz(), 1_000_000)
    }

    /// `ticks` of this clock in ticks of `to`, rounded to nearest, saturating.
    pub fn rescale(self, ticks: i64, to: Self) -> i64 {
        rescale_wide(i128::from(ticks), self.hz(), to.hz())
    }
}

fn rescale_wide(value: i128, from: u32, to: u32) -> i64 {
    let from = i128::from(from);
    let scaled = (value.saturating_mul(i128::from(to)) + from / 2).div_euclid(from);
    i64::try_from(scaled).unwrap_or(if scaled < 0 { i64::MIN } else { i64::MAX })
}

impl fmt::Debug for Timescale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.hz())
    }
}

/// A point or a span on a media timeline. Values of different timescales compare exactly.
#[derive(Clone, Copy, Debug)]
pub struct MediaTime {
    /// How many ticks of `scale`.
    pub ticks: i64,
    /// What one tick is.
    pub scale: Timescale,
}

impl MediaTime {
    /// `ticks` of `scale`.
    pub fn new(ticks: i64, scale: Timescale) -> Self {
        Self { ticks, scale }
    }

    /// The same instant, to the nearest tick of another timescale.
    pub fn in_scale(self, scale: Timescale) -> i64 {
        self.scale.rescale(self.ticks, scale)
    }

    /// Whole microseconds, rounded to nearest.
    pub fn micros(self) -> i64 {
        self.scale.micros(self.ticks)
    }
}

impl PartialEq for MediaTime {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for MediaTime {}
impl PartialOrd for MediaTime {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for MediaTime {
    fn cmp(&self, other: &Self) -> Ordering {
        let left = i128::from(self.ticks) * i128::from(other.scale.hz());
        let right = i128::from(other.ticks) * i128::from(self.scale.hz());
        left.cmp(&right)
    }
}

/// Microseconds since the Unix epoch, read by a shell and passed to the cores, which have no clock of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(i64);

impl WallTime {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the Unix epoch, rounded down.
    pub const fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// This time moved by `micros`, saturating.
    #[must_use]
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// `self - earlier` in microseconds, saturating.
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// RFC 3339 in UTC with milliseconds, as EXT-X-PROGRAM-DATE-TIME and the MPD write dates.
    pub fn rfc3339(self) -> String {
        // Rounded, not cut: a date one microsecond short of a millisecond must not differ between two renderings.
        let millis = self.0.saturating_add(500).div_euclid(1_000);
        let Ok(date) = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000) else {
            return String::from("9999-12-31T23:59:59.999Z");
        };
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        let (hour, minute, second, milli) = (date.hour(), date.minute(), date.second(), date.millisecond());
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

/// Unwraps a 32-bit millisecond clock by serial-number arithmetic: a step of less than half the range is that step,
/// in either direction. Spec: RTMP 1.0 §3.
#[derive(Debug, Default, Clone)]
pub struct Unwrap32 {
    last: Option<(u32, i64)>,
}

impl Unwrap32 {
    /// The unwrapped value of `stamp`; the first one is taken as it is.
    pub fn unwrap(&mut self, stamp: u32) -> i64 {
        let value = match self.last {
            None => i64::from(stamp),
            Some((last, value)) => value + i64::from(stamp.wrapping_sub(last) as i32),
        };
        self.last = Some((stamp, value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_times_of_different_scales_compare_exactly() {
        let third = MediaTime::new(30_000, Timescale::NINETY_KHZ);
        assert!(third > MediaTime::new(333, Timescale::MILLIS));
        assert!(third < MediaTime::new(334, Timescale::MILLIS));
        assert_eq!(MediaTime::new(45_000, Timescale::NINETY_KHZ), MediaTime::new(500, Timescale::MILLIS));
    }

    #[test]
    fn rescaling_rounds_to_nearest_and_saturates() {
        assert_eq!(Timescale::MILLIS.rescale(333, Timescale::NINETY_KHZ), 29_970);
        assert_eq!(Timescale::NINETY_KHZ.micros(1), 11);
        assert_eq!(Timescale::NINETY_KHZ.micros(-1), -11);
        assert_eq!(Timescale::MILLIS.rescale(i64::MAX, Timescale::NINETY_KHZ), i64::MAX);
    }

    #[test]
    fn a_32_bit_clock_unwraps_in_both_directions() {
        let mut clock = Unwrap32::default();
        assert_eq!(clock.unwrap(u32::MAX - 9), i64::from(u32::MAX) - 9);
        assert_eq!(clock.unwrap(10), i64::from(u32::MAX) + 11);
        assert_eq!(clock.unwrap(u32::MAX), i64::from(u32::MAX));
    }

    #[test]
    fn dates_are_written_in_utc_with_milliseconds() {
        assert_eq!(WallTime::from_micros(1_700_000_000_123_500).rfc3339(), "2023-11-14T22:13:20.124Z");
        assert_eq!(WallTime::from_micros(i64::MAX).rfc3339(), "9999-12-31T23:59:59.999Z");
    }
}
