//! Holds a publisher to its [`Limits`]. Sans-IO: every protocol's shell feeds it what arrives and asks when to look again.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use crate::media::{Limits, Track};

/// The bit rate is an average over this time: long enough for a key frame and for what an encoder sends after its network stood still, short
/// enough that a viewer's line is not flooded for long.
const WINDOW: Duration = Duration::from_secs(10);

/// Which limit a publisher passed; the text is shown to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// More bits than ten seconds may have.
    #[error("{is} kbit/s over the last {:.1} s, the most for this stream is {most} kbit/s: lower the bit rate", over.as_secs_f64())]
    Bitrate {
        /// Measured, kbit/s.
        is: u64,
        /// Over how long: the last ten seconds, or all of it.
        over: Duration,
        /// Allowed, kbit/s.
        most: u64,
    },
    /// Pixels.
    #[error("the picture has {width}x{height}, the most for this stream is {most}: lower the output resolution")]
    Resolution {
        /// Of the picture.
        width: u16,
        /// Of the picture.
        height: u16,
        /// Allowed.
        most: Most,
    },
    /// The time is over.
    #[error("{0:?} of publishing are over, which is the most for this stream")]
    Duration(Duration),
}

/// The limits of a picture: what is not limited is not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    width: Option<u16>,
    height: Option<u16>,
}

impl fmt::Display for Most {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.width, self.height) {
            (Some(width), Some(height)) => write!(f, "{width}x{height}"),
            (Some(width), None) => write!(f, "{width} wide"),
            (None, Some(height)) => write!(f, "{height} high"),
            (None, None) => f.write_str("unlimited"),
        }
    }
}

