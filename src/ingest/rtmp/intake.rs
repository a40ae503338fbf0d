//! Media messages in, tracks and access units out.
//!
//! A message's tag header says where the rest goes. An access unit's payload is appended to its track's [`Slab`]: the only copy of payload
//! in this program. Where a second message of the same track arrives interleaved on another chunk stream, it gathers in a buffer of its
//! own, so that neither is torn.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::chunk::{self, Piece};
use super::flv::{self, Content, Head};
use crate::ingest::timeline::{Repair, Repairs, Timeline};
use crate::media::codec::{aac, h264, mp3};
use crate::media::{AccessUnit, Format, Kind, Slab, Timescale, Track};

/// Longest configuration record. Real ones have less than 300 bytes; it is parsed, kept and sent to every viewer.
const MAX_CONFIG_BYTES: usize = 16 * 1024;
/// New configurations before the publisher is stopped, and how long one takes to be forgotten: each costs every viewer a new init and a
/// discontinuity, and one a picture would bury them.
const MAX_FORMAT_CHANGES: u32 = 16;
const FORMAT_CHANGE_EVERY: Duration = Duration::from_secs(2);
/// The slot of tags that came in an aggregate, behind those of the chunk streams.
pub(super) const AGGREGATE_SLOT: usize = chunk::MAX_CHUNK_STREAMS;

/// The publisher's formats change too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {MAX_FORMAT_CHANGES} changes of codec configuration in a row")]
pub struct TooManyFormats;

/// What comes out.
#[derive(Debug)]
pub(super) enum Output {
    /// A track begins, or its format changes with the next access unit.
    Track(Track),
    /// The next access unit of the track of that kind, times in its timescale.
    Unit(Kind, AccessUnit),
    /// A track is not taken, in words. Said once until the track has a configuration that is.
    Refused(Kind, String),
}

/// Gathers one publisher's media.
#[derive(Debug)]
pub(super) struct Intake {
    video: Lane,
    audio: Lane,
    gathers: Vec<Gather>,
    timeline: Timeline,
    outputs: VecDeque<Output>,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            video: Lane::default(),
            audio: Lane::default(),
            gathers: (0..=AGGREGATE_SLOT).map(|_| Gather::default()).collect(),
            timeline: Timeline::default(),
            outputs: VecDeque::new(),
        }
    }
}

/// One track's state.
#[derive(Debug, Default)]
struct Lane {
    slab: Slab,
    /// An access unit is gathering in the slab.
    busy: bool,
    track: Option<Track>,
    /// The configuration that was refused last, or the codec: to say it once.
    refused: Option<String>,
    changes: u32,
    last_change: Option<Instant>,
}

/// Where the rest of a chunk stream's message goes.
#[derive(Debug, Default)]
enum Gather {
    /// Nowhere: between messages, or the message is of no use.
    #[default]
    Skip,
    /// The tag header is not complete.
    Head { bytes: [u8; flv::MAX_HEAD_BYTES], length: usize },
    /// The track's slab.
    Slab { kind: Kind, content: Content },
    /// A buffer of its own, which grows with what arrives and is bounded by the chunk decoder's limits.
    Own { content: Content, bytes: BytesMut },
}

impl Intake {
    pub(super) fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    pub(super) fn take_repairs(&mut self) -> Repairs {
        self.timeline.take_repairs()
    }

    /// The publisher's metadata names a picture rate.
    pub(super) fn declare_rate(&mut self, rate: f64) {
        if rate.is_finite() && (1.0..=240.0).contains(&rate) {
            self.timeline.declare_rate((rate * 1_000.0).round() as u32, 1_000);
        }
    }

    /// A fresh intake that owes the counts of one before it.
    pub(super) fn continuing(repairs: Repairs) -> Self {
        let mut intake = Self::default();
        intake.timeline.restore(repairs);
        intake
    }

    /// Abort: the unfinished message of that slot is forgotten, if there is one.
    pub(super) fn abort(&mut self, slot: usize) {
        let Some(gather) = self.gathers.get_mut(slot) else { return };
        if let Gather::Slab { kind, .. } = std::mem::take(gather) {
            let lane = self.lane(kind);
            lane.slab.abandon();
            lane.busy = false;
        }
    }

