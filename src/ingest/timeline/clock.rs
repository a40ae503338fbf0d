//! The publisher's clock: 32-bit stamps of two tracks in, milliseconds since the start of the timeline out, without the jumps.
//!
//! What a jump is taken out with is shared by both tracks, so that they stay together. Each takes it over by itself, at its own first stamp
//! of the new clock: access units of the other track that were sent before the jump and come after it keep their place.

use super::repair::{Repair, Repairs};
use crate::media::Kind;
use crate::media::time::Unwrap32;

/// A step forward of more than this on one track is a jump of the publisher's clock, which viewers must not see. A publisher that was
/// silent for longer would have been closed or has lost its viewers anyway.
const JUMP_FORWARD_MS: i64 = 10_000;
/// The same backward. Decoding times never go back in a sound stream, so what goes back by more than an encoder's disorder is a clock
/// that was set anew; holding pictures at one instant until it catches up would freeze the show.
const JUMP_BACK_MS: i64 = 1_000;
/// Encoders send audio and video interleaved. A track whose first stamp is further than this from the newest of the other runs by another
/// clock, and begins now.
const APART_MS: i64 = 3_000;
/// Steps that no jump of the other track explains better.
const PLAIN_MS: std::ops::RangeInclusive<i64> = -200..=1_000;
/// Assumed between access units before two were seen.
const USUAL_STEP_MS: i64 = 20;

#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// What is added to the stamps of both tracks; `None` before the first.
    rebase: Option<i64>,
    /// Where the timeline was when `rebase` changed.
    jumped_at: i64,
    /// Latest instant given out, milliseconds.
    newest: i64,
    video: Clock,
    audio: Clock,
}

/// One track's view.
#[derive(Debug, Default)]
struct Clock {
    unwrap: Unwrap32,
    /// Added to this track's stamps alone, because its clock was never the other's.
    base: i64,
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    stamp: i64,
    out: i64,
    /// The shared rebase that this track goes by.
    rebase: i64,
    step: i64,
}

impl Clocks {
    /// A stamp of that track without the wrap, each track by its own stamps. The first of the second one lies near the other's.
    pub(super) fn unwrap(&mut self, kind: Kind, stamp: u32) -> i64 {
        let (clock, other) = match kind {
            Kind::Video => (&mut self.video, &self.audio),
            Kind::Audio => (&mut self.audio, &self.video),
        };
        if clock.last.is_none() {
            clock.unwrap = other.unwrap.clone();
        }
        clock.unwrap.unwrap(stamp)
    }

    /// Milliseconds since the start of the timeline.
    pub(super) fn instant(&mut self, kind: Kind, stamp: i64, repairs: &mut Repairs) -> i64 {
        let first = self.rebase.is_none();
        let shared = *self.rebase.get_or_insert(-stamp);
        let clock = match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        let Some(last) = clock.last else {
            let apart = stamp + shared - self.newest;
            if !first && apart.abs() > APART_MS {
                repairs.add(Repair::Apart, apart);
                clock.base = -apart;
            }
            let out = stamp + shared + clock.base;
            clock.last = Some(Last { stamp, out, rebase: shared, step: USUAL_STEP_MS });
            self.newest = self.newest.max(out);
            return out;
        };
        let moved = stamp - last.stamp;
        let plain = PLAIN_MS.contains(&moved);
        let due = last.out + last.step;
        let (own, joint) = (stamp + clock.base + last.rebase, stamp + clock.base + shared);
        let steady = (-JUMP_BACK_MS..=JUMP_FORWARD_MS).contains(&moved);
        let joint_fits = joint >= last.out - JUMP_BACK_MS && (joint - self.newest).abs() <= JUMP_FORWARD_MS;
        let joint_is_nearer = joint_fits && (joint - due).abs() < (own - due).abs();
        let (mut rebase, mut out) = (last.rebase, own);
        if !plain && (joint_is_nearer || !steady) {
            (rebase, out) = (shared, joint);
            if !joint_fits {
                repairs.add(Repair::Jump, moved);
                out = due;
                rebase = due - stamp - clock.base;
                self.rebase = Some(rebase);
                self.jumped_at = self.newest;
            }
        } else if rebase != shared && self.newest - self.jumped_at > JUMP_FORWARD_MS {
            // The other track has jumped alone. From here on this one has a clock of its own.
            clock.base += rebase - shared;
            rebase = shared;
        }
        let step = if plain && moved > 0 { moved } else { last.step };
        // `out` of a track never sinks, so that a slow walk back cannot take the timeline with it.
        clock.last = Some(Last { stamp, out: out.max(last.out), rebase, step });
        self.newest = self.newest.max(out);
        out
    }
}
