//! What DASH clients are told of a track's segments before these are complete: it stands, wherever and by whatever they begin.
//!
//! A track that lags behind the leader is told of segments that it has yet to begin; what was announced of one is taken up when it does.
//!
//! What is announced is decided outside (`periods`).

use std::collections::VecDeque;

use super::Segmenter;
use crate::packager::catalog::Announced;

/// Segments that may be announced before they begin: a track that lags behind has yet to make them.
const MAX_PROMISES: usize = 64;

/// What was announced of one track's segments.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Of the segment in the making, if anything.
    current: Option<Announced>,
    /// The same of it and of segments behind it, oldest first, at most [`MAX_PROMISES`].
    all: VecDeque<Announced>,
}

impl Promises {
    /// What was announced of the segment in the making, if anything.
    pub(super) fn current(&self) -> Option<Announced> {
        self.current
    }

    /// The segment in the making is `msn` now.
    pub(super) fn begin(&mut self, msn: u64) {
        while self.all.front().is_some_and(|announced| announced.msn < msn) {
            self.all.pop_front();
        }
        self.current = self.all.front().filter(|announced| announced.msn == msn).copied();
    }

    /// What was announced of segments behind the one in the making, of which nothing is known to follow any more.
    pub(super) fn take_next(&mut self) -> Self {
        Self { current: None, all: std::mem::take(&mut self.all) }
    }

    fn add(&mut self, announced: Announced) {
        if self.all.len() == MAX_PROMISES {
            self.all.pop_front();
        }
        self.all.push_back(announced);
    }
}

impl Segmenter {
    /// DASH clients are told of a segment that is yet to be complete: what they are told stands, wherever and by whatever it begins.
    pub(in crate::packager) fn promise(&mut self, announced: Announced) {
        let known = self.promises.current.is_some_and(|known| known.msn == announced.msn);
        if announced.msn < self.open_msn || known {
            return;
        }
        self.promises.add(announced);
        if announced.msn == self.open_msn && self.idle.is_none() {
            self.promises.current = Some(announced);
            if let Some(open) = &mut self.open {
                (open.presentation_start, open.announced) = (announced.start, Some(announced.duration));
            }
        }
    }

    /// A segment of which nothing was announced lasts, for DASH clients, until where they were told that the next one begins: sound that is not in step
    /// with its frames is cut up to a frame off, and segments must not overlap. Spec: ISO/IEC 23009-1 §5.3.9.6.
    pub(super) fn end_where_next_begins(&mut self) {
        let next = self.promises.all.iter().find(|announced| announced.msn == self.open_msn.saturating_add(1));
        if let (Some(open), Some(next)) = (self.open.as_mut().filter(|open| open.announced.is_none()), next) {
            let duration = next.start.saturating_sub(open.presentation_start);
            open.announced = Some(duration).filter(|duration| *duration > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{AccessUnit, Kind};
    use crate::packager::segmenter::Opening;
    use crate::packager::testing::rendition;

    /// Found by fuzzing: DASH clients had been told of a segment before its track fell silent, and then of another one under its number.
    #[test]
    fn what_was_announced_stands_over_a_silence_and_not_over_an_outage() {
        let opening = Opening { discontinuity_sequence: 0, clock_offset: 0 };
        let unit = |frame: i64| {
            let at = frame * 1_024;
            AccessUnit { dts: at, pts: at, sync: true, captions: false, data: [0; 4][..].into() }
        };
        for is_outage in [false, true] {
            let mut segmenter = Segmenter::new(rendition(Kind::Audio), 41);
            segmenter.start(unit(0), opening);
            (1..40).for_each(|frame| segmenter.push(unit(frame), None, 0));
            let announced = |msn: u64| Announced { msn, start: (msn as i64 - 40) * 96_000, duration: 96_000 };
            (42..44).for_each(|msn| segmenter.promise(announced(msn)));
            segmenter.interrupt(0, None);
            if is_outage {
                segmenter.forget_promises();
            }
            assert_eq!(segmenter.complete().last().map(|segment| segment.duration), Some(40 * 1_024));
            segmenter.gap(300 * 1_024, opening);
            segmenter.resume(unit(300), opening);
            (301..330).for_each(|frame| segmenter.push(unit(frame), None, 0));
            let open = segmenter.window().open.expect("parts");
            let told = (open.presentation_start, open.announced);
            let stands = (announced(43).start, Some(announced(43).duration));
            assert_eq!((open.msn, told), (43, if is_outage { (300 * 1_024, None) } else { stands }));
        }
    }
}
