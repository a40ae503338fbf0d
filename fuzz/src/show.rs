//! A presentation and the rules that hold for it whatever is published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rillcast::media::codec::{aac, h264, mp3};
use rillcast::media::{AccessUnit, Epoch, Format, Kind, RenditionId, Slab, Timescale, Track, WallTime};
use rillcast::packager::presentation::{Presentation, Sequence};
use rillcast::packager::rules::{
    assert_formats_are_named, assert_history_is_kept, assert_long_enough, assert_periods_are_kept, assert_rules_behind,
};
use rillcast::packager::saved;
use rillcast::packager::{Catalog, Config, Window};

use crate::Choices;
use crate::publisher::{AUDIO_CONFIGS, AVC_RECORD};

const START: i64 = 1_763_800_000_000_000;

/// A video track.
pub fn video() -> Track {
    let config = h264::Config::parse(&AVC_RECORD).expect("a good record");
    Track { format: Format::H264(config), timescale: Timescale::NINETY_KHZ, language: "und".into() }
}

/// How many [`audio`] has.
const AUDIO_TRACKS: usize = AUDIO_CONFIGS.len();

/// One of some audio tracks: those of good configurations, and MP3.
pub fn audio(which: usize) -> Track {
    if which % AUDIO_TRACKS == AUDIO_TRACKS - 1 {
        let config = mp3::Config::new(44_100, 2).expect("a rate of the standard");
        let timescale = Timescale::new(config.sample_rate).expect("not zero");
        return Track { format: Format::Mp3(config), timescale, language: "und".into() };
    }
    let config = aac::Config::parse(AUDIO_CONFIGS[which % AUDIO_TRACKS]).expect("a good configuration");
    let timescale = Timescale::new(config.sample_rate).expect("not zero");
    Track { format: Format::Aac(config), timescale, language: "und".into() }
}

/// A configuration that passes its own checks, near the defaults.
pub fn config(choices: &mut Choices<'_>) -> Config {
    let mut config = Config::default();
    match choices.below(6) {
        0 => config.part_target = Duration::from_millis(50 + u64::from(choices.byte()) * 4),
        1 => config.segment_target = Duration::from_secs(4),
        2 => (config.window, config.target_duration) = (Duration::from_secs(1), Duration::from_secs(6)),
        3 => config.require_keyframes = true,
        4 => config.max_bytes = bytesize::ByteSize::mib(1),
        _ => {}
    }
    if config.validate().is_err() {
        config = Config::default();
    }
    config
}

/// A presentation and what its viewers have seen.
pub struct Show {
    presentation: Presentation,
    config: Arc<Config>,
    /// The newest window of each rendition.
    pub windows: BTreeMap<RenditionId, Arc<Window>>,
    /// The newest catalog.
    pub catalog: Option<Arc<Catalog>>,
    /// All windows, oldest first, and the catalogs that were published with or before them.
    pub history: Vec<(Option<Arc<Catalog>>, Arc<Window>)>,
    /// First segment of each rendition.
    firsts: BTreeMap<RenditionId, u64>,
    /// `packager.max_bytes` has pushed segments out.
    evicted: bool,
    tracks: Vec<(RenditionId, Timescale, i64)>,
    slab: Slab,
    arrived: WallTime,
    /// The publisher is gone and may come back.
    idle: bool,
    over: bool,
}

impl Show {
    /// Nothing published yet.
    pub fn new(config: Config) -> Self {
        let epoch = Epoch::starting(WallTime::from_micros(START));
        let config = Arc::new(config);
        Self {
            presentation: Presentation::new(Arc::clone(&config), epoch, Sequence { media: 40, discontinuity: 3 }),
            config,
            windows: BTreeMap::new(),
            catalog: None,
            history: Vec::new(),
            firsts: BTreeMap::new(),
            evicted: false,
            tracks: Vec::new(),
            slab: Slab::default(),
            arrived: WallTime::from_micros(START),
            idle: false,
            over: false,
        }
    }

    /// Does what `choices` say until they are used up or the stream is refused.
    pub fn play(&mut self, choices: &mut Choices<'_>) {
        let mut steps = 0;
        while !choices.is_empty() && !self.over && steps < 600 {
            steps += 1;
            self.step(choices);
        }
        if choices.below(2) == 0 {
            self.presentation.finish(self.arrived);
            self.look();
            assert!(self.windows.values().all(|window| window.ended));
        }
    }

    /// Two tracks, so many seconds, and nobody publishes any more.
    pub fn publish_a_little(&mut self, seconds: usize) {
        for track in [video(), audio(0)] {
            let scale = track.timescale;
            let id = self.presentation.add_track(track).expect("a good track");
            self.tracks.push((id, scale, 0));
        }
        for _ in 0..seconds {
            // A key frame, and a second of sound; the numbers are those that `unit` reads as such steps.
            self.unit(0x23, &mut Choices::new(&[]));
            (0..47).for_each(|_| self.unit(0x40, &mut Choices::new(&[])));
        }
        self.presentation.interrupt(self.arrived);
        self.look();
    }

    /// What a server would leave on disk that stops now. `None` unless nobody publishes.
    pub fn file(&self) -> Option<Vec<u8>> {
        saved::specimen(&self.presentation, &self.config, START)
    }

