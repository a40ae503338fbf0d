//! Where a follower can be cut.

use crate::media::{MediaTime, Timescale};

/// The instants at which a track's access units begin, as far as they follow from one of them: what tells exactly where an audio
/// segment will end before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Presentation time of some access unit, in ticks of the track.
    pub origin: i64,
    /// How long an access unit lasts, in ticks of the track; at least 1.
    pub frame: i64,
}

impl Grid {
    /// Any tick will do: video renditions whose pictures are those of the leader.
    pub const EVERY_TICK: Self = Self { origin: 0, frame: 1 };

    /// The first access unit that begins at or after `cut`, in ticks of `scale`, the track's timescale. This is where a follower is cut,
    /// so a segment that starts at `start` and is cut at the predicted `end` lasts `first_at(end) - start`.
    pub fn first_at(&self, cut: MediaTime, scale: Timescale) -> i64 {
        let frame = i128::from(self.frame.max(1));
        let hz = i128::from(cut.scale.hz());
        // Compared in ticks of both clocks at once, so that nothing is rounded before the frame is chosen.
        let after = i128::from(cut.ticks) * i128::from(scale.hz()) - i128::from(self.origin) * hz;
        let step = frame * hz;
        let frames = after.div_euclid(step) + i128::from(after.rem_euclid(step) != 0);
        i64::try_from(i128::from(self.origin) + frames * frame).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn khz48() -> Timescale {
        Timescale::new(48_000).expect("not zero")
    }

    #[test]
    fn audio_is_cut_at_the_first_frame_that_does_not_begin_before_the_cut() {
        let grid = Grid { origin: 0, frame: 1_024 };
        for (cut, first) in [(0, 0), (1, 1_024), (1_920, 1_024), (1_921, 2_048), (180_000, 96_256), (-1, 0)] {
            assert_eq!(grid.first_at(MediaTime::new(cut, Timescale::NINETY_KHZ), khz48()), first, "{cut}");
        }
        let shifted = Grid { origin: 500, frame: 1_024 };
        assert_eq!(shifted.first_at(MediaTime::new(0, Timescale::NINETY_KHZ), khz48()), 500);
        assert_eq!(shifted.first_at(MediaTime::new(i64::MAX, Timescale::MILLIS), khz48()), i64::MAX);
    }

    proptest! {
        #[test]
        fn the_cut_lies_within_the_frame_before_the_one_found(cut in 0..1_i64 << 40, origin in 0..1_i64 << 40, frame in 1..5_000_i64) {
            let grid = Grid { origin, frame };
            let cut = MediaTime::new(cut, Timescale::NINETY_KHZ);
            let first = grid.first_at(cut, khz48());
            prop_assert_eq!((first - origin).rem_euclid(frame), 0);
            prop_assert!(MediaTime::new(first, khz48()) >= cut);
            prop_assert!(MediaTime::new(first - frame, khz48()) < cut);
        }
    }
}
