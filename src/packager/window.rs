//! An immutable snapshot of what a rendition offers now. Publishing a part is publishing one of these.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;

use super::catalog::Rendition;
use super::part::{Init, Part, Segment};
use crate::media::WallTime;

/// What a rendition offers now. Cloning the `Arc` is all that a viewer costs the publisher: nothing.
#[derive(Debug)]
pub struct Window {
    /// Whose window this is.
    pub rendition: Arc<Rendition>,
    /// Complete segments, oldest first, without a hole in their numbers. Those before `listed` have left the playlist and are still served
    /// (RFC 8216bis §6.2.2).
    pub segments: Vec<Arc<Segment>>,
    /// Index in `segments` of the first one that playlists list.
    pub listed: usize,
    /// The newest segment with media, where gaps have pushed it out of `segments`: MPDs list it, and so it is still served.
    pub survivor: Option<Arc<Segment>>,
    /// The segment in the making, once it has a part.
    pub open: Option<Arc<Segment>>,
    /// Media sequence number of the open segment, whether it has a part yet or not. After the end: one past the last.
    pub open_msn: u64,
    /// Number of the next part, the one that EXT-X-PRELOAD-HINT names.
    pub next_part: u64,
    /// No part and no segment will follow.
    pub ended: bool,
    /// Nothing comes at present: gaps follow one another until media does.
    pub waiting: bool,
    /// Counts the windows of this rendition.
    pub version: u64,
    /// When it was put where viewers look; set once by the shell that does, since the cores know no clock.
    pub published: OnceLock<Instant>,
    /// Playlist text of this window, made when first asked for.
    pub rendered: Rendered,
}

/// The forms of a media playlist that are rendered at most once per window and shared by every viewer.
#[derive(Debug, Default)]
pub struct Rendered {
    /// The whole playlist.
    pub full: Text,
    /// A delta update; the whole playlist where there is nothing to skip.
    pub delta: Text,
}

/// One text in the two codings that are served.
#[derive(Debug, Default)]
pub struct Text {
    plain: OnceLock<Bytes>,
    gzip: OnceLock<Bytes>,
    /// What tells it from all other texts, plain and gzip-coded.
    tags: [OnceLock<Bytes>; 2],
}

impl Text {
    /// The text, rendered by the first caller while others wait.
    pub fn plain(&self, render: impl FnOnce() -> String) -> Bytes {
        self.plain.get_or_init(|| Bytes::from(render())).clone()
    }

    /// Its entity tag, gzip-coded or not, made by the first caller.
    pub fn tag(&self, gzip: bool, make: impl FnOnce() -> Bytes) -> Bytes {
        let [plain, coded] = &self.tags;
        if gzip { coded } else { plain }.get_or_init(make).clone()
    }

    /// The text, gzip-coded or not.
    pub fn coded(&self, gzip: bool, render: impl FnOnce() -> String) -> Bytes {
        if gzip { self.gzip(render) } else { self.plain(render) }
    }

    /// The text, gzip-coded, likewise.
    pub fn gzip(&self, render: impl FnOnce() -> String) -> Bytes {
        self.gzip.get_or_init(|| gzip(&self.plain(render), flate2::Compression::new(4))).clone()
    }
}

/// `text`, gzip-coded: quickly where it is made while viewers wait, as small as can be where it is made once.
pub fn gzip(text: &[u8], level: flate2::Compression) -> Bytes {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(text.len() / 4 + 64), level);
    // Writing to a Vec cannot fail.
    let written = encoder.write_all(text).and_then(|()| encoder.finish());
    Bytes::from(written.unwrap_or_default())
}

impl Window {
    /// The segments that playlists list.
    pub fn listed_segments(&self) -> &[Arc<Segment>] {
        self.segments.get(self.listed..).unwrap_or_default()
    }

    /// EXT-X-MEDIA-SEQUENCE.
    pub fn media_sequence(&self) -> u64 {
        self.listed_segments().first().map_or(self.open_msn, |segment| segment.msn)
    }

    /// EXT-X-DISCONTINUITY-SEQUENCE: the number that held before the first listed segment's own tag.
    pub fn discontinuity_sequence(&self) -> u64 {
        let first = self.listed_segments().first().or(self.open.as_ref());
        first.map_or(0, |first| first.discontinuity_sequence - u64::from(first.discontinuity))
    }

    /// All that is served, oldest first.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &Arc<Segment>> {
        self.survivor.iter().chain(&self.segments).chain(&self.open)
    }

    /// The segment numbered `msn`, complete or open.
    pub fn segment(&self, msn: u64) -> Option<&Arc<Segment>> {
        if let Some(apart) = self.open.iter().chain(&self.survivor).find(|apart| apart.msn == msn) {
            return Some(apart);
        }
        let first = self.segments.first()?.msn;
        self.segments.get(usize::try_from(msn.checked_sub(first)?).ok()?)
    }

    /// Whether `msn` is complete, i.e. will not change any more.
    pub fn is_complete(&self, msn: u64) -> bool {
        self.segments.last().is_some_and(|last| msn <= last.msn)
    }

    /// The part numbered `number`, wherever it is still kept.
    pub fn part(&self, number: u64) -> Option<&Arc<Part>> {
        let segment =
            self.kept().rev().find(|segment| segment.parts.first().is_some_and(|part| part.number <= number))?;
        let first = segment.parts.first()?.number;
        segment.parts.get(usize::try_from(number - first).ok()?)
    }

    /// The init numbered `number`, while a kept segment needs it.
    pub fn init(&self, number: u32) -> Option<&Arc<Init>> {
        if self.rendition.init.number == number {
            return Some(&self.rendition.init);
        }
        self.kept().map(|segment| &segment.init).find(|init| init.number == number)
    }

    /// The wall-clock time at which the newest part ends.
    pub fn edge_date(&self) -> Option<WallTime> {
        let last = self.open.as_ref().or(self.segments.last())?;
        Some(last.date.plus_micros(last.init.track.timescale.micros(last.duration)))
    }

    /// LAST-MSN and LAST-PART of a rendition report: the last part listed, counted within its segment. `None` before the first.
    pub fn last_part(&self) -> Option<(u64, Option<usize>)> {
        let last = self.open.as_ref().or(self.segments.last())?;
        let listed = if last.parts_listed { last.parts.len() } else { self.gap_parts(last) };
        Some((last.msn, listed.checked_sub(1)))
    }

    /// How many parts playlists list for `segment` where it is a gap, else 0.
    pub fn gap_parts(&self, segment: &Segment) -> usize {
        let scale = segment.init.track.timescale;
        segment.gap_parts(self.rendition.config.part_ticks(scale)).len()
    }
}
