//! One publisher's connection, from the first byte to the last.
//!
//! The five verbs: [`Session::receive`] takes bytes, [`Session::poll_event`] and [`Session::poll_transmit`] give what came of them,
//! [`Session::poll_timeout`] and [`Session::handle_timeout`] keep the deadlines. After every call that takes `&mut self`, poll events and
//! transmissions until both are empty.

mod commands;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::chunk::{self, Piece};
use super::connect::Connect;
use super::handshake::{self, Handshake};
use super::intake::{AGGREGATE_SLOT, Intake, Output, TooManyFormats};
use super::message::{self, Message};
use super::reply::{self, Outbox};
use super::{flv, metadata};
use crate::ingest::publish::{PublishRequest, Refusal};
use crate::ingest::report::Announced;
use crate::ingest::timeline::Repairs;
use crate::media::{AccessUnit, Kind, Track};

/// Three packets of 1.5 KB. Whoever needs longer sends a byte a second to hold a connection.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// From the handshake to `publish`, all in all: five round trips. Encoders need less than two seconds over a satellite.
pub const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);
/// How long the decision may take that [`Event::PublishRequested`] asks for.
pub const DECISION_DEADLINE: Duration = Duration::from_secs(10);
/// Without a complete message from a publisher. Encoders that lost their network are gone for good by then, as far as viewers care.
pub const IDLE_DEADLINE: Duration = Duration::from_secs(30);
/// Commands, pings and other control in a window of [`RATE_WINDOW`]. Encoders send a dozen at the start; every one costs parsing and
/// most an answer.
const MAX_COMMANDS: u32 = 200;
/// Data messages in the same window: some encoders send several for every picture.
const MAX_DATA: u32 = 5_000;
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Smallest acknowledgement window obeyed: a peer could ask for an acknowledgement a byte.
const MIN_WINDOW_BYTES: u32 = 1_024;
/// What may be left unread while a decision is pending, and by itself all that a header needs.
const UNREAD_HINT: usize = 64 * 1024;

