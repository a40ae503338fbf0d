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
/// A track that stood still, while the other went on, catches up within this much of the other's time, or does not: what was held up on the way comes as
/// fast as the line takes it.
const CATCH_UP_MS: i64 = 1_000;
/// Steps that no jump of the other track explains better.
const PLAIN_MS: std::ops::RangeInclusive<i64> = -200..=1_000;
/// How far from where a track stands a clock may come back: where it stands is guessed by a step, and a picture may last a second.
const RETURN_MS: std::ops::RangeInclusive<i64> = -1_200..=2_200;
/// Stamps of two tracks that are this near are of one clock.
const TOGETHER_MS: i64 = 500;
/// Assumed between access units before two were seen.
const USUAL_STEP_MS: i64 = 20;

#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// What is added to the stamps of both tracks; `None` before the first.
    rebase: Option<i64>,
    /// Those before, newest first: a clock that comes back is known again.
    before: [i64; 8],
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
    /// Added to this track's stamps alone, because its clock was never the other's, or is no more.
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
    /// The stamp before the last step that was no plain one and was taken as it came.
    returns_to: Option<i64>,
    /// Where the timeline was when this track was found too far behind the other; `None` while it is not.
    behind_since: Option<i64>,
}

impl Clock {
    /// Where the track's first stamp lies. `newest` is where the timeline is; `None` where this stamp begins it.
    fn begin(&mut self, stamp: i64, shared: i64, newest: Option<i64>, repairs: &mut Repairs) -> i64 {
        let apart = newest.map_or(0, |newest| stamp + shared - newest);
        if apart.abs() > APART_MS {
            repairs.add(Repair::Apart, apart);
            self.base = -apart;
        }
        let out = stamp + shared + self.base;
        self.last =
            Some(Last { stamp, out, rebase: shared, step: USUAL_STEP_MS, returns_to: None, behind_since: None });
        out
    }

    /// Puts a track that would lie at `out` to `newest`, where the timeline is, when it has been too far behind for too long. Gives where it lies
    /// then, and since when it is behind.
    fn keep_up(
        &mut self,
        out: i64,
        newest: i64,
        behind_since: Option<i64>,
        repairs: &mut Repairs,
    ) -> (i64, Option<i64>) {
        if out >= newest - APART_MS {
            return (out, None);
        }
        let since = behind_since.unwrap_or(newest);
        if newest - since < CATCH_UP_MS {
            return (out, Some(since));
        }
        let behind = newest - out;
        repairs.add(Repair::Apart, behind);
        self.base += behind;
        (newest, None)
    }
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
        if first {
            self.before = [shared; 8];
        }
        let (clock, other) = match kind {
            Kind::Video => (&mut self.video, self.audio.last.map(|last| (last, self.audio.base))),
            Kind::Audio => (&mut self.audio, self.video.last.map(|last| (last, self.video.base))),
        };
        let Some(last) = clock.last else {
            let out = clock.begin(stamp, shared, (!first).then_some(self.newest), repairs);
            self.newest = self.newest.max(out);
            return out;
        };
        let moved = stamp - last.stamp;
        let plain = PLAIN_MS.contains(&moved);
        let due = last.out + last.step;
        let at = |rebase: i64| stamp + clock.base + rebase;
        let own = at(last.rebase);
        let mut returns_to = last.returns_to;
        let (mut rebase, mut out) = (last.rebase, own);
        if plain {
            if rebase != shared && self.newest - self.jumped_at > JUMP_FORWARD_MS {
                // The other track has jumped alone. From here on this one has a clock of its own.
                clock.base += rebase - shared;
                rebase = shared;
            }
        } else {
            let steady = (-JUMP_BACK_MS..=JUMP_FORWARD_MS).contains(&moved);
            // A single stamp that was far off is no new clock: what follows it goes on exactly where it was.
            let returned = last.returns_to.is_some_and(|before| PLAIN_MS.contains(&(stamp - before)));
            let known = self.before.iter().copied().find(|before| RETURN_MS.contains(&(at(*before) - last.out)));
            let joint_fits =
                at(shared) >= last.out - JUMP_BACK_MS && (at(shared) - self.newest).abs() <= JUMP_FORWARD_MS;
            let joint_is_nearer = joint_fits && (at(shared) - due).abs() < (own - due).abs();
            // The other track is on this clock already, and took the step for no jump.
            let together = other.is_some_and(|(other, base)| {
                other.rebase == last.rebase && (stamp + clock.base - other.stamp - base).abs() <= TOGETHER_MS
            });
            if joint_is_nearer {
                (rebase, out) = (shared, at(shared));
            } else if let Some(before) = known {
                repairs.add(Repair::Jump, moved);
                (rebase, out) = (before, at(before));
                // They change places: this one must not be forgotten either.
                self.before.iter_mut().filter(|known| **known == before).for_each(|known| *known = shared);
                self.rebase = Some(before);
                self.jumped_at = self.newest;
            } else if !(steady || returned || together) && joint_fits {
                (rebase, out) = (shared, at(shared));
            } else if !(steady || returned || together) {
                repairs.add(Repair::Jump, moved);
                self.before.rotate_right(1);
                if let Some(newest) = self.before.first_mut() {
                    *newest = shared;
                }
                (rebase, out) = (due - stamp - clock.base, due);
                self.rebase = Some(rebase);
                self.jumped_at = self.newest;
            }
        }
        let mut behind_since = None;
        if plain {
            (out, behind_since) = clock.keep_up(out, self.newest, last.behind_since, repairs);
        } else {
            // A step that was taken as it came, without another rebase, may turn out to have been a single wild stamp.
            returns_to = Some(last.stamp).filter(|_| rebase == last.rebase);
        }
        let step = if plain && moved > 0 { moved } else { last.step };
        // `out` of a track never sinks, so that a slow walk back cannot take the timeline with it.
        clock.last = Some(Last { stamp, out: out.max(last.out), rebase, step, returns_to, behind_since });
        self.newest = self.newest.max(out);
        out
    }
}
