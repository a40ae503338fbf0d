//! One epoch of a stream, as those who write to it share it.
//!
//! Publishers come and go; a life goes on between them for `resume_window`, with gaps in its playlists, and ends when nobody came.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Metrics, Registry, Stream, WriteError};
use crate::media::wall_clock::now;
use crate::media::{RenditionId, Track, WallTime};
use crate::packager::Window;
use crate::packager::presentation::{self, Changes, Presentation, Sequence};
use crate::packager::saved::State;
use crate::packager::sequence::Reservation;

/// How often a publisher is looked after during a target duration: a segment that is due is listed within an eighth of one.
const LOOKS: u32 = 8;
/// A publisher of which nothing new is seen so often is silent: a second, with usual settings.
const SILENT_LOOKS: u32 = 2;
/// Media that comes so many times slower than real time is as good as none.
const SLOWEST: u32 = 8;

/// How often a stream that is over looks whether others need its memory.
const FULL_LOOK: Duration = Duration::from_secs(1);

/// What publishers of one epoch share.
#[derive(Debug)]
pub(super) struct Life {
    registry: Arc<Registry>,
    /// The registry's own, at hand for every access unit.
    metrics: Metrics,
    /// Locked by the publisher's own task, and between publishers by the task that waits.
    presentation: Mutex<Presentation>,
    /// `None` while another block is being reserved, and after the end.
    reservation: Mutex<Option<Reservation>>,
    /// The first numbers that are not reserved.
    reserved: Mutex<Sequence>,
    /// When the last publisher went, Unix microseconds. Of no meaning while there is one.
    left: AtomicI64,
    /// What viewers see of it.
    stream: Arc<Stream>,
}

impl Life {
    pub(super) fn new(
        registry: &Arc<Registry>,
        stream: Arc<Stream>,
        presentation: Presentation,
        reservation: Reservation,
    ) -> Arc<Self> {
        Arc::new(Self {
            registry: Arc::clone(registry),
            metrics: registry.metrics.clone(),
            presentation: Mutex::new(presentation),
            reserved: Mutex::new(reservation.end()),
            reservation: Mutex::new(Some(reservation)),
            left: AtomicI64::new(0),
            stream,
        })
    }

    pub(super) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Adds a track, or goes on with the rendition of its kind that has this `place` among them.
    pub(super) fn add_track(&self, place: u8, track: Track) -> Result<RenditionId, WriteError> {
        let joined = self.presentation.lock().rejoin_track(place, track);
        Ok(joined.inspect_err(|error| self.metrics.count(error))?)
    }

    /// Changes the presentation and shows viewers what came of it. `arrived` is when the access unit came that the change takes, where it
    /// takes one.
    ///
    /// # Errors
    /// What `change` says; [`WriteError::TooFast`] where numbers are in use that are not reserved. Viewers have been shown what there is then.
    pub(super) fn change(
        self: &Arc<Self>,
        arrived: Option<WallTime>,
        change: impl FnOnce(&mut Presentation) -> Result<(), presentation::Error>,
    ) -> Result<(), WriteError> {
        let share = self.registry.share();
        let mut presentation = self.presentation.lock();
        presentation.limit_memory(share);
        let result = change(&mut presentation);
        let changes = presentation.take_changes();
        let next = presentation.next_sequence();
        self.metrics.hits.window_bytes.inc_by(presentation.take_evicted());
        let cut = changes.catalog.is_some();
        let grown = arrived.filter(|_| changes.windows.iter().any(|window| brings_media(window)));
        if let Some(arrived) = grown {
            self.measure_delay(&changes, arrived);
        }
        // Published under the lock, so that windows of a publisher that is being displaced cannot overtake its successor's.
        self.stream.publish(changes);
        drop(presentation);
        if let Some(arrived) = grown {
            // By the wall clock, as arrivals are: a step of it can only spoil the parts of that moment.
            self.metrics.part_publish.observe(now().micros_since(arrived).max(0) as f64 / 1e6);
        }
        if let Err(error) = &result {
            self.metrics.count(error);
        }
        if cut {
            self.reserve_ahead(next);
            let reserved = *self.reserved.lock();
            if next.media > reserved.media || next.discontinuity > reserved.discontinuity {
                self.metrics.hits.numbers.inc();
                return Err(WriteError::TooFast);
            }
        }
        Ok(result?)
    }

