//! The complete segments of a rendition: which of them playlists list, which are kept for those who still ask, and what was measured of them.

use std::sync::Arc;

use crate::media::Timescale;
use crate::packager::config::{Config, LEAST_SEGMENTS};
use crate::packager::part::Segment;

/// Complete segments, oldest first.
#[derive(Debug)]
pub(super) struct Segments {
    all: Vec<Arc<Segment>>,
    /// How many of them have left the playlist: the index of the first one that is listed.
    listed: usize,
    /// The newest one with media, where it is older than all of them and they were nothing but gaps when it left them.
    survivor: Option<Arc<Segment>>,
    /// Bytes of all that is kept, counted as they come and go.
    bytes: usize,
    retention: Retention,
    totals: Totals,
    /// Samples of the segment in the making.
    open_samples: u64,
}

/// How long segments stay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Retention {
    /// A playlist lists at least this many ticks.
    listed: i64,
    /// The longest playlist that may have listed a segment, ticks: what is listed at least, and segments that could not leave yet.
    longest_playlist: i64,
    /// Most segments listed, and as many kept behind them. Only discontinuities make segments that are shorter than they should be, and a
    /// publisher of nothing else would make lists without end.
    most: usize,
}

impl Retention {
    /// As `config` says, for a track whose segments are shorter than `longest_segment` ticks of `scale`.
    pub(super) fn new(config: &Config, longest_segment: i64, scale: Timescale) -> Self {
        let listed = scale.ticks(config.listed());
        // Four times what regular streams make, and some more where that is little.
        let regular = config.listed().as_millis() / config.segment_target.as_millis().max(1);
        let most = usize::try_from(regular).unwrap_or(usize::MAX).saturating_mul(4).saturating_add(16);
        Self { listed, longest_playlist: listed + 3 * longest_segment, most }
    }
}

/// What was measured of complete segments.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::packager) struct Totals {
    /// Peak segment bit rate, bits a second.
    pub(in crate::packager) peak_bps: u64,
    /// Bytes of all complete segments.
    pub(in crate::packager) bytes: u64,
    /// Their duration in ticks.
    pub(in crate::packager) ticks: i64,
    /// Samples of the complete segments in the newest format.
    pub(in crate::packager) samples: u64,
    /// How long those last, ticks.
    pub(in crate::packager) sampled_ticks: i64,
    /// The longest complete segment, ticks.
    pub(in crate::packager) longest: i64,
}

impl Totals {
    /// Samples of all complete segments, as if they had always come at the rate of the newest format.
    pub(in crate::packager) fn samples_throughout(&self) -> u64 {
        let all = i128::from(self.samples) * i128::from(self.ticks) / i128::from(self.sampled_ticks.max(1));
        u64::try_from(all).unwrap_or(0)
    }
}

impl Segments {
    pub(super) fn new(retention: Retention) -> Self {
        Self {
            all: Vec::new(),
            listed: 0,
            survivor: None,
            bytes: 0,
            retention,
            totals: Totals::default(),
            open_samples: 0,
        }
    }

    /// The same with what was complete before.
    pub(super) fn restored(
        self,
        survivor: Option<Arc<Segment>>,
        all: Vec<Arc<Segment>>,
        listed: usize,
        totals: Totals,
    ) -> Self {
        let kept = || survivor.iter().chain(&all);
        let longest = kept().filter(|segment| !segment.is_gap()).map(|segment| segment.duration).max();
        let totals = Totals { longest: longest.unwrap_or(0), ..totals };
        let bytes = kept().map(|segment| segment.len()).sum();
        Self { survivor, bytes, all, listed, totals, ..self }
    }

    pub(super) fn all(&self) -> &[Arc<Segment>] {
        &self.all
    }

    /// The newest one with media, while only gaps are behind it and it has left them.
    pub(super) fn survivor(&self) -> Option<&Arc<Segment>> {
        self.survivor.as_ref()
    }

