//! The timeline: a publisher's timestamps in, access unit times out that never go back and lie on the grid of the picture rate.
//!
//! ```text
//!   32-bit milliseconds ──► unwrap ──► rebase jumps ──► video: picture rate grid, 90 kHz
//!                         (one clock)  (one offset)  └─► audio: counted in samples
//! ```
//!
//! The zero is the first timestamp of either track. Sans-IO; one per publisher.

mod audio;
mod grid;
mod repair;
mod video;

pub use repair::{Repair, Repairs};

use self::audio::Audio;
use self::video::Video;
use crate::media::Kind;
use crate::media::time::Unwrap32;

/// A step forward of more than this on one track is a jump of the publisher's clock, which viewers must not see. A publisher that was
/// silent for longer would have been closed or has lost its viewers anyway.
const JUMP_FORWARD_MS: i64 = 10_000;
/// The same backward. Decoding times never go back in a sound stream, so what goes back by more than an encoder's disorder is a clock
/// that was set anew; holding pictures at one instant until it catches up would freeze the show.
const JUMP_BACK_MS: i64 = 1_000;
/// Assumed between access units before two were seen.
const USUAL_STEP_MS: i64 = 20;

/// Repairs one publisher's timestamps.
#[derive(Debug, Default)]
pub struct Timeline {
    clock: Unwrap32,
    /// What the last rebase adds to unwrapped timestamps; `None` before the first.
    offset: Option<i64>,
    /// Latest instant given out, milliseconds.
    newest: i64,
    video_clock: Clock,
    audio_clock: Clock,
    video: Video,
    audio: Audio,
    repairs: Repairs,
}

/// One track's view of the shared clock. After a jump it takes over the shared offset by itself, so that access units of the other
/// track that were sent before the jump and come after it keep their place.
#[derive(Debug, Default)]
struct Clock {
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    stamp: i64,
    out: i64,
    offset: i64,
    step: i64,
}

impl Timeline {
    /// The picture rate as the codec configuration or the metadata says. Timestamps that do not fit it are believed more.
    pub fn declare_rate(&mut self, pictures: u32, seconds: u32) {
        self.video.declare(pictures, seconds);
    }

    /// The audio track's clock: `rate` in Hz, `frame_samples` at that rate. Time goes on where it was when they change.
    pub fn set_audio(&mut self, rate: u32, frame_samples: u32) {
        self.audio.set(rate, frame_samples);
    }

    /// A picture of `stamp` (RTMP milliseconds, wrapping), presented `composition_ms` later: `(dts, pts)` in 90 kHz ticks. `dts` is
    /// greater than the one before, `pts` not less than `dts`.
    pub fn picture(&mut self, stamp: u32, composition_ms: i32) -> (i64, i64) {
        let instant = self.instant(Kind::Video, stamp);
        self.video.place(instant, composition_ms, &mut self.repairs)
    }

    /// An audio frame of `stamp`: its time in samples, greater than the one before by at least a frame. `None` when the frame must be
    /// dropped because what it covers is covered already.
    pub fn audio(&mut self, stamp: u32) -> Option<i64> {
        let instant = self.instant(Kind::Audio, stamp);
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
        self.repairs.add(kind);
    }

    /// Milliseconds since the start of the timeline.
    fn instant(&mut self, kind: Kind, stamp: u32) -> i64 {
        let stamp = self.clock.unwrap(stamp);
        let shared = *self.offset.get_or_insert(-stamp);
        let clock = match kind {
            Kind::Video => &mut self.video_clock,
            Kind::Audio => &mut self.audio_clock,
        };
        let last = clock.last.unwrap_or(Last { stamp, out: stamp + shared, offset: shared, step: USUAL_STEP_MS });
        let moved = stamp - last.stamp;
        let steady = clock.last.is_some() && (-JUMP_BACK_MS..=JUMP_FORWARD_MS).contains(&moved);
        let fits_shared = {
            let out = stamp + shared;
            out >= last.out - JUMP_BACK_MS && (out - self.newest).abs() <= JUMP_FORWARD_MS
        };
        let offset = if steady {
            last.offset
        } else if fits_shared {
            shared
        } else {
            self.repairs.add(Repair::Jump);
            let out = if clock.last.is_some() { last.out + last.step } else { self.newest };
            self.offset = Some(out - stamp);
            out - stamp
        };
        let out = stamp + offset;
        let step = if steady && moved > 0 { moved.min(1_000) } else { last.step };
        // `out` of a track never sinks, so that a slow walk back cannot take the timeline with it.
        clock.last = Some(Last { stamp, out: out.max(last.out), offset, step });
        self.newest = self.newest.max(out);
        out
    }
}

#[cfg(test)]
mod tests;
