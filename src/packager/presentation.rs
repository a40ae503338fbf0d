//! All renditions of one stream: owns the tracks' segmenters and cuts them together. Sans-IO.
//!
//! One track leads: the video track once it has a key frame, else the audio track. Where the leader ends a segment all others do, at their
//! first access unit at or after that time, so that segment numbers and discontinuities mean the same in every rendition.
//!
//! ```text
//!   waiting ── first key frame, or audio alone for HEAD_START ──► running ── finish ──► ended
//!      ▲ audio is held back, bounded                              │  │ ▲
//!      │                                                          │  └─┘ add_track: the new rendition joins at the open segment's number
//!      └───────────────── interrupt, pass (gaps) ─────────────────┘ the publisher is gone, or silent, and may come back (`resume`)
//! ```

mod changes;
mod cuts;
mod rates;
mod resume;
mod saving;
mod silence;
mod start;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use self::changes::Changes;
use self::cuts::{Before, Cut, FirstCut};
use self::resume::Paused;
use self::silence::Pace;
use super::catalog::Rendition;
use super::clock::Clock;
use super::config::Config;
use super::fmp4::init;
use super::part::Init;
use super::periods::Periods;
use super::segmenter::{Opening, Progress, Segmenter};
use crate::media::{AccessUnit, Epoch, Kind, MediaTime, RenditionId, Timescale, Track, WallTime};

/// Tracks of one kind that a presentation may have.
pub const MAX_TRACKS: u8 = 16;
/// How long audio waits for a first picture before it leads alone.
const HEAD_START: Duration = Duration::from_millis(1_500);
/// Access units held back while waiting for the first picture: more than `HEAD_START` of any codec's frames.
const MAX_WAITING: usize = 256;

/// Why a track or an access unit is refused: the publisher's fault, and told to him in these words.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More than [`MAX_TRACKS`] of a kind.
    #[error("a stream may have {MAX_TRACKS} tracks of a kind")]
    TooManyTracks,
    /// The codec configuration cannot be packaged.
    #[error(transparent)]
    Init(#[from] init::Error),
    /// `packager.require_keyframes`.
    #[error("key frames must come at least every {0} s; set the encoder's key frame interval to 2 s")]
    KeyFramesTooFar(u64),
    /// One segment would exceed the stream's memory.
    #[error(
        "the bit rate is too high: one segment exceeds half of packager.max_bytes, or of what is left of packager.max_total_bytes ({0})"
    )]
    BitRateTooHigh(bytesize::ByteSize),
}

/// Where a new life's numbers begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Media sequence number of the first segment.
    pub media: u64,
    /// Its discontinuity sequence number.
    pub discontinuity: u64,
}

/// All renditions of one stream.
#[derive(Debug)]
pub struct Presentation {
    config: Arc<Config>,
    epoch: Epoch,
    tracks: Vec<Entry>,
    /// Index of the track that decides where segments end.
    leader: Option<usize>,
    /// Audio that came before the first picture.
    waiting: VecDeque<(usize, AccessUnit, WallTime)>,
    /// When the first of it is presented.
    waiting_since: Option<MediaTime>,
    clock: Clock,
    /// The leader's newest cuts, oldest first: tracks that lag behind have yet to make them.
    cuts: VecDeque<Cut>,
    /// What DASH is told; `None` before the first cut.
    periods: Option<Periods>,
    /// The very first cut, until the second one: only then is it known which tracks there are.
    first: Option<FirstCut>,
    /// Numbers of the leader's segment in the making.
    next: Sequence,
    /// When the first sample is presented: availabilityStartTime.
    start: WallTime,
    /// When anything came last. Never goes back.
    published: WallTime,
    /// What is added to the publisher's times, microseconds; `None` between an interruption and the first access unit after it.
    base: Option<i64>,
    /// Where the gaps so far end, on the presentation timeline in microseconds, while nobody publishes.
    idle: Option<i64>,
    /// The publisher is there, though nothing is heard of it; `None` where nobody publishes.
    paused: Option<Paused>,
    /// Another track has broken off since the leader's last cut: its next segment counts a discontinuity too.
    discontinuity_due: bool,
    /// The catalog has changed since viewers were shown it.
    catalog_due: bool,
    /// Catalogs made so far.
    catalogs: u64,
    /// Segments that `packager.max_bytes` has pushed out and nobody was told of.
    evicted: u64,
    /// What may be kept: `packager.max_bytes`, or this stream's share where all streams keep too much together.
    most: bytesize::ByteSize,
    ended: bool,
}

