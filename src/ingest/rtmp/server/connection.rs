//! One connection: bytes to the session, its events to the packager, its answers to the peer.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::low_water::LowWater;
use super::{Context, Counted};
use crate::ingest::limits::Guard;
use crate::ingest::publish::{Lease, PublishRequest, Refusal, RefusalKind};
use crate::ingest::report::Reporter;
use crate::ingest::rtmp::session::{self, DECISION_DEADLINE, Event, Session};
use crate::media::{Kind, Track, WallTime};
use crate::packager::live::{PublishError, Publisher, PublisherInfo, TrackWriter, WriteError};

/// One read: 12 ms of a 40 Mbit/s publisher.
const READ_BYTES: usize = 64 * 1024;
/// Below this much room the buffer is made large again before reading.
const MIN_ROOM: usize = 16 * 1024;
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

/// A stream being published through this connection. Dropping it ends the stream.
struct Publishing {
    publisher: Publisher,
    report: Reporter,
    video: Option<TrackWriter>,
    audio: Option<TrackWriter>,
    guard: Guard,
    _lease: Option<Lease>,
    _counted: [Counted; 2],
}

impl Publishing {
    fn writer(&mut self, kind: Kind) -> &mut Option<TrackWriter> {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }

    fn set_track(&mut self, track: Track) -> Result<(), WriteError> {
        self.report.track(&track);
        let kind = track.format.kind();
        if let Some(writer) = self.writer(kind) {
            return writer.set_track(track);
        }
        let writer = self.publisher.add_track(track)?;
        *self.writer(kind) = Some(writer);
        Ok(())
    }
}

pub(super) struct Connection<S> {
    stream: S,
    peer: SocketAddr,
    context: Arc<Context>,
    shutdown: CancellationToken,
    session: Session,
    input: BytesMut,
    low_water: LowWater,
    publishing: Option<Publishing>,
    /// What the peer asked to publish last, for the log. Not a field of the span: those gather, and a connection may publish thousands.
    stream_name: Option<String>,
    /// When the bytes came that are being handled.
    received: Received,
}

/// One moment by both clocks.
#[derive(Clone, Copy)]
struct Received {
    at: Instant,
    date: WallTime,
}

