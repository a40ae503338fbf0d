//! The publisher here is `rml_rtmp`'s client, which shares no code with our reading side.

mod commands;
mod limits;
mod media;
mod random;

use std::time::Duration;

use proptest::prelude::*;
use rml_amf0::{Amf0Value, serialize};
use rml_rtmp::handshake::{Handshake as Exchange, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType, StreamMetadata,
};
use rml_rtmp::time::RtmpTimestamp;

use super::*;
use crate::ingest::publish::{Credential, RefusalKind};
use crate::ingest::timeline::Repair;
use crate::media::Format;

/// An AVCDecoderConfigurationRecord of x264: 640x360, 25 pictures a second.
const AVC_RECORD: [u8; 41] = [
    1, 0x42, 0xC0, 0x1E, 0xFF, 0xE1, 0, 25, 0x67, 0x42, 0xC0, 0x1E, 0xD9, 0x00, 0xA0, 0x2F, 0xF9, 0x70, 0x11, 0x00,
    0x00, 0x03, 0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x32, 0x0F, 0x16, 0x2E, 0x48, 1, 0, 5, 0x68, 0xCB, 0x83, 0xCB,
    0x20,
];
/// AAC-LC, 48 kHz, stereo.
const ASC: [u8; 2] = [0x11, 0x90];

fn peer() -> SocketAddr {
    "192.0.2.1:5000".parse().unwrap()
}

fn avc_config() -> Vec<u8> {
    [&[0x17, 0, 0, 0, 0], &AVC_RECORD[..]].concat()
}

/// A tag with one NAL unit of `size` bytes.
fn picture(idr: bool, composition_ms: u8, size: usize, fill: u8) -> Vec<u8> {
    let mut tag = vec![if idr { 0x17 } else { 0x27 }, 1, 0, 0, composition_ms];
    tag.extend_from_slice(&(size as u32).to_be_bytes());
    tag.push(if idr { 0x65 } else { 0x41 });
    tag.resize(tag.len() + size - 1, fill);
    tag
}

fn aac_frame(size: usize) -> Vec<u8> {
    [&[0xAF, 1], &vec![0x21; size][..]].concat()
}

/// A chunk with a full header; longer payload follows in type 3 chunks of `chunk_size`.
fn chunks(id: u8, timestamp: u32, kind: u8, payload: &[u8], chunk_size: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (n, part) in payload.chunks(chunk_size).enumerate() {
        let mut chunk = Vec::new();
        if n == 0 {
            chunk.push(id);
            chunk.extend_from_slice(&timestamp.to_be_bytes()[1..]);
            chunk.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
            chunk.push(kind);
            chunk.extend_from_slice(&1_u32.to_le_bytes());
        } else {
            chunk.push(0xC0 | id);
        }
        chunk.extend_from_slice(part);
        out.push(chunk);
    }
    out
}

fn message(id: u8, timestamp: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    chunks(id, timestamp, kind, payload, 128).concat()
}

fn command(values: Vec<Amf0Value>) -> Vec<u8> {
    message(3, 0, 20, &serialize(&values).unwrap())
}

fn text(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.into())
}

/// A session behind its handshake, fed with bytes.
struct Raw {
    session: Session,
    now: Instant,
    input: BytesMut,
}

impl Raw {
    fn new() -> Self {
        let now = Instant::now();
        let mut session = Session::new(now, peer());
        let mut input = BytesMut::from(&[&[3][..], &[0; 3_072]].concat()[..]);
        session.receive(now, &mut input).unwrap();
        assert!(input.is_empty());
        Self { session, now, input }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.input.extend_from_slice(bytes);
        self.session.receive(self.now, &mut self.input)
    }

    fn connected() -> Self {
        let mut raw = Self::new();
        let object = Amf0Value::Object([("app".to_owned(), text("live"))].into());
        raw.send(&command(vec![text("connect"), Amf0Value::Number(1.0), object])).unwrap();
        raw.send(&command(vec![text("createStream"), Amf0Value::Number(2.0), Amf0Value::Null])).unwrap();
        raw
    }

