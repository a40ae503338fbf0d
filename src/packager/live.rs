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
        u64::try_from(self.metrics.media_bytes.get()).is_ok_and(|kept| kept >= self.config.max_total_bytes.as_u64())
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
mod tests {
    use super::*;
    use crate::media::wall_clock::now;
    use crate::media::{AccessUnit, Kind};
    use crate::packager::testing::init;

    fn limits() -> Limits {
        Limits { max_streams: 4, resume_window: Duration::ZERO }
    }

    #[tokio::test]
    async fn lives_of_one_millisecond_have_epochs_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(Arc::default(), Sequences::new(folder.path()), limits(), Metrics::for_test());
        let since = WallTime::from_micros(1_700_000_000_000_000);
        let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
        let mut epochs = Vec::new();
        for _ in 0..3 {
            let info = PublisherInfo { protocol: "rtmp", peer, since, holder: "test".into() };
            let mut publisher = registry.publish("live/me".parse().unwrap(), info, Takeover::default()).await.unwrap();
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

    #[tokio::test(start_paused = true)]
    async fn a_stream_can_be_watched_for_a_while_after_its_end_and_is_forgotten_then() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(Arc::default(), Sequences::new(folder.path()), limits(), Metrics::for_test());
        let name: StreamName = "live/me".parse().unwrap();
        let live = async || {
            let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
            let info = PublisherInfo { protocol: "rtmp", peer, since: now(), holder: "test".into() };
            let mut publisher = registry.publish(name.clone(), info, Takeover::default()).await.unwrap();
            let track = init(Kind::Audio, 0).track.clone();
            let samples = i64::from(track.timescale.hz()) / 50;
            let mut writer = publisher.add_track(track).unwrap();
            for dts in (0..200).map(|number| number * samples) {
                let data = [0; 4][..].into();
                writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, now()).unwrap();
            }
            publisher
        };
        let state = || registry.stream(&name).map(|stream| stream.state());
        let after_end = registry.after_end();
        drop(live().await);
        tokio::time::sleep(after_end / 2).await;
        assert_eq!(state(), Some(State::Ended));
        let publisher = live().await;
        tokio::time::sleep(after_end).await;
        assert_eq!(state(), Some(State::Live), "the end of the one before is not its own");
        drop(publisher);
        tokio::time::sleep(after_end - Duration::from_secs(1)).await;
        assert_eq!(state(), Some(State::Ended));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(state(), None);
    }

    /// A disk that reserves no more numbers must end the stream rather than let its numbers be used twice.
    #[tokio::test]
    async fn a_publisher_that_outruns_the_reserved_numbers_is_sent_away() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(Arc::default(), Sequences::new(folder.path()), limits(), Metrics::for_test());
        let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
        let info = PublisherInfo { protocol: "rtmp", peer, since: now(), holder: "test".into() };
        let mut publisher = registry.publish("live/me".parse().unwrap(), info, Takeover::default()).await.unwrap();
        std::fs::remove_dir_all(folder.path().join("sequences")).unwrap();
        std::fs::write(folder.path().join("sequences"), "no folder any more").unwrap();
        let mut writer = publisher.add_track(init(Kind::Video, 0).track.clone()).unwrap();
        let mut write = |number: i64| {
            let (dts, data) = (number * 180_000, [0; 4][..].into());
            writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, now())
        };
        let refused = (0..2_000).find_map(|number| Some((number, write(number).err()?)));
        let (number, error) = refused.expect("1,000 numbers were reserved");
        assert!(matches!(error, WriteError::TooFast), "{error}");
        assert!((990..=1_001).contains(&number), "segment {number}");
        assert_eq!(registry.metrics.hits.numbers.get(), 1);
        let last = publisher.stream().windows()[0].open_msn;
        assert!(last <= 1_000, "no number is shown that is not reserved: {last}");
    }

    /// Nobody gets a stream by waiting until its publisher's network fails.
    #[tokio::test]
    async fn only_the_same_credential_takes_over_and_from_a_silent_publisher_unless_it_always_may() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(Arc::default(), Sequences::new(folder.path()), limits(), Metrics::for_test());
        let publish = async |holder: &str, millis: i64, takeover| {
            let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
            let since = WallTime::from_micros(1_700_000_000_000_000 + millis * 1_000);
            let info = PublisherInfo { protocol: "rtmp", peer, since, holder: holder.into() };
            registry.publish("live/me".parse().unwrap(), info, takeover).await
        };
        let _first = publish("owner", 0, Takeover::WhenSilent).await.unwrap();
        for (holder, millis, takeover) in [
            ("thief", 3_600_000, Takeover::WhenSilent),
            ("thief", 3_600_000, Takeover::Always),
            ("owner", 1_999, Takeover::WhenSilent),
        ] {
            let refused = publish(holder, millis, takeover).await;
            let Err(PublishError::AlreadyLive { same, .. }) = refused else { panic!("{holder} at {millis} ms") };
            assert_eq!(same, holder == "owner");
        }
        let _second = publish("owner", 1_999, Takeover::Always).await.expect("it always may");
        let _third = publish("owner", 3_999, Takeover::WhenSilent).await.expect("two seconds of silence");
    }

    #[tokio::test]
    async fn all_streams_together_keep_what_they_may() {
        let folder = tempfile::tempdir().unwrap();
        let total = bytesize::ByteSize::mib(4);
        let config = Config { max_bytes: total, max_total_bytes: total, ..Config::default() };
        let limits = Limits { max_streams: 9, ..limits() };
        let registry = Registry::new(Arc::new(config), Sequences::new(folder.path()), limits, Metrics::for_test());
        let publish = async |name: &str| {
            let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
            let info = PublisherInfo { protocol: "rtmp", peer, since: now(), holder: "test".into() };
            registry.publish(name.parse().unwrap(), info, Takeover::default()).await
        };
        let track = init(Kind::Audio, 0).track.clone();
        let samples = i64::from(track.timescale.hz()) / 50;
        let mut publishers = vec![publish("live/one").await.unwrap(), publish("live/two").await.unwrap()];
        let mut writers: Vec<_> = publishers.iter_mut().map(|it| it.add_track(track.clone()).unwrap()).collect();
        // 400 kB/s each: together twice the total within a window.
        for number in 0..2_000 {
            for writer in &mut writers {
                let (dts, data) = (number * samples, vec![0; 8_000][..].into());
                writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, now()).unwrap();
            }
            let kept = registry.metrics.media_bytes.get();
            assert!(kept < 5 << 20, "{kept} bytes are kept");
            if registry.is_full() {
                let refused = publish("live/three").await;
                assert!(matches!(refused, Err(PublishError::NoMemory(limit)) if limit == total));
            }
        }
        assert!(registry.metrics.hits.total_bytes.get() > 0);
        for stream in registry.streams() {
            assert!(stream.windows()[0].segments.len() > 1, "each has its share");
        }
        drop((writers, publishers));
    }

    #[tokio::test]
    async fn limits_that_are_hit_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let config = Arc::new(Config { max_bytes: bytesize::ByteSize::mib(1), ..Config::default() });
        let limits = Limits { max_streams: 1, ..limits() };
        let registry = Registry::new(config, Sequences::new(folder.path()), limits, Metrics::for_test());
        let info = || PublisherInfo {
            protocol: "rtmp",
            peer: SocketAddr::from(([127, 0, 0, 1], 50_000)),
            since: now(),
            holder: "test".into(),
        };
        let mut publisher = registry.publish("live/me".parse().unwrap(), info(), Takeover::default()).await.unwrap();
        let refused = registry.publish("live/you".parse().unwrap(), info(), Takeover::default()).await;
        assert!(matches!(refused, Err(PublishError::TooManyStreams(1))));
        let track = init(Kind::Audio, 0).track.clone();
        let samples = i64::from(track.timescale.hz()) / 50;
        let mut writer = publisher.add_track(track.clone()).unwrap();
        for number in 0..1_000 {
            let (dts, data) = (number * samples, [0; 4_000][..].into());
            writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, now()).unwrap();
        }
        while publisher.add_track(track.clone()).is_ok() {}
        let Metrics { hits, part_publish, .. } = &registry.metrics;
        assert_eq!((hits.streams.get(), hits.tracks.get()), (1, 1));
        assert!(hits.window_bytes.get() > 0);
        assert!(part_publish.get_sample_count() > 50, "parts were published");
    }
    #[tokio::test]
    async fn a_publisher_that_breaks_a_rule_is_counted_by_its_name() {
        let rare_key_frames = Config { require_keyframes: true, ..Config::default() };
        let little_memory = Config { max_bytes: bytesize::ByteSize::mib(1), ..Config::default() };
        for (config, bytes, expected) in [(rare_key_frames, 100, (1, 0)), (little_memory, 20_000, (0, 1))] {
            let folder = tempfile::tempdir().unwrap();
            let sequences = Sequences::new(folder.path());
            let registry = Registry::new(Arc::new(config), sequences, limits(), Metrics::for_test());
            let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
            let info = PublisherInfo { protocol: "rtmp", peer, since: now(), holder: "test".into() };
            let mut publisher = registry.publish("live/me".parse().unwrap(), info, Takeover::default()).await.unwrap();
            let mut writer = publisher.add_track(init(Kind::Video, 0).track.clone()).unwrap();
            let refused = (0..600).find_map(|number: i64| {
                let (dts, data) = (number * 3_000, vec![0; bytes][..].into());
                writer.write(AccessUnit { dts, pts: dts, sync: number == 0, captions: false, data }, now()).err()
            });
            assert!(refused.is_some(), "{expected:?}");
            let hits = &registry.metrics.hits;
            assert_eq!((hits.key_frames.get(), hits.segment_bytes.get()), expected);
        }
    }
    /// What is over has no place that somebody else needs; what is being published has.
    #[tokio::test]
    async fn streams_that_are_over_give_way() {
        let folder = tempfile::tempdir().unwrap();
        let total = bytesize::ByteSize::mib(1);
        let config = Config { max_bytes: total, max_total_bytes: total, ..Config::default() };
        let limits = Limits { max_streams: 3, ..limits() };
        let registry = Registry::new(Arc::new(config), Sequences::new(folder.path()), limits, Metrics::for_test());
        let publish = async |name: &str, seconds: i64| {
            let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
            let since = WallTime::from_micros(now().micros() + seconds * 1_000_000);
            let info = PublisherInfo { protocol: "rtmp", peer, since, holder: "test".into() };
            registry.publish(name.parse().unwrap(), info, Takeover::default()).await
        };
        let fill = |publisher: &mut Publisher, bytes: usize| {
            let track = init(Kind::Audio, 0).track.clone();
            let samples = i64::from(track.timescale.hz()) / 50;
            let mut writer = publisher.add_track(track).unwrap();
            for number in 0..500 {
                let (dts, data) = (number * samples, vec![0; bytes][..].into());
                writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, now()).unwrap();
            }
        };
        let names = || registry.streams().iter().map(|stream| stream.name().to_string()).collect::<Vec<_>>();
        for (name, seconds) in [("live/one", 0), ("live/two", 1), ("live/three", 2)] {
            let mut publisher = publish(name, seconds).await.unwrap();
            fill(&mut publisher, if name == "live/three" { 4_000 } else { 4 });
        }
        assert_eq!(names(), ["live/one", "live/three", "live/two"], "all of them are over, and can be watched");
        let mut four = publish("live/four", 3).await.expect("the place of the one that is over for the longest time");
        assert_eq!(names(), ["live/four", "live/three", "live/two"]);
        let mut two = publish("live/two", 4).await.expect("its own place");
        fill(&mut two, 4_000);
        drop(two);
        assert!(registry.is_full());
        let mut five = publish("live/five", 5).await.expect("the memory of those that are over");
        assert!(["live/five", "live/four"].iter().all(|name| names().contains(&(*name).to_owned())), "{:?}", names());
        fill(&mut four, 4_000);
        fill(&mut five, 4_000);
        let refused = publish("live/six", 6).await;
        assert!(
            matches!(refused, Err(PublishError::NoMemory(limit)) if limit == total),
            "live streams do not give way"
        );
    }
    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_stream_can_be_watched_though_memory_is_short() {
        let folder = tempfile::tempdir().unwrap();
        let total = bytesize::ByteSize::mib(1);
        let config = Config { max_bytes: total, max_total_bytes: total, ..Config::default() };
        let after_end = config.hold_back();
        let registry = Registry::new(Arc::new(config), Sequences::new(folder.path()), limits(), Metrics::for_test());
        let mut publishers = Vec::new();
        for name in ["live/stays", "live/ends"] {
            let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
            let info = PublisherInfo { protocol: "rtmp", peer, since: now(), holder: "test".into() };
            let mut publisher = registry.publish(name.parse().unwrap(), info, Takeover::default()).await.unwrap();
            let track = init(Kind::Audio, 0).track.clone();
            let samples = i64::from(track.timescale.hz()) / 50;
            let mut writer = publisher.add_track(track).unwrap();
            for number in 0..400 {
                let (dts, data) = (number * samples, vec![0; 2_500][..].into());
                writer.write(AccessUnit { dts, pts: dts, sync: true, captions: false, data }, now()).unwrap();
            }
            publishers.push((publisher, writer));
        }
        assert!(registry.is_full());
        let state = || registry.stream(&"live/ends".parse().unwrap()).map(|stream| stream.state());
        drop(publishers.pop());
        tokio::time::sleep(after_end - Duration::from_secs(1)).await;
        assert_eq!(state(), Some(State::Ended));
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(state(), None, "a stream that is live needs its memory");
        assert_eq!(registry.streams().len(), 1);
    }
}
