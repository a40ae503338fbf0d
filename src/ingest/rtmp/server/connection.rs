//! One connection: bytes to the session, its events to the packager, its answers to the peer.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::Context;
use super::low_water::LowWater;
use super::publishing::Publishing;
use crate::ingest::limits::Guard;
use crate::ingest::publish::{PublishRequest, Refusal, RefusalKind};
use crate::ingest::rtmp::session::{self, DECISION_DEADLINE, Event, Session};
use crate::media::wall_clock;
use crate::media::{AccessUnit, Kind, Track, WallTime};

/// One read: 12 ms of a 40 Mbit/s publisher.
const READ_BYTES: usize = 64 * 1024;
/// Below this much room the buffer is made large again before reading.
const MIN_ROOM: usize = 16 * 1024;
/// The same of a peer that has not been let in: a handshake and some commands. A thousand half-open handshakes must not cost 64 MiB.
const STRANGER_READ_BYTES: usize = 4 * 1024;
const STRANGER_MIN_ROOM: usize = 1024;
/// Access units handled, or bytes read, before other tasks get their turn. The runtime would take the thread away after 128 reads only, and
/// a read may hold thousands of access units.
const TURN_UNITS: usize = 32;
const TURN_BYTES: usize = 16 * 1024;
/// A peer that takes none of our few bytes for so long has stopped reading.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// After the last word, how long the peer has to read it: closing a socket with unread input resets it, and the word would be lost.
const LINGER: Duration = Duration::from_secs(1);

/// Why a connection is over.
enum End {
    /// The peer closed it, or the network did.
    Peer,
    /// The session is closed; the peer was told why.
    Told,
    /// The peer broke a rule or a deadline.
    Error(session::Error),
    /// The peer does not read.
    Unread,
}

impl From<session::Error> for End {
    fn from(error: session::Error) -> Self {
        Self::Error(error)
    }
}

/// One peer and all that belongs to it. Dropping it ends what it publishes.
pub(super) struct Connection<S> {
    stream: S,
    peer: SocketAddr,
    context: Arc<Context>,
    /// Cancelled when the server stops.
    shutdown: CancellationToken,
    session: Session,
    /// What was read and not used yet: an incomplete header, or what the peer sent behind a request that is not decided.
    input: BytesMut,
    low_water: LowWater,
    publishing: Option<Publishing>,
    /// What it has used of its limits, between two publications: to stop and to begin again is no way around them.
    used: Option<Guard>,
    /// What the peer asked to publish last, for the log. Not a field of the span: those gather, and a connection may publish thousands.
    stream_name: Option<String>,
    /// It has published.
    was_let_in: bool,
    /// When the bytes came that are being handled.
    arrival: Arrival,
}

/// One moment by both clocks.
#[derive(Clone, Copy)]
struct Arrival {
    at: Instant,
    date: WallTime,
}

