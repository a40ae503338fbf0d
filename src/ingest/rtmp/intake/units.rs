//! From whole messages to formats and access units.

use std::time::Instant;

use bytes::BytesMut;

use super::{Intake, Output, TooManyFormats};
use crate::ingest::rtmp::flv::Content;
use crate::ingest::timeline::Repair;
use crate::media::codec::{aac, h264, mp3};
use crate::media::{AccessUnit, Format, Kind, Timescale, Track};

impl Intake {
    /// The payload of a whole message, where it may be an access unit or several.
    pub(super) fn payload(
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

    /// One access unit of a track that has a configuration.
    fn unit(&mut self, kind: Kind, timestamp: u32, composition_ms: i32, data: BytesMut) {
        let Some(track) = &self.lane(kind).track else { return };
        let (sync, captions) = match &track.format {
            Format::H264(config) => match h264::inspect(&data, config.nal_length_bytes) {
                Ok(contents) => (contents.idr, contents.captions),
                Err(_) => return self.timeline.count(Repair::Malformed),
            },
            Format::Aac(_) | Format::Mp3(_) if data.is_empty() => return self.timeline.count(Repair::Malformed),
            // Decoding can begin with any frame of sound.
            Format::Aac(_) | Format::Mp3(_) => (true, false),
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
    pub(super) fn configure(&mut self, now: Instant, kind: Kind, record: &[u8]) -> Result<(), TooManyFormats> {
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

    pub(super) fn refuse(&mut self, kind: Kind, why: String) {
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