/// Why a connection ends that did not end by itself. All but `Reply(Unwritable)` are the peer's doing.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] handshake::Error),
    /// The chunk protocol was broken.
    #[error(transparent)]
    Chunk(#[from] chunk::Error),
    /// A message was malformed.
    #[error(transparent)]
    Message(#[from] message::Error),
    /// No answer can be sent.
    #[error(transparent)]
    Reply(#[from] reply::Error),
    /// Formats change too often.
    #[error(transparent)]
    Formats(#[from] TooManyFormats),
    /// More commands than any encoder sends.
    #[error("more than {0} messages that are no media in {RATE_WINDOW:?}")]
    TooManyCommands(u32),
    /// A deadline passed.
    #[error("no {0} in time")]
    Timeout(&'static str),
}

impl Error {
    /// The label of metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Handshake(_) => "handshake",
            Self::Chunk(_) => "chunk",
            Self::Message(_) => "message",
            Self::Reply(_) => "reply",
            Self::Formats(_) => "formats",
            Self::TooManyCommands(_) => "command_rate",
            Self::Timeout(_) => "timeout",
        }
    }
}

/// What a session tells its shell.
#[derive(Debug)]
pub enum Event {
    /// The peer asks to publish. Answer with [`Session::accept`] or [`Session::reject`]; until then nothing more is read.
    PublishRequested(PublishRequest),
    /// A track begins, or its format changes with its next access unit.
    Track(Track),
    /// The next access unit of the track of that kind.
    Unit(Kind, AccessUnit),
    /// The publisher describes its stream.
    Announced(Announced),
    /// A track is not taken, in words; the others go on.
    TrackRefused(Kind, String),
    /// The publisher says that it is done. It may ask again on the same connection.
    Unpublished,
    /// The session is over: send what is left to transmit and close. The words say why, for the log; the peer was told.
    Closed(Refusal),
}

/// ```text
///  Handshaking ─► Connecting ─ connect ─► Connected ─ publish ─► Deciding ─ accept ─► Publishing
///                                             ▲                     │                     │
///                                             └──────────────────── │ ─ deleteStream ─────┘
///                                                                   └─ reject ─► Closed
/// ```
#[derive(Debug)]
enum State {
    Handshaking(Box<Handshake>),
    /// The handshake is over.
    Connecting,
    Connected(Connect),
    /// [`Event::PublishRequested`] was given; the message stream that asked.
    Deciding(Connect, u32),
    Publishing(Connect, u32),
    Closed,
}

/// The server's side of one RTMP connection. Sans-IO.
#[derive(Debug)]
pub struct Session {
    peer: SocketAddr,
    state: State,
    deadline: Instant,
    decoder: chunk::Decoder,
    /// One a chunk stream: the body of a message that carries no media of its own.
    bodies: Vec<BytesMut>,
    intake: Intake,
    outbox: Outbox,
    events: VecDeque<Event>,
    /// Message streams made so far.
    streams: u32,
    received: u64,
    acknowledged: u64,
    window: u32,
    rate_since: Instant,
    commands: u32,
    data: u32,
}

impl Session {
    /// A connection that was accepted now.
    pub fn new(now: Instant, peer: SocketAddr) -> Self {
        Self {
            peer,
            state: State::Handshaking(Box::default()),
            deadline: now + HANDSHAKE_DEADLINE,
            decoder: chunk::Decoder::default(),
            bodies: vec![BytesMut::new(); chunk::MAX_CHUNK_STREAMS],
            intake: Intake::default(),
            outbox: Outbox::default(),
            events: VecDeque::new(),
            streams: 0,
            received: 0,
            acknowledged: 0,
            window: reply::WINDOW_BYTES,
            rate_since: now,
            commands: 0,
            data: 0,
        }
    }

    /// Takes what has arrived and removes what was used from `input`. What is left (an incomplete header, or everything behind a request
    /// to publish that is not decided yet) must stand at the beginning of the next input; do not read more from the peer while
    /// [`wants_input`](Self::wants_input) says no.
    ///
    /// # Errors
    /// [`Error`]: drop the connection. Events and transmissions from before may still be polled.
    pub fn receive(&mut self, now: Instant, input: &mut BytesMut) -> Result<(), Error> {
        while let State::Handshaking(handshake) = &mut self.state {
            let progress = handshake.receive(input)?;
            input.advance(progress.used);
            self.received += progress.used as u64;
            self.outbox.push(progress.reply)?;
            if progress.done {
                self.transition(now, State::Connecting);
            } else {
                return Ok(());
            }
        }
        let mut rest = &input[..];
        let before = rest.len();
        let mut result = Ok(());
        while result.is_ok() && self.reads() {
            match self.decoder.next(&mut rest) {
                Ok(Some(piece)) => result = self.piece(now, piece),
                Ok(None) => break,
                Err(error) => result = Err(error.into()),
            }
        }
        let used = before - rest.len();
        input.advance(used);
        self.received += used as u64;
        result?;
        if self.received - self.acknowledged >= u64::from(self.window.max(MIN_WINDOW_BYTES)) {
            self.acknowledged = self.received;
            // The running total, which wraps after 4 GiB.
            self.outbox.acknowledge(self.received as u32)?;
        }
        Ok(())
    }

    /// What happened, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.drain_intake();
        self.events.pop_front()
    }

    /// What to send, in order.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outbox.poll()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing arrives before. `None` when the session is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_closed()).then_some(self.deadline)
    }

    /// Checks the deadline.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it has passed: drop the connection.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.is_closed() || now < self.deadline {
            return Ok(());
        }
        Err(Error::Timeout(match self.state {
            State::Handshaking(_) => "handshake",
            State::Connecting => "connect command",
            State::Connected(_) => "publish command",
            State::Deciding(..) => "decision about publishing",
            State::Publishing(..) | State::Closed => "media",
        }))
    }

    /// Lets the publisher in. Call [`receive`](Self::receive) afterwards with what is left of the input. Without a request pending,
    /// nothing happens.
    ///
    /// # Errors
    /// [`Error::Reply`].
    pub fn accept(&mut self, now: Instant) -> Result<(), Error> {
        let State::Deciding(_, stream_id) = self.state else { return Ok(()) };
        if let State::Deciding(connect, _) = std::mem::replace(&mut self.state, State::Closed) {
            self.decoder.trust();
            self.intake = Intake::default();
            self.transition(now, State::Publishing(connect, stream_id));
        }
        self.outbox.stream_begin(stream_id)?;
        self.outbox.status(stream_id, "status", "NetStream.Publish.Start", "publishing")?;
        Ok(())
    }

    /// Refuses the publisher in words and ends the session. It serves too to stop a publisher that was accepted.
    ///
    /// # Errors
    /// [`Error::Reply`].
    pub fn reject(&mut self, now: Instant, refusal: Refusal) -> Result<(), Error> {
        let stream_id = match self.state {
            State::Deciding(_, stream_id) | State::Publishing(_, stream_id) => stream_id,
            _ => 0,
        };
        self.outbox.status(stream_id, "error", refusal.kind.rtmp_code(), &refusal.words)?;
        self.close(now, refusal);
        Ok(())
    }

    /// Whether more bytes from the peer are of use now.
    pub fn wants_input(&self, unread: usize) -> bool {
        !self.is_closed() && (self.reads() || unread < UNREAD_HINT)
    }

    /// Nothing more will happen.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// What was repaired since this was called last.
    pub fn take_repairs(&mut self) -> Repairs {
        self.intake.take_repairs()
    }

    fn reads(&self) -> bool {
        !matches!(self.state, State::Deciding(..) | State::Closed)
    }

    /// Every change of state but the temporary one inside [`accept`](Self::accept) goes through here, because it sets the deadline.
    fn transition(&mut self, now: Instant, to: State) {
        self.deadline = match &to {
            State::Handshaking(_) => now + HANDSHAKE_DEADLINE,
            // One deadline for both: it runs from the end of the handshake.
            State::Connected(_) if matches!(self.state, State::Connecting) => self.deadline,
            State::Connecting | State::Connected(_) => now + PUBLISH_DEADLINE,
            State::Deciding(..) => now + DECISION_DEADLINE,
            State::Publishing(..) | State::Closed => now + IDLE_DEADLINE,
        };
        self.state = to;
    }

    fn close(&mut self, now: Instant, refusal: Refusal) {
        self.drain_intake();
        self.transition(now, State::Closed);
        self.events.push_back(Event::Closed(refusal));
    }

    /// Moves the intake's output behind the events from before it.
    fn drain_intake(&mut self) {
        while let Some(output) = self.intake.poll() {
            self.events.push_back(match output {
                Output::Track(track) => Event::Track(track),
                Output::Unit(kind, unit) => Event::Unit(kind, unit),
                Output::Refused(kind, why) => Event::TrackRefused(kind, why),
            });
        }
    }

    fn piece(&mut self, now: Instant, piece: Piece<'_>) -> Result<(), Error> {
        let publishing = matches!(self.state, State::Publishing(..));
        if piece.last && publishing {
            self.deadline = now + IDLE_DEADLINE;
        }
        if let Some(kind) = media_kind(piece.header.kind) {
            if publishing {
                self.intake.receive(now, kind, piece)?;
            }
            return Ok(());
        }
        if piece.header.kind == chunk::AGGREGATE && !publishing {
            return Ok(());
        }
        let Some(place) = self.bodies.get_mut(piece.slot) else { return Ok(()) };
        if piece.first {
            place.clear();
        }
        // Most commands and metadata come in one piece, and then need no buffer.
        if piece.first && piece.last {
            return self.message(now, piece, piece.data);
        }
        place.extend_from_slice(piece.data);
        if piece.last {
            // Taken, not cleared: memory for an aggregate is not kept.
            let body = std::mem::take(place);
            return self.message(now, piece, &body);
        }
        Ok(())
    }

    fn message(&mut self, now: Instant, piece: Piece<'_>, body: &[u8]) -> Result<(), Error> {
        let kind = piece.header.kind;
        self.limit_rate(now, matches!(kind, 15 | 18 | 22))?;
        match message::read(kind, body)? {
            Message::SetChunkSize(size) => self.decoder.set_chunk_size(size)?,
            Message::Abort(id) => self.abort(id),
            Message::WindowSize(size) => self.window = size,
            Message::Ping(timestamp) => self.outbox.pong(timestamp)?,
            Message::Command(command) => commands::obey(self, now, piece.header.stream_id, command)?,
            Message::Metadata(metadata) => {
                if let Some(rate) = metadata.property("framerate").and_then(|value| value.number()) {
                    self.intake.declare_rate(rate);
                }
                self.events.push_back(Event::Announced(metadata::read(&metadata)));
            }
            Message::Aggregate => self.aggregate(now, piece.header.timestamp, body)?,
            Message::Other => {}
        }
        Ok(())
    }

    fn abort(&mut self, id: u32) {
        let Some(slot) = self.decoder.abort(id) else { return };
        if let Some(body) = self.bodies.get_mut(slot) {
            body.clear();
        }
        // The intake knows by the slot whether it was gathering; the other kind has nothing there.
        self.intake.abort(slot);
    }

    /// Each tag is a message of its own, on the message's clock. Their payload is copied a second time, which is rare: Flash Media
    /// Server's tools send aggregates, encoders do not.
    fn aggregate(&mut self, now: Instant, timestamp: u32, body: &[u8]) -> Result<(), Error> {
        let mut offset = None;
        for tag in flv::tags(body) {
            let offset = *offset.get_or_insert(timestamp.wrapping_sub(tag.timestamp));
            let Some(kind) = media_kind(tag.kind) else { continue };
            let header = chunk::Header {
                timestamp: tag.timestamp.wrapping_add(offset),
                length: tag.body.len() as u32,
                kind: tag.kind,
                stream_id: 0,
            };
            let piece = Piece { slot: AGGREGATE_SLOT, header, data: tag.body, first: true, last: true };
            self.intake.receive(now, kind, piece)?;
        }
        Ok(())
    }

    fn limit_rate(&mut self, now: Instant, is_data: bool) -> Result<(), Error> {
        if now.saturating_duration_since(self.rate_since) > RATE_WINDOW {
            (self.rate_since, self.commands, self.data) = (now, 0, 0);
        }
        let (count, most) = if is_data { (&mut self.data, MAX_DATA) } else { (&mut self.commands, MAX_COMMANDS) };
        *count += 1;
        if *count > most { Err(Error::TooManyCommands(most)) } else { Ok(()) }
    }
}

fn media_kind(kind: u8) -> Option<Kind> {
    match kind {
        chunk::AUDIO => Some(Kind::Audio),
        chunk::VIDEO => Some(Kind::Video),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
