//! The live registry: publishers write here, viewers look and wait here. The tokio shell of the packager.
//!
//! ```text
//!   Registry::publish ──► Publisher ──► Life (one epoch) ──► Stream ──► viewers
//!                            │ dropped     │ waits for a publisher, with gaps, for resume_window
//!                            └─────────────┴──► ENDLIST
//! ```
//!
//! A publisher's access unit goes through [`Presentation`] in the publisher's own task, behind a mutex that nobody else contends for, and
//! comes out as a new [`Window`](super::Window) in a watch cell. Viewers never talk to the publisher: they look at the newest window, or wait on the cell.

mod claim;
mod life;
mod metrics;
mod publisher;
mod restart;
mod stream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::RwLock;

use self::claim::Claim;
use self::life::Life;
pub use self::metrics::Metrics;
pub use self::publisher::{Publisher, TrackWriter};
pub use self::restart::Shelf;
use self::stream::Seat;
pub use self::stream::{State, Stream};
use super::presentation;
use super::sequence::Sequences;
use super::{Config, Presentation};
use crate::media::{Epoch, StreamName, Takeover, WallTime};

/// A running publisher that has brought nothing for so long is taken for dead by the next one with the same credential.
const SILENT_MICROS: i64 = 2_000_000;

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

/// Why a stream cannot be published now.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Somebody publishes it.
    #[error("{name} is being published already, since {since}{}", if *.same { "; stop that one, or wait until it has been silent for 2 s" } else { "" })]
    AlreadyLive {
        /// The stream.
        name: StreamName,
        /// The peer that has it; not for the one that asks.
        by: SocketAddr,
        /// Since when, RFC 3339.
        since: String,
        /// With the same credential.
        same: bool,
    },
    /// The server's limit on streams is reached.
    #[error("this server carries {0} streams already, as many as it may (ingest.max_streams)")]
    TooManyStreams(usize),
    /// The server's limit on media kept is reached.
    #[error(
        "this server keeps as much media as it may, {0} (packager.max_total_bytes); try again when another stream has ended"
    )]
    NoMemory(bytesize::ByteSize),
    /// Sequence numbers could not be reserved. The cause names files, which is for the log and not for the publisher.
    #[error("the server cannot read or store sequence numbers; its log says why")]
    Storage(#[from] std::io::Error),
}

/// Why a track or an access unit is refused; the text is shown to the publisher.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The publisher's media cannot be packaged.
    #[error(transparent)]
    Media(#[from] presentation::Error),
    /// The stream was ended from our side, or another connection took it over.
    #[error("the stream was ended by the server, or another connection took it over")]
    Ended,
    /// Segments come so much faster than real time that their numbers cannot be reserved on disk in time.
    #[error("media comes too fast: hundreds of segments at once")]
    TooFast,
}

/// How much the registry takes, and for how long it waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams at a time. Those that have ended a short while ago give way.
    pub max_streams: usize,
    /// How long a stream waits for a publisher that has gone. Zero: it ends with its publisher.
    pub resume_window: Duration,
}

/// All streams of this node.
#[derive(Debug)]
pub struct Registry {
    /// The rules that every stream is packaged by.
    config: Arc<Config>,
    /// Where sequence numbers are reserved, so that they never go back.
    sequences: Sequences,
    limits: Limits,
    metrics: Metrics,
    /// Every stream that viewers can ask for, those that ended a short while ago among them. Locked for a look or an insertion, never while
    /// something is waited for.
    streams: RwLock<Streams>,
    /// The server stops: streams whose publishers go are neither ended nor waited for.
    stopping: AtomicBool,
}

type Streams = HashMap<StreamName, Listed, RandomState>;

/// A name's entry.
#[derive(Debug, Clone)]
struct Listed {
    /// What viewers look at.
    stream: Arc<Stream>,
    /// What publishers write to; `None` while its numbers are being reserved.
    life: Option<Arc<Life>>,
}

