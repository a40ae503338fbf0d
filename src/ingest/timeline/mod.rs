//! The timeline: a publisher's timestamps in, access unit times out that never go back and lie on the grid of the picture rate.
//!
//! ```text
//!   32-bit milliseconds ──► unwrap ──► clock: jumps taken out ──► video: picture rate grid, 90 kHz
//!                            │ audio: rounding taken out       └─► audio: counted in samples, led by the stamps
//! ```
//!
//! The zero is the first timestamp of either track. Sans-IO; one per publisher.

mod audio;
mod clock;
mod grid;
mod repair;
mod rounding;
mod video;

pub use repair::{Repair, Repairs};

use self::audio::Audio;
use self::clock::Clocks;
use self::rounding::Rounding;
use self::video::Video;
use crate::media::Kind;

/// Repairs one publisher's timestamps.
#[derive(Debug, Default)]
pub struct Timeline {
    clocks: Clocks,
    rounding: Rounding,
    video: Video,
    audio: Audio,
    repairs: Repairs,
}

impl Timeline {
    /// The picture rate as the codec configuration or the metadata says. Timestamps that do not fit it are believed more.
    pub fn declare_rate(&mut self, pictures: u32, seconds: u32) {
        self.video.declare(pictures, seconds);
    }

    /// The audio track's clock: `rate` in Hz, `frame_samples` at that rate. Time goes on where it was when they change.
    pub fn set_audio(&mut self, rate: u32, frame_samples: u32) {
        self.audio.set(rate, frame_samples);
        self.rounding.set(rate, frame_samples);
    }

    /// A picture of `stamp` (RTMP milliseconds, wrapping), presented `composition_ms` later: `(dts, pts)` in 90 kHz ticks. `dts` is
    /// greater than the one before, `pts` not less than `dts`.
    pub fn picture(&mut self, stamp: u32, composition_ms: i32) -> (i64, i64) {
        let stamp = self.clocks.unwrap(Kind::Video, stamp);
        let instant = self.clocks.instant(Kind::Video, stamp, &mut self.repairs);
        self.video.place(instant, composition_ms, &mut self.repairs)
    }

    /// An audio frame of `stamp`: its time in samples, greater than the one before by a frame, give or take a two hundredth, or by more
    /// where there is a gap. `None` when the frame must be dropped because what it covers is covered already.
    pub fn audio(&mut self, stamp: u32) -> Option<i64> {
        let stamp = self.clocks.unwrap(Kind::Audio, stamp);
        let stamp = stamp.saturating_add(self.rounding.correct(stamp, &mut self.repairs));
        let instant = self.clocks.instant(Kind::Audio, stamp, &mut self.repairs);
        self.audio.place(instant, &mut self.repairs)
    }

    /// What was repaired since this was called last.
    pub fn take_repairs(&mut self) -> Repairs {
        std::mem::take(&mut self.repairs)
    }

    /// Takes back counts that were not reported yet.
    pub fn restore(&mut self, repairs: Repairs) {
        self.repairs = repairs;
    }

    /// Counts a repair made by whoever reads the protocol.
    pub fn count(&mut self, kind: Repair) {
        self.repairs.add(kind, 0);
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
