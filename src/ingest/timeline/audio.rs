//! Audio time is counted in samples: a frame begins where the one before ended. RTMP's milliseconds supervise.
//!
//! Their mean distance from the count is what is believed, not the single stamp: rounding and the jitter of capture callbacks average out,
//! and what is left is a sound card that runs at another pace than the publisher's clock. It is followed by frames that last a two
//! hundredth more or less, which nobody hears. Only what falls out of the usual scatter is a gap, or media that came twice.

use super::repair::{Repair, Repairs};
use crate::media::Timescale;

/// A mean distance from which the count is led back to the stamps, and one at which that ends. Sound and picture part visibly from 40 ms on.
const DRIFT_MS: i64 = 12;
const DRIFT_OVER_MS: i64 = 2;
/// The share of a frame by which its duration may change: 5 ms in a second, five times the worst sound card.
const SLEW: i64 = 200;
/// How long the mean looks back.
const MEAN_MS: i64 = 2_500;
/// How long a scatter is remembered.
const SPREAD_MS: i64 = 30_000;
/// Taken for the scatter of an encoder of which little is known, and at most of one gap.
const SPREAD_ASSUMED_MS: i64 = 15;
/// A stamp that is this far off is a gap in any case: encoders that stamp audio when a capture callback brings it are off by up to 43 ms
/// (2,048 samples).
const GAP_MS: i64 = 60;
/// A stamp that is less than this behind is no overlap in any case: being led back is not heard, a frame less is.
const OVERLAP_MS: i64 = 36;
/// Frames before the scatter and the mean mean anything.
const ENOUGH: i64 = 32;
/// Fractions of a sample in `mean` and `spread`.
const FRACTION: i64 = 256;

#[derive(Debug)]
pub(super) struct Audio {
    scale: Timescale,
    frame_samples: i64,
    /// Where the next frame begins, in samples; `None` before the first.
    next: Option<i64>,
    /// Mean distance of the stamps from `next`, in fractions of a sample; over so many frames.
    mean: i64,
    averaged: i64,
    /// Usual distance of a stamp from the mean, in fractions of a sample.
    spread: i64,
    heard: i64,
    /// The count is being led back to the stamps.
    drifting: bool,
}

impl Default for Audio {
    fn default() -> Self {
        let mut audio = Self {
            scale: Timescale::MILLIS,
            frame_samples: 1_024,
            next: None,
            mean: 0,
            averaged: 0,
            spread: 0,
            heard: 0,
            drifting: false,
        };
        audio.forget();
        audio
    }
}

impl Audio {
    pub(super) fn set(&mut self, rate: u32, frame_samples: u32) {
        let Some(scale) = Timescale::new(rate) else { return };
        if let Some(next) = &mut self.next {
            *next = self.scale.rescale(*next, scale);
        }
        self.scale = scale;
        self.frame_samples = i64::from(frame_samples.max(1));
        self.forget();
    }

    /// Where a frame begins whose corrected stamp is `instant_ms`, in samples. `None` where it must be dropped.
    pub(super) fn place(&mut self, instant_ms: i64, repairs: &mut Repairs) -> Option<i64> {
        let stamp = Timescale::MILLIS.rescale(instant_ms, self.scale);
        let Some(next) = self.next else {
            if stamp < 0 {
                repairs.add(Repair::BeforeStart, self.millis(self.frame_samples));
                return None;
            }
            self.next = Some(stamp.saturating_add(self.frame_samples));
            return Some(stamp);
        };
        let off = stamp.saturating_sub(next);
        let deviation = off.saturating_sub(self.mean / FRACTION);
        if deviation > self.gap() {
            repairs.add(Repair::AudioGap, self.millis(off));
            self.widen(deviation.min(self.ticks(SPREAD_ASSUMED_MS)));
            self.settle();
            let begins = stamp.max(next);
            self.next = Some(begins.saturating_add(self.frame_samples));
            return Some(begins);
        }
        if off < -self.overlap() {
            repairs.add(Repair::AudioOverlap, self.millis(self.frame_samples));
            self.settle();
            return None;
        }
        self.widen(deviation.saturating_abs());
        self.average(off);
        self.next = Some(next + self.frame_samples + self.slew(repairs));
        Some(next)
    }

    /// How many samples the frame lasts longer than it should.
    fn slew(&mut self, repairs: &mut Repairs) -> i64 {
        let mean = self.mean / FRACTION;
        if !self.drifting && self.averaged >= ENOUGH && mean.abs() > self.ticks(DRIFT_MS) {
            self.drifting = true;
            repairs.add(Repair::AudioDrift, self.millis(mean.abs()));
        }
        if self.drifting && mean.abs() <= self.ticks(DRIFT_OVER_MS) {
            self.drifting = false;
        }
        if !self.drifting {
            return 0;
        }
        let by = (self.frame_samples / SLEW).max(1) * mean.signum();
        // What the count is moved by, the stamps are nearer to it.
        self.mean -= by * FRACTION;
        by
    }

    fn average(&mut self, off: i64) {
        let long = (self.ticks(MEAN_MS) / self.frame_samples).max(ENOUGH);
        self.averaged = (self.averaged + 1).min(long);
        self.mean += (off * FRACTION - self.mean) / self.averaged;
    }

    /// The scatter falls slowly and rises at once.
    fn widen(&mut self, deviation: i64) {
        self.heard = (self.heard + 1).min(ENOUGH);
        let fall = (self.spread / (self.ticks(SPREAD_MS) / self.frame_samples).max(1)).max(1);
        self.spread = (self.spread - fall).max(deviation.min(self.ticks(GAP_MS)) * FRACTION);
    }

    /// From which deviation on a stamp tells of a gap. One lost frame of a clean stream is one.
    fn gap(&self) -> i64 {
        let most = self.ticks(GAP_MS);
        if self.heard < ENOUGH {
            return most;
        }
        let least = (self.frame_samples * 3 / 4).clamp(self.ticks(15), self.ticks(30));
        (self.ticks(10) + self.spread / FRACTION * 2).clamp(least, most)
    }

    fn overlap(&self) -> i64 {
        (self.ticks(20) + self.spread / FRACTION * 2).clamp(self.ticks(OVERLAP_MS), self.ticks(GAP_MS))
    }

    /// The count stands where the stamps are.
    fn settle(&mut self) {
        (self.mean, self.averaged, self.drifting) = (0, 0, false);
    }

    fn forget(&mut self) {
        self.settle();
        (self.spread, self.heard) = (self.ticks(SPREAD_ASSUMED_MS) * FRACTION, 0);
    }

    fn ticks(&self, millis: i64) -> i64 {
        Timescale::MILLIS.rescale(millis, self.scale)
    }

    fn millis(&self, samples: i64) -> i64 {
        self.scale.rescale(samples, Timescale::MILLIS)
    }
}
