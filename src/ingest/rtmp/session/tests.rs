//! The publisher here is `rml_rtmp`'s client, which shares no code with our reading side.

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

#[test]
fn a_publisher_that_is_not_ours_ends_in_access_units() {
    for portion in [1, 7, 4_096] {
        let mut pair = Pair::new(portion);
        let request = pair.publish("live/", "me?key=rk_secret").unwrap();
        assert_eq!(request.name.to_string(), "live/me");
        assert_eq!(request.credential, Credential::Key("rk_secret".into()));
        assert!(!format!("{request:?}").contains("secret"));
        pair.accept();
        let metadata = StreamMetadata { video_frame_rate: Some(30.0), ..StreamMetadata::new() };
        let mut sent = vec![pair.client.publish_metadata(&metadata).unwrap()];
        let time = RtmpTimestamp::new;
        sent.push(pair.client.publish_video_data(avc_config().into(), time(0), false).unwrap());
        sent.push(pair.client.publish_audio_data([&[0xAF, 0], &ASC[..]].concat().into(), time(0), false).unwrap());
        for n in 0..60_u32 {
            let tag = picture(n % 30 == 0, 40, 3_000, n as u8);
            sent.push(pair.client.publish_video_data(tag.into(), time(n * 40), n % 2 == 1).unwrap());
            sent.push(pair.client.publish_audio_data(aac_frame(300).into(), time(n * 64 / 3), false).unwrap());
        }
        for result in sent {
            pair.deliver(result);
        }
        let mut tracks = Vec::new();
        let (mut video, mut audio) = (Vec::new(), Vec::new());
        for event in pair.events.drain(..) {
            match event {
                Event::Track(track) => tracks.push(track),
                Event::Unit(Kind::Video, unit) => video.push(unit),
                Event::Unit(Kind::Audio, unit) => audio.push(unit),
                Event::Announced(announced) => assert_eq!(announced.fps, Some(30.0)),
                other => panic!("{other:?}"),
            }
        }
        assert!(matches!(&tracks[0].format, Format::H264(config) if (config.width, config.height) == (640, 360)));
        assert!(matches!(&tracks[1].format, Format::Aac(config) if config.sample_rate == 48_000));
        assert_eq!((tracks.len(), video.len(), audio.len()), (2, 60, 60));
        for (n, unit) in video.iter().enumerate() {
            let n = n as i64;
            assert_eq!((unit.dts, unit.pts, unit.sync), (n * 3_600, (n + 1) * 3_600, n % 30 == 0));
            assert_eq!((unit.data.len(), unit.data[3_003]), (3_004, n as u8));
        }
        for (n, unit) in audio.iter().enumerate() {
            assert_eq!(
                (unit.dts, unit.pts, unit.sync, unit.data.len()),
                (n as i64 * 1_024, n as i64 * 1_024, true, 300)
            );
        }
        assert!(pair.session.take_repairs().is_empty());
        for result in pair.client.stop_publishing().unwrap() {
            pair.deliver(result);
        }
        assert!(matches!(pair.events[..], [Event::Unpublished]));
    }
}

#[test]
fn access_units_of_a_track_lie_side_by_side() {
    let mut raw = Raw::configured();
    // Audio between the chunks of video must not come between them in memory.
    for n in 0..8 {
        let video = chunks(6, n * 40, 9, &picture(n == 0, 0, 1_000, n as u8), 128);
        let audio = chunks(4, n * 40, 8, &aac_frame(200), 128);
        let mixed: Vec<u8> = video[..4].iter().chain(&audio).chain(&video[4..]).flatten().copied().collect();
        raw.send(&mixed).unwrap();
    }
    let units = raw.units();
    for kind in [Kind::Video, Kind::Audio] {
        let spans: Vec<_> =
            units.iter().filter(|(of, _)| *of == kind).map(|(_, unit)| unit.data.as_ptr_range()).collect();
        assert_eq!(spans.len(), 8);
        assert!(spans.windows(2).all(|pair| pair[0].end == pair[1].start), "{kind:?}");
    }
}

