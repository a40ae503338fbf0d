//! A publisher that sends what no encoder can be told to: its own times, at its own pace, in its own order.
//!
//! A [`Script`] is what is sent and when, made of a prepared file; [`Crafted`] sends it over RTMP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rml_amf0::{Amf0Value, serialize};

use super::media::Source;

const LIMIT: Duration = Duration::from_secs(15);
const CHUNK_BYTES: usize = 4096;
const STARTED: &[u8] = b"NetStream.Publish.Start";
pub const AUDIO: u8 = 8;
pub const VIDEO: u8 = 9;

/// A media message.
#[derive(Clone, Debug)]
pub struct Tag {
    pub kind: u8,
    /// When it is sent, milliseconds after the start.
    pub at: f64,
    /// The timestamp that it says, milliseconds; the low 32 bits are sent.
    pub stamp: i64,
    pub body: Arc<[u8]>,
}

impl Tag {
    /// A decoder's configuration, which comes once.
    pub fn is_header(&self) -> bool {
        self.body.get(1) == Some(&0)
            && (self.kind == VIDEO && self.body[0] & 15 == 7 || self.kind == AUDIO && self.body[0] >> 4 == 10)
    }

    /// A picture that can be decoded alone.
    pub fn is_key(&self) -> bool {
        self.kind == VIDEO && self.body[0] >> 4 == 1 && !self.is_header()
    }
}

/// What is published, in the order in which it is sent.
#[derive(Clone, Debug, Default)]
pub struct Script(pub Vec<Tag>);

impl Script {
    /// The media of a prepared FLV file, sent at its time.
    #[track_caller]
    pub fn of(source: &Source) -> Self {
        Self::of_file(&source.file())
    }

    /// As [`Script::of`], any FLV file.
    #[track_caller]
    pub fn of_file(file: &Path) -> Self {
        let file = std::fs::read(file).expect("the prepared file can be read");
        let mut rest = &file[13..];
        let mut tags = Vec::new();
        while rest.len() > 11 {
            let length = u32::from_be_bytes([0, rest[1], rest[2], rest[3]]) as usize;
            let stamp = i64::from(u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]));
            if rest[0] == AUDIO || rest[0] == VIDEO {
                tags.push(Tag { kind: rest[0], at: stamp as f64, stamp, body: rest[11..11 + length].into() });
            }
            rest = &rest[11 + length + 4..];
        }
        // ffmpeg writes an empty picture at the end of the sequence.
        tags.retain(|tag| tag.body.len() > 5 || tag.kind == AUDIO);
        Self(tags)
    }

    /// Only what is sent before `ms`.
    pub fn until(mut self, ms: f64) -> Self {
        self.0.retain(|tag| tag.at < ms);
        self
    }

    /// Each tag as `change` makes it.
    pub fn each(mut self, change: impl FnMut(&mut Tag)) -> Self {
        self.0.iter_mut().for_each(change);
        self
    }

    /// `other` behind this, its times and stamps `ms` later.
    pub fn then(mut self, other: Self, ms: i64) -> Self {
        self.0.extend(other.each(|tag| (tag.at, tag.stamp) = (tag.at + ms as f64, tag.stamp + ms)).0);
        self
    }

    /// What playlists call the codec of the pictures: profile, constraints and level of their first configuration (RFC 6381).
    #[track_caller]
    pub fn video_codec(&self) -> String {
        let header = self.0.iter().find(|tag| tag.kind == VIDEO && tag.is_header()).expect("a configuration");
        // Behind the five bytes of the tag's header and the record's version.
        format!("avc1.{:02X}{:02X}{:02X}", header.body[6], header.body[7], header.body[8])
    }

    /// Access units of one kind: how many are sent.
    pub fn count(&self, kind: u8) -> usize {
        self.0.iter().filter(|tag| tag.kind == kind && !tag.is_header()).count()
    }
}

/// A connection that publishes a [`Script`] and says farewell at its end.
pub struct Crafted {
    thread: Option<JoinHandle<std::io::Result<()>>>,
    stop: Arc<AtomicBool>,
    /// Unix milliseconds at which it began to send.
    pub began: f64,
}

