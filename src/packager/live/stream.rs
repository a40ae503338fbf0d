//! A stream as its viewers see it: cells that they look at and wait on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use prometheus::IntGauge;
use tokio::sync::watch;

use super::PublisherInfo;
use crate::media::{Epoch, RenditionId, StreamName};
use crate::packager::presentation::Changes;
use crate::packager::{Catalog, Window};

/// Whether a stream has a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is being published.
    Live,
    /// Nobody publishes it; somebody may yet.
    Waiting,
    /// It is over.
    Ended,
}

/// One epoch of a stream (live, waiting, or ended a short while ago), as viewers see it.
#[derive(Debug)]
pub struct Stream {
    pub(super) name: StreamName,
    pub(super) epoch: Epoch,
    /// Who publishes it. Locked for a look, by publishers that come and go and by the API.
    pub(super) seat: Mutex<Seat>,
    /// Counts publishers; the newest one's turn it is.
    pub(super) turn: AtomicU64,
    /// When media came last, Unix microseconds.
    pub(super) last_media: AtomicI64,
    /// Which turn must end, and why.
    pub(super) stop: watch::Sender<Option<(u64, String)>>,
    /// Renditions, rates, periods: replaced when a segment completes, a track comes, the stream ends.
    pub(super) catalog: watch::Sender<Arc<Catalog>>,
    /// One cell a rendition, replaced with every part. The lock is written only where a rendition appears.
    pub(super) windows: RwLock<BTreeMap<RenditionId, watch::Sender<Arc<Window>>>>,
    /// Media that the windows hold.
    pub(super) kept: Kept,
}

/// One stream's share of `rillcast_media_bytes`, given back with the stream.
#[derive(Debug)]
pub(super) struct Kept {
    gauge: IntGauge,
    /// What of the gauge is this stream's.
    bytes: AtomicI64,
}

impl Kept {
    pub(super) fn bytes(&self) -> i64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn set(&self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.gauge.add(bytes - self.bytes.swap(bytes, Ordering::Relaxed));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.gauge.sub(*self.bytes.get_mut());
    }
}

/// Who publishes, or did last.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) info: PublisherInfo,
    /// By a publisher that has not gone.
    pub(super) taken: bool,
}

impl Stream {
    pub(super) fn new(
        name: StreamName,
        epoch: Epoch,
        info: PublisherInfo,
        catalog: Arc<Catalog>,
        kept: IntGauge,
    ) -> Self {
        Self {
            name,
            epoch,
            last_media: AtomicI64::new(info.since.micros()),
            seat: Mutex::new(Seat { info, taken: true }),
            turn: AtomicU64::new(0),
            stop: watch::Sender::new(None),
            catalog: watch::Sender::new(catalog),
            windows: RwLock::default(),
            kept: Kept { gauge: kept, bytes: AtomicI64::new(0) },
        }
    }

    /// APP/NAME.
    pub fn name(&self) -> &StreamName {
        &self.name
    }

    /// The life that this is; it never changes, a new life is a new `Stream`.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Who brings it, or did last.
    pub fn publisher(&self) -> PublisherInfo {
        self.seat.lock().info.clone()
    }

    /// Whether it has a publisher.
    pub fn state(&self) -> State {
        match (self.has_ended(), self.seat.lock().taken) {
            (true, _) => State::Ended,
            (false, true) => State::Live,
            (false, false) => State::Waiting,
        }
    }

    /// Sends the publisher away; it is told `words`. The stream waits for another one.
    pub fn stop(&self, words: impl Into<String>) {
        self.stop.send_replace(Some((self.turn.load(Ordering::Acquire), words.into())));
    }

    /// Watches renditions, rates, periods and the end.
    pub fn catalog(&self) -> watch::Receiver<Arc<Catalog>> {
        self.catalog.subscribe()
    }

    /// Nobody publishes it any more, and nobody will.
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

    /// Puts what has changed where viewers look, and wakes those who wait for it.
    pub(super) fn publish(&self, changes: Changes) {
        if !changes.windows.is_empty() {
            self.kept.set(changes.bytes);
        }
        // What is announced must be known before it can be asked for.
        if let Some(catalog) = changes.catalog {
            self.catalog.send_replace(catalog);
        }
        for window in changes.windows {
            let id = window.rendition.id;
            let _ = window.published.set(std::time::Instant::now());
            if let Some(cell) = self.windows.read().get(&id) {
                cell.send_replace(window);
                continue;
            }
            self.windows.write().insert(id, watch::Sender::new(window));
        }
    }
}
