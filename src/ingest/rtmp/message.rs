//! Messages that carry no media: protocol control, user control, commands, metadata.
//!
//! Specification: RTMP 1.0 §5.4, §6, §7.

use super::amf0::{self, Value};
use super::type_id;
use crate::media::reader::{Reader, Truncated};

/// The user control event that asks for an echo. Spec: RTMP 1.0 §7.1.7.
const PING_REQUEST: u16 = 6;

/// Why a message cannot be read. Every one of them ends the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A control message without its number.
    #[error("a control message is too short: {0}")]
    Short(#[from] Truncated),
    /// A command whose body is no AMF0 that we read.
    #[error("a command is malformed: {0}")]
    Amf0(#[from] amf0::Error),
    /// A command that does not begin with its name.
    #[error("a command has no name")]
    NoName,
}

/// A message that is understood.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// Set Chunk Size, in bytes, as sent.
    SetChunkSize(u32),
    /// Abort the message on that chunk stream.
    Abort(u32),
    /// The peer wants to be told every so many bytes what arrived.
    WindowSize(u32),
    /// A ping, with its timestamp to be sent back.
    Ping(u32),
    /// A command.
    Command(Command),
    /// `onMetaData`.
    Metadata(Value),
    /// An aggregate: FLV tags.
    Aggregate,
    /// Nothing to be done.
    Other,
}

/// A command. Spec: RTMP 1.0 §7.2.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// What is to be done.
    pub name: String,
    /// What an answer repeats; 0 where none is expected, or none was sent.
    pub transaction: f64,
    /// The command object, mostly null.
    pub object: Value,
    /// What follows.
    pub arguments: Vec<Value>,
}

/// Reads the body of a message of that type.
///
/// # Errors
/// [`Error`]. Malformed metadata is no error but [`Message::Other`]: a stream does not need it.
pub fn read(type_id: u8, body: &[u8]) -> Result<Message, Error> {
    let mut reader = Reader::new(body);
    Ok(match type_id {
        type_id::SET_CHUNK_SIZE => Message::SetChunkSize(reader.u32()?),
        type_id::ABORT => Message::Abort(reader.u32()?),
        type_id::USER_CONTROL => match (reader.u16()?, reader.u32()) {
            (PING_REQUEST, Ok(timestamp)) => Message::Ping(timestamp),
            _ => Message::Other,
        },
        type_id::WINDOW_SIZE => Message::WindowSize(reader.u32()?),
        // AMF3 commands and data switch to AMF0 with a zero byte.
        type_id::COMMAND_AMF3 => read_command(without_zero(body))?,
        type_id::COMMAND_AMF0 => read_command(body)?,
        type_id::DATA_AMF3 => read_data(without_zero(body)).unwrap_or(Message::Other),
        type_id::DATA_AMF0 => read_data(body).unwrap_or(Message::Other),
        type_id::AGGREGATE => Message::Aggregate,
        // Acknowledgements and peer bandwidth govern what we send, which is little; shared objects are not for publishing.
        _ => Message::Other,
    })
}

fn without_zero(body: &[u8]) -> &[u8] {
    body.strip_prefix(&[0]).unwrap_or(body)
}

fn read_command(body: &[u8]) -> Result<Message, Error> {
    let mut values = amf0::read_all(body)?.into_iter();
    let Some(Value::String(name)) = values.next() else { return Err(Error::NoName) };
    let transaction = values.next().and_then(|value| value.number()).filter(|number| number.is_finite()).unwrap_or(0.0);
    let object = values.next().unwrap_or(Value::Null);
    Ok(Message::Command(Command { name, transaction, object, arguments: values.collect() }))
}

/// `@setDataFrame`, `onMetaData`, values; or without the first. Encoders send other data for every picture (`onFI`, captions), so only the
/// name is read of those.
fn read_data(body: &[u8]) -> Result<Message, amf0::Error> {
    let first = amf0::read_first(body)?;
    if !matches!(first.text(), Some("@setDataFrame" | "onMetaData")) {
        return Ok(Message::Other);
    }
    let mut values = amf0::read_all(body)?.into_iter().filter(|value| value.text() != Some("@setDataFrame"));
    if values.next().as_ref().and_then(Value::text) != Some("onMetaData") {
        return Ok(Message::Other);
    }
    Ok(values.next().map_or(Message::Other, Message::Metadata))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn commands_and_metadata_of_both_encodings() {
        let command = [&[2, 0, 3][..], b"foo", &[0, 0x40, 0, 0, 0, 0, 0, 0, 0, 5, 2, 0, 1, b'x']].concat();
        let expected = Message::Command(Command {
            name: "foo".into(),
            transaction: 2.0,
            object: Value::Null,
            arguments: vec![Value::String("x".into())],
        });
        assert_eq!(read(20, &command), Ok(expected.clone()));
        assert_eq!(read(17, &[&[0], &command[..]].concat()), Ok(expected));
        let metadata = [&[2, 0, 10][..], b"onMetaData", &[3, 0, 0, 9]].concat();
        let framed = [&[2, 0, 13][..], b"@setDataFrame", &metadata].concat();
        for body in [&metadata, &framed] {
            assert_eq!(read(18, body), Ok(Message::Metadata(Value::Object(vec![]))));
            assert_eq!(read(15, &[&[0], &body[..]].concat()), Ok(Message::Metadata(Value::Object(vec![]))));
        }
    }

    #[test]
    fn what_cannot_be_read() {
        assert_eq!(read(20, &[]), Err(Error::NoName));
        assert_eq!(read(20, &[5]), Err(Error::NoName));
        assert_eq!(read(1, &[0, 0]), Err(Error::Short(Truncated { missing: 2 })));
        assert_eq!(read(18, &[9, 9]), Ok(Message::Other), "a stream does not need its metadata");
        assert_eq!(read(4, &[0, 6, 1]), Ok(Message::Other));
        assert_eq!(read(4, &[0, 6, 0, 0, 1, 0]), Ok(Message::Ping(256)));
    }

    proptest! {
        #[test]
        fn random_bodies_never_panic(type_id in 0_u8..24, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(type_id, &body);
        }
    }
}
