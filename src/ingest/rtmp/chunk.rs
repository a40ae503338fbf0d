//! The de-chunker: RTMP chunks in, pieces of messages out. It holds headers only; payload is lent from the input.
//!
//! One chunk stream has one state: the last header (which later chunks abbreviate) and how much of its message has come. A header is
//! decoded into a small value and committed only when all its bytes are there, so that input may end anywhere.
//!
//! Specification: RTMP 1.0 §5.3.

use super::type_id::{AGGREGATE, AUDIO, VIDEO};
use crate::media::reader::{Reader, Truncated};

/// A peer could name 65,598 chunk streams to make us keep a state for each. Encoders use four to eight.
pub const MAX_CHUNK_STREAMS: usize = 32;
/// Longest audio, video or aggregate message. A key frame of 8 MiB is 64 Mbit of one picture; length fields reach 16 MiB.
pub const MAX_MEDIA_BYTES: u32 = 8 * 1024 * 1024;
/// Longest message of any other type: commands and metadata are parsed into values, which cost more than their bytes.
pub const MAX_OTHER_BYTES: u32 = 64 * 1024;
/// Announced lengths of unfinished messages, summed over chunk streams, of a peer that has not been let in yet.
pub const MAX_ANNOUNCED_STRANGER: u64 = 128 * 1024;
/// The same of a publisher.
pub const MAX_ANNOUNCED: u64 = 16 * 1024 * 1024;
/// Chunk size until the peer sets one. Spec: RTMP 1.0 §5.4.1.
const INITIAL_CHUNK_SIZE: u32 = 128;
/// The first bit of a chunk size must be zero. Spec: RTMP 1.0 §5.4.1.
const MAX_CHUNK_SIZE: u32 = 0x7FFF_FFFF;
/// A timestamp field of this value says that 32 bits follow.
const EXTENDED: u32 = 0xFF_FFFF;
/// A type 3 chunk that begins a message after a type 0 chunk repeats the timestamp as a delta, says the specification; FFmpeg means just
/// that. From an absolute time beyond this many milliseconds no encoder means it, and it would be a jump.
const MAX_REPEATED_DELTA_MS: u32 = 10_000;
/// librtmp (OBS) opens the control chunk stream with a type 1 header.
const CONTROL_STREAM: u32 = 2;

/// How the peer broke the chunk protocol. Every one of them ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More than [`MAX_CHUNK_STREAMS`].
    #[error("more than {MAX_CHUNK_STREAMS} chunk streams")]
    TooManyStreams,
    /// A header that abbreviates one that never came.
    #[error("chunk stream {0} begins with an abbreviated header")]
    NoHeader(u32),
    /// A new message began before the last one of its chunk stream was complete.
    #[error("a message on chunk stream {0} begins inside an unfinished one")]
    Interrupted(u32),
    /// Longer than its type may be.
    #[error("a message of type {type_id} announces {length} bytes")]
    MessageTooLong {
        /// Message type id.
        type_id: u8,
        /// Announced length.
        length: u32,
    },
    /// Unfinished messages announce too much together.
    #[error("unfinished messages announce {0} bytes together")]
    TooMuchAnnounced(u64),
    /// Zero, or the top bit is set.
    #[error("a chunk size of {0}")]
    ChunkSize(u32),
}

/// A message header. Spec: RTMP 1.0 §5.3.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Milliseconds of the peer's clock, which wraps.
    pub timestamp: u32,
    /// Bytes of the message.
    pub length: u32,
    /// What the message is. Spec: RTMP 1.0 §7.1.
    pub type_id: u8,
    /// Message stream id.
    pub stream_id: u32,
}

/// Consecutive bytes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Which chunk stream: an index below [`MAX_CHUNK_STREAMS`].
    pub slot: usize,
    /// The message's header.
    pub header: Header,
    /// The next bytes of it; empty only for an empty message.
    pub data: &'a [u8],
    /// The message begins with this piece.
    pub first: bool,
    /// The message ends with this piece.
    pub last: bool,
}

