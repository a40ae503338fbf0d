//! What the header says. Times are in ticks of the track unless the name says microseconds.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Refused;
use crate::media::codec::{aac, h264, mp3};
use crate::media::reader::Reader;
use crate::media::{Format, Timescale, Track, WallTime};
use crate::packager::Config;
use crate::packager::part::{Init, Part, Segment};

/// No number, time or date of a stream comes near it, and sums of a few of them cannot overflow.
const MOST: i64 = 1 << 53;
/// No segment is longer: a day of the fastest clock that codecs have.
const LONGEST: i64 = 1 << 40;

/// A stream as it was when the server stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// APP/NAME.
    pub stream: String,
    /// When the publisher was gone, or the server stopped, Unix microseconds.
    pub left_micros: i64,
    /// Who it was.
    pub publisher: PublisherState,
    /// The rules it was packaged by.
    pub config: Config,
    /// What viewers had.
    pub presentation: State,
}

/// Who published last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublisherState {
    /// `rtmp`, …
    pub protocol: String,
    /// Where the connection came from.
    pub peer: std::net::SocketAddr,
    /// Since when, Unix microseconds.
    pub since_micros: i64,
    /// The name of the credential.
    pub holder: String,
}

/// An interrupted presentation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// As in URLs.
    pub epoch: String,
    /// availabilityStartTime, Unix microseconds.
    pub start_micros: i64,
    /// publishTime, Unix microseconds.
    pub published_micros: i64,
    /// From media time to Unix time, microseconds.
    pub clock_offset_micros: i64,
    /// Where the gaps so far end on the presentation timeline.
    pub idle_micros: i64,
    /// Media sequence number of the last segment.
    pub media_sequence: u64,
    /// Its discontinuity sequence number.
    pub discontinuity_sequence: u64,
    /// The next segment counts a discontinuity.
    pub discontinuity_due: bool,
    /// DASH periods, all closed.
    pub periods: Vec<PeriodState>,
    /// In the order in which they were added.
    pub tracks: Vec<TrackState>,
}

/// A DASH period. Spec: ISO/IEC 23009-1 §5.3.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodState {
    /// `Period@id`.
    pub id: u64,
    /// `Period@start`.
    pub start_micros: i64,
    /// `Period@duration`.
    pub duration_micros: i64,
    /// Connected with the one before.
    pub connected: bool,
    /// Its segments were announced.
    pub low_latency: bool,
    /// Its renditions.
    pub shares: Vec<PeriodShareState>,
}

/// One rendition's share of a period.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodShareState {
    /// `v0`, …
    pub id: String,
    /// Number of its init.
    pub init: u32,
    /// First segment.
    pub first_msn: u64,
    /// The first one that is no longer of it.
    pub end_msn: u64,
    /// `@presentationTimeOffset`.
    pub offset: i64,
}

/// One rendition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrackState {
    /// `v0`, …
    pub id: String,
    /// Hz.
    pub timescale: u32,
    /// Inits made so far, those that are forgotten among them.
    pub inits_made: u32,
    /// The newest one's number.
    pub init: u32,
    /// Those that something still needs.
    pub inits: Vec<InitState>,
    /// Shown to viewers.
    pub peak_bps: u64,
    /// Closed captions have been seen.
    pub captions: bool,
    /// `None` where it has brought no media yet.
    pub line: Option<LineState>,
}

/// An init segment; its bytes are in the payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitState {
    /// K of `init-K.mp4`.
    pub number: u32,
    /// Of the track.
    pub language: String,
    /// What it describes.
    pub format: FormatState,
    /// Bytes in the payload.
    pub bytes: u32,
}

/// What formats are made from again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FormatState {
    /// An AVCDecoderConfigurationRecord.
    H264(Vec<u8>),
    /// An AudioSpecificConfig.
    Aac(Vec<u8>),
    /// Sample rate in Hz, channels.
    Mp3(u32, u8),
}

