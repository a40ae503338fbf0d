//! Holding requests until what they ask for is there: the playlists and hinted parts of LL-HLS, the segments of LL-DASH.
//!
//! Not here: whether a request is to be held (`blocking` for playlists, `live` for media), and what it is answered then (`live`).
//!
//! Specification: RFC 8216bis §6.2.5.2, §6.2.6.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};
use tokio::sync::watch;

use super::activity::WaitedFor;
use super::body::Body;
use super::handler::{Asked, Edge};
use super::negotiate;
use super::reply::Reply;
use super::respond;
use crate::media::Gauged;
use crate::media::peer::{Full, Place};
use crate::packager::Window;

/// A rendition's newest window, and what wakes whoever waits for the next.
pub(super) type Cell = watch::Receiver<Arc<Window>>;

/// How long a request is held, in target durations. Spec: RFC 8216bis §6.2.5.2.
const LONGEST_WAIT: u32 = 3;

/// Why a wait ended without what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unmet {
    /// Three target durations are over (RFC 8216bis §6.2.5.2).
    TooLong,
    /// Nobody feeds the window any more.
    Gone,
    /// The server stops.
    Stopping,
    /// Too many wait already.
    Full(Full),
}

impl Unmet {
    pub(super) fn response(self) -> Response<Body> {
        match self {
            Self::TooLong => respond::retry(
                StatusCode::SERVICE_UNAVAILABLE,
                "what was asked for did not come within three target durations (RFC 8216bis 6.2.5.2)",
            ),
            Self::Gone => respond::retry(StatusCode::SERVICE_UNAVAILABLE, "the stream went away"),
            Self::Stopping => respond::retry(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"),
            Self::Full(Full::All) => {
                respond::retry(StatusCode::SERVICE_UNAVAILABLE, "edge.max_waiting requests wait already")
            }
            Self::Full(Full::Peer) => respond::retry(
                StatusCode::TOO_MANY_REQUESTS,
                "edge.max_waiting_per_ip requests of this address wait already",
            ),
        }
    }
}

impl Edge {
    /// What `answer` makes of the window that meets `met`, when there is one, or of the reason why there is none.
    pub(super) fn later(
        self: &Arc<Self>,
        mut cell: Cell,
        asked: Asked,
        target: Duration,
        met: impl Fn(&Window) -> bool + Send + 'static,
        answer: impl FnOnce(Result<&Window, Unmet>, Cell, &HeaderMap) -> Response<Body> + Send + 'static,
    ) -> Reply {
        let edge = Arc::clone(self);
        let asked = Asked { headers: negotiate::kept(&asked.headers), ..asked };
        Reply::Held(Box::pin(async move {
            match edge.hold(&mut cell, &asked, target, met).await {
                Ok(window) => {
                    let mut response = answer(Ok(&window), cell, &asked.headers);
                    if let Some(there) = window.published.get().filter(|_| response.status().is_success()) {
                        response.extensions_mut().insert(WaitedFor(*there));
                    }
                    response
                }
                Err(unmet) => answer(Err(unmet), cell, &asked.headers),
            }
        }))
    }

    /// Holds a request until `met`, and gives the window that meets it.
    async fn hold(
        &self,
        cell: &mut Cell,
        asked: &Asked,
        target: Duration,
        met: impl Fn(&Window) -> bool,
    ) -> Result<Arc<Window>, Unmet> {
        let _place = self.place_to_wait(asked.peer.ip())?;
        let _counted = Gauged::one(&self.metrics.waiting);
        let deadline = asked.at + target * LONGEST_WAIT;
        let changed = async move { cell.wait_for(move |window| met(window)).await.map(|window| Arc::clone(&window)) };
        tokio::select! {
            // What is there is given out even to late comers.
            biased;
            window = changed => window.map_err(|_| Unmet::Gone),
            () = self.stop.cancelled() => Err(Unmet::Stopping),
            () = tokio::time::sleep_until(deadline) => Err(Unmet::TooLong),
        }
    }

    fn place_to_wait(&self, ip: IpAddr) -> Result<Place, Unmet> {
        let limits = &self.metrics.limits;
        let place = if self.config.is_shared(ip) { self.waiting.take_shared() } else { self.waiting.take(ip) };
        place.map_err(|full| {
            match full {
                Full::All => limits.waiting.hit(ip, "edge.max_waiting requests wait already"),
                Full::Peer => limits.waiting_per_ip.hit(ip, "edge.max_waiting_per_ip requests of it wait already"),
            }
            Unmet::Full(full)
        })
    }
}
