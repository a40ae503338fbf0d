//! Streams made by hand, for the tests of whoever serves them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use super::{Limits, Listed, Metrics, PublisherInfo, Registry, Stream};
use crate::media::{Epoch, RenditionId, StreamName, WallTime};
use crate::packager::sequence::Sequences;
use crate::packager::{Catalog, Window};

impl Stream {
    /// A stream fed by the given cells.
    pub(crate) fn for_test(
        name: StreamName,
        epoch: Epoch,
        catalog: watch::Sender<Arc<Catalog>>,
        windows: Vec<(RenditionId, watch::Sender<Arc<Window>>)>,
    ) -> Arc<Self> {
        let publisher = PublisherInfo {
            protocol: "rtmp",
            peer: SocketAddr::from(([127, 0, 0, 1], 50_000)),
            since: WallTime::from_micros(0),
            holder: "test".into(),
        };
        let kept = prometheus::IntGauge::new("kept", "Bytes.").expect("a good name");
        let stream = Self::new(name, epoch, publisher, catalog.borrow().clone(), kept);
        Arc::new(Self { catalog, windows: RwLock::new(windows.into_iter().collect()), ..stream })
    }
}

impl Registry {
    /// A registry of the given streams.
    pub(crate) fn for_test(streams: Vec<Arc<Stream>>) -> Self {
        let listed = |stream: Arc<Stream>| (stream.name.clone(), Listed { stream, life: None });
        let streams: HashMap<_, _, _> = streams.into_iter().map(listed).collect();
        let folder = std::env::temp_dir();
        Self {
            config: Arc::default(),
            sequences: Sequences::new(&folder),
            limits: Limits { max_streams: 16, resume_window: std::time::Duration::ZERO },
            metrics: Metrics::for_test(),
            streams: RwLock::new(streams),
            stopping: std::sync::atomic::AtomicBool::new(false),
        }
    }
}
