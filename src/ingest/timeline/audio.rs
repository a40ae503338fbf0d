//! Audio time is counted in samples: a frame begins where the one before ended, and RTMP's milliseconds only supervise.

use super::repair::{Repair, Repairs};
use crate::media::Timescale;

/// How far counting may be off the timestamps. Below it lies the rounding to milliseconds and the jitter of encoders that stamp audio with
/// the time of a capture callback (up to 43 ms with 2,048 samples); above it lips and sound part.
const TOLERANCE_MS: i64 = 60;

#[derive(Debug)]
pub(super) struct Audio {
    scale: Timescale,
    frame_samples: i64,
    /// Where the next frame begins, in samples; `None` before the first.
    next: Option<i64>,
}

impl Default for Audio {
    fn default() -> Self {
        Self { scale: Timescale::MILLIS, frame_samples: 1_024, next: None }
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
    }

    pub(super) fn place(&mut self, instant_ms: i64, repairs: &mut Repairs) -> Option<i64> {
        let stamp = Timescale::MILLIS.rescale(instant_ms, self.scale);
        let tolerance = Timescale::MILLIS.rescale(TOLERANCE_MS, self.scale);
        let dts = match self.next {
            None if stamp < 0 => {
                repairs.add(Repair::BeforeStart);
                return None;
            }
            None => stamp,
            Some(next) if stamp > next + tolerance => {
                repairs.add(Repair::AudioGap);
                stamp
            }
            Some(next) if stamp < next - tolerance => {
                repairs.add(Repair::AudioOverlap);
                return None;
            }
            Some(next) => next,
        };
        self.next = Some(dts + self.frame_samples);
        Some(dts)
    }
}
