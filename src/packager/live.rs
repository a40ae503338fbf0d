//! The live registry: publishers write here, viewers look and wait here. The tokio shell of the packager.
//!
//! A publisher's access unit goes through [`Presentation`] in the publisher's own task, behind a mutex that nobody else contends for, and
//! comes out as a new [`Window`] in a watch cell. Viewers never talk to the publisher: they look at the newest window, or wait on the cell.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::{Catalog, Window};
use crate::media::{AccessUnit, Epoch, RenditionId, StreamName, Track, WallTime};

/// Who brings a stream.
#[derive(Debug, Clone)]
pub struct PublisherInfo {
    /// `rtmp`, `srt`, …
    pub protocol: &'static str,
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// When publishing was accepted.
    pub since: WallTime,
}

/// Why a stream cannot be published now.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Somebody else publishes it.
    #[error("{name} is being published already, by {by} since {since}")]
    AlreadyLive {
        /// The stream.
        name: StreamName,
        /// The peer that has it.
        by: SocketAddr,
        /// Since when, RFC 3339.
        since: String,
    },
    /// The server's limit on streams is reached.
    #[error("this server carries {0} streams already, its limit")]
    TooManyStreams(usize),
    /// Sequence numbers could not be reserved.
    #[error("the data directory cannot be written: {0}")]
    Storage(#[from] std::io::Error),
}

/// All streams of this node.
#[derive(Debug)]
pub struct Registry {
    streams: RwLock<HashMap<StreamName, Arc<Stream>>>,
}

/// One live stream (or one that has ended a short while ago), as viewers see it.
#[derive(Debug)]
pub struct Stream {
    name: StreamName,
    epoch: Epoch,
    publisher: PublisherInfo,
    catalog: watch::Receiver<Arc<Catalog>>,
    windows: RwLock<BTreeMap<RenditionId, watch::Receiver<Arc<Window>>>>,
}

impl Stream {
    /// APP/NAME.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// The life that this is; it never changes, a new life is a new `Stream`.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Who brings it.
    pub fn publisher(&self) -> &PublisherInfo {
        &self.publisher
    }

    /// Watches renditions, rates, periods and the end.
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.clone()
    }

    /// Watches one rendition. `None` where there is no such rendition (yet).
    pub fn window(&self, id: RenditionId) -> Option<watch::Receiver<Arc<Window>>> {
        self.windows.read().get(&id).cloned()
    }

    /// The newest window of every rendition, video first.
    pub fn windows(&self) -> Vec<Arc<Window>> {
        self.windows.read().values().map(|cell| cell.borrow().clone()).collect()
    }
}

impl Registry {
    /// The stream of that name, live or ended a short while ago.
    pub fn stream(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.streams.read().get(name).cloned()
    }

    /// All of them, by name.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        let mut all: Vec<_> = self.streams.read().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// The publishing end of a stream. Dropping it ends the stream: ENDLIST, and whoever waits is released.
#[derive(Debug)]
pub struct Publisher {
    stream: Arc<Stream>,
}

/// Why a track or an access unit is refused; the text is shown to the publisher.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The stream was ended from our side.
    #[error("the stream was ended by the server")]
    Ended,
    /// More tracks than a presentation may have.
    #[error("a stream may have {0} tracks of a kind")]
    TooManyTracks(u8),
    /// `packager.require_keyframes`.
    #[error("key frames must come at least every {0} s; set the encoder's key frame interval to 2 s")]
    KeyFramesTooFar(u64),
}

/// Where one track's access units go.
#[derive(Debug)]
pub struct TrackWriter {
    id: RenditionId,
}

impl Registry {
    /// Starts a life of `name`: reserves its sequence numbers (which touches the disk) and lists it once a track has media.
    ///
    /// # Errors
    /// [`PublishError`]; nothing is left behind then. Cancel-safe.
    pub async fn publish(
        self: &Arc<Self>,
        name: StreamName,
        publisher: PublisherInfo,
    ) -> Result<Publisher, PublishError> {
        unimplemented!("{name} {publisher:?}")
    }
}

impl Publisher {
    /// The viewers' side of it.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Adds a track; its rendition appears with its first segment.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn add_track(&mut self, track: Track) -> Result<TrackWriter, WriteError> {
        unimplemented!("{track:?}")
    }
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
        unimplemented!("{unit:?} {now:?}")
    }

    /// The format changes with the next access unit: a new init, a discontinuity.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn set_track(&mut self, track: Track) -> Result<(), WriteError> {
        unimplemented!("{track:?}")
    }
}

#[cfg(test)]
mod testing;
