//! Stamps that are no time: some encoders stamp audio by adding up the duration of a frame, cut to whole milliseconds. At 44.1 kHz that
//! is 23 ms instead of 23.22, and within an hour such stamps fall behind the pictures by half a minute.

use super::repair::{Repair, Repairs};

/// Equal steps in a row that a clock which is rounded to milliseconds cannot make: a frame whose duration is off the step by a twentieth
/// of a millisecond gives another step every twenty frames.
const ENOUGH: i64 = 32;
const LEAST_SHARE: i64 = 20;

/// Finds such stamps and says what they lack.
#[derive(Debug, Default)]
pub(super) struct Rounding {
    rate: i64,
    frame_samples: i64,
    last: Option<i64>,
    step: i64,
    run: i64,
    /// What the stamps lack so far, in milliseconds times `rate`.
    lacking: i64,
    known: bool,
}

impl Rounding {
    pub(super) fn set(&mut self, rate: u32, frame_samples: u32) {
        let lacking = self.correction();
        (self.rate, self.frame_samples) = (i64::from(rate), i64::from(frame_samples));
        (self.run, self.lacking) = (0, lacking.saturating_mul(self.rate));
    }

    /// The milliseconds to add to the stamp `stamp_ms` of the next frame.
    pub(super) fn correct(&mut self, stamp_ms: i64, repairs: &mut Repairs) -> i64 {
        if let Some(last) = self.last.replace(stamp_ms) {
            let step = stamp_ms - last;
            // Less than a millisecond each, or it is no rounding.
            let lack = (self.frame_samples * 1_000).saturating_sub(step.saturating_mul(self.rate));
            let rounded = lack.abs() < self.rate && lack.abs() * LEAST_SHARE >= self.rate;
            self.run = match (rounded, step == self.step) {
                (true, true) => self.run + 1,
                (true, false) => 1,
                (false, _) => 0,
            };
            self.step = step;
            if self.run == ENOUGH {
                if !std::mem::replace(&mut self.known, true) {
                    repairs.add(Repair::AudioRounded, 0);
                }
                self.lacking = self.lacking.saturating_add(lack * ENOUGH);
            } else if self.run > ENOUGH {
                self.lacking = self.lacking.saturating_add(lack);
            }
        }
        self.correction()
    }

    fn correction(&self) -> i64 {
        if self.rate == 0 { 0 } else { (self.lacking + self.rate / 2).div_euclid(self.rate) }
    }
}
