//! Hand-built windows and streams, for the tests of whoever serves or describes them.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::track;
use crate::media::{Epoch, Kind, RenditionId, StreamName, Timescale, Track, WallTime};
use crate::packager::catalog::Measured;
use crate::packager::live::{Registry, Stream};
use crate::packager::{Catalog, Config, Init, Part, Rendition, Segment, Window};

/// The epoch of all test streams, `10` in URLs.
fn epoch() -> Epoch {
    Epoch::starting(WallTime::from_micros(36_000))
}

/// Both kinds count in 90 kHz, so that one set of figures serves them.
pub(crate) fn rendition(kind: Kind) -> Arc<Rendition> {
    let track = Track { timescale: Timescale::NINETY_KHZ, ..track(kind) };
    Arc::new(Rendition {
        id: RenditionId { kind, index: 0 },
        epoch: epoch(),
        init: Arc::new(Init { number: 0, bytes: Bytes::from_static(b"init"), track }),
        config: Arc::new(Config::default()),
    })
}

/// Part `number` of the whole stream: `head-N.` and `payload-N;`.
fn part(number: u64) -> Arc<Part> {
    Arc::new(Part {
        number,
        duration: 19_350,
        independent: false,
        header: Bytes::from(format!("head-{number}.")),
        payload: vec![Bytes::from(format!("payload-{number};"))],
    })
}

fn segment(rendition: &Rendition, msn: u64, first_part: u64, parts: u64) -> Arc<Segment> {
    Arc::new(Segment {
        msn,
        discontinuity: false,
        discontinuity_sequence: 0,
        init: Arc::clone(&rendition.init),
        start: 0,
        presentation_start: 0,
        duration: 180_000,
        announced: None,
        date: WallTime::from_micros(0),
        parts: (first_part..first_part + parts).map(part).collect(),
        independent: true,
        parts_listed: true,
    })
}

/// `segments` complete video segments from `first` on, of `parts` parts each, and an open one with `open` parts. Part numbers count from
/// `first * parts`.
pub(crate) fn window(first: u64, segments: u64, parts: u64, open: u64) -> Window {
    window_of(&rendition(Kind::Video), first, segments, parts, open)
}

pub(crate) fn window_of(rendition: &Arc<Rendition>, first: u64, segments: u64, parts: u64, open: u64) -> Window {
    let open_msn = first + segments;
    Window {
        rendition: Arc::clone(rendition),
        segments: (first..open_msn).map(|msn| segment(rendition, msn, msn * parts, parts)).collect(),
        listed: 0,
        survivor: None,
        open: (open > 0).then(|| segment(rendition, open_msn, open_msn * parts, open)),
        open_msn,
        next_part: open_msn * parts + open,
        ended: false,
        waiting: false,
        version: open_msn * 100 + open,
        published: Default::default(),
        rendered: Default::default(),
    }
}

/// A stream `live/me` with one video rendition, and the cells that feed it.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) registry: Arc<Registry>,
    pub(crate) rendition: Arc<Rendition>,
    pub(crate) window: watch::Sender<Arc<Window>>,
    pub(crate) catalog: watch::Sender<Arc<Catalog>>,
}

/// A stream whose window is `window(4, 3, 3, 2)`.
pub(crate) fn fixture() -> Fixture {
    fixture_beside(Vec::new())
}

/// The same with `others`, windows of other renditions, beside it.
pub(crate) fn fixture_beside(others: Vec<Window>) -> Fixture {
    let rendition = rendition(Kind::Video);
    let window = watch::Sender::new(Arc::new(window_of(&rendition, 4, 3, 3, 2)));
    let catalog = watch::Sender::new(Arc::new(catalog(vec![Arc::clone(&rendition)])));
    let name = StreamName::new("live", "me").expect("a good name");
    let others = others.into_iter().map(|other| (other.rendition.id, watch::Sender::new(Arc::new(other))));
    let windows = others.chain([(rendition.id, window.clone())]).collect();
    let stream = Stream::for_test(name, epoch(), catalog.clone(), windows);
    Fixture { registry: Arc::new(Registry::for_test(vec![stream])), rendition, window, catalog }
}

/// A catalog of `renditions`, without DASH periods.
pub(crate) fn catalog(renditions: Vec<Arc<Rendition>>) -> Catalog {
    let measured = |rendition: Arc<Rendition>| Measured {
        inits: vec![Arc::clone(&rendition.init)],
        rendition,
        peak_bps: 2_000_000,
        average_bps: 1_500_000,
        frame_rate: 30.0,
        captions: false,
    };
    Catalog {
        epoch: epoch(),
        start: WallTime::from_micros(0),
        renditions: renditions.into_iter().map(measured).collect(),
        periods: Vec::new(),
        longest_micros: 0,
        published: WallTime::from_micros(1),
        number: 1,
        ended: false,
        multivariant: Default::default(),
    }
}