#[test]
fn two_messages_of_one_track_may_interleave() {
    let mut raw = Raw::configured();
    let first = chunks(6, 0, 9, &picture(true, 0, 400, 1), 128);
    let second = chunks(7, 40, 9, &picture(false, 0, 300, 2), 128);
    for (at, chunk) in first.iter().enumerate() {
        raw.send(chunk).unwrap();
        if let Some(chunk) = second.get(at) {
            raw.send(chunk).unwrap();
        }
    }
    let units = raw.units();
    let mut got: Vec<_> = units.iter().map(|(_, unit)| (unit.data.len(), unit.data[10])).collect();
    got.sort_unstable();
    assert_eq!(got, [(304, 2), (404, 1)]);
}

#[test]
fn a_12_byte_empty_command_before_connect_is_a_plain_error() {
    // The input on which rml_rtmp 0.8.0 panics.
    let mut raw = Raw::new();
    let result = raw.send(&[3, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0]);
    assert_eq!(result, Err(Error::Message(message::Error::NoName)));
}

#[test]
fn a_deeply_nested_command_is_a_plain_error() {
    // The input on which rml_rtmp 0.8.0 aborts the process.
    let mut raw = Raw::new();
    let result = raw.send(&message(3, 0, 20, &[10, 0, 0, 0, 1].repeat(10_000)));
    assert_eq!(result, Err(Error::Message(message::Error::Amf0(super::super::amf0::Error::TooDeep))));
}

#[test]
fn commands_as_encoders_send_them_are_answered() {
    let mut raw = Raw::new();
    let object = Amf0Value::Object([("app".to_owned(), text("live"))].into());
    raw.send(&command(vec![text("connect"), Amf0Value::Number(1.0), object])).unwrap();
    assert!(raw.sent().contains("NetConnection.Connect.Success"));
    for (name, argument, answer) in [
        ("releaseStream", text("me?key=secret"), "_result"),
        ("FCPublish", text("me?key=secret"), "onFCPublish"),
        ("createStream", Amf0Value::Null, "_result"),
        ("_checkbw", Amf0Value::Null, "_result"),
        ("getStreamLength", text("me"), "_result"),
        ("FCUnpublish", text("me"), "onFCUnpublish"),
    ] {
        raw.send(&command(vec![text(name), Amf0Value::Number(4.0), Amf0Value::Null, argument])).unwrap();
        let sent = raw.sent();
        assert!(sent.contains(answer) && !sent.contains("secret"), "{name}: {sent}");
    }
    raw.send(&command(vec![text("onBWDone"), Amf0Value::Number(0.0)])).unwrap();
    assert_eq!(raw.sent(), "");
    raw.send(&message(2, 0, 4, &[0, 6, 0, 0, 1, 2])).unwrap();
    assert!(raw.sent().ends_with("\0\u{7}\0\0\u{1}\u{2}"), "a ping is answered with its timestamp");
}

#[test]
fn refusals_are_said_in_words() {
    for (app, key, code, words) in [
        ("live", "", "NetStream.Publish.BadName", "the stream name is empty"),
        ("live", "a/../b", "NetStream.Publish.BadName", "may hold only letters"),
        ("api", "me", "NetStream.Publish.BadName", "reserved"),
        ("live", &"x".repeat(257), "NetStream.Publish.BadName", "257 bytes"),
    ] {
        let mut pair = Pair::new(4_096);
        let request = pair.client.request_connection(app.into()).unwrap();
        pair.deliver(request);
        let request = pair.client.request_publishing(key.into(), PublishRequestType::Live).unwrap();
        // The client knows no onStatus of level error and reports it as unknown, so look at what was sent instead.
        let mut raw = Raw::new();
        let object = Amf0Value::Object([("app".to_owned(), text(app))].into());
        raw.send(&command(vec![text("connect"), Amf0Value::Number(1.0), object])).unwrap();
        raw.send(&command(vec![text("createStream"), Amf0Value::Number(2.0), Amf0Value::Null])).unwrap();
        raw.sent();
        raw.send(&command(vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text(key), text("live")]))
            .unwrap();
        let sent = raw.sent();
        assert!(sent.contains(code) && sent.contains(words) && sent.contains("error"), "{app}/{key}: {sent}");
        assert!(matches!(&raw.events()[..], [Event::Closed(refusal)] if refusal.kind == RefusalKind::BadName));
        assert!(raw.session.is_closed());
        pair.deliver(request);
    }
    let mut raw = Raw::connected();
    raw.sent();
    raw.send(&command(vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("me"), text("live")]))
        .unwrap();
    raw.events();
    raw.session.reject(raw.now, Refusal::new(RefusalKind::Unauthorized, "the key is unknown")).unwrap();
    let sent = raw.sent();
    assert!(sent.contains("NetStream.Publish.Unauthorized") && sent.contains("the key is unknown"));
    assert_eq!(raw.session.poll_timeout(), None);
}