    /// The server is restarted: what viewers get is what they had.
    fn restart(&mut self) {
        let file = self.file().expect("nobody publishes");
        let (header, payload) = saved::read(&file).expect("our own file");
        let restored = Presentation::restore(&header.presentation, payload, Arc::clone(&self.config));
        self.presentation = restored.expect("our own presentation");
        assert_eq!(self.file().as_deref(), Some(&file[..]));
        // They are compared by address from one to the next.
        let before = std::mem::take(&mut self.windows);
        self.look();
        for (id, before) in before {
            let bytes = |window: &Window| -> Vec<u8> {
                window.segments.iter().flat_map(|segment| segment.slices()).flatten().collect()
            };
            assert_eq!(bytes(&before), bytes(&self.windows[&id]));
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let action = choices.byte();
        match action {
            0xF0..=0xF4 => {
                if self.tracks.len() < 4 && !self.idle {
                    let track = if action & 1 == 0 { video() } else { audio(choices.below(AUDIO_TRACKS)) };
                    let scale = track.timescale;
                    if let Ok(id) = self.presentation.add_track(track) {
                        self.tracks.push((id, scale, i64::from(choices.byte()) * i64::from(scale.hz()) / 100));
                    }
                }
            }
            0xF5 => {
                if self.tracks.is_empty() || self.idle {
                    return;
                }
                let index = choices.below(self.tracks.len());
                let (id, scale, dts) = self.tracks[index];
                let track = if id.kind == Kind::Video { video() } else { audio(choices.below(AUDIO_TRACKS)) };
                // The timeline rescales the times of a track that changes its rate.
                self.tracks[index] = (id, track.timescale, scale.rescale(dts, track.timescale) + 1);
                self.presentation.set_track(id, track).expect("a good track");
            }
            0xF6 => self.arrived = self.arrived.plus_micros(i64::from(choices.word() % 40_000_000)),
            0xF7 => {
                self.presentation.interrupt(self.arrived);
                self.idle = self.presentation.can_resume();
                if !self.idle {
                    self.tracks.clear();
                }
            }
            0xF8 if self.idle => {
                self.arrived = self.arrived.plus_micros(i64::from(choices.word() % 30_000_000));
                let due = self.presentation.pass(self.arrived).expect("it is interrupted");
                assert!(due > self.arrived, "{due:?} at {:?}", self.arrived);
            }
            0xF9 if self.idle => self.restart(),
            0xFA => {
                // Silent for a while; what comes next may be late, on time, or of a clock that stood still.
                self.arrived = self.arrived.plus_micros(i64::from(choices.word() % 10_000_000));
                self.presentation.pause_where_due(self.arrived);
                self.look();
                self.presentation.pass(self.arrived);
            }
            _ => {
                if self.idle {
                    self.rejoin(choices);
                }
                self.unit(action, choices);
            }
        }
        self.look();
    }

    /// Another publisher, or the same, with a timeline of its own.
    fn rejoin(&mut self, choices: &mut Choices<'_>) {
        self.idle = false;
        for (id, scale, dts) in std::mem::take(&mut self.tracks) {
            let track = if id.kind == Kind::Video { video() } else { audio(choices.below(AUDIO_TRACKS)) };
            let new = track.timescale;
            let id = self.presentation.rejoin_track(id.index, track).expect("a good track");
            let dts = if choices.below(2) == 0 { 0 } else { scale.rescale(dts, new) + 1 };
            self.tracks.push((id, new, dts));
        }
    }

    fn unit(&mut self, action: u8, choices: &mut Choices<'_>) {
        if self.tracks.is_empty() {
            return;
        }
        let index = usize::from(action >> 6) % self.tracks.len();
        let (id, scale, dts) = self.tracks[index];
        let hz = i64::from(scale.hz());
        let duration = match action & 0x07 {
            0..=3 if id.kind == Kind::Audio => 1_024,
            0..=3 => [3_000, 3_600, 1_500, 90_000][usize::from(action & 3)],
            4 => 1,
            5 => i64::from(choices.byte()) * hz / 100,
            6 => i64::from(choices.word() % 20_000) * hz / 1_000,
            _ => hz / 50,
        };
        self.tracks[index].2 = dts + duration.max(1);
        let video = id.kind == Kind::Video;
        let pts = if video { dts + i64::from(action >> 3 & 3) * 3_000 } else { dts };
        let sync = !video || action & 0x20 != 0;
        let size = if action == 0x7F { 200_000 } else { 1 + usize::from(action) };
        self.slab.begin(size);
        self.slab.extend(&vec![action; size]);
        let data = self.slab.take();
        let unit = AccessUnit { dts, pts, sync, captions: action == 0x77, data };
        self.arrived = self.arrived.max(WallTime::from_micros(START + scale.micros(dts)));
        if self.presentation.push(id, unit, self.arrived).is_err() {
            self.presentation.finish(self.arrived);
            self.over = true;
        }
    }

    fn look(&mut self) {
        let changes = self.presentation.take_changes();
        self.evicted |= self.presentation.take_evicted() > 0;
        if let Some(catalog) = changes.catalog {
            if let Some(before) = &self.catalog {
                assert_periods_are_kept(before, &catalog);
                for (old, new) in before.renditions.iter().zip(&catalog.renditions) {
                    assert!(new.peak_bps >= old.peak_bps || new.rendition.id != old.rendition.id);
                }
            }
            self.catalog = Some(catalog);
        }
        for window in changes.windows {
            let before = self.windows.get(&window.rendition.id);
            if let Some(before) = before {
                assert_history_is_kept(before, &window);
            }
            assert_rules_behind(before.map(|before| &**before), &window);
            if let Some(catalog) = &self.catalog {
                assert_formats_are_named(catalog, &window);
            }
            let first = window.segments.first().or(window.open.as_ref()).map_or(window.open_msn, |first| first.msn);
            let first = *self.firsts.entry(window.rendition.id).or_insert(first);
            if !self.evicted {
                assert_long_enough(&window, first);
            }
            self.history.push((self.catalog.clone(), Arc::clone(&window)));
            self.windows.insert(window.rendition.id, window);
        }
    }
}
