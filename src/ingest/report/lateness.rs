//! When media arrives, against when its timestamps say: jitter, an uplink that falls behind, and how far sound and pictures are apart.

use super::seconds::{KEPT, RECENT, Seconds};

/// Encoders begin with what they had gathered: the first seconds say nothing.
const SETTLING_US: i64 = 2_000_000;
/// Seconds that count as now.
const NOW: u64 = 2;

/// How late media came within one second, at best and at worst.
#[derive(Debug, Clone, Copy)]
struct Spread {
    least: i64,
    most: i64,
}

/// Arrival minus media time, microseconds. Only differences of it mean something.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    seconds: Seconds<Option<Spread>>,
}

impl Lateness {
    pub(super) fn observe(&mut self, at_us: i64, late_us: i64) {
        if at_us < SETTLING_US {
            return;
        }
        let Some(second) = self.seconds.at(at_us) else { return };
        *second = Some(match second {
            Some(spread) => Spread { least: spread.least.min(late_us), most: spread.most.max(late_us) },
            None => Spread { least: late_us, most: late_us },
        });
    }

    fn last(&self, at_us: i64, count: u64) -> impl Iterator<Item = &Spread> {
        self.seconds.last(at_us, count).flatten()
    }

    /// The least of the last ten seconds: how late media is when nothing holds it up.
    pub(super) fn base_us(&self, at_us: i64) -> Option<i64> {
        self.last(at_us, RECENT).map(|second| second.least).min()
    }

    /// How far arrivals within one second were spread at most, in the last ten.
    pub(super) fn jitter_us(&self, at_us: i64) -> i64 {
        self.last(at_us, RECENT).map(|second| second.most.saturating_sub(second.least)).max().unwrap_or(0)
    }

    /// How much later media comes now than at best in all seconds that are kept.
    pub(super) fn lag_us(&self, at_us: i64) -> i64 {
        let best = self.last(at_us, KEPT as u64).map(|second| second.least).min();
        let now = self.last(at_us, NOW).map(|second| second.least).min();
        best.zip(now).map_or(0, |(best, now)| now.saturating_sub(best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twenty seconds of arrivals, 50 a second, `late` microseconds late each.
    fn run(late: impl Fn(i64) -> i64) -> Lateness {
        let mut lateness = Lateness::default();
        for n in 0..1_000 {
            lateness.observe(n * 20_000, late(n));
        }
        lateness
    }

    const END: i64 = 19_990_000;

    #[test]
    fn on_time_is_no_jitter_and_no_lag() {
        let lateness = run(|_| 7_000);
        assert_eq!((lateness.jitter_us(END), lateness.lag_us(END), lateness.base_us(END)), (0, 0, Some(7_000)));
    }

    #[test]
    fn bursts_are_jitter_and_no_lag() {
        let lateness = run(|n| n % 25 * 20_000);
        assert_eq!((lateness.jitter_us(END), lateness.lag_us(END)), (480_000, 0));
    }

    #[test]
    fn an_uplink_that_falls_behind_lags() {
        // A tenth slower than real time.
        let lateness = run(|n| n * 2_000);
        let lag = lateness.lag_us(END);
        assert!((1_300_000..1_500_000).contains(&lag), "{lag}");
        assert!(lateness.jitter_us(END) <= 100_000);
    }

    #[test]
    fn a_clock_that_runs_a_thousandth_fast_does_not_lag() {
        assert!(run(|n| n * 20).lag_us(END) < 20_000);
    }

    #[test]
    fn the_burst_of_the_beginning_is_forgotten() {
        let lateness = run(|n| if n < 100 { 2_000_000 } else { 0 });
        assert_eq!((lateness.jitter_us(END), lateness.lag_us(END)), (0, 0));
    }
}