    /// The next bytes of an audio or video message.
    pub(super) fn receive(&mut self, now: Instant, kind: Kind, piece: Piece<'_>) -> Result<(), TooManyFormats> {
        let Some(place) = self.gathers.get_mut(piece.slot) else { return Ok(()) };
        let mut gather = std::mem::take(place);
        if piece.first {
            gather = Gather::Head { bytes: [0; flv::MAX_HEAD_BYTES], length: 0 };
        }
        let mut data = piece.data;
        while let Gather::Head { bytes, length } = &mut gather {
            let known = bytes.get(..*length).unwrap_or(&[]);
            match flv::read_head(kind, known) {
                Ok(Some(head)) => {
                    let rest = (piece.header.length as usize).saturating_sub(head.length);
                    gather = self.open(kind, head, rest);
                }
                Ok(None) => {
                    let (Some((byte, rest)), Some(slot)) = (data.split_first(), bytes.get_mut(*length)) else { break };
                    *slot = *byte;
                    *length += 1;
                    data = rest;
                }
                Err(unsupported) => {
                    self.timeline.count(Repair::Unsupported);
                    self.refuse(kind, unsupported.to_string());
                    gather = Gather::Skip;
                }
            }
        }
        match &mut gather {
            Gather::Slab { .. } => self.lane(kind).slab.extend(data),
            Gather::Own { bytes, .. } => bytes.extend_from_slice(data),
            Gather::Skip | Gather::Head { .. } => {}
        }
        if piece.last {
            return self.finish(now, kind, piece.header.timestamp, gather);
        }
        if let Some(place) = self.gathers.get_mut(piece.slot) {
            *place = gather;
        }
        Ok(())
    }

    fn lane(&mut self, kind: Kind) -> &mut Lane {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }

    /// Decides where the `rest` bytes behind a tag header go.
    fn open(&mut self, kind: Kind, head: Head, rest: usize) -> Gather {
        match head.content {
            Content::Config if rest > MAX_CONFIG_BYTES => {
                self.refuse(kind, format!("the codec configuration has {rest} bytes, the most is {MAX_CONFIG_BYTES}"));
                Gather::Skip
            }
            Content::Config => Gather::Own { content: head.content, bytes: BytesMut::new() },
            Content::Unit { .. } | Content::Mp3 => {
                let lane = self.lane(kind);
                if !lane.takes(head.content) {
                    self.timeline.count(Repair::BeforeConfig);
                    Gather::Skip
                } else if lane.busy {
                    Gather::Own { content: head.content, bytes: BytesMut::new() }
                } else {
                    lane.slab.begin(rest);
                    lane.busy = true;
                    Gather::Slab { kind, content: head.content }
                }
            }
            Content::End | Content::Nothing => Gather::Skip,
        }
    }

    fn finish(&mut self, now: Instant, kind: Kind, timestamp: u32, gather: Gather) -> Result<(), TooManyFormats> {
        match gather {
            Gather::Slab { content, .. } => {
                let lane = self.lane(kind);
                lane.busy = false;
                let data = lane.slab.take();
                return self.payload(now, kind, timestamp, content, data);
            }
            Gather::Own { content: Content::Config, bytes } => return self.configure(now, kind, &bytes),
            Gather::Own { content, bytes } => return self.payload(now, kind, timestamp, content, bytes),
            Gather::Head { .. } => self.timeline.count(Repair::Malformed),
            Gather::Skip => {}
        }
        Ok(())
    }

    fn payload(
        &mut self,
        now: Instant,
        kind: Kind,
        timestamp: u32,
        content: Content,
        data: BytesMut,
    ) -> Result<(), TooManyFormats> {
        match content {
            Content::Mp3 => return self.mp3(now, timestamp, data),
            // The configuration may have changed while this came in pieces.
            Content::Unit { composition_ms } if self.lane(kind).takes(content) => {
                self.unit(kind, timestamp, composition_ms, data);
            }
            _ => self.timeline.count(Repair::BeforeConfig),
        }
        Ok(())
    }

    /// MP3 frames, mostly one. Whatever does not end with its message was torn by the encoder and is dropped.
    fn mp3(&mut self, now: Instant, timestamp: u32, mut data: BytesMut) -> Result<(), TooManyFormats> {
        let mut timestamp = timestamp;
        loop {
            let frame = match mp3::Frame::parse(&data) {
                Ok(frame) => frame,
                Err(mp3::Error::NoHeader) => {
                    self.timeline.count(Repair::Malformed);
                    return Ok(());
                }
                Err(error @ mp3::Error::Layer(_)) => {
                    self.timeline.count(Repair::Unsupported);
                    self.refuse(Kind::Audio, error.to_string());
                    return Ok(());
                }
            };
            let length = frame.length.unwrap_or(data.len());
            if length > data.len() {
                self.timeline.count(Repair::Malformed);
                return Ok(());
            }
            let rest = data.split_off(length);
            self.adopt(now, Format::Mp3(frame.config))?;
            self.unit(Kind::Audio, timestamp, 0, data);
            if rest.is_empty() {
                return Ok(());
            }
            data = rest;
            timestamp = timestamp.wrapping_add(frame.config.frame_samples * 1_000 / frame.config.sample_rate.max(1));
        }
    }