#[test]
fn commands_out_of_order_are_refused_without_harm() {
    for (name, first, words) in [
        ("publish before connect", vec![], "publish came before connect"),
        ("publish before createStream", vec!["connect"], "publish came before createStream"),
        ("connect twice", vec!["connect", "connect"], "connected already"),
    ] {
        let mut raw = Raw::new();
        for name in first {
            let object = Amf0Value::Object([("app".to_owned(), text("live"))].into());
            raw.send(&command(vec![text(name), Amf0Value::Number(1.0), object])).unwrap();
        }
        raw.send(&command(vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("me")])).unwrap();
        assert!(raw.sent().contains(words), "{name}");
        assert!(raw.events().is_empty());
    }
    let mut raw = Raw::publishing();
    raw.sent();
    raw.send(&command(vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("me")])).unwrap();
    assert!(raw.sent().contains("this connection publishes already"));
    raw.send(&command(vec![text("play"), Amf0Value::Number(3.0), Amf0Value::Null, text("me")])).unwrap();
    assert!(raw.sent().contains("NetStream.Play.Failed") && raw.session.is_closed());
}

#[test]
fn a_publisher_may_stop_and_begin_again_on_one_connection() {
    let mut raw = Raw::configured();
    raw.send(&command(vec![text("deleteStream"), Amf0Value::Number(5.0), Amf0Value::Null, Amf0Value::Number(1.0)]))
        .unwrap();
    assert!(matches!(raw.events()[..], [Event::Unpublished]));
    raw.send(&message(6, 40, 9, &picture(true, 0, 10, 0))).unwrap();
    assert!(raw.events().is_empty(), "media between is ignored");
    raw.send(&command(vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("me")])).unwrap();
    assert!(matches!(raw.events()[..], [Event::PublishRequested(_)]));
}

#[test]
fn nothing_is_read_while_the_decision_is_pending() {
    let mut raw = Raw::connected();
    let mut input = command(vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("me")]);
    let media = message(6, 0, 9, &avc_config());
    input.extend_from_slice(&media);
    raw.send(&input).unwrap();
    assert_eq!(raw.input.len(), media.len());
    assert!(raw.session.wants_input(raw.input.len()) && !raw.session.wants_input(UNREAD_HINT));
    assert_eq!(raw.events().len(), 1);
    raw.session.accept(raw.now).unwrap();
    raw.send(&[]).unwrap();
    assert!(matches!(raw.events()[..], [Event::Track(_)]));
}

#[test]
fn deadlines_hold_against_slow_peers() {
    let now = Instant::now();
    let mut session = Session::new(now, peer());
    session.receive(now, &mut BytesMut::from(&[3][..])).unwrap();
    assert_eq!(session.poll_timeout(), Some(now + HANDSHAKE_DEADLINE));
    assert_eq!(session.handle_timeout(now + HANDSHAKE_DEADLINE), Err(Error::Timeout("handshake")));
    // Neither connect nor a byte now and then prolongs the time for publish.
    let mut raw = Raw::new();
    let before = raw.session.poll_timeout();
    raw.now += Duration::from_secs(3);
    let object = Amf0Value::Object([("app".to_owned(), text("live"))].into());
    raw.send(&command(vec![text("connect"), Amf0Value::Number(1.0), object])).unwrap();
    assert_eq!(raw.session.poll_timeout(), before);
    assert_eq!(raw.session.handle_timeout(raw.now), Ok(()));
    let mut raw = Raw::configured();
    raw.now += Duration::from_secs(20);
    raw.send(&message(4, 0, 8, &aac_frame(10))).unwrap();
    assert_eq!(raw.session.poll_timeout(), Some(raw.now + IDLE_DEADLINE));
}