/// One track of it.
#[derive(Debug)]
struct Entry {
    segmenter: Segmenter,
    /// What the last published window showed.
    shown: Progress,
    /// Unit of the publisher's times; the rendition keeps its own, whatever a publisher brings later.
    source: Timescale,
    /// A new format takes effect with the next access unit that can be decoded alone.
    next_init: Option<Arc<Init>>,
    /// Inits made so far: the number of the next one.
    inits: u32,
    /// Rates shown to viewers; they never fall.
    peak_bps: u64,
    /// How it keeps up with the leader.
    pace: Pace,
    /// Access units dropped because nothing before them could be decoded.
    undecodable: u64,
    /// An access unit with closed captions has come.
    captions: bool,
}

impl Presentation {
    /// An empty presentation whose first segment will be numbered `first.media`.
    pub fn new(config: Arc<Config>, epoch: Epoch, first: Sequence) -> Self {
        let start = WallTime::from_micros(i64::try_from(epoch.millis()).unwrap_or(0).saturating_mul(1_000));
        Self {
            most: config.max_bytes,
            config,
            epoch,
            tracks: Vec::new(),
            leader: None,
            waiting: VecDeque::new(),
            waiting_since: None,
            clock: Clock::default(),
            cuts: VecDeque::new(),
            periods: None,
            first: None,
            next: first,
            start,
            published: start,
            base: Some(0),
            idle: None,
            paused: None,
            discontinuity_due: false,
            catalog_due: false,
            catalogs: 0,
            evicted: 0,
            ended: false,
        }
    }

    /// Adds a track. Its rendition is offered once it has media.
    ///
    /// # Errors
    /// [`Error::TooManyTracks`], [`Error::Init`].
    pub fn add_track(&mut self, track: Track) -> Result<RenditionId, Error> {
        let kind = track.format.kind();
        let index = self.tracks.iter().filter(|entry| entry.segmenter.kind() == kind).count();
        let index = u8::try_from(index).ok().filter(|index| *index < MAX_TRACKS).ok_or(Error::TooManyTracks)?;
        let id = RenditionId { kind, index };
        let source = track.timescale;
        let init = Arc::new(Init { number: 0, bytes: init::write(&track)?, track });
        let rendition = Arc::new(Rendition { id, epoch: self.epoch, init, config: Arc::clone(&self.config) });
        self.tracks.push(Entry {
            segmenter: Segmenter::new(rendition, self.next.media),
            shown: Progress::default(),
            source,
            next_init: None,
            inits: 1,
            peak_bps: 0,
            pace: Pace::default(),
            undecodable: 0,
            captions: false,
        });
        Ok(id)
    }

    /// The track's format changes with the next access unit that can be decoded alone: new init, discontinuity.
    ///
    /// # Errors
    /// [`Error::Init`].
    pub fn set_track(&mut self, id: RenditionId, track: Track) -> Result<(), Error> {
        let mut tracks = self.tracks.iter_mut().enumerate();
        let Some((index, entry)) = tracks.find(|(_, entry)| entry.segmenter.id() == id) else {
            return Ok(());
        };
        let source = track.timescale;
        let track = Track { timescale: entry.segmenter.timescale(), ..track };
        let bytes = init::write(&track)?;
        entry.source = source;
        entry.next_init = Some(Arc::new(Init { number: entry.inits, bytes, track }));
        entry.inits += 1;
        // What waits was meant for the format before, with which nothing can begin any more.
        self.waiting.retain(|(waiting, ..)| *waiting != index);
        Ok(())
    }

    /// Takes one access unit of rendition `id`, which arrived at `now`.
    ///
    /// # Errors
    /// [`Error::KeyFramesTooFar`], [`Error::BitRateTooHigh`]; the presentation should be finished then.
    pub fn push(&mut self, id: RenditionId, mut unit: AccessUnit, now: WallTime) -> Result<(), Error> {
        let Some(index) = self.tracks.iter().position(|entry| entry.segmenter.id() == id) else {
            return Ok(());
        };
        self.published = self.published.max(now);
        if let Some(entry) = self.tracks.get_mut(index) {
            entry.captions |= unit.captions;
        }
        if self.comes_late(index, &unit, now) {
            return Ok(());
        }
        self.place(index, &mut unit, now);
        match self.leader {
            None => self.wait_for_leader(index, unit, now),
            Some(leader) => {
                let takes_over = self.kind(index) == Some(Kind::Video)
                    && self.kind(leader) == Some(Kind::Audio)
                    && unit.sync
                    && (!self.started(index) || self.can_rejoin(index, &unit));
                if takes_over {
                    self.leader = Some(index);
                } else if leader != index {
                    self.replace_silent_leader(leader, index, &unit);
                }
                self.write(index, unit, now)?;
                if takes_over && !self.runs(index) {
                    self.leader = Some(leader);
                }
            }
        }
        self.check_memory()
    }

