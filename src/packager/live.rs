//! The live registry: publishers write here, viewers look and wait here. The tokio shell of the packager.
//!
//! A publisher's access unit goes through [`Presentation`] in the publisher's own task, behind a mutex that nobody else contends for, and
//! comes out as a new [`Window`] in a watch cell. Viewers never talk to the publisher: they look at the newest window, or wait on the cell.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};
use prometheus::{Histogram, HistogramOpts, IntGauge};
use tokio::sync::watch;

use super::presentation::{self, Changes};
use super::sequence::{Reservation, Sequences};
use super::{Catalog, Config, Presentation, Window};
use crate::media::{AccessUnit, Epoch, RenditionId, StreamName, Track, WallTime};

/// How long an ended stream can still be watched to its end, at least; two windows where that is longer.
const AFTER_END: std::time::Duration = std::time::Duration::from_secs(60);

/// Who brings a stream.
#[derive(Debug, Clone)]
pub struct PublisherInfo {
    /// `rtmp`, `srt`, …
    pub protocol: &'static str,
    /// Where the connection comes from.
    pub peer: SocketAddr,
    /// When publishing was accepted.
    pub since: WallTime,
    /// By what the publisher is known again; names a credential, never holds one.
    pub holder: String,
}

/// When a publisher takes a stream over from a running publisher with the same holder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Takeover {
    /// When the running one has brought no media for two seconds: its connection is half dead.
    #[default]
    WhenSilent,
    /// At once.
    Always,
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
    /// Sequence numbers could not be reserved. The cause names files, which is for the log and not for the publisher.
    #[error("the server cannot store sequence numbers; its log says why")]
    Storage(#[from] std::io::Error),
}

/// Why a track or an access unit is refused; the text is shown to the publisher.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The publisher's media cannot be packaged.
    #[error(transparent)]
    Media(#[from] presentation::Error),
    /// The stream was ended from our side.
    #[error("the stream was ended by the server")]
    Ended,
}

/// What the packager measures of itself.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// From the wall-clock time at which a part's last sample ends to the arrival of the access unit that completed it, seconds: the network's
    /// delay over the quickest access unit, and the one access unit that is held back.
    part_delay: Histogram,
    /// Media kept for viewers, of all streams.
    media_bytes: IntGauge,
}

impl Metrics {
    /// Makes and registers them.
    ///
    /// # Errors
    /// When the name is registered already.
    pub fn register(registry: &prometheus::Registry) -> prometheus::Result<Self> {
        let buckets = vec![0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
        let opts =
            HistogramOpts::new("rillcast_part_delay_seconds", "Delay of a part over its own end.").buckets(buckets);
        let part_delay = Histogram::with_opts(opts)?;
        registry.register(Box::new(part_delay.clone()))?;
        let media_bytes = IntGauge::new("rillcast_media_bytes", "Bytes of media kept in memory for viewers.")?;
        registry.register(Box::new(media_bytes.clone()))?;
        Ok(Self { part_delay, media_bytes })
    }

    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self::register(&prometheus::Registry::new()).expect("a new registry knows no name")
    }
}

/// All streams of this node.
#[derive(Debug)]
pub struct Registry {
    config: Arc<Config>,
    sequences: Sequences,
    max_streams: usize,
    metrics: Metrics,
    streams: RwLock<HashMap<StreamName, Arc<Stream>>>,
}

/// One live stream (or one that has ended a short while ago), as viewers see it.
#[derive(Debug)]
pub struct Stream {
    name: StreamName,
    epoch: Epoch,
    publisher: PublisherInfo,
    /// Why the publisher must go, once it must.
    stop: watch::Sender<Option<String>>,
    catalog: watch::Sender<Arc<Catalog>>,
    windows: RwLock<BTreeMap<RenditionId, watch::Sender<Arc<Window>>>>,
    kept: Kept,
}

/// One stream's share of `rillcast_media_bytes`, given back with the stream.
#[derive(Debug)]
struct Kept {
    gauge: IntGauge,
    bytes: AtomicI64,
}

impl Kept {
    fn set(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.gauge.add(bytes - self.bytes.swap(bytes, Relaxed));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.gauge.sub(*self.bytes.get_mut());
    }
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

    /// Sends the publisher away; it is told `words`.
    pub fn stop(&self, words: impl Into<String>) {
        self.stop.send_replace(Some(words.into()));
    }

