//! HTTP/2 frame by frame, right or wrong, in the clear or over TLS. RFC 9113.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::peer::connect_from;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const ENHANCE_YOUR_CALM: u32 = 11;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A literal header field that is not indexed, RFC 7541 §6.2.2.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0][..], &text(name), &text(value)].concat()
}

/// A string literal without Huffman coding, RFC 7541 §5.2.
pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.len();
    if rest < 127 {
        bytes.push(u8::try_from(rest).expect("below 127"));
    } else {
        bytes.push(127);
        rest -= 127;
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128 + 128).expect("a byte"));
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).expect("below 128"));
    }
    [&bytes, text.as_bytes()].concat()
}

/// The header block of a GET.
pub fn get(path: &str) -> Vec<u8> {
    [&[0x82, 0x86, 0x04][..], &text(path), &[0x01], &text("a")].concat()
}

/// A GET that is complete.
pub fn request(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &get(path))
}

/// What became of a connection.
#[derive(Debug, Default)]
pub struct Heard {
    /// The code of GOAWAY; the first that is no plain good-bye.
    pub goaway: Option<u32>,
    /// Codes of RST_STREAM, by stream.
    pub resets: Vec<(u32, u32)>,
    /// Header blocks, by stream.
    pub heads: Vec<(u32, Vec<u8>)>,
    /// Bytes of bodies.
    pub body: usize,
    /// Whether the server closed it.
    pub closed: bool,
}

impl Heard {
    /// Whether a stream was answered with a status that HPACK has in its static table.
    pub fn answered(&self, stream: u32, status: u16) -> bool {
        let index =
            [200, 204, 206, 304, 400, 404, 500].iter().position(|known| *known == status).expect("in the table");
        let wanted = 0x88 + u8::try_from(index).expect("seven");
        self.heads.iter().any(|(of, block)| *of == stream && block.first() == Some(&wanted))
    }
}

/// A byte stream.
pub trait Wire: Read + Write + Send {
    /// Limits the next read.
    fn patience(&mut self, limit: Duration);
}

impl Wire for std::net::TcpStream {
    fn patience(&mut self, limit: Duration) {
        self.set_read_timeout(Some(limit)).expect("a time limit");
    }
}

/// A client.
pub struct Client {
    wire: Box<dyn Wire>,
    unread: Vec<u8>,
    pub heard: Heard,
}

impl Client {
    /// Connects in the clear and says hello with these settings.
    #[track_caller]
    pub fn dial(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        Self::over(Box::new(connect_from([127, 0, 0, 1], address)), settings)
    }

    /// Says hello over a connection that is open.
    #[track_caller]
    pub fn over(wire: Box<dyn Wire>, settings: &[(u16, u32)]) -> Self {
        let mut client = Self { wire, unread: Vec::new(), heard: Heard::default() };
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
        assert!(client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()), "the server listens");
        client
    }

    /// False where the server has closed.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.wire.write_all(bytes).and_then(|()| self.wire.flush()).is_ok()
    }

    /// Reads for so long, or until the server closes, or `enough` is heard.
    pub fn listen(&mut self, limit: Duration, enough: impl Fn(&Heard) -> bool) -> &Heard {
        let start = Instant::now();
        let mut buffer = [0; 16 * 1024];
        while !self.heard.closed && !enough(&self.heard) {
            let Some(left) = limit.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) else { break };
            self.wire.patience(left);
            match self.wire.read(&mut buffer) {
                Ok(0) => self.heard.closed = true,
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                Err(_) => self.heard.closed = true,
            }
            self.digest();
        }
        &self.heard
    }

    fn digest(&mut self) {
        let mut rest = &self.unread[..];
        while rest.len() >= 9 {
            let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
            let Some(payload) = rest.get(9..9 + length) else { break };
            let stream = u32::from_be_bytes([rest[5], rest[6], rest[7], rest[8]]);
            let word =
                |at: usize| payload.get(at..at + 4).map(|word| u32::from_be_bytes(word.try_into().expect("four")));
            match rest[3] {
                GOAWAY => self.heard.goaway = self.heard.goaway.filter(|code| *code != 0).or(word(4)),
                RST_STREAM => self.heard.resets.extend(word(0).map(|code| (stream, code))),
                HEADERS => self.heard.heads.push((stream, payload.to_vec())),
                DATA => self.heard.body += length,
                _ => {}
            }
            rest = &rest[9 + length..];
        }
        self.unread = rest.to_vec();
    }

    /// Sends until the server has closed, at most so long and at most so many bytes; gives how many it took.
    pub fn flood(&mut self, bytes: &[u8], limit: Duration, most: usize) -> usize {
        let (start, mut sent) = (Instant::now(), 0);
        while start.elapsed() < limit && sent < most && self.send(bytes) {
            sent += bytes.len();
            self.listen(Duration::from_millis(1), |_| false);
            if self.heard.closed {
                break;
            }
        }
        sent
    }
}
