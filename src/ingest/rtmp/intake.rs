//! Media messages in, tracks and access units out.
//!
//! ```text
//!   pieces ─► gather: tag header ─┬─ configuration ─► buffer ───────────┬─► units: format ─► Output::Track
//!                                 ├─ access unit ──► the lane's slab ───┤
//!                                 └─ a second one of the same track ────┴─► units: timeline ─► Output::Unit
//!                                        at the same time ─► buffer
//! ```
//!
//! A message's tag header says where the rest goes. An access unit's payload is appended to its track's [`Slab`](crate::media::Slab): the
//! only copy of payload in this program. Where a second message of the same track arrives interleaved on another chunk stream, it gathers
//! in a buffer of its own, so that neither is torn.

mod lane;
mod units;

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;

use self::lane::Lane;
pub use self::lane::TooManyFormats;
use super::chunk::{self, Piece};
use super::flv::{self, Content, Head};
use crate::ingest::timeline::{Repair, Repairs, Timeline};
use crate::media::{AccessUnit, Kind, Track};

/// Longest configuration record. Real ones have less than 300 bytes; it is parsed, kept and sent to every viewer.
const MAX_CONFIG_BYTES: usize = 16 * 1024;
/// The slot of tags that came in an aggregate, behind those of the chunk streams.
pub(super) const AGGREGATE_SLOT: usize = chunk::MAX_CHUNK_STREAMS;

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

    /// The publisher's metadata names a picture rate, within the bounds of what is [read](super::metadata::read) there.
    pub(super) fn declare_rate(&mut self, rate: f64) {
        self.timeline.declare_rate((rate * 1_000.0).round() as u32, 1_000);
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

    /// The last byte of a message has come.
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
}