    /// How long after its own end each new part came to be known.
    fn measure_delay(&self, changes: &Changes, arrived: WallTime) {
        let ends = changes.windows.iter().filter(|window| brings_media(window)).filter_map(|window| window.edge_date());
        for ended in ends {
            self.metrics.part_delay.observe(arrived.micros_since(ended).max(0) as f64 / 1e6);
        }
    }

    /// Reserves the next block of numbers on another thread, long before this one is used up.
    fn reserve_ahead(self: &Arc<Self>, next: Sequence) {
        let mut slot = self.reservation.lock();
        let Some(mut reservation) = slot.take_if(|reservation| reservation.is_low(next)) else { return };
        drop(slot);
        let life = Arc::clone(self);
        let extend = move || {
            if let Err(error) = reservation.extend(next) {
                // Tried again with the next segment; three quarters of the block are used by then, a quarter is left.
                tracing::error!(stream = %life.stream.name(), %error, "sequence numbers cannot be reserved");
            }
            *life.reserved.lock() = reservation.end();
            *life.reservation.lock() = Some(reservation);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(extend)),
            Err(_) => extend(),
        }
    }

    /// Nobody publishes for now: completes what has come.
    pub(super) fn interrupt(self: &Arc<Self>, now: WallTime) {
        // Neither can fail: no media is taken.
        let _ = self.change(None, |presentation| {
            presentation.interrupt(now);
            Ok(())
        });
    }

    /// The publisher of `turn` has gone.
    pub(super) fn leave(self: &Arc<Self>, turn: u64) {
        let mut seat = self.stream.seat.lock();
        if self.stream.turn.load(Ordering::Acquire) != turn {
            return;
        }
        seat.taken = false;
        drop(seat);
        if self.stream.has_ended() {
            return;
        }
        let patience = self.registry.limits.resume_window;
        let runtime = tokio::runtime::Handle::try_current();
        let lived = !self.stream.windows.read().is_empty();
        match runtime {
            Ok(runtime) if !patience.is_zero() && lived => {
                let now = now();
                self.left_at(now);
                self.interrupt(now);
                if !self.registry.stopping.load(Ordering::Acquire) {
                    runtime.spawn(Arc::clone(self).wait(turn, patience));
                }
            }
            _ => self.end(),
        }
    }

    /// Keeps the playlists moving while the publisher of `turn` is there and brings nothing: nobody is told when a network has gone. One whose clock
    /// stands still, or is next to that, brings nothing either, whatever it sends.
    pub(super) async fn attend(self: Arc<Self>, turn: u64) {
        let look = self.registry.config.target_duration / LOOKS;
        let least = i64::try_from((look / SLOWEST).as_micros()).unwrap_or(i64::MAX);
        let mut clock = Steady::now();
        let (mut last, mut silent, mut paused) = (None, 0_u32, false);
        loop {
            tokio::time::sleep(look).await;
            let mine = || self.stream.turn.load(Ordering::Acquire) == turn;
            if !self.stream.seat.lock().taken || !mine() || self.stream.has_ended() {
                return;
            }
            let newest = self.presentation.lock().newest_micros();
            silent = silent.saturating_add(1);
            if newest.is_some_and(|newest| last.is_none_or(|last| newest.saturating_sub(last) >= least)) {
                // Media is dated by a wall clock that may have been set since the last look.
                (silent, clock) = (0, Steady::now());
            }
            last = newest;
            if silent < SILENT_LOOKS && !paused {
                continue;
            }
            let wall = clock.wall();
            // Asked under the lock: what has been put down must not change any more.
            let goes_on = || mine() && !self.registry.stopping.load(Ordering::Acquire);
            let _ = self.change(None, |presentation| {
                // Something may have come meanwhile.
                if silent >= SILENT_LOOKS && goes_on() && presentation.newest_micros() == newest {
                    presentation.pause_where_due(wall);
                }
                Ok(())
            });
            let _ = self.change(None, |presentation| {
                paused = goes_on() && presentation.pass(wall).is_some();
                Ok(())
            });
        }
    }

    /// Keeps the playlists moving until another publisher comes, and ends the stream where none does within `patience`.
    pub(super) async fn wait(self: Arc<Self>, turn: u64, patience: Duration) {
        let clock = Steady::now();
        loop {
            let left = patience.saturating_sub(clock.began.elapsed());
            {
                let seat = self.stream.seat.lock();
                if seat.taken || self.stream.turn.load(Ordering::Acquire) != turn || self.stream.has_ended() {
                    return;
                }
                if left.is_zero() {
                    drop(seat);
                    tracing::info!(stream = %self.stream.name(), "nobody came back to publish: the stream has ended");
                    self.end();
                    return;
                }
            }
            let mut due = None;
            let _ = self.change(None, |presentation| {
                // Asked under the lock: what has been put down must not change any more.
                if !self.registry.stopping.load(Ordering::Acquire) {
                    due = presentation.pass(clock.wall());
                }
                Ok(())
            });
            let Some(due) = due else { return };
            let pause = Duration::from_micros(u64::try_from(due.micros_since(clock.wall())).unwrap_or(0));
            tokio::time::sleep(pause.clamp(Duration::from_millis(10), Duration::from_secs(2)).min(left)).await;
        }
    }

    /// Nobody has published since `left`.
    pub(super) fn left_at(&self, left: WallTime) {
        self.left.store(left.micros(), Ordering::Release);
    }

    /// Adds the gaps that are due at `now`, and shows viewers what there is.
    pub(super) fn pass(self: &Arc<Self>, now: WallTime) {
        let _ = self.change(None, |presentation| {
            presentation.pass(now);
            Ok(())
        });
    }

    /// The server stops: completes what has come, and gives what the next start needs, with the time at which the publisher went and the
    /// first numbers that are free. Whoever still publishes is refused from here on. `None` where there is nothing to go on with.
    pub(super) fn put_down(&self, now: WallTime) -> Option<(WallTime, Sequence, State, Vec<Bytes>)> {
        let mut presentation = self.presentation.lock();
        self.stream.turn.fetch_add(1, Ordering::AcqRel);
        presentation.interrupt(now);
        self.stream.publish(presentation.take_changes());
        let (state, payload) = presentation.save()?;
        let left = if self.stream.seat.lock().taken { now.micros() } else { self.left.load(Ordering::Acquire) };
        Some((WallTime::from_micros(left), presentation.next_sequence(), state, payload))
    }

    /// The stream is over: ENDLIST, whoever waits is released, and after a while it is forgotten.
    pub(super) fn end(self: &Arc<Self>) {
        let lived = {
            let mut presentation = self.presentation.lock();
            presentation.finish(now());
            let changes = presentation.take_changes();
            let next = presentation.next_sequence();
            let lived = !changes.windows.is_empty();
            self.stream.publish(changes);
            drop(presentation);
            self.release(next);
            lived
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if lived => {
                let (registry, stream) = (Arc::clone(&self.registry), Arc::downgrade(&self.stream));
                runtime.spawn(async move {
                    let over = tokio::time::Instant::now() + registry.after_end();
                    // Who watches learns of the end, and loads what is left of it.
                    tokio::time::sleep(registry.config.hold_back().min(registry.after_end())).await;
                    while tokio::time::Instant::now() < over && !registry.is_full() {
                        tokio::time::sleep_until(over.min(tokio::time::Instant::now() + FULL_LOOK)).await;
                    }
                    // It may have given way already.
                    if let Some(stream) = stream.upgrade() {
                        registry.remove(&stream);
                    }
                });
            }
            _ => self.registry.remove(&self.stream),
        }
    }

    /// Gives back the numbers from `next` on.
    pub(super) fn release(&self, next: Sequence) {
        let Some(reservation) = self.reservation.lock().take() else { return };
        let release = move || {
            if let Err(error) = reservation.release(next) {
                tracing::warn!(%error, "sequence numbers cannot be given back; the next life skips some");
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(release)),
            Err(_) => release(),
        }
    }
}

/// The wall clock as it was, and the time since: it may be set while somebody waits, and gaps must not show it.
#[derive(Debug, Clone, Copy)]
struct Steady {
    since: WallTime,
    began: Instant,
}

impl Steady {
    fn now() -> Self {
        Self { since: now(), began: Instant::now() }
    }

    fn wall(self) -> WallTime {
        self.since.plus_micros(i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX))
    }
}

/// Rather than a gap, or the end.
fn brings_media(window: &Window) -> bool {
    !window.ended && !window.waiting
}
