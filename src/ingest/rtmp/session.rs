//! One publisher's connection, from the first byte to the last.
//!
//! ```text
//!   bytes ─► handshake, chunk ─┬─ audio, video ─────────────────────────────► intake ─► Event::Track, Event::Unit
//!                              └─ bodies ─► rate ─► message ─┬─ commands ─► state, Event::PublishRequested, …
//!                                                            │     └─► outbox ─► bytes
//!                                                            └─ aggregates ─► intake
//! ```
//!
//! The five verbs: [`Session::receive`] takes bytes, [`Session::poll_event`] and [`Session::poll_transmit`] give what came of them,
//! [`Session::poll_timeout`] and [`Session::handle_timeout`] keep the deadlines. After every call that takes `&mut self`, poll events and
//! transmissions until both are empty, then ask for the timeout again: it may have moved.

mod bodies;
mod commands;
mod rate;
mod received;
mod state;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use self::bodies::Bodies;
use self::rate::Rate;
use self::received::Received;
use self::state::State;
pub use self::state::{DECISION_DEADLINE, HANDSHAKE_DEADLINE, IDLE_DEADLINE, PUBLISH_DEADLINE};
use super::chunk::{self, Piece};
use super::handshake;
use super::intake::{AGGREGATE_SLOT, Intake, Output, TooManyFormats};
use super::message::{self, Message};
use super::reply::{self, Outbox};
use super::type_id::{self, media_kind};
use super::{flv, metadata};
use crate::ingest::publish::{PublishRequest, Refusal};
use crate::ingest::report::Announced;
use crate::ingest::timeline::Repairs;
use crate::media::{AccessUnit, Kind, Track};

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
    #[error("more than {0} messages that are no media in {window:?}", window = rate::WINDOW)]
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

/// The server's side of one RTMP connection. Sans-IO.
#[derive(Debug)]
pub struct Session {
    /// For whoever decides about publishing, and nothing else here.
    peer: SocketAddr,
    state: State,
    /// When the state must be left, or renewed by media.
    deadline: Instant,
    decoder: chunk::Decoder,
    bodies: Bodies,
    rate: Rate,
    received: Received,
    /// Media of what is being published now; a fresh one for each publication.
    intake: Intake,
    outbox: Outbox,
    events: VecDeque<Event>,
    /// Message streams made so far, which are numbered from 1.
    streams: u32,
}

impl Session {
    /// A connection that was accepted now.
    pub fn new(now: Instant, peer: SocketAddr) -> Self {
        Self {
            peer,
            state: State::Handshaking(Box::default()),
            deadline: now + HANDSHAKE_DEADLINE,
            decoder: chunk::Decoder::default(),
            bodies: Bodies::default(),
            rate: Rate::new(now),
            received: Received::default(),
            intake: Intake::default(),
            outbox: Outbox::default(),
            events: VecDeque::new(),
            streams: 0,
        }
    }

    /// Takes what has arrived and removes what was used from `input`. What is left (an incomplete header, or everything behind a request
    /// to publish that is not decided yet) must stand at the beginning of the next input; do not read more from the peer while
    /// [`wants_input`](Self::wants_input) says no.
    ///
    /// # Errors
    /// [`Error`]: drop the connection. Events and transmissions from before may still be polled.
    pub fn receive(&mut self, now: Instant, input: &mut BytesMut) -> Result<(), Error> {
        if !self.shake_hands(now, input)? {
            return Ok(());
        }
        let mut rest = &input[..];
        let result = self.read_chunks(now, &mut rest);
        let used = input.len() - rest.len();
        input.advance(used);
        self.received.add(used);
        result?;
        if let Some(total) = self.received.acknowledge() {
            self.outbox.acknowledge(total)?;
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

    /// When to call [`handle_timeout`](Self::handle_timeout), if nothing arrives before. `None` when the session is over. It moves with
    /// [`receive`](Self::receive), [`accept`](Self::accept) and [`reject`](Self::reject): ask again after each.
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
        Err(Error::Timeout(self.state.awaits()))
    }

    /// Lets the publisher in. Call [`receive`](Self::receive) afterwards with what is left of the input. Without a request pending,
    /// nothing happens.
    ///
    /// # Errors
    /// [`Error::Reply`].
    pub fn accept(&mut self, now: Instant) -> Result<(), Error> {
        let State::Deciding { connect, stream_id } = &self.state else { return Ok(()) };
        let (connect, stream_id) = (connect.clone(), *stream_id);
        self.decoder.trust();
        self.intake = Intake::default();
        self.transition(now, State::Publishing { connect, stream_id });
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
            State::Deciding { stream_id, .. } | State::Publishing { stream_id, .. } => stream_id,
            _ => reply::CONTROL,
        };
        self.outbox.status(stream_id, "error", refusal.kind.rtmp_code(), &refusal.words)?;
        self.close(now, refusal);
        Ok(())
    }