impl Registry {
    /// An empty registry. Sequence numbers are reserved below `sequences`.
    pub fn new(config: Arc<Config>, sequences: Sequences, limits: Limits, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            config,
            sequences,
            limits,
            metrics,
            streams: RwLock::default(),
            stopping: AtomicBool::new(false),
        })
    }

    /// The rules that streams are packaged by.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The stream of that name: live, waiting for its publisher, or ended a short while ago.
    pub fn stream(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.streams.read().get(name).map(|listed| Arc::clone(&listed.stream))
    }

    /// All of them, by name.
    pub fn streams(&self) -> Vec<Arc<Stream>> {
        let mut all: Vec<_> = self.streams.read().values().map(|listed| Arc::clone(&listed.stream)).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Publishes `name` from `publisher.since` on. Goes on with the stream where it waits for a publisher, or where `publisher` may take it over
    /// from itself; else starts a life of it, which reserves sequence numbers (and touches the disk), and lists it.
    ///
    /// # Errors
    /// [`PublishError`]; nothing is left behind then. Cancel-safe: the name is free again when the future is dropped.
    pub async fn publish(
        self: &Arc<Self>,
        name: StreamName,
        publisher: PublisherInfo,
        takeover: Takeover,
    ) -> Result<Publisher, PublishError> {
        if let Some(publisher) = self.go_on(&name, &publisher, takeover)? {
            return Ok(publisher);
        }
        let epoch = Epoch::starting(publisher.since);
        // Lives that begin within one millisecond must not share URLs, which are cached for ever.
        let epoch = match self.stream(&name).map(|before| before.epoch) {
            Some(before) if (epoch.millis()..epoch.millis() + 1_000).contains(&before.millis()) => before.next(),
            _ => epoch,
        };
        let mut presentation = Presentation::new(Arc::clone(&self.config), epoch, presentation::Sequence::default());
        let kept = self.metrics.media_bytes.clone();
        let stream = Arc::new(Stream::new(name.clone(), epoch, publisher, presentation.catalog_now(), kept));
        // Listed before the disk is touched, so that two publishers of one name cannot both get it.
        let claim = Claim::take(self, &stream)?;
        let (sequences, key) = (self.sequences.clone(), name);
        let reserved = tokio::task::spawn_blocking(move || sequences.reserve(&key)).await;
        let (first, reservation) = reserved.map_err(std::io::Error::other)??;
        let presentation = Presentation::new(Arc::clone(&self.config), epoch, first);
        let life = Life::new(self, Arc::clone(&stream), presentation, reservation);
        claim.keep(&life);
        Ok(Publisher::new(life, 0))
    }

    /// Ends a stream at once, whoever publishes it or is waited for; a running publisher is told `words`. False where there is none.
    pub fn end(&self, name: &StreamName, words: &str) -> bool {
        let life = self.streams.read().get(name).and_then(|listed| listed.life.clone());
        let Some(life) = life.filter(|life| !life.stream().has_ended()) else { return false };
        life.stream().stop(words);
        life.end();
        true
    }

    /// A life that exists is gone on with.
    fn go_on(
        &self,
        name: &StreamName,
        publisher: &PublisherInfo,
        takeover: Takeover,
    ) -> Result<Option<Publisher>, PublishError> {
        let Some(life) = self.streams.read().get(name).and_then(|listed| listed.life.clone()) else { return Ok(None) };
        let stream = Arc::clone(life.stream());
        let mut seat = stream.seat.lock();
        if stream.has_ended() {
            return Ok(None);
        }
        if seat.taken {
            let same = seat.info.holder == publisher.holder;
            let silent = publisher.since.micros().saturating_sub(stream.last_media.load(Ordering::Relaxed));
            if !same || takeover != Takeover::Always && silent < SILENT_MICROS {
                return Err(already_live(name, &seat.info, same));
            }
            let words = format!("another connection with the same credential has taken over, from {}", publisher.peer);
            stream.stop(words);
            tracing::info!(stream = %name, from = %seat.info.peer, to = %publisher.peer, "taken over");
        }
        *seat = Seat { info: publisher.clone(), taken: true };
        stream.last_media.store(publisher.since.micros(), Ordering::Relaxed);
        let turn = stream.turn.fetch_add(1, Ordering::AcqRel) + 1;
        drop(seat);
        life.interrupt(publisher.since);
        Ok(Some(Publisher::new(life, turn)))
    }

    /// Whether all streams together keep as much media as they may.
    fn is_full(&self) -> bool {
        self.is_too_much(self.metrics.media_bytes.get())
    }

    /// Whether `kept` bytes are as much media as all streams together may keep.
    fn is_too_much(&self, kept: i64) -> bool {
        u64::try_from(kept).is_ok_and(|kept| kept >= self.config.max_total_bytes.as_u64())
    }

    /// What one stream may keep: its share of what all may, where they keep too much; at least a mebibyte, some seconds of sound.
    fn share(&self) -> bytesize::ByteSize {
        if !self.is_full() {
            return self.config.max_bytes;
        }
        let streams = u64::try_from(self.streams.read().len()).unwrap_or(u64::MAX);
        let share = self.config.max_total_bytes.as_u64() / streams.max(1);
        self.config.max_bytes.min(bytesize::ByteSize::b(share).max(bytesize::ByteSize::mib(1)))
    }

    /// Takes an ended stream off the list, unless another life has taken its place.
    fn remove(&self, stream: &Arc<Stream>) {
        let mut streams = self.streams.write();
        if streams.get(&stream.name).is_some_and(|listed| Arc::ptr_eq(&listed.stream, stream)) {
            streams.remove(&stream.name);
        }
    }

    /// How long an ended stream can still be watched to its end, at least, where nothing else needs its memory; two windows where that is longer.
    fn after_end(&self) -> Duration {
        const AFTER_END: Duration = Duration::from_secs(60);
        AFTER_END.max(self.config.listed() * 2)
    }
}

fn already_live(name: &StreamName, by: &PublisherInfo, same: bool) -> PublishError {
    PublishError::AlreadyLive { name: name.clone(), by: by.peer, since: by.since.rfc3339(), same }
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests;