impl Received {
    fn now() -> Self {
        Self { at: Instant::now(), date: wall_time() }
    }
}

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin + Send> Connection<S> {
    pub(super) fn new(stream: S, peer: SocketAddr, context: Arc<Context>, shutdown: CancellationToken) -> Self {
        let received = Received::now();
        let session = Session::new(received.at, peer);
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
            stream_name: None,
            received,
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
        self.context.metrics.add_repairs(&self.session.take_repairs());
        let stream = self.stream_name.as_deref();
        match end {
            End::Peer if was_publishing => tracing::info!(stream, "the publisher closed the connection without a word"),
            End::Peer => tracing::debug!("the peer closed the connection"),
            End::Told => self.linger().await,
            End::Error(error) => {
                self.context.metrics.refuse(error.label());
                if was_publishing {
                    tracing::info!(stream, %error, "the publisher was disconnected");
                } else {
                    tracing::debug!(%error, "the peer was disconnected");
                }
            }
            End::Unread => {
                self.context.metrics.refuse("write_timeout");
                tracing::debug!("the peer does not read what it is sent");
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
        let deadline = self.low_water.patience(self.received.at).map_or(deadline, |patience| patience.min(deadline));
        if self.input.capacity() - self.input.len() < MIN_ROOM {
            self.input.reserve(READ_BYTES);
        }
        let received = tokio::select! {
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
        self.context.metrics.bytes.inc_by(received as u64);
        self.received = Received::now();
        let within = self.publishing.as_mut().map_or(Ok(()), |it| it.guard.received(self.received.at, received as u64));
        if let Err(exceeded) = within {
            return self.send_away(exceeded.to_string());
        }
        let result = self.session.receive(self.received.at, &mut self.input);
        if result.is_err() {
            // What came before the mistake is good.
            self.handle_events().await?;
        }
        if received >= TURN_BYTES {
            tokio::task::yield_now().await;
        }
        Ok(result?)
    }

    async fn handle_events(&mut self) -> Result<(), End> {
        let mut units = 0;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::PublishRequested(request) => self.decide(request).await?,
                Event::Track(track) => {
                    tracing::info!(stream = self.stream_name.as_deref(), codec = track.format.codec_string(), "track");
                    if let Some(Err(exceeded)) = self.publishing.as_ref().map(|it| it.guard.track(&track)) {
                        self.send_away(exceeded.to_string())?;
                        continue;
                    }
                    let result = self.publishing.as_mut().map_or(Ok(()), |publishing| publishing.set_track(track));
                    self.stop_on(result)?;
                }
                Event::Unit(kind, unit) => {
                    let Received { at, date } = self.received;
                    if kind == Kind::Video {
                        self.low_water.picture(unit.data.len());
                    }
                    let result = self.publishing.as_mut().map_or(Ok(()), |publishing| {
                        publishing.report.unit(kind, &unit, at);
                        publishing.writer(kind).as_mut().map_or(Ok(()), |writer| writer.write(unit, date))
                    });
                    self.stop_on(result)?;
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
                Event::TrackRefused(kind, why) => {
                    if let Some(publishing) = &self.publishing {
                        publishing.report.refused(kind, &why);
                    }
                    self.context.metrics.refuse("track");
                    tracing::info!(stream = self.stream_name.as_deref(), ?kind, "track refused: {why}");
                }
                Event::Unpublished => {
                    self.publishing = None;
                    tracing::info!(stream = self.stream_name.as_deref(), "publishing ended");
                }
                Event::Closed(refusal) => {
                    self.publishing = None;
                    self.context.metrics.refuse(refusal.kind.label());
                    tracing::info!(stream = self.stream_name.as_deref(), "closed: {refusal}");
                }
            }
        }
        let repairs = self.session.take_repairs();
        self.context.metrics.add_repairs(&repairs);
        if let Some(publishing) = &self.publishing {
            publishing.report.repaired(&repairs, self.received.at);
        }
        Ok(())
    }

    async fn decide(&mut self, request: PublishRequest) -> Result<(), End> {
        self.stream_name = Some(request.name.to_string());
        match tokio::time::timeout(DECISION_DEADLINE, self.publish(request)).await {
            Ok(Ok(publishing)) => {
                let epoch = publishing.publisher.stream().epoch();
                self.publishing = Some(publishing);
                self.session.accept(Instant::now())?;
                tracing::info!(stream = self.stream_name.as_deref(), %epoch, "publishing");
                // What the peer sent behind its request.
                self.received = Received::now();
                self.session.receive(self.received.at, &mut self.input)?;
            }
            Ok(Err(refusal)) => self.session.reject(Instant::now(), refusal)?,
            Err(_) => {
                let refusal = Refusal::new(RefusalKind::Unavailable, "the server is too busy to answer; try again");
                self.session.reject(Instant::now(), refusal)?;
            }
        }
        Ok(())
    }

    async fn publish(&self, request: PublishRequest) -> Result<Publishing, Refusal> {
        let grant = self.context.authorise.authorise(&request).await?;
        let info =
            PublisherInfo { protocol: request.protocol, peer: self.peer, since: wall_time(), holder: grant.holder };
        let name = request.name.clone();
        let publisher = self.context.registry.publish(request.name, info, grant.takeover).await.map_err(|error| {
            let kind = match &error {
                PublishError::AlreadyLive { .. } => RefusalKind::BadName,
                PublishError::TooManyStreams(_) => RefusalKind::Unavailable,
                PublishError::Storage(cause) => {
                    tracing::error!(%cause, "a stream could not be started");
                    RefusalKind::Unavailable
                }
            };
            Refusal::new(kind, error.to_string())
        })?;
        let report = self.context.reports.open(name, Instant::now());
        let guard = Guard::new(grant.limits, Instant::now());
        let counted = self.context.metrics.publishing(request.protocol).map(Counted::one);
        let _lease = grant.lease;
        Ok(Publishing { publisher, report, video: None, audio: None, guard, _lease, _counted: counted })
    }

    /// The packager refuses: the publisher is told, and the session closes.
    fn stop_on(&mut self, result: Result<(), WriteError>) -> Result<(), End> {
        let Err(error) = result else { return Ok(()) };
        self.publishing = None;
        Ok(self.session.reject(Instant::now(), Refusal::new(RefusalKind::Denied, error.to_string()))?)
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

/// Resolves when what is being published must stop; never where nothing is.
async fn stopped(publishing: Option<&Publishing>) -> String {
    let Some(publishing) = publishing else { return std::future::pending().await };
    let Some((deadline, over)) = publishing.guard.deadline() else { return publishing.publisher.stopped().await };
    tokio::select! {
        words = publishing.publisher.stopped() => words,
        () = tokio::time::sleep_until(deadline.into()) => over.to_string(),
    }
}

fn wall_time() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