    /// Watches renditions, rates, periods and the end.
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.subscribe()
    }

    /// Nobody publishes it any more.
    pub fn has_ended(&self) -> bool {
        self.catalog.borrow().ended
    }

    /// Watches one rendition. `None` where there is no such rendition (yet).
    pub fn window(&self, id: RenditionId) -> Option<watch::Receiver<Arc<Window>>> {
        self.windows.read().get(&id).map(watch::Sender::subscribe)
    }

    /// The newest window of every rendition, video first.
    pub fn windows(&self) -> Vec<Arc<Window>> {
        self.windows.read().values().map(|cell| cell.borrow().clone()).collect()
    }

    fn publish(&self, changes: Changes) {
        if !changes.windows.is_empty() {
            self.kept.set(changes.bytes);
        }
        // What is announced must be known before it can be asked for.
        if let Some(catalog) = changes.catalog {
            self.catalog.send_replace(catalog);
        }
        for window in changes.windows {
            let id = window.rendition.id;
            if let Some(cell) = self.windows.read().get(&id) {
                cell.send_replace(window);
                continue;
            }
            self.windows.write().insert(id, watch::Sender::new(window));
        }
    }
}

impl Registry {
    /// An empty registry. Sequence numbers are reserved below `sequences`.
    pub fn new(config: Arc<Config>, sequences: Sequences, max_streams: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { config, sequences, max_streams, metrics, streams: RwLock::default() })
    }

    /// The rules that streams are packaged by.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

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

    /// Starts a life of `name`, at `publisher.since`: reserves its sequence numbers (which touches the disk) and lists it.
    ///
    /// # Errors
    /// [`PublishError`]; nothing is left behind then. Cancel-safe: the name is free again when the future is dropped.
    pub async fn publish(
        self: &Arc<Self>,
        name: StreamName,
        publisher: PublisherInfo,
    ) -> Result<Publisher, PublishError> {
        let epoch = Epoch::starting(publisher.since);
        // Lives that begin within one millisecond must not share URLs, which are cached for ever.
        let epoch = match self.stream(&name).map(|before| before.epoch) {
            Some(before) if (epoch.millis()..epoch.millis() + 1_000).contains(&before.millis()) => before.next(),
            _ => epoch,
        };
        let mut presentation = Presentation::new(Arc::clone(&self.config), epoch, presentation::Sequence::default());
        let empty = presentation.catalog_now();
        let stream = Arc::new(Stream {
            name: name.clone(),
            epoch,
            publisher,
            stop: watch::Sender::new(None),
            catalog: watch::Sender::new(empty),
            windows: RwLock::default(),
            kept: Kept { gauge: self.metrics.media_bytes.clone(), bytes: AtomicI64::new(0) },
        });
        // Listed before the disk is touched, so that two publishers of one name cannot both get it.
        let listing = Listing::new(self, Arc::clone(&stream))?;
        let (sequences, key) = (self.sequences.clone(), name);
        let reserved = tokio::task::spawn_blocking(move || sequences.reserve(&key)).await;
        let (first, reservation) = reserved.map_err(std::io::Error::other)??;
        let presentation = Presentation::new(Arc::clone(&self.config), epoch, first);
        let metrics = self.metrics.clone();
        let shared = Shared {
            metrics,
            presentation: Mutex::new(presentation),
            reservation: Mutex::new(Some(reservation)),
            stream,
        };
        Ok(Publisher { shared: Arc::new(shared), listing })
    }
}

/// A name's place in the registry: taken by [`Registry::publish`], given back when the publisher is dropped.
#[derive(Debug)]
struct Listing {
    registry: Arc<Registry>,
    stream: Arc<Stream>,
    /// It went live; viewers may still watch its end.
    lived: bool,
}

impl Listing {
    fn new(registry: &Arc<Registry>, stream: Arc<Stream>) -> Result<Self, PublishError> {
        let mut streams = registry.streams.write();
        if let Some(other) = streams.get(&stream.name).filter(|other| !other.has_ended()) {
            return Err(PublishError::AlreadyLive {
                name: other.name.clone(),
                by: other.publisher.peer,
                since: other.publisher.since.rfc3339(),
            });
        }
        if streams.len() >= registry.max_streams && !streams.contains_key(&stream.name) {
            return Err(PublishError::TooManyStreams(registry.max_streams));
        }
        streams.insert(stream.name.clone(), Arc::clone(&stream));
        Ok(Self { registry: Arc::clone(registry), stream, lived: false })
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        let (registry, stream) = (Arc::clone(&self.registry), Arc::clone(&self.stream));
        let remove = move || {
            let mut streams = registry.streams.write();
            if streams.get(&stream.name).is_some_and(|listed| Arc::ptr_eq(listed, &stream)) {
                streams.remove(&stream.name);
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if self.lived => {
                let patience = AFTER_END.max(self.registry.config.listed() * 2);
                runtime.spawn(async move {
                    tokio::time::sleep(patience).await;
                    remove();
                });
            }
            _ => remove(),
        }
    }
}

/// What a publisher and its track writers share.
#[derive(Debug)]
struct Shared {
    metrics: Metrics,
    /// Locked by the publisher's own task alone.
    presentation: Mutex<Presentation>,
    /// `None` while another block is being reserved, and after the end.
    reservation: Mutex<Option<Reservation>>,
    stream: Arc<Stream>,
}

impl Shared {
    fn write(
        self: &Arc<Self>,
        now: Option<WallTime>,
        change: impl FnOnce(&mut Presentation) -> Result<(), presentation::Error>,
    ) -> Result<(), WriteError> {
        let mut presentation = self.presentation.lock();
        let result = change(&mut presentation);
        let changes = presentation.take_changes();
        let next = presentation.next_sequence();
        drop(presentation);
        let cut = changes.catalog.is_some();
        for window in changes.windows.iter().filter(|window| !window.ended) {
            if let (Some(now), Some(ended)) = (now, window.edge_date()) {
                self.metrics.part_delay.observe(now.micros_since(ended).max(0) as f64 / 1e6);
            }
        }
        self.stream.publish(changes);
        if cut {
            self.reserve_ahead(next);
        }
        Ok(result?)
    }

