//! A picture rate as a hypothesis: does it explain the timestamps?

/// Ticks of a millisecond at 90 kHz.
pub(super) const MILLI: i64 = 90;
/// A time rounded or cut to whole milliseconds, measured from another such time, is off by at most one; one tick more for our rounding.
const TOLERANCE: i64 = MILLI + 1;
/// Beyond it more evidence does not weigh more: a rate that fitted for minutes can still be replaced within minutes.
const MAX_SCORE: u32 = 1_000;

/// A grid of instants `anchor + n / rate`. Each timestamp that falls on it raises its score. One that does not becomes the new anchor and
/// costs most of the score: a clock that drifts costs that once in a while, a wrong rate all the time.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    /// Pictures in `seconds`.
    pictures: i64,
    seconds: i64,
    /// Said by the publisher, so that it is believed from the first picture on.
    pub(super) declared: bool,
    anchor_ms: Option<i64>,
    index: i64,
    score: u32,
}

impl Grid {
    pub(super) fn new(pictures: u32, seconds: u32) -> Self {
        let (pictures, seconds) = (i64::from(pictures.max(1)), i64::from(seconds.max(1)));
        Self { pictures, seconds, declared: false, anchor_ms: None, index: 0, score: 0 }
    }

    pub(super) fn rate(&self) -> f64 {
        self.pictures as f64 / self.seconds as f64
    }

    pub(super) fn score(&self) -> u32 {
        self.score
    }

    /// Looks at the next timestamp.
    pub(super) fn observe(&mut self, instant_ms: i64) {
        if let Some(anchor) = self.anchor_ms {
            let since = (instant_ms - anchor).saturating_mul(MILLI);
            let index = self.nearest(since);
            if index > self.index && (since - self.ticks(index)).abs() <= TOLERANCE {
                self.index = index;
                self.score = (self.score + 1).min(MAX_SCORE);
                return;
            }
            self.score /= 4;
        }
        self.anchor_ms = Some(instant_ms);
        self.index = 0;
    }

    /// The instant on the grid of the timestamp observed last, `later` pictures on, in ticks.
    pub(super) fn instant(&self, later: i64) -> i64 {
        self.anchor_ms.unwrap_or(0).saturating_mul(MILLI).saturating_add(self.ticks(self.index.saturating_add(later)))
    }

    /// A span of milliseconds as whole pictures, where it is that.
    pub(super) fn whole(&self, span_ms: i64) -> Option<i64> {
        let span = span_ms.saturating_mul(MILLI);
        let count = self.nearest(span);
        ((span - self.ticks(count)).abs() <= TOLERANCE).then_some(count)
    }

    fn nearest(&self, ticks: i64) -> i64 {
        divide(i128::from(ticks) * i128::from(self.pictures), 90_000 * i128::from(self.seconds))
    }

    fn ticks(&self, index: i64) -> i64 {
        divide(i128::from(index) * 90_000 * i128::from(self.seconds), i128::from(self.pictures))
    }
}

/// To the nearest whole number, saturating. `by` is positive.
fn divide(value: i128, by: i128) -> i64 {
    let rounded = (value + by / 2).div_euclid(by);
    i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
}