    fn unit(&mut self, kind: Kind, timestamp: u32, composition_ms: i32, data: BytesMut) {
        let Some(track) = &self.lane(kind).track else { return };
        let contents = match &track.format {
            Format::H264(config) => h264::inspect(&data, config.nal_length_bytes).ok(),
            Format::Aac(_) | Format::Mp3(_) => {
                (!data.is_empty()).then_some(h264::Contents { idr: true, captions: false })
            }
        };
        let Some(h264::Contents { idr: sync, captions }) = contents else {
            self.timeline.count(Repair::Malformed);
            return;
        };
        let (dts, pts) = match kind {
            Kind::Video => self.timeline.picture(timestamp, composition_ms),
            Kind::Audio => match self.timeline.audio(timestamp) {
                Some(dts) => (dts, dts),
                None => return,
            },
        };
        self.outputs.push_back(Output::Unit(kind, AccessUnit { dts, pts, sync, captions, data }));
    }

    /// A configuration record: a new track, a change, or (most often) the same again.
    fn configure(&mut self, now: Instant, kind: Kind, record: &[u8]) -> Result<(), TooManyFormats> {
        let parsed = match kind {
            Kind::Video => h264::Config::parse(record).map(Format::H264).map_err(|error| error.to_string()),
            Kind::Audio => aac::Config::parse(record).map(Format::Aac).map_err(|error| error.to_string()),
        };
        let format = match parsed {
            Ok(format) => format,
            Err(why) => {
                // Access units that follow belong to a configuration that nobody can decode.
                self.lane(kind).track = None;
                self.refuse(kind, why);
                return Ok(());
            }
        };
        self.adopt(now, format)
    }

    /// What follows is of that format.
    fn adopt(&mut self, now: Instant, format: Format) -> Result<(), TooManyFormats> {
        let kind = format.kind();
        if self.lane(kind).track.as_ref().is_some_and(|track| track.format == format) {
            return Ok(());
        }
        let timescale = match format.sound() {
            None => Timescale::NINETY_KHZ,
            Some(sound) => Timescale::new(sound.sample_rate).unwrap_or(Timescale::MILLIS),
        };
        let track = Track { format, timescale, language: "und".into() };
        let lane = self.lane(kind);
        lane.charge(now)?;
        lane.refused = None;
        lane.track = Some(track.clone());
        if let Format::H264(h264::Config { frame_rate: Some((pictures, seconds)), .. }) = &track.format {
            self.timeline.declare_rate(*pictures, *seconds);
        }
        if let Some(sound) = track.format.sound() {
            self.timeline.set_audio(sound.sample_rate, sound.frame_samples);
        }
        self.outputs.push_back(Output::Track(track));
        Ok(())
    }

    fn refuse(&mut self, kind: Kind, why: String) {
        let lane = self.lane(kind);
        if lane.refused.as_ref() != Some(&why) {
            // The words of a peer that varies its nonsense are said once; what can follow is counted, not told.
            let told = lane.refused.replace(why.clone()).is_some();
            if !told {
                self.outputs.push_back(Output::Refused(kind, why));
            }
        }
    }
}

impl Lane {
    /// Whether an access unit of that content can be described. MP3 brings its own description.
    fn takes(&self, content: Content) -> bool {
        match (content, &self.track) {
            (Content::Mp3, _) => true,
            (_, None) => false,
            (_, Some(track)) => !matches!(track.format, Format::Mp3(_)),
        }
    }

    /// A leaky bucket of format changes.
    fn charge(&mut self, now: Instant) -> Result<(), TooManyFormats> {
        let since = self.last_change.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let forgotten = u32::try_from(since.as_millis() / FORMAT_CHANGE_EVERY.as_millis()).unwrap_or(u32::MAX);
        self.changes = self.changes.saturating_sub(forgotten) + 1;
        self.last_change = Some(now);
        if self.changes > MAX_FORMAT_CHANGES { Err(TooManyFormats) } else { Ok(()) }
    }
}