    /// The track that decides where segments end.
    fn leading(&self) -> Option<&Segmenter> {
        self.leader.and_then(|leader| self.tracks.get(leader)).map(|entry| &entry.segmenter)
    }

    fn kind(&self, index: usize) -> Option<Kind> {
        self.tracks.get(index).map(|entry| entry.segmenter.kind())
    }

    fn started(&self, index: usize) -> bool {
        self.tracks.get(index).is_some_and(|entry| entry.segmenter.has_started())
    }

    /// Whether the track has media, and the last of it was no gap.
    fn runs(&self, index: usize) -> bool {
        self.tracks.get(index).is_some_and(|entry| entry.segmenter.is_running())
    }

    /// Writes `unit` to its track, behind a cut where there must be one.
    fn write(&mut self, index: usize, unit: AccessUnit, now: WallTime) -> Result<(), Error> {
        let leads = self.leader == Some(index);
        let Some(entry) = self.tracks.get_mut(index) else { return Ok(()) };
        if !entry.segmenter.has_started() {
            return self.start_track(index, unit, now);
        }
        if entry.segmenter.is_idle() {
            self.rejoin(index, unit, now);
            return Ok(());
        }
        let time = entry.segmenter.presentation_time(&unit);
        self.clock.observe(time.micros(), now);

        let format_changes = entry.next_init.is_some();
        if format_changes && !unit.sync {
            entry.undecodable += 1;
            return Ok(());
        }
        let breaks = format_changes || entry.segmenter.is_hole(&unit);
        if leads {
            self.cut_where_due(index, &unit, breaks)?;
        }
        let before = self.what_comes_before(index, &unit, breaks);
        let Some(entry) = self.tracks.get_mut(index) else { return Ok(()) };
        let opening = match before {
            Before::Nothing => None,
            Before::Cut(opening) => Some(opening),
            Before::TooManyDiscontinuities => {
                entry.undecodable += 1;
                return Ok(());
            }
        };
        let changed = if opening.is_some() { entry.next_init.take() } else { None };
        let msn = entry.segmenter.open_msn();
        entry.segmenter.push(unit, opening, self.clock.offset());
        if let Some(init) = changed {
            entry.segmenter.set_init(init);
            self.catalog_due = true;
        }
        if opening.is_some() && leads {
            self.catalog_due = true;
        }
        if leads {
            self.follow_forced_cuts(index);
            self.list_what_is_due(breaks);
            self.note_leader();
        } else {
            self.note_where_it_began(index, msn);
            self.note_follower(index);
        }
        Ok(())
    }

    /// Bytes of media kept for viewers, and of what is gathering for them.
    pub fn bytes(&self) -> usize {
        self.tracks.iter().map(|entry| entry.segmenter.bytes().0).sum()
    }

    /// Keeps no more than `share` from the next access unit on, where that is less than `packager.max_bytes`.
    pub fn limit_memory(&mut self, share: bytesize::ByteSize) {
        self.most = self.config.max_bytes.min(share);
    }

    fn check_memory(&mut self) -> Result<(), Error> {
        let most = usize::try_from(self.most.as_u64()).unwrap_or(usize::MAX);
        loop {
            if self.tracks.iter().any(|entry| entry.segmenter.bytes().1 > most / 2) {
                return Err(Error::BitRateTooHigh(self.most));
            }
            if self.bytes() <= most {
                return Ok(());
            }
            let largest = self.tracks.iter_mut().max_by_key(|entry| entry.segmenter.bytes().0);
            if !largest.is_some_and(|entry| entry.segmenter.drop_oldest()) {
                return Ok(());
            }
            self.evicted += 1;
        }
    }

    /// No access unit follows: every segment ends, viewers see the end.
    pub fn finish(&mut self, now: WallTime) {
        self.published = self.published.max(now);
        self.tell_periods_of_the_first_cut();
        self.end_period();
        for entry in &mut self.tracks {
            entry.segmenter.finish(self.clock.offset());
        }
        self.ended = true;
        self.catalog_due = true;
    }

    /// The number that the next segment after the open one would get: what must have been reserved beyond.
    pub fn next_sequence(&self) -> Sequence {
        Sequence { media: self.next.media + 1, discontinuity: self.next.discontinuity }
    }

    /// Segments that went before their time since this was called last, because `packager.max_bytes` was reached.
    pub fn take_evicted(&mut self) -> u64 {
        std::mem::take(&mut self.evicted)
    }
}
