//! The handles that publishers hold of a life: one a publisher, and one a track.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::life::Life;
use super::{Stream, WriteError};
use crate::media::{AccessUnit, Kind, RenditionId, Track, WallTime};

/// The publishing end of a stream. Dropping it leaves the stream waiting for another publisher for `resume_window`.
#[derive(Debug)]
pub struct Publisher {
    life: Arc<Life>,
    /// Which publisher of the life this is, counted from 0. Only the newest may write.
    turn: u64,
    /// Tracks added so far, by kind: the second of a kind goes on with the second rendition.
    video: u8,
    audio: u8,
}

impl Publisher {
    pub(super) fn new(life: Arc<Life>, turn: u64) -> Self {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(Arc::clone(&life).attend(turn));
        }
        Self { life, turn, video: 0, audio: 0 }
    }

    /// The viewers' side of it.
    pub fn stream(&self) -> &Arc<Stream> {
        self.life.stream()
    }

    /// Resolves, with the words to say, when the publisher must go. Cancel-safe.
    pub async fn stopped(&self) -> String {
        let mut stop = self.life.stream().stop.subscribe();
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
        let id = self.life.add_track(*place, track)?;
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
    /// Its publisher's.
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
        let stream = self.life.stream();
        if stream.has_ended() {
            return Err(WriteError::Ended);
        }
        stream.last_media.store(now.micros(), Ordering::Relaxed);
        let (id, turn) = (self.id, self.turn);
        let mut displaced = false;
        self.life.change(Some(now), |presentation| {
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
        self.life.change(None, |presentation| presentation.set_track(id, track))
    }
}