/// The limits of one connection, and how much of them is used.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    since: Instant,
    /// Bytes by the second after `since`, of the last [`WINDOW`]; at most its seconds and one.
    seconds: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Guard {
    /// Publishing begins now.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, since: now, seconds: VecDeque::new(), sum: 0 }
    }

    /// The same connection publishes again, perhaps under other limits: what it has used stays used.
    #[must_use]
    pub fn again(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// When [`Exceeded::Duration`] is due.
    pub fn deadline(&self) -> Option<(Instant, Exceeded)> {
        let most = self.limits.max_duration?;
        Some((self.since.checked_add(most)?, Exceeded::Duration(most)))
    }

    /// `bytes` came from the publisher.
    ///
    /// # Errors
    /// [`Exceeded::Bitrate`].
    pub fn received(&mut self, now: Instant, bytes: u64) -> Result<(), Exceeded> {
        let Some(most) = self.limits.max_bitrate else { return Ok(()) };
        let second = now.saturating_duration_since(self.since).as_secs();
        while let Some((_, old)) = self.seconds.pop_front_if(|(past, _)| *past + WINDOW.as_secs() <= second) {
            self.sum = self.sum.saturating_sub(old);
        }
        match self.seconds.back_mut() {
            Some((newest, sum)) if *newest >= second => *sum = sum.saturating_add(bytes),
            _ => self.seconds.push_back((second, bytes)),
        }
        self.sum = self.sum.saturating_add(bytes);
        let bits = self.sum.saturating_mul(8);
        if bits / WINDOW.as_secs() <= most {
            return Ok(());
        }
        // What has come makes up the window already, however long it took.
        let gone = Duration::from_secs(second.saturating_sub(WINDOW.as_secs() - 1));
        let over = now.saturating_duration_since(self.since).saturating_sub(gone).max(Duration::from_secs(1));
        let is = (bits as f64 / over.as_secs_f64() / 1e3) as u64;
        Err(Exceeded::Bitrate { is, over, most: most / 1_000 })
    }

    /// A track begins or changes.
    ///
    /// # Errors
    /// [`Exceeded::Resolution`].
    pub fn track(&self, track: &Track) -> Result<(), Exceeded> {
        let Some((width, height)) = track.format.resolution() else { return Ok(()) };
        let most = Most { width: self.limits.max_width, height: self.limits.max_height };
        if most.width.is_some_and(|most| width > most) || most.height.is_some_and(|most| height > most) {
            return Err(Exceeded::Resolution { width, height, most });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(limits: Limits) -> (Guard, Instant) {
        let start = Instant::now();
        (Guard::new(limits, start), start)
    }

    #[test]
    fn the_bit_rate_is_an_average_over_the_window() {
        // 1 Mbit/s are 125,000 bytes a second.
        let (mut guard, start) = guard(Limits { max_bitrate: Some(1_000_000), ..Limits::default() });
        for second in 0..60 {
            assert_eq!(guard.received(start + Duration::from_secs(second), 125_000), Ok(()), "second {second}");
        }
        let stalled = start + Duration::from_secs(65);
        assert_eq!(guard.received(stalled, 5 * 125_000), Ok(()), "what a stall held back may come at once");
        assert_eq!(
            guard.received(stalled, 600_000),
            Err(Exceeded::Bitrate { is: 1_533, over: Duration::from_secs(9), most: 1_000 })
        );
        assert!(guard.seconds.len() <= 11);
    }

    #[test]
    fn a_publisher_is_told_the_rate_that_it_has() {
        for (rate, after) in [(4_000_000, 2_500), (1_200_000, 8_325), (100_000_000, 100)] {
            let (mut guard, start) = guard(Limits { max_bitrate: Some(1_000_000), ..Limits::default() });
            let step = |n: u64| guard.received(start + Duration::from_millis(n * 25), rate / 8 / 40).err();
            let found = (0..400).map(step).position(|found| found.is_some()).expect("it passes the limit");
            assert_eq!(found * 25, after, "{rate}");
            let found = guard.received(start + Duration::from_millis(after as u64), 0).expect_err("it is passed");
            let told = found.to_string();
            let Exceeded::Bitrate { is, .. } = found else { panic!("{told}") };
            // Less than a second is counted as one.
            let wanted = rate / 1_000 * (after as u64).min(1_000) / 1_000;
            assert!((wanted * 97 / 100..=wanted * 125 / 100).contains(&is), "{rate}: {told}");
        }
    }

    #[test]
    fn a_publisher_at_one_and_a_half_times_its_rate_is_found_within_the_window() {
        let (mut guard, start) = guard(Limits { max_bitrate: Some(1_000_000), ..Limits::default() });
        let found = (0..100).find(|tenth| guard.received(start + Duration::from_millis(tenth * 100), 18_750).is_err());
        assert_eq!(found, Some(66));
    }

    #[test]
    fn time_is_limited_from_the_start() {
        let (guard, start) = guard(Limits { max_duration: Some(Duration::from_secs(60)), ..Limits::default() });
        assert_eq!(guard.deadline().map(|(at, _)| at), Some(start + Duration::from_secs(60)));
        assert_eq!(super::Guard::new(Limits::default(), start).deadline(), None);
    }

    #[test]
    fn publishing_again_begins_no_new_window_and_no_new_time() {
        let limits = Limits { max_bitrate: Some(1_000_000), max_duration: Some(WINDOW), ..Limits::default() };
        let (mut guard, start) = guard(limits);
        for second in 0..8 {
            assert_eq!(guard.received(start + Duration::from_secs(second), 150_000), Ok(()));
            guard = guard.again(limits);
        }
        assert!(guard.received(start + Duration::from_secs(8), 150_000).is_err());
        assert_eq!(guard.deadline().map(|(at, _)| at), Some(start + WINDOW));
        assert_eq!(guard.again(Limits::default()).deadline(), None);
    }

    #[test]
    fn pictures_are_limited_and_sound_is_not() {
        use crate::media::Kind;
        use crate::packager::testing;
        let (guard, _) = guard(Limits { max_height: Some(719), ..Limits::default() });
        let track = |kind| testing::rendition(kind).init.track.clone();
        let refused = guard.track(&track(Kind::Video)).expect_err("the fixture has 1280x720");
        let words = "the picture has 1280x720, the most for this stream is 719 high: lower the output resolution";
        assert_eq!(refused.to_string(), words);
        let (narrow, _) = self::guard(Limits { max_width: Some(1_279), ..Limits::default() });
        let refused = narrow.track(&track(Kind::Video)).expect_err("the fixture has 1280x720");
        assert!(refused.to_string().contains("the most for this stream is 1279 wide"), "{refused}");
        assert_eq!(guard.track(&track(Kind::Audio)), Ok(()));
    }
}
