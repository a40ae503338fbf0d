//! An RTMP peer that sends what a test tells it to, right or wrong, byte by byte.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rml_amf0::{Amf0Value, serialize};
use rml_rtmp::chunk_io::ChunkDeserializer;
use rml_rtmp::messages::RtmpMessage;

/// No answer of a server takes longer, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(15);
/// C0, C1 and C2; S0, S1 and S2.
const HANDSHAKE_BYTES: usize = 1 + 1_536 + 1_536;
/// Chunk size of both sides unless one sets another.
const CHUNK_BYTES: usize = 128;

pub const AUDIO: u8 = 8;
pub const VIDEO: u8 = 9;
pub const COMMAND: u8 = 20;

/// A message cut into chunks of the initial size.
pub struct Chunks {
    chunks: Vec<Vec<u8>>,
}

impl Chunks {
    /// `timestamp` is below 2^24 ms.
    pub fn of(chunk_stream: u8, timestamp: u32, kind: u8, stream: u32, body: &[u8]) -> Self {
        let length = u32::try_from(body.len()).expect("a message has at most 16 MiB");
        let mut first = vec![chunk_stream];
        first.extend_from_slice(&timestamp.to_be_bytes()[1..]);
        first.extend_from_slice(&length.to_be_bytes()[1..]);
        first.push(kind);
        first.extend_from_slice(&stream.to_le_bytes());
        let (head, rest) = body.split_at(body.len().min(CHUNK_BYTES));
        first.extend_from_slice(head);
        let mut chunks = vec![first];
        chunks.extend(rest.chunks(CHUNK_BYTES).map(|piece| [&[0xC0 | chunk_stream], piece].concat()));
        Self { chunks }
    }

    /// All chunks in a row, as encoders send them.
    pub fn in_a_row(self) -> Vec<u8> {
        self.chunks.concat()
    }

    /// The chunks of several messages, one of each in turn: each message is on a chunk stream of its own.
    pub fn interleaved(messages: Vec<Self>) -> Vec<u8> {
        let mut queues: Vec<_> = messages.into_iter().map(|message| message.chunks.into_iter()).collect();
        let mut bytes = Vec::new();
        loop {
            let before = bytes.len();
            for queue in &mut queues {
                bytes.extend(queue.next().unwrap_or_default());
            }
            if bytes.len() == before {
                return bytes;
            }
        }
    }
}

pub fn text(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.to_owned())
}