#[test]
fn acknowledgements_carry_the_running_total() {
    let acks = |sent: &[u8]| -> Vec<u32> {
        let mut decoder = chunk::Decoder::default();
        decoder.set_chunk_size(4_096).unwrap();
        let (mut rest, mut totals) = (sent, vec![]);
        while let Some(piece) = decoder.next(&mut rest).unwrap() {
            if piece.header.kind == 3 {
                totals.push(u32::from_be_bytes(piece.data.try_into().unwrap()));
            }
        }
        totals
    };
    for window in [0, 1, 1_100] {
        let mut raw = Raw::configured();
        raw.sent();
        raw.send(&message(2, 0, 5, &u32::to_be_bytes(window))).unwrap();
        let mut sent = Vec::new();
        for n in 0..6 {
            raw.send(&message(4, n * 21, 8, &aac_frame(600))).unwrap();
            while let Some(bytes) = raw.session.poll_transmit() {
                sent.extend_from_slice(&bytes);
            }
        }
        let totals = acks(&sent);
        assert!((3..=4).contains(&totals.len()), "{window}: {totals:?}");
        assert!(totals[0] > 3_073 && totals.windows(2).all(|pair| pair[1] - pair[0] >= 1_024), "{window}: {totals:?}");
    }
}

#[test]
fn unknown_commands_are_limited_in_rate() {
    let mut raw = Raw::connected();
    let unknown = command(vec![text("x"), Amf0Value::Number(0.0)]);
    let result = (0..300).try_for_each(|_| raw.send(&unknown));
    assert_eq!(result, Err(Error::TooManyCommands(MAX_COMMANDS)));
    let mut slow = Raw::connected();
    for _ in 0..300 {
        slow.now += Duration::from_millis(100);
        slow.send(&unknown).unwrap();
    }
}

#[test]
fn what_is_asked_but_not_read_ends_the_connection() {
    let mut raw = Raw::connected();
    let result = (0..2_000).try_for_each(|_| {
        raw.now += Duration::from_millis(100);
        raw.send(&command(vec![text("FCPublish"), Amf0Value::Number(1.0), Amf0Value::Null, text(&"x".repeat(200))]))
    });
    assert_eq!(result, Err(Error::Reply(reply::Error::NotRead)));
}

#[test]
fn metadata_that_lies_changes_nothing() {
    let number = Amf0Value::Number;
    for rate in [f64::NAN, 0.0, -30.0, 7.0, 1_000.0, 60.0] {
        let mut raw = Raw::publishing();
        let properties = [
            ("framerate", number(rate)),
            ("width", number(-1.0)),
            ("height", number(1e300)),
            ("videocodecid", text("hvc1")),
            ("audiocodecid", number(2.0)),
            ("audiosamplerate", number(5_512.0)),
        ];
        let object = Amf0Value::Object(properties.map(|(name, value)| (name.to_owned(), value)).into());
        let body = serialize(&vec![text("@setDataFrame"), text("onMetaData"), object]).unwrap();
        raw.send(&message(4, 0, 18, &body)).unwrap();
        raw.send(&message(6, 0, 9, &avc_config())).unwrap();
        for n in 0..100 {
            raw.send(&message(6, n * 40, 9, &picture(n % 50 == 0, 0, 10, 0))).unwrap();
        }
        let units = raw.units();
        assert_eq!(units.len(), 100);
        assert!(units.iter().enumerate().skip(20).all(|(n, (_, unit))| unit.dts == n as i64 * 3_600), "{rate}");
    }
}