/// One chunk stream: what later chunks of it leave out, and how much of its message has come.
#[derive(Debug, Clone, Copy)]
struct Stream {
    id: u32,
    /// Of the message that is being read, or was read last.
    header: Header,
    /// What a type 3 chunk adds when it begins a message.
    delta: u32,
    /// The 32-bit timestamp field of the last type 0, 1 or 2 header, where it was extended.
    extended: Option<u32>,
    /// Bytes of the current message that came; `None` between messages.
    received: Option<u32>,
}

/// A chunk whose header has been read.
#[derive(Debug, Clone, Copy)]
struct Current {
    /// Where its chunk stream stands in [`Decoder::streams`].
    slot: usize,
    /// Bytes of it that have not come yet.
    left: u32,
}

/// Decodes one connection's chunks.
#[derive(Debug)]
pub struct Decoder {
    chunk_size: u32,
    /// In the order of their first chunks; at most [`MAX_CHUNK_STREAMS`].
    streams: Vec<Stream>,
    /// The chunk whose payload is being read; `None` before a header.
    current: Option<Current>,
    /// Sum of the lengths of unfinished messages.
    announced: u64,
    max_announced: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            chunk_size: INITIAL_CHUNK_SIZE,
            streams: Vec::new(),
            current: None,
            announced: 0,
            max_announced: MAX_ANNOUNCED_STRANGER,
        }
    }
}

/// Why a header could not be read.
enum Stop {
    NeedMore,
    Broken(Error),
}

impl From<Truncated> for Stop {
    fn from(_: Truncated) -> Self {
        Self::NeedMore
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl Stream {
    fn new(id: u32) -> Self {
        Self { id, header: Header::default(), delta: 0, extended: None, received: None }
    }
}

impl Decoder {
    /// The peer may publish: it may announce [`MAX_ANNOUNCED`] from now on.
    pub fn trust(&mut self) {
        self.max_announced = MAX_ANNOUNCED;
    }

    /// Obeys Set Chunk Size. Nothing is allocated by it. Spec: RTMP 1.0 §5.4.1.
    ///
    /// # Errors
    /// [`Error::ChunkSize`].
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), Error> {
        if size == 0 || size > MAX_CHUNK_SIZE {
            return Err(Error::ChunkSize(size));
        }
        self.chunk_size = size;
        Ok(())
    }

    /// Obeys Abort: forgets the unfinished message on chunk stream `id`. The slot is `None` where there is none, which is no error.
    /// Spec: RTMP 1.0 §5.4.2.
    pub fn abort(&mut self, id: u32) -> Option<usize> {
        let slot = self.streams.iter().position(|stream| stream.id == id && stream.received.is_some())?;
        let stream = self.streams.get_mut(slot)?;
        stream.received = None;
        self.announced -= u64::from(stream.header.length);
        Some(slot)
    }

    /// The next piece; moves `input` past what was used. `None` when more input is needed (at most 18 bytes are left in it then).
    ///
    /// # Errors
    /// [`Error`]; the connection is beyond repair.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Error> {
        let Current { slot, left } = match self.current {
            Some(current) => current,
            None => {
                let mut reader = Reader::new(input);
                let stream = match self.read_header(&mut reader) {
                    Ok(stream) => stream,
                    Err(Stop::NeedMore) => return Ok(None),
                    Err(Stop::Broken(error)) => return Err(error),
                };
                let current = self.commit(stream)?;
                *input = reader.rest();
                self.current = Some(current);
                current
            }
        };
        if left > 0 && input.is_empty() {
            return Ok(None);
        }
        let Some(stream) = self.streams.get_mut(slot) else { return Ok(None) };
        let (data, rest) = input.split_at(input.len().min(left as usize));
        *input = rest;
        let before = stream.received.unwrap_or(0);
        let received = before + data.len() as u32;
        let last = received == stream.header.length;
        if last {
            stream.received = None;
            self.announced -= u64::from(stream.header.length);
        } else {
            stream.received = Some(received);
        }
        let left = left - data.len() as u32;
        self.current = (left > 0).then_some(Current { slot, left });
        Ok(Some(Piece { slot, header: stream.header, data, first: before == 0, last }))
    }