/// A connection from an address of this machine, with time limits on reading and writing.
#[track_caller]
pub fn connect_from(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    // Port 0 until it connects, so that thousands of connections find one.
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address of this machine");
    socket.connect_timeout(&to.into(), LIMIT).expect("the server listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT)).expect("a time limit");
    stream.set_write_timeout(Some(LIMIT)).expect("a time limit");
    stream
}

/// Reads until the server closes; `None` when it does not within `limit`.
pub fn until_closed(stream: &mut TcpStream, limit: Duration) -> Option<Vec<u8>> {
    let start = Instant::now();
    let (mut heard, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    while let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        stream.set_read_timeout(Some(left)).expect("a time limit");
        match stream.read(&mut buffer) {
            Ok(0) => return Some(heard),
            Ok(count) => heard.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(_) => return Some(heard),
        }
    }
    None
}

/// One connection.
pub struct Peer {
    stream: TcpStream,
    heard: ChunkDeserializer,
}

impl Peer {
    /// Connects and shakes hands.
    #[track_caller]
    pub fn dial(address: SocketAddr) -> Self {
        Self::dial_from(1, address)
    }

    /// As [`Peer::dial`], from 127.0.0.`host`.
    #[track_caller]
    pub fn dial_from(host: u8, address: SocketAddr) -> Self {
        let mut stream = connect_from([127, 0, 0, host], address);
        stream.write_all(&[&[3][..], &[0; HANDSHAKE_BYTES - 1]].concat()).expect("the server reads the handshake");
        stream.read_exact(&mut [0; HANDSHAKE_BYTES]).expect("the server answers the handshake");
        Self { stream, heard: ChunkDeserializer::new() }
    }

    /// Sends `bytes` as they are. A server that has closed the connection already is no mistake of the test.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn command(&mut self, stream: u32, values: Vec<Amf0Value>) {
        let body = serialize(&values).expect("AMF0 can be written");
        self.send(&Chunks::of(3, 0, COMMAND, stream, &body).in_a_row());
    }

    pub fn connect(&mut self, app: &str) {
        let object = Amf0Value::Object([("app".to_owned(), text(app))].into());
        self.command(0, vec![text("connect"), Amf0Value::Number(1.0), object]);
    }

    /// Asks to publish, and returns code and description of the answer.
    #[track_caller]
    pub fn publish(&mut self, app: &str, key: &str) -> (String, String) {
        self.connect(app);
        self.command(0, vec![text("createStream"), Amf0Value::Number(2.0), Amf0Value::Null]);
        let publish = [text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text(key), text("live")];
        self.command(1, publish.into());
        self.status().unwrap_or_else(|| panic!("the server closed without an answer to publishing {app}/{key:?}"))
    }

    /// Sends one message of media or anything else on message stream 1.
    pub fn message(&mut self, kind: u8, ms: u32, body: &[u8]) -> bool {
        let chunk_stream = if kind == VIDEO { 6 } else { 4 };
        self.send(&Chunks::of(chunk_stream, ms, kind, 1, body).in_a_row())
    }

    /// Publishes and expects to be let in.
    #[track_caller]
    pub fn publishing(address: SocketAddr, name: &str) -> Self {
        let mut peer = Self::dial(address);
        let (code, words) = peer.publish("live", name);
        assert_eq!(code, "NetStream.Publish.Start", "{name}: {words}");
        peer
    }

    /// Stops publishing, which only works on a connection that has come to no harm.
    #[track_caller]
    pub fn assert_stops(&mut self, what: &str) {
        self.command(0, vec![text("deleteStream"), Amf0Value::Number(0.0), Amf0Value::Null, Amf0Value::Number(1.0)]);
        let status = self.status();
        assert_eq!(status.map(|(code, _)| code).as_deref(), Some("NetStream.Unpublish.Success"), "{what}");
    }

    /// The connection itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Ends what is being published and asks to publish `key`, on the same connection.
    #[track_caller]
    pub fn again(&mut self, key: &str) {
        self.command(0, vec![text("deleteStream"), Amf0Value::Number(0.0), Amf0Value::Null, Amf0Value::Number(1.0)]);
        let publish = [text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text(key), text("live")];
        self.command(1, publish.into());
        while let Some((code, words)) = self.status() {
            match code.as_str() {
                "NetStream.Unpublish.Success" => {}
                "NetStream.Publish.Start" => return,
                _ => panic!("{key} is refused: {words}"),
            }
        }
        panic!("the server closed the connection when {key} was published on it");
    }

    /// The next `onStatus`: code and description. `None` when the connection ended.
    pub fn status(&mut self) -> Option<(String, String)> {
        let (mut buffer, mut count) = ([0; 4_096], 0);
        loop {
            while let Some(message) = self.heard.get_next_message(&buffer[..count]).expect("the server speaks RTMP") {
                count = 0;
                match message.to_rtmp_message().expect("the server speaks RTMP") {
                    RtmpMessage::SetChunkSize { size } => {
                        self.heard.set_max_chunk_size(size as usize).expect("a usual chunk size");
                    }
                    RtmpMessage::Amf0Command { command_name, additional_arguments, .. }
                        if command_name == "onStatus" =>
                    {
                        let info = additional_arguments.into_iter().next()?.get_object_properties()?;
                        let field = |name| info.get(name).cloned().and_then(Amf0Value::get_string).unwrap_or_default();
                        return Some((field("code"), field("description")));
                    }
                    _ => {}
                }
            }
            count = self.stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        }
    }

    /// Waits for the server to close the connection.
    #[track_caller]
    pub fn assert_closed(&mut self, why: &str) {
        let start = Instant::now();
        let mut buffer = [0; 4_096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => assert!(start.elapsed() < LIMIT, "the server goes on talking: {why}"),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the connection is still open after {LIMIT:?}: {why}")
                }
                Err(_) => return,
            }
        }
    }
}