impl Crafted {
    #[track_caller]
    pub fn publish(address: SocketAddr, name: &str, script: Script) -> Self {
        let mut connection = Connection::publish(address, name).expect("the server takes a publisher");
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let began =
            SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs_f64() * 1_000.0;
        let start = Instant::now();
        let thread = thread::spawn(move || {
            for tag in &script.0 {
                thread::sleep(Duration::from_secs_f64(tag.at / 1_000.0).saturating_sub(start.elapsed()));
                if told.load(Ordering::Relaxed) {
                    // The plug is pulled.
                    return Ok(());
                }
                connection.send(if tag.kind == VIDEO { 6 } else { 4 }, tag.kind, 1, tag.stamp as u32, &tag.body)?;
            }
            connection.command(&[text("deleteStream"), number(4), Amf0Value::Null, number(1)], 0)
        });
        Self { thread: Some(thread), stop, began }
    }

    /// Waits until all of it has been sent.
    #[track_caller]
    pub fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the publisher does not panic").expect("the server takes all of it");
        }
    }

    /// Pulls the plug: the connection is gone without a farewell.
    pub fn cut(self) {}
}

impl Drop for Crafted {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn text(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.to_owned())
}

fn number(number: u32) -> Amf0Value {
    Amf0Value::Number(number.into())
}

struct Connection(TcpStream);

impl Connection {
    fn publish(address: SocketAddr, name: &str) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        stream.set_nodelay(true)?;
        stream.write_all(&[&[3][..], &[0; 1_536]].concat())?;
        let mut answer = [0; 1 + 2 * 1_536];
        stream.read_exact(&mut answer)?;
        stream.write_all(&answer[1..1_537])?;
        let mut connection = Self(stream);
        connection.send(2, 1, 0, 0, &(CHUNK_BYTES as u32).to_be_bytes())?;
        let object = Amf0Value::Object([("app".to_owned(), text("live"))].into());
        connection.command(&[text("connect"), number(1), object], 0)?;
        connection.command(&[text("createStream"), number(2), Amf0Value::Null], 0)?;
        connection.command(&[text("publish"), number(3), Amf0Value::Null, text(name), text("live")], 1)?;
        // The server's answers are short: looking for the word in the bytes saves a de-chunker.
        let (mut seen, mut buffer) = (Vec::new(), [0; 4_096]);
        while !seen.windows(STARTED.len()).any(|window| window == STARTED) {
            match connection.0.read(&mut buffer)? {
                0 => return Err(std::io::Error::other(format!("refused: {}", String::from_utf8_lossy(&seen)))),
                count => seen.extend_from_slice(&buffer[..count]),
            }
        }
        Ok(connection)
    }

    fn command(&mut self, values: &[Amf0Value], stream: u32) -> std::io::Result<()> {
        let body = serialize(&values.to_vec()).expect("AMF0 can be written");
        self.send(3, 20, stream, 0, &body)
    }

    /// A message in chunks, the first of them with all that a header can say.
    fn send(&mut self, chunk_stream: u8, kind: u8, stream: u32, stamp: u32, body: &[u8]) -> std::io::Result<()> {
        let extended = if stamp >= 0xFF_FFFF { stamp.to_be_bytes().to_vec() } else { Vec::new() };
        let mut bytes = vec![chunk_stream];
        bytes.extend_from_slice(&stamp.min(0xFF_FFFF).to_be_bytes()[1..]);
        bytes.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
        bytes.push(kind);
        bytes.extend_from_slice(&stream.to_le_bytes());
        bytes.extend_from_slice(&extended);
        for (index, piece) in body.chunks(CHUNK_BYTES).enumerate() {
            if index > 0 {
                bytes.push(0xC0 | chunk_stream);
                bytes.extend_from_slice(&extended);
            }
            bytes.extend_from_slice(piece);
        }
        self.0.write_all(&bytes)
    }
}