#[test]
fn mp3_brings_its_configuration_in_every_frame() {
    let frame = |head: [u8; 4], size: usize| [&head[..], &vec![7; size - 4]].concat();
    let (stereo, mono) = (frame([0xFF, 0xFB, 0x90, 0x64], 417), frame([0xFF, 0xF3, 0x80, 0xC4], 208));
    let mut raw = Raw::publishing();
    let mut at = 0;
    let mut send = |raw: &mut Raw, parts: &[&[u8]]| {
        let tag = [&[0x2F][..], &parts.concat()].concat();
        raw.send(&message(4, at, 8, &tag)).unwrap();
        at += 26;
    };
    for _ in 0..10 {
        send(&mut raw, &[&stereo]);
    }
    // Two in one message, one that is torn, and what is no MP3 at all.
    send(&mut raw, &[&stereo, &stereo]);
    send(&mut raw, &[&stereo[..400]]);
    send(&mut raw, &[b"ID3"]);
    for _ in 0..3 {
        send(&mut raw, &[&mono]);
    }
    let (mut tracks, mut units) = (Vec::new(), Vec::new());
    for event in raw.events() {
        match event {
            Event::Track(track) => tracks.push(track),
            Event::Unit(_, unit) => units.push(unit),
            other => panic!("{other:?}"),
        }
    }
    let facts: Vec<_> = tracks.iter().map(|track| (track.format.codec_string(), track.timescale.hz())).collect();
    assert_eq!(facts, [("mp4a.6B".to_owned(), 44_100), ("mp4a.69".to_owned(), 22_050)]);
    let sizes: Vec<_> = units.iter().map(|unit| unit.data.len()).collect();
    assert_eq!(sizes, [vec![417; 12], vec![208; 3]].concat());
    assert!(units[..12].iter().enumerate().all(|(n, unit)| unit.dts == n as i64 * 1_152 && unit.sync));
    assert_eq!(raw.session.take_repairs().count(Repair::Malformed), 2);
}

#[test]
fn media_before_its_configuration_and_malformed_units_are_dropped() {
    let mut raw = Raw::publishing();
    raw.send(&message(6, 0, 9, &picture(true, 0, 10, 0))).unwrap();
    assert!(raw.events().is_empty());
    raw.send(&message(6, 0, 9, &avc_config())).unwrap();
    let mut bad = picture(true, 0, 10, 0);
    bad[8] = 200;
    for tag in [&bad[..], &[0x17, 1, 0, 0, 0], &[0x17, 1], &[0xFF]] {
        raw.send(&message(6, 0, 9, tag)).unwrap();
    }
    raw.send(&message(6, 0, 9, &picture(true, 0, 10, 0))).unwrap();
    assert_eq!(raw.units().len(), 1);
    let repairs = raw.session.take_repairs();
    assert_eq!((repairs.count(Repair::BeforeConfig), repairs.count(Repair::Malformed)), (1, 4));
}

#[test]
fn an_unknown_codec_refuses_its_track_alone() {
    let mut raw = Raw::publishing();
    for _ in 0..3 {
        raw.send(&message(6, 0, 9, b"\x90hvc1\0\0\0")).unwrap();
        raw.send(&message(4, 0, 8, &[&[0xAF, 0], &ASC[..]].concat())).unwrap();
    }
    let events = raw.events();
    assert!(
        matches!(&events[..], [Event::TrackRefused(Kind::Video, why), Event::Track(_)] if why.contains("hvc1")),
        "{events:?}"
    );
}

#[test]
fn a_changed_configuration_is_a_new_track_and_the_same_is_none() {
    let mut raw = Raw::configured();
    raw.send(&message(6, 0, 9, &avc_config())).unwrap();
    assert!(raw.events().is_empty());
    let other = [&[0xAF, 0][..], &[0x12, 0x10]].concat();
    raw.send(&message(4, 0, 8, &other)).unwrap();
    assert!(matches!(&raw.events()[..], [Event::Track(track)] if track.timescale.hz() == 44_100));
    let result = (0..40).try_for_each(|n| {
        raw.send(&message(4, 0, 8, &[&[0xAF, 0][..], if n % 2 == 0 { &ASC } else { &[0x12, 0x10] }].concat()))
    });
    assert_eq!(result, Err(Error::Formats(TooManyFormats)));
}

#[test]
fn aggregates_are_taken_apart_on_the_clock_of_the_message() {
    let mut raw = Raw::configured();
    raw.send(&message(6, 1_000, 9, &picture(true, 0, 10, 0))).unwrap();
    let mut body = Vec::new();
    for (kind, time, tag) in [(9, 5, picture(false, 0, 20, 1)), (8, 6, aac_frame(8))] {
        body.extend_from_slice(&[kind, 0, 0, tag.len() as u8, 0, 0, time, 0, 0, 0, 0]);
        body.extend_from_slice(&tag);
        body.extend_from_slice(&[0, 0, 0, 0]);
    }
    raw.send(&message(8, 1_040, 22, &body)).unwrap();
    let got: Vec<_> = raw.units().iter().map(|(kind, unit)| (*kind, unit.dts)).collect();
    assert_eq!(got, [(Kind::Video, 0), (Kind::Video, 3_600), (Kind::Audio, 41 * 48)]);
}

