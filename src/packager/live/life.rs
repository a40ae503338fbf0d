//! One epoch of a stream, and the handles that publishers hold of it.
//!
//! Publishers come and go; a life goes on between them for `resume_window`, with gaps in its playlists, and ends when nobody came.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Metrics, Registry, Stream, WriteError, now};
use crate::media::{AccessUnit, Kind, RenditionId, Track, WallTime};
use crate::packager::presentation::{self, Presentation, Sequence};
use crate::packager::saved::State;
use crate::packager::sequence::Reservation;

/// What publishers of one epoch share.
#[derive(Debug)]
pub(super) struct Life {
    registry: Arc<Registry>,
    metrics: Metrics,
    /// Locked by the publisher's own task, and between publishers by the task that waits.
    presentation: Mutex<Presentation>,
    /// `None` while another block is being reserved, and after the end.
    reservation: Mutex<Option<Reservation>>,
    /// The first numbers that are not reserved.
    reserved: Mutex<Sequence>,
    /// When the last publisher went, Unix microseconds. Of no meaning while there is one.
    left: AtomicI64,
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

    fn write(
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
        // Published under the lock, so that windows of a publisher that is being displaced cannot overtake its successor's.
        self.metrics.hits.window_bytes.inc_by(presentation.take_evicted());
        let cut = changes.catalog.is_some();
        let mut fresh = false;
        for window in changes.windows.iter().filter(|window| !window.ended && !window.waiting) {
            fresh = true;
            if let (Some(arrived), Some(ended)) = (arrived, window.edge_date()) {
                self.metrics.part_delay.observe(arrived.micros_since(ended).max(0) as f64 / 1e6);
            }
        }
        self.stream.publish(changes);
        drop(presentation);
        if let Some(arrived) = arrived.filter(|_| fresh) {
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
        let _ = self.write(None, |presentation| {
            presentation.interrupt(now);
            Ok(())
        });
    }

    /// The publisher of `turn` has gone.
    fn leave(self: &Arc<Self>, turn: u64) {
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

    /// Keeps the playlists moving until another publisher comes, and ends the stream where none does within `patience`.
    pub(super) async fn wait(self: Arc<Self>, turn: u64, patience: Duration) {
        // The wall clock may be set while this waits; the gaps must not show it.
        let (since, began) = (now(), Instant::now());
        let wall = || since.plus_micros(i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX));
        loop {
            let left = patience.saturating_sub(began.elapsed());
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
            let _ = self.write(None, |presentation| {
                // Asked under the lock: what has been put down must not change any more.
                if !self.registry.stopping.load(Ordering::Acquire) {
                    due = presentation.pass(wall());
                }
                Ok(())
            });
            let Some(due) = due else { return };
            let pause = Duration::from_micros(u64::try_from(due.micros_since(wall())).unwrap_or(0));
            tokio::time::sleep(pause.clamp(Duration::from_millis(10), Duration::from_secs(2)).min(left)).await;
        }
    }

    /// Nobody has published since `left`.
    pub(super) fn left_at(&self, left: WallTime) {
        self.left.store(left.micros(), Ordering::Release);
    }

    /// Adds the gaps that are due at `now`, and shows viewers what there is.
    pub(super) fn pass(self: &Arc<Self>, now: WallTime) {
        let _ = self.write(None, |presentation| {
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
                let (registry, stream) = (Arc::clone(&self.registry), Arc::clone(&self.stream));
                runtime.spawn(async move {
                    tokio::time::sleep(registry.after_end()).await;
                    registry.remove(&stream);
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

/// The publishing end of a stream. Dropping it leaves the stream waiting for another publisher for `resume_window`.
#[derive(Debug)]
pub struct Publisher {
    life: Arc<Life>,
    turn: u64,
    /// Tracks added so far, by kind: the second of a kind goes on with the second rendition.
    video: u8,
    audio: u8,
}

impl Publisher {
    pub(super) fn new(life: Arc<Life>, turn: u64) -> Self {
        Self { life, turn, video: 0, audio: 0 }
    }

    /// The viewers' side of it.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.life.stream
    }

    /// Resolves, with the words to say, when the publisher must go. Cancel-safe.
    pub async fn stopped(&self) -> String {
        let mut stop = self.life.stream.stop.subscribe();
        let mine = |stop: &Option<(u64, String)>| stop.as_ref().is_some_and(|(turn, _)| *turn >= self.turn);
        match stop.wait_for(mine).await.map(|stop| stop.clone()) {
            Ok(Some((_, words))) => words,
            // The sender lives as long as the stream, which the publisher owns.
            _ => std::future::pending().await,
        }
    }

    /// Adds a track; its rendition appears with its first segment. Where the stream was published before, the rendition of the same kind and
    /// place is gone on with.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn add_track(&mut self, track: Track) -> Result<TrackWriter, WriteError> {
        let place = match track.format.kind() {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        };
        let joined = self.life.presentation.lock().rejoin_track(*place, track);
        let id = joined.inspect_err(|error| self.life.metrics.count(error))?;
        *place = place.saturating_add(1);
        Ok(TrackWriter { id, turn: self.turn, life: Arc::clone(&self.life) })
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.life.leave(self.turn);
    }
}

/// Where one track's access units go.
#[derive(Debug)]
pub struct TrackWriter {
    id: RenditionId,
    turn: u64,
    life: Arc<Life>,
}

impl TrackWriter {
    /// Which rendition the track feeds.
    pub fn id(&self) -> RenditionId {
        self.id
    }

    /// Takes one access unit, which arrived at `now`. Never blocks and never waits for a viewer. `dts` must increase from one to the next;
    /// the ingest timeline sees to that.
    ///
    /// # Errors
    /// [`WriteError`]; the publisher should be told and disconnected.
    pub fn write(&mut self, unit: AccessUnit, now: WallTime) -> Result<(), WriteError> {
        let stream = &self.life.stream;
        if stream.has_ended() {
            return Err(WriteError::Ended);
        }
        stream.last_media.store(now.micros(), Ordering::Relaxed);
        let (id, turn) = (self.id, self.turn);
        let mut displaced = false;
        self.life.write(Some(now), |presentation| {
            // Asked under the lock: a successor counts up before it takes the lock to interrupt us.
            displaced = stream.turn.load(Ordering::Acquire) != turn;
            if displaced { Ok(()) } else { presentation.push(id, unit, now) }
        })?;
        if displaced { Err(WriteError::Ended) } else { Ok(()) }
    }

    /// The format changes with the next access unit: a new init, a discontinuity.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn set_track(&mut self, track: Track) -> Result<(), WriteError> {
        let id = self.id;
        self.life.write(None, |presentation| presentation.set_track(id, track))
    }
}