/// A rendition's segments and counters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineState {
    /// Delay from decoding to presentation.
    pub reordering: i64,
    /// Duration of the last access unit.
    pub last_duration: i64,
    /// Decode time at which the last gap, or the media, ends.
    pub idle: i64,
    /// Discontinuity sequence number of the segment in the making.
    pub discontinuity_sequence: u64,
    /// Media sequence number of the segment in the making.
    pub open_msn: u64,
    /// Number of the next part.
    pub next_part: u64,
    /// `mfhd` of the next chunk.
    pub chunk_sequence: u32,
    /// Windows so far.
    pub version: u64,
    /// Measured: highest bit rate, bytes, duration, samples of complete segments.
    pub totals: (u64, u64, i64, u64),
    /// Index of the first segment that is listed.
    pub listed: u32,
    /// The newest segment with media and its number, where gaps have pushed it out of `segments`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survivor: Option<(u64, SegmentState)>,
    /// Oldest first, without a hole in their numbers; the last one is `open_msn` - 1.
    pub segments: Vec<SegmentState>,
}

/// A complete segment; the bytes of its parts are in the payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentState {
    /// A discontinuity stands before it.
    pub discontinuity: bool,
    /// Its discontinuity sequence number.
    pub discontinuity_sequence: u64,
    /// Number of its init.
    pub init: u32,
    /// Decode time.
    pub start: i64,
    /// Presentation time.
    pub presentation_start: i64,
    /// Length.
    pub duration: i64,
    /// `S@d` of DASH, where it was announced.
    pub announced: Option<i64>,
    /// Unix time in microseconds.
    pub date_micros: i64,
    /// It begins with a key frame.
    pub independent: bool,
    /// Playlists name its parts.
    pub parts_listed: bool,
    /// Number of its first part.
    pub first_part: u64,
    /// Duration, independent, bytes of the header, bytes of media. None: a gap.
    pub parts: Vec<(i64, bool, u32, u32)>,
}

/// How far two clocks of one stream can be apart, microseconds. A publisher that was silent, or ran fast, before it went explains minutes.
const APART_MICROS: i64 = 3_600_000_000;

/// Whether two times that were the same once can be so far apart.
pub fn is_near(a: WallTime, b_micros: i64) -> bool {
    a.micros().saturating_sub(b_micros).saturating_abs() <= APART_MICROS
}

/// A count, or a number that counts up.
pub(in crate::packager) fn number(number: u64) -> Result<u64, Refused> {
    if number < MOST.unsigned_abs() { Ok(number) } else { Err(Refused::Wrong("a number is too large")) }
}

/// A point in time.
pub(in crate::packager) fn tick(time: i64) -> Result<i64, Refused> {
    if time.unsigned_abs() < MOST.unsigned_abs() { Ok(time) } else { Err(Refused::Wrong("a time is too far away")) }
}

/// A duration that is not zero.
pub(in crate::packager) fn length(duration: i64) -> Result<i64, Refused> {
    if (1..LONGEST).contains(&duration) { Ok(duration) } else { Err(Refused::Wrong("a duration is impossible")) }
}

/// The payload, taken from its beginning.
#[derive(Debug)]
pub(in crate::packager) struct Payload<'a>(Reader<'a>);

impl<'a> Payload<'a> {
    pub(in crate::packager) fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }

    /// A copy, so that what is retired later gives its memory back.
    pub(in crate::packager) fn take(&mut self, count: usize) -> Result<Bytes, Refused> {
        self.0.take(count).map(Bytes::copy_from_slice).map_err(|_| Refused::Wrong("its payload is too short"))
    }

    pub(in crate::packager) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FormatState {
    fn of(format: &Format) -> Self {
        match format {
            Format::H264(config) => Self::H264(config.record.to_vec()),
            Format::Aac(config) => Self::Aac(config.record.to_vec()),
            Format::Mp3(config) => Self::Mp3(config.sample_rate, config.channels),
        }
    }

    fn format(&self) -> Result<Format, Refused> {
        let format = match self {
            Self::H264(record) => h264::Config::parse(record).ok().map(Format::H264),
            Self::Aac(record) => aac::Config::parse(record).ok().map(Format::Aac),
            Self::Mp3(sample_rate, channels) => mp3::Config::new(*sample_rate, *channels).map(Format::Mp3),
        };
        format.ok_or(Refused::Wrong("a codec's configuration is broken"))
    }
}

