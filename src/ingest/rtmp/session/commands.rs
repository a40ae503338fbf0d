//! What each command does, as OBS, FFmpeg, GStreamer, Larix and hardware encoders send them.

use std::time::Instant;

use rml_amf0::Amf0Value;

use super::{Error, Event, Session, State};
use crate::ingest::publish::{PublishRequest, Query, Refusal, RefusalKind};
use crate::ingest::rtmp::amf0::Value;
use crate::ingest::rtmp::connect::Connect;
use crate::ingest::rtmp::intake::Intake;
use crate::ingest::rtmp::message::Command;
use crate::ingest::rtmp::reply::{object, text};
use crate::media::StreamName;

/// Message streams on one connection. Encoders make one, and another when they publish again.
const MAX_STREAMS: u32 = 8;
/// Longest stream key: a name of 128 bytes and a signed token.
const MAX_KEY_BYTES: usize = 2_048;

/// Obeys a command that came on message stream `stream_id`.
pub(super) fn obey(session: &mut Session, now: Instant, stream_id: u32, command: Command) -> Result<(), Error> {
    let transaction = command.transaction;
    match command.name.as_str() {
        "connect" => connect(session, now, &command),
        "createStream" => create_stream(session, transaction),
        "publish" => publish(session, now, stream_id, &command),
        "deleteStream" | "closeStream" => unpublish(session, now, stream_id),
        // Librtmp announces what it is going to publish and waits for onFCPublish, or does not.
        "FCPublish" => {
            info(session, "onFCPublish", "NetStream.Publish.Start", &command)?;
            result(session, transaction, Amf0Value::Undefined)
        }
        "FCUnpublish" => {
            info(session, "onFCUnpublish", "NetStream.Unpublish.Success", &command)?;
            result(session, transaction, Amf0Value::Undefined)
        }
        "releaseStream" | "_checkbw" => result(session, transaction, Amf0Value::Undefined),
        "getStreamLength" => result(session, transaction, Amf0Value::Number(0.0)),
        "play" | "play2" => {
            let words = "this server takes streams over RTMP and plays them over HTTP: open /APP/NAME in a browser";
            session.outbox.status(stream_id, "error", "NetStream.Play.Failed", words)?;
            session.close(now, Refusal::new(RefusalKind::Denied, "the peer wants to play over RTMP"));
            Ok(())
        }
        // Answers to us, and what is unknown. An error would make some encoders give up; the rate is limited.
        _ => Ok(()),
    }
}

fn connect(session: &mut Session, now: Instant, command: &Command) -> Result<(), Error> {
    if !matches!(session.state, State::Connecting) {
        let description = text("connected already");
        let info = object([
            ("level", text("error")),
            ("code", text("NetConnection.Connect.Failed")),
            ("description", description),
        ]);
        return Ok(session.outbox.command("_error", command.transaction, Amf0Value::Null, vec![info], 0)?);
    }
    session.outbox.greet()?;
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
    session.outbox.command("_result", command.transaction, properties, vec![info], 0)?;
    session.transition(now, State::Connected(Connect::read(&command.object)));
    Ok(())
}

fn create_stream(session: &mut Session, transaction: f64) -> Result<(), Error> {
    if matches!(session.state, State::Connecting) || session.streams == MAX_STREAMS {
        let info = object([("level", text("error")), ("code", text("NetConnection.Call.Failed"))]);
        return Ok(session.outbox.command("_error", transaction, Amf0Value::Null, vec![info], 0)?);
    }
    session.streams += 1;
    result(session, transaction, Amf0Value::Number(f64::from(session.streams)))
}

fn publish(session: &mut Session, now: Instant, stream_id: u32, command: &Command) -> Result<(), Error> {
    let State::Connected(connect) = &session.state else {
        let words = match session.state {
            State::Publishing(..) => "this connection publishes already",
            _ => "publish came before connect",
        };
        return Ok(session.outbox.status(stream_id, "error", "NetStream.Publish.BadName", words)?);
    };
    if session.streams == 0 {
        return Ok(session.outbox.status(
            stream_id,
            "error",
            "NetStream.Publish.BadName",
            "publish came before createStream",
        )?);
    }
    let key = command.arguments.first().and_then(Value::text).unwrap_or("");
    let request = if key.len() > MAX_KEY_BYTES {
        Err(format!("the stream key has {} bytes, the most is {MAX_KEY_BYTES}", key.len()))
    } else {
        let (name, credential) = connect.stream_key(key);
        StreamName::new(&connect.app, name)
            .map(|name| {
                let query = Query(connect.query(key).to_owned());
                PublishRequest { name, credential, query, peer: session.peer, protocol: "rtmp" }
            })
            .map_err(|error| error.to_string())
    };
    let connect = connect.clone();
    match request {
        Ok(request) => {
            session.transition(now, State::Deciding(connect, stream_id));
            session.events.push_back(Event::PublishRequested(request));
        }
        Err(why) => {
            session.transition(now, State::Deciding(connect, stream_id));
            session.reject(now, Refusal::new(RefusalKind::BadName, why))?;
        }
    }
    Ok(())
}

/// `deleteStream` comes on message stream 0, `closeStream` on the one that it closes; one connection publishes one stream, so whichever is
/// named, that one ends.
fn unpublish(session: &mut Session, now: Instant, stream_id: u32) -> Result<(), Error> {
    let State::Publishing(connect, publishing) = &session.state else { return Ok(()) };
    let (connect, publishing) = (connect.clone(), *publishing);
    tracing::trace!(stream_id, publishing, "unpublish");
    session.drain_intake();
    let repairs = session.intake.take_repairs();
    session.intake = Intake::continuing(repairs);
    session.transition(now, State::Connected(connect));
    session.events.push_back(Event::Unpublished);
    Ok(session.outbox.status(publishing, "status", "NetStream.Unpublish.Success", "stopped")?)
}

fn info(session: &mut Session, name: &str, code: &str, command: &Command) -> Result<(), Error> {
    // What FCPublish names may hold the key; the answer does not repeat it.
    let key = command.arguments.first().and_then(Value::text).unwrap_or("");
    let description = key.split('?').next().unwrap_or("");
    let description: String = description.chars().take(128).collect();
    let info = object([("level", text("status")), ("code", text(code)), ("description", text(&description))]);
    Ok(session.outbox.command(name, 0.0, Amf0Value::Null, vec![info], 0)?)
}

/// Commands without a transaction expect no answer.
fn result(session: &mut Session, transaction: f64, value: Amf0Value) -> Result<(), Error> {
    if transaction == 0.0 {
        return Ok(());
    }
    Ok(session.outbox.command("_result", transaction, Amf0Value::Null, vec![value], 0)?)
}
