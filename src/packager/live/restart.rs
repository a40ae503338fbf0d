//! A restart that viewers do not notice: a graceful stop puts every stream's window on disk, and the next start takes it up.
//!
//! ```text
//!   stop:   publishers go ─► windows are complete ─► data_dir/resume/APP/NAME.window, numbers given back exactly
//!   start:  file read ─► removed ─► checked ─► numbers still the same? ─► the stream waits for its publisher, as after a drop
//! ```
//!
//! A file is good once. It is removed before it is used, and it is used only where the numbers on disk are those that it was written with: what
//! a crash left behind, or somebody has copied back, can never make sequence numbers go back. Whatever is wrong with it, the stream then
//! begins a new epoch with numbers that go on.
//!
//! Files are not synced: what a power cut tears is refused by its checksum, and the disk must not decide how long a stop takes.

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::claim::Claim;
use super::life::Life;
use super::{PublishError, PublisherInfo, Registry, Stream};
use crate::media::wall_clock::now;
use crate::media::{StreamName, WallTime};
use crate::packager::saved::{self, Header, MAX_HEADER_BYTES, PublisherState, Refused};
use crate::packager::{Config, Presentation};

/// What files are named after the stream's name.
const SUFFIX: &str = ".window";
/// What a file may hold beside media and its header: a few inits, and what stands around all of it.
const OVERHEAD_BYTES: u64 = 1 << 20;
/// Threads that read and write windows. Most of the time goes to syncing the numbers of one stream after another, which a disk does for several
/// at once in hardly more time than for one; each has a window in memory of its own.
const THREADS: usize = 8;
/// Further back than this the clock must not have been set since a window was put down: its media would be dated in the future by that much, and
/// players that go by dates would wait for it.
const MOST_SET_BACK: Duration = Duration::from_secs(2);
/// The names of protocols, which are never made at run time.
const PROTOCOLS: [&str; 1] = ["rtmp"];

/// Where windows lie between two runs of the server, and how much of them.
#[derive(Debug, Clone)]
pub struct Shelf {
    folder: PathBuf,
    /// Of all files together.
    max_bytes: u64,
}

