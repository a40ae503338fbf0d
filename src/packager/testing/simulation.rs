//! Simulated publishers for the tests of the packager: known media in, windows out, and the rules that every window must obey.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::BytesMut;

use super::{audio_track, video_track};
use crate::media::{AccessUnit, Epoch, Kind, RenditionId, Slab, Timescale, Track, WallTime};
use crate::packager::playlist::hls_media;
use crate::packager::presentation::{Changes, Presentation, Sequence};
use crate::packager::rules::{assert_formats_are_named, assert_periods_are_kept};
pub(crate) use crate::packager::rules::{assert_history_is_kept, assert_parts_are_long_enough, assert_rules};
use crate::packager::saved;
use crate::packager::{Catalog, Config, Segment, Window};

/// Where every simulation's wall clock starts, Unix microseconds.
pub(crate) const START: i64 = 1_763_800_000_000_000;

/// A presentation, what its viewers have seen last, and every rule that was ever broken.
pub(crate) struct Simulation {
    pub(crate) presentation: Presentation,
    pub(crate) windows: BTreeMap<RenditionId, Arc<Window>>,
    pub(crate) catalog: Option<Arc<Catalog>>,
    config: Arc<Config>,
    slabs: BTreeMap<RenditionId, Slab>,
    counter: u8,
    /// The publisher is another one: it goes on with the renditions that there are.
    pub(crate) rejoining: bool,
    /// How much later than its own timeline says a publisher's media arrives, microseconds.
    pub(crate) shift: i64,
    /// Pictures carry closed captions from this second on.
    pub(crate) captions_from: Option<f64>,
    /// The pictures that [`stream`](Self::stream) publishes.
    pub(crate) video: Track,
    /// The sound that [`stream`](Self::stream) publishes.
    pub(crate) audio: Track,
    /// Where in memory each access unit was when it was published: address and length.
    pub(crate) published: Vec<(usize, usize)>,
}