    /// Reserves the next block of numbers on another thread, long before this one is used up.
    fn reserve_ahead(self: &Arc<Self>, next: presentation::Sequence) {
        let mut slot = self.reservation.lock();
        let Some(mut reservation) = slot.take_if(|reservation| reservation.is_low(next)) else { return };
        drop(slot);
        let shared = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = reservation.extend(next) {
                // Tried again with the next segment; three quarters of the block are used by then, a quarter is left.
                tracing::error!(stream = %shared.stream.name, %error, "sequence numbers cannot be reserved");
            }
            *shared.reservation.lock() = Some(reservation);
        });
    }
}

/// The publishing end of a stream. Dropping it ends the stream: ENDLIST, and whoever waits is released.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    listing: Listing,
}

impl Publisher {
    /// The viewers' side of it.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.shared.stream
    }

    /// Resolves, with the words to say, when the publisher must go. Cancel-safe.
    pub async fn stopped(&self) -> String {
        let mut stop = self.shared.stream.stop.subscribe();
        match stop.wait_for(Option::is_some).await.map(|words| words.clone()) {
            Ok(Some(words)) => words,
            // The sender lives as long as the stream, which the publisher owns.
            _ => std::future::pending().await,
        }
    }

    /// Adds a track; its rendition appears with its first segment.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn add_track(&mut self, track: Track) -> Result<TrackWriter, WriteError> {
        let id = self.shared.presentation.lock().add_track(track)?;
        Ok(TrackWriter { id, shared: Arc::clone(&self.shared) })
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let now = now();
        let mut presentation = self.shared.presentation.lock();
        presentation.finish(now);
        let changes = presentation.take_changes();
        let next = presentation.next_sequence();
        drop(presentation);
        self.listing.lived = !changes.windows.is_empty();
        self.shared.stream.publish(changes);
        let Some(reservation) = self.shared.reservation.lock().take() else { return };
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

/// Where one track's access units go.
#[derive(Debug)]
pub struct TrackWriter {
    id: RenditionId,
    shared: Arc<Shared>,
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
        if self.shared.stream.has_ended() {
            return Err(WriteError::Ended);
        }
        let id = self.id;
        self.shared.write(Some(now), |presentation| presentation.push(id, unit, now))
    }

    /// The format changes with the next access unit: a new init, a discontinuity.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn set_track(&mut self, track: Track) -> Result<(), WriteError> {
        let id = self.id;
        self.shared.write(None, |presentation| presentation.set_track(id, track))
    }
}

/// The wall clock, for the places where nothing arrives that brings its time: the end of a stream, the making of a key.
pub(crate) fn now() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Kind;
    use crate::packager::test_fixtures::init;

    #[tokio::test]
    async fn lives_of_one_millisecond_have_epochs_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(Arc::default(), Sequences::new(folder.path()), 4, Metrics::for_test());
        let since = WallTime::from_micros(1_700_000_000_000_000);
        let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
        let mut epochs = Vec::new();
        for _ in 0..3 {
            let info = PublisherInfo { protocol: "rtmp", peer, since, holder: "test".into() };
            let mut publisher = registry.publish("live/me".parse().unwrap(), info).await.unwrap();
            let track = init(Kind::Audio, 0).track.clone();
            let samples = i64::from(track.timescale.hz()) / 50;
            let mut writer = publisher.add_track(track).unwrap();
            for number in 0..200 {
                let (dts, data) = (number * samples, [0; 4][..].into());
                writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, since).unwrap();
            }
            epochs.push(publisher.stream().epoch());
        }
        let since = Epoch::starting(since);
        assert_eq!(epochs, [since, since.next(), since.next().next()]);
    }
}
