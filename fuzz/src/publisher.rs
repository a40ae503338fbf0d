//! One side of an RTMP session, played in memory, with the session's promises as oracle.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rillcast::ingest::rtmp::{Event, Session};
use rillcast::media::{Format, Kind, Track};
use rml_amf0::{Amf0Value, serialize};

/// AVCDecoderConfigurationRecord of x264: 640x360, 25 pictures a second.
pub const AVC_RECORD: [u8; 41] = [
    1, 0x42, 0xC0, 0x1E, 0xFF, 0xE1, 0, 25, 0x67, 0x42, 0xC0, 0x1E, 0xD9, 0x00, 0xA0, 0x2F, 0xF9, 0x70, 0x11, 0x00,
    0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x32, 0x0F, 0x16, 0x2E, 0x48, 1, 0, 5, 0x68, 0xCB, 0x83, 0xCB,
    0x20,
];

/// AudioSpecificConfigs: LC at several rates, HE-AAC, 5.1, and one that is refused.
pub const AUDIO_CONFIGS: [&[u8]; 6] =
    [&[0x11, 0x90], &[0x12, 0x10], &[0x2B, 0x11, 0x88, 0x00], &[0x11, 0xB0], &[0x15, 0x88], &[0xF9, 0x46, 0x40]];

const CHUNK_SIZE: usize = 128;

/// A session behind its handshake and whoever talks to it.
pub struct Publisher {
    session: Session,
    now: Instant,
    input: BytesMut,
    /// Decoding time of the last access unit: video, audio.
    last: [i64; 2],
    timescales: [u32; 2],
    /// Access units that came out.
    pub units: u64,
    /// Payload bytes that came out.
    pub bytes: u64,
    over: bool,
}

impl Default for Publisher {
    fn default() -> Self {
        let now = Instant::now();
        let mut publisher = Self {
            session: Session::new(now, ([192, 0, 2, 1], 1).into()),
            now,
            input: BytesMut::new(),
            last: [i64::MIN; 2],
            timescales: [0; 2],
            units: 0,
            bytes: 0,
            over: false,
        };
        assert!(publisher.send(&[&[3][..], &[0; 3_072]].concat()), "a plain handshake is good");
        publisher
    }
}

impl Publisher {
    /// Connected, with a message stream.
    pub fn connected() -> Self {
        let mut publisher = Self::default();
        let object = Amf0Value::Object([("app".to_owned(), text("live"))].into());
        assert!(publisher.send(&command(vec![text("connect"), Amf0Value::Number(1.0), object])));
        assert!(publisher.send(&command(vec![text("createStream"), Amf0Value::Number(2.0), Amf0Value::Null])));
        publisher
    }

    /// Let in.
    pub fn publishing() -> Self {
        let mut publisher = Self::connected();
        let values = vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("me"), text("live")];
        assert!(publisher.send(&command(values)));
        publisher
    }

    /// Sends bytes, at a pace that no limit on rates objects to. False when the session is over.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        if self.over {
            return false;
        }
        self.now += Duration::from_millis(60);
        self.input.extend_from_slice(bytes);
        let mut before = usize::MAX;
        // A request to publish stops the reading until it is decided.
        while !self.over && self.input.len() != before {
            before = self.input.len();
            self.over |= self.session.receive(self.now, &mut self.input).is_err();
            self.drain();
            if self.input.is_empty() {
                break;
            }
        }
        // What is left unread is part of one header, or the session is over.
        assert!(self.over || self.session.is_closed() || self.input.len() < 20, "{} bytes left", self.input.len());
        self.over |= self.session.is_closed();
        while self.session.poll_transmit().is_some() {}
        !self.over
    }

    fn drain(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::PublishRequested(_) => {
                    self.over |= self.session.accept(self.now).is_err();
                    self.last = [i64::MIN; 2];
                }
                Event::Track(track) => self.track(&track),
                Event::Unit(kind, unit) => {
                    assert!(self.timescales[kind as usize] > 0, "a track comes before its access units");
                    assert!(!unit.data.is_empty());
                    let last = &mut self.last[kind as usize];
                    assert!(unit.dts > *last && unit.pts >= unit.dts, "{} after {last}", unit.dts);
                    assert!(unit.dts >= 0);
                    *last = unit.dts;
                    self.units += 1;
                    self.bytes += unit.data.len() as u64;
                }
                _ => {}
            }
        }
    }

    fn track(&mut self, track: &Track) {
        let kind = track.format.kind();
        assert!(match &track.format {
            Format::H264(_) => kind == Kind::Video,
            _ => kind == Kind::Audio,
        });
        // Times of the new timescale go on from those of the old one; how they are rounded is not said.
        self.last[kind as usize] = i64::MIN;
        self.timescales[kind as usize] = track.timescale.hz();
    }
}

/// AMF0 text.
pub fn text(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.into())
}

/// A command as a message.
pub fn command(values: Vec<Amf0Value>) -> Vec<u8> {
    message(3, 0, 20, &serialize(&values).expect("AMF0 can be written"))
}

/// A message in chunks of 128 bytes, the first with a full header.
pub fn message(chunk_stream: u8, timestamp: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    pieces(chunk_stream, timestamp, kind, body).concat()
}

/// The chunks of a message.
pub fn pieces(chunk_stream: u8, timestamp: u32, kind: u8, body: &[u8]) -> Vec<Vec<u8>> {
    let field = timestamp.min(0xFF_FFFF);
    let extended = (field == 0xFF_FFFF).then(|| timestamp.to_be_bytes());
    let mut chunk = vec![chunk_stream];
    chunk.extend_from_slice(&field.to_be_bytes()[1..]);
    chunk.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    chunk.push(kind);
    chunk.extend_from_slice(&1_u32.to_le_bytes());
    let mut all = Vec::new();
    let mut parts = body.chunks(CHUNK_SIZE);
    for part in std::iter::once(parts.next().unwrap_or_default()).chain(parts) {
        chunk.extend(extended.iter().flatten());
        chunk.extend_from_slice(part);
        all.push(std::mem::replace(&mut chunk, vec![0xC0 | chunk_stream]));
    }
    all
}

/// A video tag: one NAL unit of `size` bytes.
pub fn picture(idr: bool, composition_ms: i32, size: usize) -> Vec<u8> {
    let mut tag = vec![if idr { 0x17 } else { 0x27 }, 1];
    tag.extend_from_slice(&composition_ms.to_be_bytes()[1..]);
    tag.extend_from_slice(&(size as u32).to_be_bytes());
    tag.push(if idr { 0x65 } else { 0x41 });
    tag.resize(9 + size.max(1), 0x55);
    tag
}