    /// Reads a chunk header without changing any state. What its type leaves out is as in the chunk stream's header before:
    ///
    /// ```text
    ///   type   timestamp         length, message type   message stream
    ///    0     absolute          yes                    yes
    ///    1     since the last    yes
    ///    2     since the last
    ///    3
    /// ```
    ///
    /// Spec: RTMP 1.0 §5.3.1.
    fn read_header(&self, reader: &mut Reader<'_>) -> Result<Stream, Stop> {
        let (header_type, id) = read_basic_header(reader)?;
        let known = self.streams.iter().find(|stream| stream.id == id).copied();
        let mut stream = match known {
            Some(stream) => stream,
            None if header_type == 0 || (header_type == 1 && id == CONTROL_STREAM) => Stream::new(id),
            None => return Err(Error::NoHeader(id).into()),
        };
        if header_type == 3 {
            read_repeated_time(&mut stream, reader)?;
            return Ok(stream);
        }
        if stream.received.is_some() {
            return Err(Error::Interrupted(id).into());
        }
        let field = reader.u24()?;
        if header_type < 2 {
            stream.header.length = reader.u24()?;
            stream.header.type_id = reader.u8()?;
        }
        if header_type == 0 {
            // The only little-endian number of the protocol.
            stream.header.stream_id = reader.u32()?.swap_bytes();
        }
        stream.extended = if field == EXTENDED { Some(reader.u32()?) } else { None };
        let time = stream.extended.unwrap_or(field);
        if header_type == 0 {
            stream.header.timestamp = time;
            stream.delta = if time > MAX_REPEATED_DELTA_MS { 0 } else { time };
        } else {
            stream.header.timestamp = stream.header.timestamp.wrapping_add(time);
            stream.delta = time;
        }
        Ok(stream)
    }

    /// Takes over a complete header and opens its message, where it begins one.
    fn commit(&mut self, mut stream: Stream) -> Result<Current, Error> {
        let Header { length, type_id, .. } = stream.header;
        if stream.received.is_none() {
            let most = if matches!(type_id, AUDIO | VIDEO | AGGREGATE) { MAX_MEDIA_BYTES } else { MAX_OTHER_BYTES };
            if length > most {
                return Err(Error::MessageTooLong { type_id, length });
            }
            let announced = self.announced + u64::from(length);
            if announced > self.max_announced {
                return Err(Error::TooMuchAnnounced(announced));
            }
            self.announced = announced;
            stream.received = Some(0);
        }
        let left = length.saturating_sub(stream.received.unwrap_or(0)).min(self.chunk_size);
        let slot = match self.streams.iter().position(|known| known.id == stream.id) {
            Some(slot) => slot,
            None if self.streams.len() < MAX_CHUNK_STREAMS => {
                self.streams.push(stream);
                self.streams.len() - 1
            }
            None => return Err(Error::TooManyStreams),
        };
        if let Some(known) = self.streams.get_mut(slot) {
            *known = stream;
        }
        Ok(Current { slot, left })
    }
}

/// The type of the header that follows, and the chunk stream. Spec: RTMP 1.0 §5.3.1.1.
fn read_basic_header(reader: &mut Reader<'_>) -> Result<(u8, u32), Truncated> {
    let basic = reader.u8()?;
    let id = match basic & 0x3F {
        0 => 64 + u32::from(reader.u8()?),
        1 => {
            let (low, high) = (u32::from(reader.u8()?), u32::from(reader.u8()?));
            64 + low + (high << 8)
        }
        short => u32::from(short),
    };
    Ok((basic >> 6, id))
}

/// The time of a type 3 chunk. Where the last header's time was extended, the four bytes are repeated by most encoders and left out by
/// some: they are read only if they say what is expected, which is the field of the header or the message's absolute time.
fn read_repeated_time(stream: &mut Stream, reader: &mut Reader<'_>) -> Result<(), Truncated> {
    let continues = stream.received.is_some();
    let time = if continues { stream.header.timestamp } else { stream.header.timestamp.wrapping_add(stream.delta) };
    if let Some(field) = stream.extended {
        let mut ahead = *reader;
        let repeated = ahead.u32()?;
        if repeated == field || repeated == time {
            *reader = ahead;
        }
    }
    stream.header.timestamp = time;
    Ok(())
}

#[cfg(test)]
mod tests;