impl Simulation {
    pub(crate) fn new(config: Config) -> Self {
        let epoch = Epoch::starting(WallTime::from_micros(START));
        let first = Sequence { media: 40, discontinuity: 3 };
        let config = Arc::new(config);
        Self {
            presentation: Presentation::new(Arc::clone(&config), epoch, first),
            config,
            windows: BTreeMap::new(),
            catalog: None,
            slabs: BTreeMap::new(),
            counter: 0,
            rejoining: false,
            shift: 0,
            captions_from: None,
            video: video_track(),
            audio: audio_track(),
            published: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, track: Track) -> RenditionId {
        let result =
            if self.rejoining { self.presentation.rejoin_track(0, track) } else { self.presentation.add_track(track) };
        result.expect("a good track")
    }

    /// The publisher goes away at `at`, microseconds after the start; another one comes `outage` later.
    pub(crate) fn outage(&mut self, at: i64, outage: i64) {
        self.presentation.interrupt(WallTime::from_micros(START + at));
        self.look();
        self.passing(at, outage);
    }

    /// `outage` more microseconds without a publisher, from `at` microseconds after the start on.
    pub(crate) fn passing(&mut self, at: i64, outage: i64) {
        let mut now = at;
        while now < at + outage {
            let due = self.presentation.pass(WallTime::from_micros(START + now)).expect("interrupted");
            self.look();
            now = now.max(due.micros() - START).max(now + 1_000);
        }
        self.rejoining = true;
        self.shift = at + outage;
    }

    /// The publisher brings nothing from `at` on, microseconds after the start, for `silence` more, and is looked after as a server does.
    pub(crate) fn silence(&mut self, at: i64, silence: i64) {
        for now in (at..at + silence).step_by(500_000) {
            let now = WallTime::from_micros(START + now);
            self.presentation.pause_where_due(now);
            self.look();
            self.presentation.pass(now);
            self.look();
        }
    }

    /// The file that a server would leave which stops while nobody publishes.
    pub(crate) fn file(&self) -> Vec<u8> {
        saved::specimen(&self.presentation, &self.config, START).expect("it is interrupted")
    }

    /// The server is restarted while nobody publishes.
    pub(crate) fn restart(&mut self) {
        let file = self.file();
        let (header, payload) = saved::read(&file).expect("a good file");
        let restored = Presentation::restore(&header.presentation, payload, Arc::clone(&self.config));
        self.presentation = restored.expect("a good presentation");
        assert_eq!(self.file(), file, "nothing is lost on the way");
        let before = std::mem::take(&mut self.windows);
        self.look();
        for (id, before) in before {
            let after = &self.windows[&id];
            assert!(after.version > before.version && after.next_part == before.next_part);
            assert_eq!((after.open_msn, after.listed, after.waiting), (before.open_msn, before.listed, true));
            assert_eq!(hls_media::render(after, &[], false), hls_media::render(&before, &[], false));
            for (old, new) in before.kept().zip(after.kept()) {
                let bytes = |segment: &Segment| segment.slices().flatten().collect::<Vec<u8>>();
                assert_eq!((bytes(old), &old.init), (bytes(new), &new.init));
            }
        }
    }

    /// One access unit of `bytes` bytes through the track's slab, arriving when it is due.
    pub(crate) fn push(&mut self, id: RenditionId, dts: i64, pts: i64, sync: bool, bytes: usize, scale: Timescale) {
        let slab = self.slabs.entry(id).or_default();
        slab.begin(bytes);
        self.counter = self.counter.wrapping_add(1);
        slab.extend(&vec![self.counter; bytes]);
        let data = slab.take();
        self.published.push((data.as_ptr() as usize, data.len()));
        let captions = id.kind == Kind::Video && self.captions_from.is_some_and(|from| scale.seconds(dts) >= from);
        let unit = AccessUnit { dts, pts, sync, captions, data };
        let now = WallTime::from_micros(START + self.shift + scale.micros(dts));
        self.presentation.push(id, unit, now).expect("good media");
        self.look();
    }

    /// Two neighbouring segments of a window of which the second is not dated later than the first, in milliseconds as playlists have them.
    pub(crate) fn dates_that_stand_still(&self) -> Option<String> {
        self.windows.values().find_map(|window| {
            let all: Vec<_> = window.segments.iter().chain(&window.open).collect();
            let pair = all.windows(2).find(|pair| pair[0].date.micros() / 1_000 >= pair[1].date.micros() / 1_000)?;
            let of = |one: &Segment| (one.msn, one.is_gap(), one.duration, one.date.micros() - START);
            Some(format!("{}: {:?} {:?}", window.rendition.id, of(pair[0]), of(pair[1])))
        })
    }

    pub(crate) fn finish(&mut self) {
        self.presentation.finish(WallTime::from_micros(START));
        self.look();
    }

    fn look(&mut self) {
        let Changes { windows, catalog, bytes } = self.presentation.take_changes();
        for window in windows {
            if let Some(before) = self.windows.get(&window.rendition.id) {
                assert_history_is_kept(before, &window);
            }
            assert_rules(&window);
            self.windows.insert(window.rendition.id, window);
        }
        if catalog.as_ref().is_some_and(|catalog| catalog.ended) {
            let kept = |window: &Arc<Window>| window.kept().map(|segment| segment.len()).sum::<usize>();
            assert_eq!(bytes, self.windows.values().map(kept).sum::<usize>(), "bytes are counted as they come and go");
        }
        if let Some(catalog) = catalog {
            if let Some(before) = &self.catalog {
                assert_periods_are_kept(before, &catalog);
            }
            self.catalog = Some(catalog);
        }
        if let Some(catalog) = &self.catalog {
            self.windows.values().for_each(|window| assert_formats_are_named(catalog, window));
        }
    }

    /// `seconds` of constant-rate video with a key frame every `gop` pictures and two B pictures between references where `reordering`,
    /// beside AAC, interleaved as encoders do.
    pub(crate) fn stream(&mut self, seconds: f64, rate: (i64, i64), gop: i64, reordering: bool, kinds: &[Kind]) {
        let video = kinds.contains(&Kind::Video).then(|| self.add(self.video.clone()));
        let audio = kinds.contains(&Kind::Audio).then(|| self.add(self.audio.clone()));
        let audio_scale = self.audio.timescale;
        let samples = i64::from(self.audio.format.sound().expect("sound").frame_samples);
        let pictures = (seconds * rate.0 as f64 / rate.1 as f64) as i64;
        let picture = |n: i64| n * 90_000 * rate.1 / rate.0;
        let mut frame = 0;
        for n in 0..pictures {
            let dts = picture(n);
            if let Some(id) = video {
                let delay = if reordering { [2, 5, 2, 0][(n % gop % 4) as usize] } else { 0 };
                let delay = if n % gop == 0 && reordering { 2 } else { delay };
                let size = if n % gop == 0 { 9_000 } else { 1_000 + (n % 7) as usize * 100 };
                self.push(id, dts, picture(n + delay), n % gop == 0, size, Timescale::NINETY_KHZ);
            }
            while let Some(id) =
                audio.filter(|_| frame * samples * 90_000 < (dts + picture(1)) * i64::from(audio_scale.hz()))
            {
                self.push(id, frame * samples, frame * samples, true, 300, audio_scale);
                frame += 1;
            }
        }
    }
}

/// Payload in the order it was published, to compare what came in with what goes out.
pub(crate) fn payload(window: &Window) -> BytesMut {
    let mut all = BytesMut::new();
    for part in window.segments.iter().chain(&window.open).flat_map(|segment| &segment.parts) {
        part.payload.iter().for_each(|slice| all.extend_from_slice(slice));
    }
    all
}
