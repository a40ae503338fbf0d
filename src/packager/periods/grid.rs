//! Where a follower can be cut.

use std::time::Duration;

use crate::media::{MediaTime, Timescale};

/// How much further than it is by now a track may come to be ahead of the leader, where it arrives before it.
const MARGIN: Duration = Duration::from_millis(250);
/// Frames that a track is ahead of the leader by usually: sound comes in small heaps.
const USUALLY_AHEAD: i64 = 2;

/// The instants at which a track's access units begin, as far as they follow from one of them: what tells exactly where an audio
/// segment will end before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Presentation time of the newest access unit, in ticks of the track.
    pub origin: i64,
    /// How long an access unit lasts, in ticks of the track; at least 1.
    pub step: i64,
}

impl Grid {
    /// Any tick will do: video renditions whose pictures are those of the leader.
    pub const EVERY_TICK: Self = Self { origin: 0, step: 1 };

    /// The first access unit that begins at or after `cut`, in ticks of `scale`, the track's timescale. This is where a follower is cut,
    /// so a segment that starts at `start` and is cut at the predicted `end` lasts `first_at(end) - start`.
    pub fn first_at(&self, cut: MediaTime, scale: Timescale) -> i64 {
        let step = i128::from(self.step.max(1));
        let hz = i128::from(cut.scale.hz());
        // Compared in ticks of both clocks at once, so that nothing is rounded before the frame is chosen.
        let after = i128::from(cut.ticks) * i128::from(scale.hz()) - i128::from(self.origin) * hz;
        let steps = after.div_euclid(step * hz) + i128::from(after.rem_euclid(step * hz) != 0);
        i64::try_from(i128::from(self.origin) + steps * step).unwrap_or(i64::MAX)
    }

    /// Where the track will be cut of which nothing was announced yet, when the leader was at `cut`: at [`first_at`](Self::first_at), or behind what it
    /// has brought by now, and where that is far ahead, behind what it may have brought when the leader cuts next.
    pub fn first_possible(&self, cut: MediaTime, scale: Timescale) -> i64 {
        let first = self.first_at(cut, scale);
        let held = self.origin.saturating_add(self.step);
        if *self == Self::EVERY_TICK || held <= first {
            first
        } else if self.is_apart(held, first) {
            let margin = scale.ticks(MARGIN) / self.step.max(1) + 1;
            held.saturating_add(self.step.saturating_mul(margin))
        } else {
            held
        }
    }

    /// Where a segment that begins at `start`, when the leader's does at `begin`, ends when the leader's ends at `end`: a track that arrives so much before
    /// the leader stays so far ahead of it.
    pub fn end(&self, start: i64, begin: MediaTime, end: MediaTime, scale: Timescale) -> i64 {
        let first = self.first_at(begin, scale);
        let ahead = if self.is_apart(start, first) { start.saturating_sub(first) } else { 0 };
        self.first_at(end, scale).saturating_add(ahead)
    }

    fn is_apart(&self, start: i64, first: i64) -> bool {
        *self != Self::EVERY_TICK && start.saturating_sub(first) > self.step.saturating_mul(USUALLY_AHEAD)
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
        let grid = Grid { origin: 0, step: 1_024 };
        for (cut, first) in [(0, 0), (1, 1_024), (1_920, 1_024), (1_921, 2_048), (180_000, 96_256), (-1, 0)] {
            assert_eq!(grid.first_at(MediaTime::new(cut, Timescale::NINETY_KHZ), khz48()), first, "{cut}");
        }
        let shifted = Grid { origin: 500, step: 1_024 };
        assert_eq!(shifted.first_at(MediaTime::new(0, Timescale::NINETY_KHZ), khz48()), 500);
        assert_eq!(shifted.first_at(MediaTime::new(i64::MAX, Timescale::MILLIS), khz48()), i64::MAX);
    }

    #[test]
    fn nothing_is_announced_of_what_is_in_another_segment_already() {
        let (cut, scale) = (MediaTime::new(360_000, Timescale::NINETY_KHZ), Timescale::new(44_100).expect("not zero"));
        let next = MediaTime::new(540_000, Timescale::NINETY_KHZ);
        let held = |frames: i64| Grid { origin: 177_152 + frames * 1_024, step: 1_024 };
        // It has not come so far yet; it has the frame at the cut; it is two seconds ahead, and will be at the next cut.
        for (frames, start, end) in [(-40, 177_152, 265_216), (0, 178_176, 265_216), (86, 277_504, 365_568)] {
            assert_eq!(held(frames).first_possible(cut, scale), start, "{frames}");
            assert_eq!(held(frames).end(start, cut, next, scale), end, "{frames}");
        }
    }

    proptest! {
        #[test]
        fn the_cut_lies_within_the_frame_before_the_one_found(cut in 0..1_i64 << 40, origin in 0..1_i64 << 40, frame in 1..5_000_i64) {
            let grid = Grid { origin, step: frame };
            let cut = MediaTime::new(cut, Timescale::NINETY_KHZ);
            let first = grid.first_at(cut, khz48());
            prop_assert_eq!((first - origin).rem_euclid(frame), 0);
            prop_assert!(MediaTime::new(first, khz48()) >= cut);
            prop_assert!(MediaTime::new(first - frame, khz48()) < cut);
        }
    }
}