/// Why a stream does not go on.
#[derive(Debug, thiserror::Error)]
enum NotResumed {
    #[error("of its file: {0}")]
    File(#[from] Refused),
    #[error("its file cannot be read: {0}")]
    Disk(#[from] io::Error),
    #[error("its file cannot be removed, and a file is good once: {0}")]
    Stays(io::Error),
    #[error("its file is larger than packager.max_bytes and ingest.resume_max_bytes allow")]
    TooLarge,
    #[error("ingest.resume_window is over")]
    TooLate,
    #[error("the clock has been set back since, by {} s", .0.as_secs())]
    SetBack(Duration),
    #[error("its file is an old one: the numbers in it have been used since")]
    Stale,
    #[error("sequence numbers cannot be reserved: {0}")]
    Numbers(io::Error),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Shelf {
    /// Windows lie below `data_dir`, at most `max_bytes` of them together.
    pub fn new(data_dir: &Path, max_bytes: u64) -> Self {
        Self { folder: data_dir.join("resume"), max_bytes }
    }

    fn path(&self, name: &StreamName) -> PathBuf {
        self.folder.join(name.app()).join(format!("{}{SUFFIX}", name.name()))
    }

    /// Whole or not at all.
    fn write(&self, name: &StreamName, header: &Header, payload: &[bytes::Bytes], until: Instant) -> io::Result<()> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let file = tempfile::NamedTempFile::new_in(folder)?;
        let mut out = InTime { out: BufWriter::with_capacity(1 << 18, file), until };
        saved::write(header, payload, &mut out)?;
        let file = out.out.into_inner().map_err(|error| error.into_error())?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(())
    }

    /// The files there are, by stream, and what is named like one and is none: a link, a pipe or a folder, which is not followed.
    fn files(&self) -> (Vec<Found>, Vec<PathBuf>) {
        let entries = |folder: &Path| std::fs::read_dir(folder).into_iter().flatten().flatten();
        let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let (mut found, mut strange) = (Vec::new(), Vec::new());
        for app in entries(&self.folder) {
            if !is_folder(&app) {
                strange.push(app.path());
                continue;
            }
            for file in entries(&app.path()) {
                let (app, name) = (app.file_name(), file.file_name());
                let name = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
                let stream = app.to_str().zip(name).and_then(|(app, name)| StreamName::new(app, name).ok());
                let Some(name) = stream else { continue };
                match file.metadata() {
                    Ok(plain) if plain.is_file() => {
                        found.push(Found { name, path: file.path(), bytes: plain.len() });
                    }
                    _ => strange.push(file.path()),
                }
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        (found, strange)
    }
}

/// A file that may hold a window.
#[derive(Debug)]
struct Found {
    name: StreamName,
    path: PathBuf,
    bytes: u64,
}

/// Calls `each` with all of `items`, on [`THREADS`] threads or as many as there are to be had. They are within the caller's runtime, if any.
fn on_some_threads<T: Send>(items: Vec<T>, each: impl Fn(T) + Sync) {
    let more = items.len().min(THREADS).saturating_sub(1);
    let items = Mutex::new(items.into_iter());
    let runtime = tokio::runtime::Handle::try_current().ok();
    let work = || {
        let _within = runtime.as_ref().map(tokio::runtime::Handle::enter);
        loop {
            let Some(item) = items.lock().next() else { return };
            each(item);
        }
    };
    std::thread::scope(|scope| {
        let spawn = || std::thread::Builder::new().name("windows".into()).spawn_scoped(scope, work);
        let _ = (0..more).try_for_each(|_| spawn().map(drop));
        work();
    });
}

/// Fails when it takes too long.
struct InTime<W> {
    out: W,
    until: Instant,
}

impl<W: Write> Write for InTime<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if Instant::now() > self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Registry {
    /// The server stops: from now on streams whose publishers go are neither ended nor waited for, so that they can be put down.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether [`begin_stop`](Self::begin_stop) was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Writes the windows of all streams that may go on after a restart. Returns after `limit` at the latest, on whatever disk; what cannot be
    /// written in time is left out, which costs its viewers a new epoch. To be called after [`begin_stop`](Self::begin_stop) and once
    /// publishers have gone. Not cancel-safe: what has been begun goes on.
    pub async fn put_down(self: &Arc<Self>, shelf: &Shelf, limit: Duration) {
        if self.limits.resume_window.is_zero() || shelf.max_bytes == 0 {
            return;
        }
        let (done, wait) = tokio::sync::oneshot::channel();
        let (registry, shelf, until) = (Arc::clone(self), shelf.clone(), Instant::now() + limit);
        // No task of the runtime: a disk that never answers would keep the process from ending.
        let spawned = std::thread::Builder::new().name("put-down".into()).spawn(move || {
            registry.put_down_until(&shelf, until);
            let _ = done.send(());
        });
        if let Err(error) = spawned {
            tracing::warn!(%error, "windows cannot be kept over the restart");
            return;
        }
        if tokio::time::timeout(limit + Duration::from_millis(500), wait).await.is_err() {
            tracing::warn!("the disk takes too long: not all streams go on after the restart");
        }
    }

    fn put_down_until(&self, shelf: &Shelf, until: Instant) {
        let (kept, left_out, room) = (AtomicU32::new(0), AtomicU32::new(0), Mutex::new(shelf.max_bytes));
        let mut lives: Vec<Arc<Life>> = self.streams.read().values().filter_map(|listed| listed.life.clone()).collect();
        lives.sort_by(|a, b| a.stream().name.cmp(&b.stream().name));
        on_some_threads(lives, |life| {
            if let Some(done) = self.put_down_one(&life, shelf, &room, until) {
                let count = if done { &kept } else { &left_out };
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (kept, left_out) = (kept.into_inner(), left_out.into_inner());
        if kept + left_out > 0 {
            tracing::info!(kept, left_out, "windows kept for the next start");
        }
    }

    /// Whether its window is on disk now; `None` where there is nothing to go on with.
    fn put_down_one(&self, life: &Life, shelf: &Shelf, room: &Mutex<u64>, until: Instant) -> Option<bool> {
        let (left, next, state, payload) = life.put_down(now())?;
        let stream = life.stream();
        let publisher = stream.publisher();
        let header = Header {
            stream: stream.name.to_string(),
            left_micros: left.micros(),
            publisher: PublisherState {
                protocol: publisher.protocol.into(),
                peer: publisher.peer,
                since_micros: publisher.since.micros(),
                holder: publisher.holder,
            },
            config: self.config.as_ref().clone(),
            presentation: state,
        };
        let bytes: u64 = payload.iter().map(|slice| slice.len() as u64).sum();
        let has_room = {
            let mut room = room.lock();
            let rest = room.checked_sub(bytes).filter(|_| Instant::now() < until);
            *room = rest.unwrap_or(*room);
            rest.is_some()
        };
        if !has_room {
            return Some(false);
        }
        match shelf.write(&stream.name, &header, &payload, until) {
            Ok(()) => life.release(next),
            Err(error) => {
                *room.lock() += bytes;
                tracing::warn!(stream = %stream.name, %error, "its window cannot be kept over the restart");
                return Some(false);
            }
        }
        Some(true)
    }

    /// Takes up what the last stop put down. Every file is removed, good or not. Blocks on the disk; must be called within a runtime, before
    /// publishers are let in.
    pub fn take_up(self: &Arc<Self>, shelf: &Shelf) {
        if !self.limits.resume_window.is_zero() && shelf.max_bytes > 0 {
            let (files, strange) = shelf.files();
            for path in strange {
                tracing::warn!(path = %path.display(), "is no window but a link, pipe or folder, and is removed");
            }
            let mut room = shelf.max_bytes;
            let largest = self.config.max_bytes.as_u64().saturating_add(MAX_HEADER_BYTES as u64);
            let with_room = files.into_iter().map(|file| {
                let most = largest.min(room).saturating_add(OVERHEAD_BYTES);
                room = if file.bytes > most { room } else { room.saturating_sub(file.bytes) };
                (file, most)
            });
            on_some_threads(with_room.collect(), |(file, most)| match self.take_up_one(&file, most) {
                Ok(left) => tracing::info!(stream = %file.name, ?left, "goes on after the restart"),
                Err(why) => tracing::warn!(stream = %file.name, "does not go on after the restart: {why}"),
            });
        }
        // Also what a stop had begun to write and did not finish.
        match std::fs::remove_dir_all(&shelf.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %shelf.folder.display(), %error, "old windows cannot be removed");
            }
            _ => {}
        }
    }

    /// Returns for how long the stream waits for its publisher. No more than `most` bytes are believed to be a window.
    fn take_up_one(self: &Arc<Self>, Found { name, path, .. }: &Found, most: u64) -> Result<Duration, NotResumed> {
        let mut file = Vec::new();
        let read =
            std::fs::File::open(path).and_then(|opened| opened.take(most.saturating_add(1)).read_to_end(&mut file));
        // Before anything is made of it: it must not be found again by a start after a crash.
        std::fs::remove_file(path).map_err(NotResumed::Stays)?;
        read?;
        if file.len() as u64 > most {
            return Err(NotResumed::TooLarge);
        }
        let (header, payload) = saved::read(&file)?;
        if header.stream != name.to_string() {
            return Err(Refused::Wrong("it is of another stream").into());
        }
        // What may be kept shows in no playlist, and can change.
        let Config { max_bytes, max_total_bytes, .. } = *self.config;
        if (Config { max_bytes, max_total_bytes, ..header.config }) != *self.config {
            return Err(Refused::Config.into());
        }
        let now = now();
        let age = now.micros().saturating_sub(header.left_micros);
        let set_back = Duration::from_micros(u64::try_from(age.saturating_neg()).unwrap_or(0));
        if set_back > MOST_SET_BACK {
            return Err(NotResumed::SetBack(set_back));
        }
        let age = Duration::from_micros(u64::try_from(age).unwrap_or(0));
        let left = self.limits.resume_window.saturating_sub(age);
        if left.is_zero() {
            return Err(NotResumed::TooLate);
        }
        let protocol = PROTOCOLS.into_iter().find(|known| *known == header.publisher.protocol);
        let info = PublisherInfo {
            protocol: protocol.ok_or(Refused::Wrong("nothing is published by that protocol"))?,
            peer: header.publisher.peer,
            since: WallTime::from_micros(header.publisher.since_micros),
            holder: header.publisher.holder,
        };
        let mut presentation = Presentation::restore(&header.presentation, payload, Arc::clone(&self.config))?;
        if presentation.idle_since().is_none_or(|idle| !saved::is_near(idle, header.left_micros)) {
            return Err(Refused::Wrong("its clock and its date are far apart").into());
        }
        let next = presentation.next_sequence();
        let (first, reservation) = self.sequences.reserve(name).map_err(NotResumed::Numbers)?;
        if (first.media, first.discontinuity) != (next.media, next.discontinuity + 1) {
            return Err(NotResumed::Stale);
        }
        let kept = self.metrics.media_bytes.clone();
        let stream = Stream::new(name.clone(), presentation.epoch(), info, presentation.catalog_now(), kept);
        stream.seat.lock().taken = false;
        let stream = Arc::new(stream);
        let claim = Claim::take(self, &stream)?;
        let life = Life::new(self, Arc::clone(&stream), presentation, reservation);
        life.left_at(WallTime::from_micros(header.left_micros));
        life.pass(now);
        claim.keep(&life);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(life.wait(stream.turn.load(Ordering::Acquire), left));
        }
        Ok(left)
    }
}

#[cfg(test)]
mod tests;