    fn publishing() -> Self {
        let mut raw = Self::connected();
        raw.send(&command(vec![text("publish"), Amf0Value::Number(0.0), Amf0Value::Null, text("me"), text("live")]))
            .unwrap();
        assert!(matches!(raw.session.poll_event(), Some(Event::PublishRequested(_))));
        raw.session.accept(raw.now).unwrap();
        raw
    }

    /// Publishing, with both configurations sent.
    fn configured() -> Self {
        let mut raw = Self::publishing();
        raw.send(&message(6, 0, 9, &avc_config())).unwrap();
        raw.send(&message(4, 0, 8, &[&[0xAF, 0], &ASC[..]].concat())).unwrap();
        assert_eq!(raw.events().len(), 2);
        raw
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    fn units(&mut self) -> Vec<(Kind, AccessUnit)> {
        let unit = |event| if let Event::Unit(kind, unit) = event { Some((kind, unit)) } else { None };
        self.events().into_iter().filter_map(unit).collect()
    }

    fn sent(&mut self) -> String {
        let bytes: Vec<u8> = std::iter::from_fn(|| self.session.poll_transmit()).flatten().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// `rml_rtmp`'s client and our session, without sockets; bytes arrive in portions.
struct Pair {
    client: ClientSession,
    session: Session,
    now: Instant,
    portion: usize,
    input: BytesMut,
    heard: Vec<ClientSessionEvent>,
    events: Vec<Event>,
}

impl Pair {
    fn new(portion: usize) -> Self {
        let now = Instant::now();
        let mut session = Session::new(now, peer());
        let mut exchange = Exchange::new(PeerType::Client);
        let mut to_server = exchange.generate_outbound_p0_and_p1().unwrap();
        for _ in 0..3 {
            session.receive(now, &mut BytesMut::from(&to_server[..])).unwrap();
            to_server.clear();
            while let Some(bytes) = session.poll_transmit() {
                match exchange.process_bytes(&bytes).unwrap() {
                    HandshakeProcessResult::InProgress { response_bytes }
                    | HandshakeProcessResult::Completed { response_bytes, .. } => to_server.extend(response_bytes),
                }
            }
        }
        let (client, results) = ClientSession::new(ClientSessionConfig::new()).unwrap();
        let mut pair = Self { client, session, now, portion, input: BytesMut::new(), heard: vec![], events: vec![] };
        for result in results {
            pair.deliver(result);
        }
        pair
    }

    /// Gives the client's packet to the session, the answers to the client, and so on until both are silent.
    fn deliver(&mut self, result: ClientSessionResult) {
        let mut results = VecDeque::from([result]);
        while let Some(result) = results.pop_front() {
            match result {
                ClientSessionResult::OutboundResponse(packet) => {
                    for portion in packet.bytes.chunks(self.portion) {
                        self.input.extend_from_slice(portion);
                        self.session.receive(self.now, &mut self.input).unwrap();
                    }
                    self.events.extend(std::iter::from_fn(|| self.session.poll_event()));
                    results.extend(self.answers());
                }
                ClientSessionResult::RaisedEvent(event) => self.heard.push(event),
                ClientSessionResult::UnhandleableMessageReceived(_) => {}
            }
        }
    }

    fn answers(&mut self) -> Vec<ClientSessionResult> {
        let answers: Vec<_> = std::iter::from_fn(|| self.session.poll_transmit()).collect();
        answers.iter().flat_map(|bytes| self.client.handle_input(bytes).unwrap()).collect()
    }

    fn publish(&mut self, app: &str, key: &str) -> Option<PublishRequest> {
        let request = self.client.request_connection(app.into()).unwrap();
        self.deliver(request);
        assert!(self.heard.contains(&ClientSessionEvent::ConnectionRequestAccepted));
        let request = self.client.request_publishing(key.into(), PublishRequestType::Live).unwrap();
        self.deliver(request);
        self.events
            .drain(..)
            .find_map(|event| if let Event::PublishRequested(request) = event { Some(request) } else { None })
    }

    fn accept(&mut self) {
        self.session.accept(self.now).unwrap();
        for result in self.answers() {
            self.deliver(result);
        }
        assert!(self.heard.contains(&ClientSessionEvent::PublishRequestAccepted));
    }
}
