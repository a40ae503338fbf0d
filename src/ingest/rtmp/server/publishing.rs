//! A stream that is being published: where its media goes, and what its publisher is held to.

use std::net::SocketAddr;
use std::time::Instant;

use super::Context;
use crate::ingest::limits::Guard;
use crate::ingest::publish::{Lease, PublishRequest, Refusal, RefusalKind};
use crate::ingest::report::Reporter;
use crate::media::wall_clock::now;
use crate::media::{Gauged, Kind, Track};
use crate::packager::live::{PublishError, Publisher, PublisherInfo, TrackWriter};

/// A stream being published through one connection. Dropping it ends the stream.
pub(super) struct Publishing {
    /// The stream's only writer.
    pub(super) publisher: Publisher,
    /// What the streamer is told of it.
    pub(super) report: Reporter,
    video: Option<TrackWriter>,
    audio: Option<TrackWriter>,
    /// The limits of the credential that was shown.
    pub(super) guard: Guard,
    /// Its place among the credential's publishers, given back by being dropped.
    _lease: Option<Lease>,
    /// It counts in the gauges of publishers for as long.
    _counted: [Gauged; 2],
}

impl Publishing {
    /// Asks whether the peer may publish, and begins if so. `used` is what the connection has used of its limits when it published before. Cancel-safe:
    /// a stream that began is dropped with the future.
    ///
    /// # Errors
    /// What the peer is told.
    pub(super) async fn begin(
        context: &Context,
        peer: SocketAddr,
        request: PublishRequest,
        used: Option<Guard>,
    ) -> Result<Self, Refusal> {
        let grant = context.authorise.authorise(&request).await?;
        let info = PublisherInfo { protocol: request.protocol, peer, since: now(), holder: grant.holder };
        let name = request.name.clone();
        let publisher = context.registry.publish(request.name, info, grant.takeover).await.map_err(|error| {
            // Who has the stream is no business of others.
            let detail = match &error {
                PublishError::AlreadyLive { by, .. } => Some(format!("published by {by}")),
                _ => None,
            };
            let kind = match &error {
                PublishError::AlreadyLive { .. } => RefusalKind::BadName,
                PublishError::TooManyStreams(_) | PublishError::NoMemory(_) => RefusalKind::Unavailable,
                PublishError::Storage(cause) => {
                    tracing::error!(%cause, "a stream could not be started");
                    RefusalKind::Unavailable
                }
            };
            Refusal { detail, ..Refusal::new(kind, error.to_string()) }
        })?;
        let report = context.reports.open(name, Instant::now());
        let guard = match used {
            Some(used) => used.again(grant.limits),
            None => Guard::new(grant.limits, Instant::now()),
        };
        let counted = context.metrics.publishing(request.protocol);
        let _lease = grant.lease;
        Ok(Self { publisher, report, video: None, audio: None, guard, _lease, _counted: counted })
    }

    /// Where access units of that kind go; `None` before their track.
    pub(super) fn writer(&mut self, kind: Kind) -> &mut Option<TrackWriter> {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }

    /// A track begins or changes.
    ///
    /// # Errors
    /// What the publisher is told before it is sent away: a limit that it passes, or why it cannot be packaged.
    pub(super) fn set_track(&mut self, track: Track) -> Result<(), String> {
        self.guard.track(&track).map_err(|exceeded| exceeded.to_string())?;
        self.report.track(&track);
        let kind = track.format.kind();
        let result = match self.writer(kind) {
            Some(writer) => writer.set_track(track),
            None => self.publisher.add_track(track).map(|writer| *self.writer(kind) = Some(writer)),
        };
        result.map_err(|error| error.to_string())
    }

    /// Resolves when it must stop, to what the publisher is told. Cancel-safe.
    pub(super) async fn stopped(&self) -> String {
        let Some((deadline, over)) = self.guard.deadline() else { return self.publisher.stopped().await };
        tokio::select! {
            words = self.publisher.stopped() => words,
            () = tokio::time::sleep_until(deadline.into()) => over.to_string(),
        }
    }
}