    /// Index of the first one that playlists list.
    pub(super) fn listed(&self) -> usize {
        self.listed
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// A segment is complete, or a gap has passed.
    pub(super) fn push(&mut self, segment: Arc<Segment>) {
        self.bytes += segment.len();
        self.all.push(segment);
    }

    /// A part of the segment in the making has come with so many samples.
    pub(super) fn count_samples(&mut self, count: usize) {
        self.open_samples += count as u64;
    }

    /// What comes next has another format, and so another rate of samples.
    pub(super) fn forget_samples(&mut self) {
        (self.totals.samples, self.totals.sampled_ticks, self.open_samples) = (0, 0, 0);
    }

    /// Counts the newest segment in what is measured. `target` is the target duration in ticks of `scale`.
    pub(super) fn measure(&mut self, target: i64, scale: Timescale) {
        let Some(newest) = self.all.last() else { return };
        self.totals.bytes += newest.len() as u64;
        self.totals.ticks += newest.duration;
        self.totals.sampled_ticks += newest.duration;
        self.totals.samples += std::mem::take(&mut self.open_samples);
        self.totals.longest = self.totals.longest.max(newest.duration);
        self.totals.peak_bps = self.totals.peak_bps.max(self.newest_rate(target, u64::from(scale.hz())));
    }

    /// The highest bit rate of a contiguous set of segments that ends with the newest and is 0.5 target durations to 1.5 and half a second long, bits
    /// a second: the stump that a publisher leaves who drops is little more than a key frame, and no peak by itself. Where all that came is shorter
    /// than that, it is the rate of all of it. Spec: RFC 8216bis §4.4.6.2 (BANDWIDTH), §4.1 (peak segment bit rate).
    fn newest_rate(&self, target: i64, hz: u64) -> u64 {
        // A two-second segment whose times were rounded to milliseconds counts by itself.
        let half_a_second = i64::try_from(hz / 2).unwrap_or(i64::MAX);
        let (least, most) = (target / 2 - target / 40, (target.saturating_mul(3) / 2).saturating_add(half_a_second));
        let (mut bytes, mut ticks, mut highest) = (0_u64, 0_i64, None);
        for segment in self.all.iter().rev().take_while(|segment| !segment.is_gap()) {
            bytes += segment.len() as u64;
            ticks += segment.duration;
            if ticks > most {
                break;
            }
            if ticks >= least {
                highest = highest.max(Some(rate(bytes, ticks, hz)));
            }
        }
        highest.unwrap_or_else(|| if self.totals.peak_bps == 0 { rate(bytes, ticks, hz) } else { 0 })
    }

    /// Takes segments off the playlist, and drops those that nobody may ask for any more.
    pub(super) fn retire(&mut self) {
        self.unlist();
        self.forget();
    }

    /// The oldest leave the playlist while it is long enough without them, or lists more than it may.
    fn unlist(&mut self) {
        let mut ticks: i64 = self.all.iter().skip(self.listed).map(|segment| segment.duration).sum();
        while let Some(oldest) = self.all.get(self.listed) {
            let count = self.all.len() - self.listed;
            let rest = ticks - oldest.duration;
            let can_go = rest >= self.retention.listed || count > self.retention.most;
            if count <= LEAST_SEGMENTS as usize || !can_go {
                return;
            }
            ticks = rest;
            self.listed += 1;
        }
    }

    /// A segment that has left the playlist stays for its own duration and that of the longest playlist that listed it (RFC 8216bis §6.2.2). The newest one
    /// with media stays however many gaps come: it is what an MPD lists then. It goes when the next one does, since all renditions show something newer by then.
    fn forget(&mut self) {
        let mut behind = 0;
        let unlisted = self.all.iter().take(self.listed).rev().take(self.retention.most);
        let kept = unlisted.take_while(|segment| {
            let due = behind > self.retention.longest_playlist;
            behind += segment.duration;
            !due
        });
        let gone = self.listed - kept.count();
        let mut newest = None;
        for segment in self.all.drain(..gone) {
            self.bytes -= segment.len();
            newest = Some(segment).filter(|segment| !segment.is_gap()).or(newest);
        }
        self.listed -= gone;
        if newest.is_some() {
            self.drop_survivor();
            self.survivor = newest.filter(|_| self.all.iter().all(|segment| segment.is_gap()));
            self.bytes += self.survivor.as_ref().map_or(0, |survivor| survivor.len());
        }
    }

    fn drop_survivor(&mut self) -> bool {
        let survivor = self.survivor.take();
        self.bytes -= survivor.as_ref().map_or(0, |survivor| survivor.len());
        survivor.is_some()
    }

    /// Forgets the oldest, listed or not. False where only the newest is left.
    pub(super) fn drop_oldest(&mut self) -> bool {
        if self.drop_survivor() {
            return true;
        }
        if self.all.len() < 2 {
            return false;
        }
        self.bytes -= self.all.remove(0).len();
        self.listed = self.listed.saturating_sub(1);
        true
    }
}

fn rate(bytes: u64, ticks: i64, hz: u64) -> u64 {
    bytes.saturating_mul(8).saturating_mul(hz) / u64::try_from(ticks.max(1)).unwrap_or(1)
}