#[test]
fn an_aborted_message_leaves_no_trace() {
    let mut raw = Raw::configured();
    let half = chunks(6, 0, 9, &picture(true, 0, 1_000, 7), 128);
    raw.send(&half[..3].concat()).unwrap();
    raw.send(&message(2, 0, 2, &[0, 0, 0, 6])).unwrap();
    raw.send(&message(2, 0, 2, &[0, 0, 0, 60])).unwrap();
    raw.send(&message(6, 0, 9, &picture(true, 0, 10, 1))).unwrap();
    let units = raw.units();
    assert_eq!((units.len(), units[0].1.data.len()), (1, 14));
}

#[derive(Debug, Clone)]
enum Operation {
    Bytes(Vec<u8>),
    Message(u8, u32, Vec<u8>),
    Command(String, String),
    Accept,
    Reject,
    Wait(u16),
}

fn operations() -> impl Strategy<Value = Operation> {
    let names = prop_oneof![
        Just("connect"),
        Just("createStream"),
        Just("publish"),
        Just("deleteStream"),
        Just("FCPublish"),
        Just("play"),
        Just("closeStream")
    ];
    prop_oneof![
        1 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(Operation::Bytes),
        4 => (0_u8..24, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..300)).prop_map(|(kind, time, body)| Operation::Message(kind, time & 0xFF_FFFF, body)),
        4 => (0_u8..9, any::<u32>()).prop_map(|(n, time)| {
            let tag = [avc_config(), picture(true, 9, 90, 1), picture(false, 0, 200, 1), vec![0xAF, 0, ASC[0], ASC[1]], aac_frame(9)];
            let tag = tag[usize::from(n) % 5].clone();
            Operation::Message(if tag[0] == 0xAF { 8 } else { 9 }, time % 100_000, tag)
        }),
        6 => (names, ".{0,12}").prop_map(|(name, argument)| Operation::Command(name.into(), argument)),
        3 => Just(Operation::Accept),
        1 => Just(Operation::Reject),
        1 => any::<u16>().prop_map(Operation::Wait),
    ]
}

proptest! {
    #[test]
    fn no_order_of_operations_panics_and_output_is_monotone(operations in proptest::collection::vec(operations(), 0..60)) {
        let mut raw = Raw::connected();
        let (mut video, mut audio) = (i64::MIN, i64::MIN);
        for operation in operations {
            let result = match operation {
                Operation::Bytes(bytes) => raw.send(&bytes),
                Operation::Message(kind, time, body) => raw.send(&message(5, time, kind, &body)),
                Operation::Command(name, argument) => raw.send(&command(vec![text(&name), Amf0Value::Number(1.0), Amf0Value::Null, text(&argument)])),
                Operation::Accept => { let now = raw.now; raw.session.accept(now).map(|()| (video, audio) = (i64::MIN, i64::MIN)) }
                Operation::Reject => { let now = raw.now; raw.session.reject(now, Refusal::new(RefusalKind::Denied, "no")) }
                Operation::Wait(ms) => { raw.now += Duration::from_millis(ms.into()); raw.session.handle_timeout(raw.now) }
            };
            for event in raw.events() {
                match event {
                    Event::Unpublished => (video, audio) = (i64::MIN, i64::MIN),
                    Event::Unit(Kind::Video, unit) => { prop_assert!(unit.dts > video && unit.pts >= unit.dts); video = unit.dts; }
                    Event::Unit(Kind::Audio, unit) => { prop_assert!(unit.dts > audio); audio = unit.dts; }
                    _ => {}
                }
            }
            raw.sent();
            if result.is_err() { break; }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4_000), handshaken in any::<bool>()) {
        if handshaken {
            let _ = Raw::new().send(&bytes);
        } else {
            let now = Instant::now();
            let _ = Session::new(now, peer()).receive(now, &mut BytesMut::from(&[&[3], &bytes[..]].concat()[..]));
        }
    }
}
