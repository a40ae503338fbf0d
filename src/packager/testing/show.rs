//! A presentation in miniature for tests: what segmenters would do with given cuts, without media.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::init;
use crate::media::{Epoch, Kind, MediaTime, RenditionId, Timescale, WallTime};
use crate::packager::catalog::{Catalog, Measured, Rendition};
use crate::packager::config::Config;
use crate::packager::part::{Init, Part, Segment};
use crate::packager::periods::{Begin, Entrant, Grid, Periods};
use crate::packager::window::{Rendered, Text, Window};

/// When every show begins: 2026-03-01T12:00:00Z.
pub(crate) const ZERO: WallTime = WallTime::from_micros(1_772_366_400_000_000);

/// 25 pictures a second at 90 kHz.
pub(crate) const PICTURE: i64 = 3_600;

/// An AAC frame.
const FRAME: i64 = 1_024;

/// All renditions of a stream that is driven cut by cut, the leader first.
pub(crate) struct Show {
    pub(crate) periods: Periods,
    /// Added to the date of what follows: a wall clock that leaves the media timeline.
    pub(crate) late_micros: i64,
    /// How long the leader's last picture before each cut lasts, 90 kHz.
    pub(crate) picture: i64,
    config: Arc<Config>,
    epoch: Epoch,
    tracks: Vec<Line>,
    next_msn: u64,
    published: WallTime,
    ended: bool,
}

struct Line {
    id: RenditionId,
    init: Arc<Init>,
    done: Vec<Arc<Segment>>,
    open: Option<Segment>,
}

impl Show {
    pub(crate) fn new(kinds: &[Kind]) -> Self {
        let line = |kind: &Kind| Line {
            id: RenditionId { kind: *kind, index: 0 },
            init: init(*kind, 0),
            done: Vec::new(),
            open: None,
        };
        Self {
            periods: Periods::new(ZERO, 0),
            late_micros: 0,
            picture: PICTURE,
            config: Arc::new(Config::default()),
            epoch: Epoch::starting(ZERO),
            tracks: kinds.iter().map(line).collect(),
            next_msn: 0,
            published: ZERO,
            ended: false,
        }
    }

    /// All segments end and new ones begin at `at` leader ticks.
    pub(crate) fn cut(&mut self, at: i64, independent: bool, discontinuity: bool) -> Option<MediaTime> {
        let scale = self.tracks[0].init.track.timescale;
        let start = MediaTime::new(at, scale);
        let date = ZERO.plus_micros(start.micros() + self.late_micros);
        self.published = self.published.max(date);
        let grid = Grid { origin: 0, step: FRAME };
        let renditions: Vec<_> =
            self.tracks.iter().map(|line| Entrant { id: line.id, init: line.init.clone(), grid }).collect();
        let picture = if scale == Timescale::NINETY_KHZ { self.picture } else { FRAME };
        let begin =
            Begin { msn: self.next_msn, start, picture, date, independent, discontinuity, renditions: &renditions };
        let predicted = self.periods.segment_begins(&begin);
        for (index, line) in self.tracks.iter_mut().enumerate() {
            let announced = self.periods.announced(line.id);
            let real = match (index, announced) {
                (0, _) => at,
                (_, Some(announced)) => announced.start,
                (_, None) => grid.first_at(start, line.init.track.timescale),
            };
            line.complete(real);
            line.open = Some(Segment {
                msn: self.next_msn,
                discontinuity,
                discontinuity_sequence: 0,
                init: line.init.clone(),
                start: real,
                presentation_start: announced.map_or(real, |announced| announced.start),
                duration: 0,
                announced: announced.map(|announced| announced.duration),
                date,
                parts: vec![part()],
                independent,
                parts_listed: true,
            });
        }
        self.next_msn += 1;
        let kept = self.tracks.iter().filter_map(|line| line.done.first()).map(|first| first.msn).min();
        self.periods.retire(kept.unwrap_or(0));
        predicted
    }

    /// Cuts at each of `at` with a key frame.
    pub(crate) fn cuts(&mut self, at: impl IntoIterator<Item = i64>) {
        for at in at {
            self.cut(at, true, false);
        }
    }

    /// The timeline ends at `at` leader ticks.
    pub(crate) fn stop(&mut self, at: i64) {
        let end = MediaTime::new(at, self.tracks[0].init.track.timescale);
        self.periods.end(end);
        for line in &mut self.tracks {
            line.complete(end.in_scale(line.init.track.timescale));
        }
        self.published = self.published.max(ZERO.plus_micros(end.micros() + self.late_micros));
    }

    /// The stream is over.
    pub(crate) fn finish(&mut self, at: i64) {
        self.stop(at);
        self.ended = true;
    }

    /// No rendition has a part of the newest segment yet.
    pub(crate) fn windows_without_open(&self) -> Vec<Arc<Window>> {
        self.tracks.iter().map(|line| Arc::new(self.window(line, None))).collect()
    }

    pub(crate) fn windows(&self) -> Vec<Arc<Window>> {
        self.tracks.iter().map(|line| Arc::new(self.window(line, line.open.clone().map(Arc::new)))).collect()
    }

    fn rendition(&self, line: &Line) -> Arc<Rendition> {
        let (init, config) = (line.init.clone(), self.config.clone());
        Arc::new(Rendition { id: line.id, epoch: self.epoch, init, config })
    }

    fn window(&self, line: &Line, open: Option<Arc<Segment>>) -> Window {
        let least = line.init.track.timescale.ticks(self.config.listed());
        let mut listed = line.done.len();
        let mut held = 0;
        while listed > 0 && held < least {
            listed -= 1;
            held += line.done[listed].duration;
        }
        Window {
            rendition: self.rendition(line),
            segments: line.done.clone(),
            listed,
            survivor: None,
            open,
            open_msn: self.next_msn.saturating_sub(1),
            next_part: self.next_msn,
            ended: self.ended,
            waiting: false,
            version: self.next_msn,
            published: Default::default(),
            rendered: Rendered::default(),
        }
    }

    pub(crate) fn catalog(&self) -> Catalog {
        let measured = |line: &Line| {
            let video = line.id.kind == Kind::Video;
            let (peak_bps, average_bps) = if video { (3_200_000, 2_900_000) } else { (131_000, 128_000) };
            let frame_rate = if video { 25.0 } else { 0.0 };
            let inits = vec![line.init.clone()];
            Measured { rendition: self.rendition(line), inits, peak_bps, average_bps, frame_rate, captions: false }
        };
        Catalog {
            epoch: self.epoch,
            start: ZERO,
            renditions: self.tracks.iter().map(measured).collect(),
            periods: self.periods.snapshot(),
            longest_micros: 0,
            published: self.published,
            number: 1,
            ended: self.ended,
            multivariant: Text::default(),
        }
    }
}

impl Line {
    fn complete(&mut self, at: i64) {
        if let Some(mut open) = self.open.take() {
            open.duration = at - open.start;
            self.done.push(Arc::new(open));
            // As many as a default window lists, and as many again that have left it.
            let kept = self.init.track.timescale.ticks(Config::default().listed() + Duration::from_secs(16));
            while self.done.first().is_some_and(|first| first.start + kept < at) {
                self.done.remove(0);
            }
        }
    }
}

fn part() -> Arc<Part> {
    let (header, payload) = (Bytes::from_static(b"moof"), vec![Bytes::from_static(b"media")]);
    Arc::new(Part { number: 0, duration: 1, independent: true, header, payload })
}