impl InitState {
    /// What describes `init`, whose bytes go to the end of `payload`.
    pub(in crate::packager) fn of(init: &Init, payload: &mut Vec<Bytes>) -> Self {
        payload.push(init.bytes.clone());
        Self {
            number: init.number,
            language: init.track.language.clone(),
            format: FormatState::of(&init.track.format),
            bytes: u32::try_from(init.bytes.len()).unwrap_or(u32::MAX),
        }
    }

    pub(in crate::packager) fn init(
        &self,
        timescale: Timescale,
        payload: &mut Payload<'_>,
    ) -> Result<Arc<Init>, Refused> {
        let language = self.language.clone();
        let plain = language.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !plain || language.len() > 35 {
            return Err(Refused::Wrong("a language is none"));
        }
        let track = Track { format: self.format.format()?, timescale, language };
        let bytes = payload.take(usize::try_from(self.bytes).unwrap_or(usize::MAX))?;
        Ok(Arc::new(Init { number: self.number, bytes, track }))
    }
}

impl SegmentState {
    /// What describes `segment`, whose parts go to the end of `payload`.
    pub(in crate::packager) fn of(segment: &Segment, payload: &mut Vec<Bytes>) -> Self {
        let size = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let part = |part: &Arc<Part>| {
            payload.extend(part.slices());
            let media = part.len() - part.header.len();
            (part.duration, part.independent, size(part.header.len()), size(media))
        };
        Self {
            discontinuity: segment.discontinuity,
            discontinuity_sequence: segment.discontinuity_sequence,
            init: segment.init.number,
            start: segment.start,
            presentation_start: segment.presentation_start,
            duration: segment.duration,
            announced: segment.announced,
            date_micros: segment.date.micros(),
            independent: segment.independent,
            parts_listed: segment.parts_listed,
            first_part: segment.parts.first().map_or(0, |part| part.number),
            parts: segment.parts.iter().map(part).collect(),
        }
    }

    /// The segment numbered `msn`. All of its bytes are one allocation.
    pub(in crate::packager) fn segment(
        &self,
        msn: u64,
        init: Arc<Init>,
        payload: &mut Payload<'_>,
    ) -> Result<Segment, Refused> {
        let bytes: u64 = self.parts.iter().map(|(.., header, media)| u64::from(*header) + u64::from(*media)).sum();
        let mut bytes = payload.take(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        number(self.first_part)?;
        let mut parts = Vec::with_capacity(self.parts.len());
        for (number, (duration, independent, header, media)) in (self.first_part..).zip(&self.parts) {
            // Both were counted above.
            let header = bytes.split_to(usize::try_from(*header).unwrap_or(0).min(bytes.len()));
            let media = bytes.split_to(usize::try_from(*media).unwrap_or(0).min(bytes.len()));
            let (duration, independent) = (length(*duration)?, *independent);
            parts.push(Arc::new(Part { number, duration, independent, header, payload: vec![media] }));
        }
        Ok(Segment {
            msn,
            discontinuity: self.discontinuity,
            discontinuity_sequence: number(self.discontinuity_sequence)?,
            init,
            start: tick(self.start)?,
            presentation_start: tick(self.presentation_start)?,
            duration: length(self.duration)?,
            announced: self.announced.map(length).transpose()?,
            date: WallTime::from_micros(tick(self.date_micros)?),
            parts,
            independent: self.independent,
            parts_listed: self.parts_listed && !self.parts.is_empty(),
        })
    }
}