    /// Whether more bytes from the peer are of use now.
    pub fn wants_input(&self, unread: usize) -> bool {
        !self.is_closed() && (self.state.reads() || unread < UNREAD_HINT)
    }

    /// Nothing more will happen.
    pub fn is_closed(&self) -> bool {
        self.state.is_closed()
    }

    /// What was repaired since this was called last.
    pub fn take_repairs(&mut self) -> Repairs {
        self.intake.take_repairs()
    }

    /// Every change of state goes through here, because it sets the deadline.
    fn transition(&mut self, now: Instant, to: State) {
        self.deadline = to.deadline(now, &self.state, self.deadline);
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

    /// Takes what belongs to the handshake; true when what is left is chunks.
    fn shake_hands(&mut self, now: Instant, input: &mut BytesMut) -> Result<bool, Error> {
        let State::Handshaking(handshake) = &mut self.state else { return Ok(true) };
        let progress = handshake.receive(input)?;
        input.advance(progress.used);
        self.received.add(progress.used);
        self.outbox.push(progress.reply)?;
        if progress.done {
            self.transition(now, State::Connecting);
        }
        Ok(progress.done)
    }

    /// Reads as far as the input and the state allow. `input` is moved past what was used, also by an error.
    fn read_chunks(&mut self, now: Instant, input: &mut &[u8]) -> Result<(), Error> {
        while self.state.reads() {
            let Some(piece) = self.decoder.next(input)? else { break };
            self.handle_piece(now, piece)?;
        }
        Ok(())
    }

    fn handle_piece(&mut self, now: Instant, piece: Piece<'_>) -> Result<(), Error> {
        let publishing = self.state.is_publishing();
        if piece.last && publishing {
            self.deadline = now + IDLE_DEADLINE;
        }
        let kind = media_kind(piece.header.type_id);
        let is_media = kind.is_some() || piece.header.type_id == type_id::AGGREGATE;
        if is_media && !publishing {
            // Encoders go on sending for a moment after they were told to stop.
            return Ok(());
        }
        if let Some(kind) = kind {
            return Ok(self.intake.receive(now, kind, piece)?);
        }
        match self.bodies.gather(piece) {
            Some(body) => self.handle_message(now, piece.header, &body),
            None => Ok(()),
        }
    }

    fn handle_message(&mut self, now: Instant, header: chunk::Header, body: &[u8]) -> Result<(), Error> {
        self.rate.count(now, header.type_id)?;
        match message::read(header.type_id, body)? {
            Message::SetChunkSize(size) => self.decoder.set_chunk_size(size)?,
            Message::Abort(id) => self.abort(id),
            Message::WindowSize(size) => self.received.set_window(size),
            Message::Ping(timestamp) => self.outbox.pong(timestamp)?,
            Message::Command(command) => self.obey(now, header.stream_id, &command)?,
            Message::Metadata(metadata) => {
                let announced = metadata::read(&metadata);
                if let Some(rate) = announced.fps {
                    self.intake.declare_rate(rate);
                }
                self.events.push_back(Event::Announced(announced));
            }
            Message::Aggregate => self.handle_aggregate(now, header.timestamp, body)?,
            Message::Other => {}
        }
        Ok(())
    }

    /// Forgets the unfinished message on chunk stream `id`.
    fn abort(&mut self, id: u32) {
        let Some(slot) = self.decoder.abort(id) else { return };
        // One of the two was gathering it; the other has nothing there.
        self.bodies.abort(slot);
        self.intake.abort(slot);
    }

    /// Each tag is a message of its own, on the message's clock. Their payload is copied a second time, which is rare: Flash Media
    /// Server's tools send aggregates, encoders do not.
    fn handle_aggregate(&mut self, now: Instant, timestamp: u32, body: &[u8]) -> Result<(), Error> {
        let mut offset = None;
        for tag in flv::tags(body) {
            let offset = *offset.get_or_insert(timestamp.wrapping_sub(tag.timestamp));
            let Some(kind) = media_kind(tag.type_id) else { continue };
            let header = chunk::Header {
                timestamp: tag.timestamp.wrapping_add(offset),
                length: tag.body.len() as u32,
                type_id: tag.type_id,
                stream_id: 0,
            };
            let piece = Piece { slot: AGGREGATE_SLOT, header, data: tag.body, first: true, last: true };
            self.intake.receive(now, kind, piece)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
