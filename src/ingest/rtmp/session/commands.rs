//! What each command does, as OBS, FFmpeg, GStreamer, Larix and hardware encoders send them.

use std::time::Instant;

use rml_amf0::Amf0Value;

use super::{Error, Event, Session, State};
use crate::ingest::publish::{PublishRequest, Query, Refusal, RefusalKind};
use crate::ingest::rtmp::amf0::Value;
use crate::ingest::rtmp::connect::Connect;
use crate::ingest::rtmp::intake::Intake;
use crate::ingest::rtmp::message::Command;
use crate::ingest::rtmp::reply::{CONTROL, object, text};
use crate::media::name::{self, StreamName};

/// Message streams on one connection. Encoders make one, and another when they publish again.
const MAX_STREAMS: u32 = 8;
/// Longest stream key: a name of 128 bytes and a signed token.
const MAX_KEY_BYTES: usize = 2_048;

impl Session {
    /// Obeys a command that came on message stream `stream_id`.
    pub(super) fn obey(&mut self, now: Instant, stream_id: u32, command: &Command) -> Result<(), Error> {
        match command.name.as_str() {
            "connect" => self.connect(now, command),
            "createStream" => self.create_stream(command),
            "publish" => self.publish(now, stream_id, command),
            "deleteStream" | "closeStream" => self.unpublish(now, stream_id),
            // Librtmp announces what it is going to publish and waits for onFCPublish, or does not.
            "FCPublish" => {
                self.notify("onFCPublish", "NetStream.Publish.Start", command)?;
                self.answer(command, Amf0Value::Undefined)
            }
            "FCUnpublish" => {
                self.notify("onFCUnpublish", "NetStream.Unpublish.Success", command)?;
                self.answer(command, Amf0Value::Undefined)
            }
            "releaseStream" | "_checkbw" => self.answer(command, Amf0Value::Undefined),
            "getStreamLength" => self.answer(command, Amf0Value::Number(0.0)),
            "play" | "play2" => {
                let words = "this server takes streams over RTMP and plays them over HTTP: open /APP/NAME in a browser";
                self.outbox.status(stream_id, "error", "NetStream.Play.Failed", words)?;
                self.close(now, Refusal::new(RefusalKind::Denied, "the peer wants to play over RTMP"));
                Ok(())
            }
            // Answers to us, and what is unknown. An error would make some encoders give up; the rate is limited.
            _ => Ok(()),
        }
    }

    fn connect(&mut self, now: Instant, command: &Command) -> Result<(), Error> {
        if !matches!(self.state, State::Connecting) {
            let info = [
                ("level", text("error")),
                ("code", text("NetConnection.Connect.Failed")),
                ("description", text("connected already")),
            ];
            return self.answer_error(command, object(info));
        }
        self.outbox.welcome(command.transaction)?;
        self.transition(now, State::Connected(Connect::read(&command.object)));
        Ok(())
    }

    fn create_stream(&mut self, command: &Command) -> Result<(), Error> {
        if matches!(self.state, State::Connecting) || self.streams == MAX_STREAMS {
            let info = [("level", text("error")), ("code", text("NetConnection.Call.Failed"))];
            return self.answer_error(command, object(info));
        }
        self.streams += 1;
        self.answer(command, Amf0Value::Number(f64::from(self.streams)))
    }

    fn publish(&mut self, now: Instant, stream_id: u32, command: &Command) -> Result<(), Error> {
        let connect = match &self.state {
            State::Connected(connect) if self.streams > 0 => connect.clone(),
            state => {
                let words = match state {
                    State::Connected(_) => "publish came before createStream",
                    State::Publishing { .. } => "this connection publishes already",
                    _ => "publish came before connect",
                };
                return Ok(self.outbox.status(stream_id, "error", "NetStream.Publish.BadName", words)?);
            }
        };
        let key = command.arguments.first().and_then(Value::text).unwrap_or("");
        let request = self.request(&connect, key);
        // Also for a name that is refused at once: the refusal goes to the message stream that asked.
        self.transition(now, State::Deciding { connect, stream_id });
        match request {
            Ok(request) => {
                self.events.push_back(Event::PublishRequested(request));
                Ok(())
            }
            Err(why) => self.reject(now, Refusal::new(RefusalKind::BadName, why)),
        }
    }

    /// What a stream key asks for, or which rule of names it breaks.
    fn request(&self, connect: &Connect, key: &str) -> Result<PublishRequest, String> {
        if key.len() > MAX_KEY_BYTES {
            return Err(format!("the stream key has {} bytes, the most is {MAX_KEY_BYTES}", key.len()));
        }
        let (name, credential) = connect.stream_key(key);
        let name = StreamName::new(&connect.app, name).map_err(|error| error.to_string())?;
        let query = Query(connect.query(key).to_owned());
        Ok(PublishRequest { name, credential, query, peer: self.peer, protocol: "rtmp" })
    }

    /// `deleteStream` comes on message stream 0, `closeStream` on the one that it closes; one connection publishes one stream, so
    /// whichever is named, that one ends.
    fn unpublish(&mut self, now: Instant, named: u32) -> Result<(), Error> {
        let State::Publishing { connect, stream_id } = &self.state else { return Ok(()) };
        let (connect, stream_id) = (connect.clone(), *stream_id);
        tracing::debug!(named, stream_id, "unpublish");
        self.drain_intake();
        let repairs = self.intake.take_repairs();
        self.intake = Intake::continuing(repairs);
        self.transition(now, State::Connected(connect));
        self.events.push_back(Event::Unpublished);
        Ok(self.outbox.status(stream_id, "status", "NetStream.Unpublish.Success", "stopped")?)
    }

    /// A command of ours beside the answer: `onFCPublish`, `onFCUnpublish`.
    fn notify(&mut self, name: &str, code: &str, command: &Command) -> Result<(), Error> {
        // What FCPublish names may hold the key; the answer does not repeat it.
        let key = command.arguments.first().and_then(Value::text).unwrap_or("");
        let description = key.split('?').next().unwrap_or("");
        let description: String = description.chars().take(name::MAX_LEN).collect();
        let info = object([("level", text("status")), ("code", text(code)), ("description", text(&description))]);
        Ok(self.outbox.command(name, 0.0, Amf0Value::Null, vec![info], CONTROL)?)
    }

    /// `_result`. Commands without a transaction expect no answer.
    fn answer(&mut self, command: &Command, value: Amf0Value) -> Result<(), Error> {
        if command.transaction == 0.0 {
            return Ok(());
        }
        Ok(self.outbox.command("_result", command.transaction, Amf0Value::Null, vec![value], CONTROL)?)
    }

    /// `_error`, which comes without being asked for, too.
    fn answer_error(&mut self, command: &Command, info: Amf0Value) -> Result<(), Error> {
        Ok(self.outbox.command("_error", command.transaction, Amf0Value::Null, vec![info], CONTROL)?)
    }
}