impl Arrival {
    fn now() -> Self {
        Self { at: Instant::now(), date: wall_clock::now() }
    }
}

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin + Send> Connection<S> {
    pub(super) fn new(stream: S, peer: SocketAddr, context: Arc<Context>, shutdown: CancellationToken) -> Self {
        let arrival = Arrival::now();
        let session = Session::new(arrival.at, peer);
        let (input, low_water) = (BytesMut::new(), LowWater::default());
        Self {
            stream,
            peer,
            context,
            shutdown,
            session,
            input,
            low_water,
            publishing: None,
            used: None,
            stream_name: None,
            was_let_in: false,
            arrival,
        }
    }

    pub(super) async fn run(mut self) {
        let end = loop {
            if let Err(end) = self.turn().await {
                break end;
            }
        };
        // The stream ends now, not after the last words were read.
        let was_publishing = self.publishing.take().is_some();
        self.count_repairs();
        let stream = self.stream_name.as_deref();
        match end {
            End::Peer if was_publishing => tracing::info!(stream, "the publisher closed the connection without a word"),
            End::Peer => tracing::debug!("the peer closed the connection"),
            End::Told => self.linger().await,
            End::Error(error) => {
                let reason = error.label();
                match self.context.metrics.refuse(reason) {
                    _ if was_publishing => tracing::info!(stream, %error, reason, "the publisher was disconnected"),
                    Some(silent) => tracing::info!(%error, reason, silent, "the peer was disconnected"),
                    None => {}
                }
            }
            End::Unread => {
                let reason = "write_timeout";
                if let Some(silent) = self.context.metrics.refuse(reason) {
                    tracing::info!(reason, silent, "the peer does not read what it is sent");
                }
            }
        }
    }

    /// Handles what has happened, then waits for more.
    async fn turn(&mut self) -> Result<(), End> {
        self.handle_events().await?;
        self.flush().await?;
        let Some(deadline) = self.session.poll_timeout() else { return Err(End::Told) };
        if self.publishing.is_none() {
            self.low_water.silence();
        }
        self.low_water.apply(&self.stream);
        let deadline = self.low_water.patience(self.arrival.at).map_or(deadline, |patience| patience.min(deadline));
        self.make_room();
        let count = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {
                let words = "the server is shutting down; publish again in a moment";
                self.session.reject(Instant::now(), Refusal::new(RefusalKind::Unavailable, words))?;
                return Ok(());
            }
            words = stopped(self.publishing.as_ref()) => {
                return self.send_away(words);
            }
            read = self.stream.read_buf(&mut self.input), if self.session.wants_input(self.input.len()) => {
                match read {
                    Ok(0) | Err(_) => return Err(End::Peer),
                    Ok(count) => count,
                }
            }
            () = tokio::time::sleep_until(deadline.into()) => {
                self.low_water.silence();
                self.session.handle_timeout(Instant::now())?;
                return Ok(());
            }
        };
        self.take_in(count).await
    }

    /// Makes room for the next read: less of it for a peer that has not been let in.
    fn make_room(&mut self) {
        let (read_bytes, min_room) = match self.publishing {
            Some(_) => (READ_BYTES, MIN_ROOM),
            None => (STRANGER_READ_BYTES, STRANGER_MIN_ROOM),
        };
        if self.input.capacity() - self.input.len() < min_room {
            self.input.reserve(read_bytes);
        }
    }

    /// Gives the session the `count` bytes that were just read, and what stood before them.
    async fn take_in(&mut self, count: usize) -> Result<(), End> {
        self.context.metrics.bytes.inc_by(count as u64);
        self.arrival = Arrival::now();
        let within = self.publishing.as_mut().map_or(Ok(()), |it| it.guard.received(self.arrival.at, count as u64));
        if let Err(exceeded) = within {
            return self.send_away(exceeded.to_string());
        }
        let result = self.session.receive(self.arrival.at, &mut self.input);
        if result.is_err() {
            // What came before the mistake is good.
            self.handle_events().await?;
        }
        if count >= TURN_BYTES {
            tokio::task::yield_now().await;
        }
        Ok(result?)
    }

    async fn handle_events(&mut self) -> Result<(), End> {
        let mut units = 0;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::PublishRequested(request) => self.decide(request).await?,
                Event::Track(track) => self.set_track(track)?,
                Event::Unit(kind, unit) => {
                    self.write(kind, unit)?;
                    units += 1;
                    if units % TURN_UNITS == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Event::Announced(announced) => {
                    if let Some(publishing) = &self.publishing {
                        publishing.report.announce(announced);
                    }
                }
                Event::TrackRefused(kind, why) => self.tell_refused(kind, &why),
                Event::Unpublished => {
                    self.used = self.publishing.take().map(|publishing| publishing.guard);
                    tracing::info!(stream = self.stream_name.as_deref(), "publishing ended");
                }
                Event::Closed(refusal) => {
                    self.publishing = None;
                    self.tell_closed(&refusal);
                }
            }
        }
        self.count_repairs();
        Ok(())
    }

    fn set_track(&mut self, track: Track) -> Result<(), End> {
        tracing::info!(stream = self.stream_name.as_deref(), codec = track.format.codec_string(), "track");
        let Some(publishing) = &mut self.publishing else { return Ok(()) };
        publishing.set_track(track).or_else(|words| self.send_away(words))
    }

    fn write(&mut self, kind: Kind, unit: AccessUnit) -> Result<(), End> {
        if kind == Kind::Video {
            self.low_water.picture(unit.data.len());
        }
        let Some(publishing) = &mut self.publishing else { return Ok(()) };
        publishing.report.unit(kind, &unit, self.arrival.at);
        let Some(writer) = publishing.writer(kind) else { return Ok(()) };
        writer.write(unit, self.arrival.date).or_else(|error| self.send_away(error.to_string()))
    }

    fn tell_refused(&self, kind: Kind, why: &str) {
        if let Some(publishing) = &self.publishing {
            publishing.report.refused(kind, why);
        }
        let (stream, reason) = (self.stream_name.as_deref(), "track");
        if let Some(silent) = self.context.metrics.refuse(reason) {
            tracing::info!(stream, ?kind, reason, silent, "track refused: {why}");
        }
    }

    fn tell_closed(&self, refusal: &Refusal) {
        let (stream, reason) = (self.stream_name.as_deref(), refusal.kind.label());
        // Of whoever was let in every end is told, of others one a second.
        let silent = self.context.metrics.refuse(reason);
        if self.was_let_in || silent.is_some() {
            tracing::info!(stream, reason, silent, detail = refusal.detail, "closed: {refusal}");
        }
    }

    /// Takes over what the session has repaired since it was asked last.
    fn count_repairs(&mut self) {
        let repairs = self.session.take_repairs();
        self.context.metrics.add_repairs(&repairs);
        if let Some(publishing) = &self.publishing {
            publishing.report.repaired(&repairs, self.arrival.at);
        }
    }

    async fn decide(&mut self, request: PublishRequest) -> Result<(), End> {
        self.stream_name = Some(request.name.to_string());
        let begun = Publishing::begin(&self.context, self.peer, request, self.used.take());
        match tokio::time::timeout(DECISION_DEADLINE, begun).await {
            Ok(Ok(publishing)) => {
                let epoch = publishing.publisher.stream().epoch();
                self.publishing = Some(publishing);
                self.was_let_in = true;
                self.session.accept(Instant::now())?;
                tracing::info!(stream = self.stream_name.as_deref(), %epoch, "publishing");
                // What the peer sent behind its request.
                self.arrival = Arrival::now();
                self.session.receive(self.arrival.at, &mut self.input)?;
            }
            Ok(Err(refusal)) => self.session.reject(Instant::now(), refusal)?,
            Err(_) => {
                let refusal = Refusal::new(RefusalKind::Unavailable, "the server is too busy to answer; try again");
                self.session.reject(Instant::now(), refusal)?;
            }
        }
        Ok(())
    }

    /// Ends the stream and the session; the publisher reads `words`.
    fn send_away(&mut self, words: String) -> Result<(), End> {
        self.publishing = None;
        Ok(self.session.reject(Instant::now(), Refusal::new(RefusalKind::Denied, words))?)
    }

    async fn flush(&mut self) -> Result<(), End> {
        while let Some(bytes) = self.session.poll_transmit() {
            match tokio::time::timeout(WRITE_DEADLINE, self.stream.write_all(&bytes)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(End::Peer),
                Err(_) => return Err(End::Unread),
            }
        }
        Ok(())
    }

    async fn linger(&mut self) {
        let _ = self.flush().await;
        let _ = tokio::time::timeout(LINGER, async {
            self.stream.shutdown().await?;
            loop {
                self.input.clear();
                if self.stream.read_buf(&mut self.input).await? == 0 {
                    return Ok::<_, std::io::Error>(());
                }
            }
        })
        .await;
    }
}

/// As [`Publishing::stopped`]; never where nothing is published.
async fn stopped(publishing: Option<&Publishing>) -> String {
    match publishing {
        Some(publishing) => publishing.stopped().await,
        None => std::future::pending().await,
    }
}
