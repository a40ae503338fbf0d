//! What the server says. Chunks and AMF0 are written by `rml_rtmp`.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use rml_amf0::Amf0Value;
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::{PeerBandwidthLimitType, RtmpMessage, UserControlEventType};
use rml_rtmp::time::RtmpTimestamp;

/// The message stream of what concerns the connection itself. Spec: RTMP 1.0 §5.4.
pub(super) const CONTROL: u32 = 0;
/// Every answer fits in one chunk of this size.
const CHUNK_BYTES: u32 = 4_096;
/// Answers that wait to be sent. A peer that asks and does not read must not make us keep what it does not take.
const MAX_WAITING_BYTES: usize = 64 * 1024;
/// Bytes after which the peer should acknowledge, which we do not need, and after which we do until the peer says otherwise.
pub(super) const WINDOW_BYTES: u32 = 2_500_000;

/// Why nothing more can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// More than the limit on bytes that wait.
    #[error("the peer asks but does not read the answers")]
    NotRead,
    /// An answer could not be written; the mistake is ours.
    #[error("an answer could not be written")]
    Unwritable,
}

/// Messages to the peer, in order.
pub(super) struct Outbox {
    serializer: ChunkSerializer,
    waiting: VecDeque<Bytes>,
    waiting_bytes: usize,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { serializer: ChunkSerializer::new(), waiting: VecDeque::new(), waiting_bytes: 0 }
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("waiting_bytes", &self.waiting_bytes).finish_non_exhaustive()
    }
}

/// A property of an answer's object.
pub(super) fn text(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.to_owned())
}

/// An object of an answer.
pub(super) fn object<const N: usize>(properties: [(&str, Amf0Value); N]) -> Amf0Value {
    Amf0Value::Object(properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<HashMap<_, _>>())
}

impl Outbox {
    pub(super) fn poll(&mut self) -> Option<Bytes> {
        let bytes = self.waiting.pop_front()?;
        self.waiting_bytes -= bytes.len();
        Some(bytes)
    }

    pub(super) fn push(&mut self, bytes: Bytes) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.waiting_bytes += bytes.len();
        self.waiting.push_back(bytes);
        if self.waiting_bytes > MAX_WAITING_BYTES { Err(Error::NotRead) } else { Ok(()) }
    }

    fn send(&mut self, message: RtmpMessage, stream_id: u32) -> Result<(), Error> {
        let payload = message.into_message_payload(RtmpTimestamp::new(0), stream_id).map_err(|_| Error::Unwritable)?;
        // Full headers, as encoders expect at the start. A message of several chunks would be torn by them: rml_rtmp repeats the full
        // header on every chunk.
        let full = payload.data.len() <= CHUNK_BYTES as usize;
        let chunks = self.serializer.serialize(&payload, full, false).map_err(|_| Error::Unwritable)?;
        self.push(chunks.bytes.into())
    }

    /// The yes to `connect`, and what precedes it.
    pub(super) fn welcome(&mut self, transaction: f64) -> Result<(), Error> {
        self.send(RtmpMessage::WindowAcknowledgement { size: WINDOW_BYTES }, CONTROL)?;
        let limit_type = PeerBandwidthLimitType::Dynamic;
        self.send(RtmpMessage::SetPeerBandwidth { size: WINDOW_BYTES, limit_type }, CONTROL)?;
        let chunks = self.serializer.set_max_chunk_size(CHUNK_BYTES, RtmpTimestamp::new(0));
        self.push(chunks.map_err(|_| Error::Unwritable)?.bytes.into())?;
        let properties = object([
            ("fmsVer", text("FMS/3,5,7,7009")),
            ("capabilities", Amf0Value::Number(31.0)),
            ("mode", Amf0Value::Number(1.0)),
        ]);
        let info = object([
            ("level", text("status")),
            ("code", text("NetConnection.Connect.Success")),
            ("description", text("connected")),
            // AMF0, whatever was asked for.
            ("objectEncoding", Amf0Value::Number(0.0)),
        ]);
        self.command("_result", transaction, properties, vec![info], CONTROL)
    }

    /// `_result`, or another command, to a transaction.
    pub(super) fn command(
        &mut self,
        name: &str,
        transaction: f64,
        object: Amf0Value,
        arguments: Vec<Amf0Value>,
        stream_id: u32,
    ) -> Result<(), Error> {
        let message = RtmpMessage::Amf0Command {
            command_name: name.to_owned(),
            transaction_id: transaction,
            command_object: object,
            additional_arguments: arguments,
        };
        self.send(message, stream_id)
    }

    /// `onStatus` with the level `status` or `error`.
    pub(super) fn status(&mut self, stream_id: u32, level: &str, code: &str, description: &str) -> Result<(), Error> {
        let info = object([("level", text(level)), ("code", text(code)), ("description", text(description))]);
        self.command("onStatus", 0.0, Amf0Value::Null, vec![info], stream_id)
    }

    pub(super) fn stream_begin(&mut self, stream_id: u32) -> Result<(), Error> {
        let event_type = UserControlEventType::StreamBegin;
        self.send(
            RtmpMessage::UserControl { event_type, stream_id: Some(stream_id), buffer_length: None, timestamp: None },
            CONTROL,
        )
    }

    pub(super) fn pong(&mut self, timestamp: u32) -> Result<(), Error> {
        let event_type = UserControlEventType::PingResponse;
        let timestamp = Some(RtmpTimestamp::new(timestamp));
        self.send(RtmpMessage::UserControl { event_type, stream_id: None, buffer_length: None, timestamp }, CONTROL)
    }

    /// `total`: bytes received since the connection began, wrapping. Spec: RTMP 1.0 §5.4.3.
    pub(super) fn acknowledge(&mut self, total: u32) -> Result<(), Error> {
        self.send(RtmpMessage::Acknowledgement { sequence_number: total }, CONTROL)
    }
}
