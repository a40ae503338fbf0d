//! Answers about live streams: playlists, MPDs, init segments, segments, parts; and the waiting that LL-HLS and LL-DASH ask for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderValue;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::watch;

use super::blocking::{self, Answer};
use super::body::Body;
use super::handler::{Asked, Edge, not_found};
use super::metrics::Gauged;
use super::respond::{self, Caching, Facts, M3U8, MPD};
use super::route::Directives;
use super::tail::Tail;
use crate::media::peer::{Full, Place};
use crate::media::{Kind, RenditionId};
use crate::packager::live::Stream;
use crate::packager::playlist::hls_media::{self, Report};
use crate::packager::playlist::{dash, hls_multivariant};
use crate::packager::{Config, Rendition, Window};

type Cell = watch::Receiver<Arc<Window>>;

/// Why a wait ended without what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unmet {
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
    fn response(self) -> Response<Body> {
        match self {
            Self::TooLong => respond::retry(
                StatusCode::SERVICE_UNAVAILABLE,
                1,
                "what was asked for did not come within three target durations (RFC 8216bis 6.2.5.2)",
            ),
            Self::Gone => respond::retry(StatusCode::SERVICE_UNAVAILABLE, 1, "the stream went away"),
            Self::Stopping => respond::retry(StatusCode::SERVICE_UNAVAILABLE, 1, "the server is stopping"),
            Self::Full(Full::All) => {
                respond::retry(StatusCode::SERVICE_UNAVAILABLE, 1, "edge.max_waiting requests wait already")
            }
            Self::Full(Full::Peer) => respond::retry(
                StatusCode::TOO_MANY_REQUESTS,
                1,
                "edge.max_waiting_per_ip requests of this address wait already",
            ),
        }
    }
}

impl Edge {
    pub(super) fn multivariant(&self, stream: &Stream, asked: &Asked<'_>) -> Response<Body> {
        let catalog = Arc::clone(&stream.catalog().borrow());
        let Some(first) = catalog.renditions.first() else {
            return respond::retry(
                StatusCode::NOT_FOUND,
                1,
                "the stream has begun, but its first segment is not measured yet",
            );
        };
        let facts = Facts {
            content_type: M3U8,
            caching: Caching::targets(1, first.rendition.config.target_duration),
            etag: format!("{}-mv-{}", catalog.epoch, catalog.published.micros()),
            urgency: Some(1),
        };
        let render = || hls_multivariant::render(&catalog);
        let text = &catalog.multivariant;
        respond::text(asked.headers, facts, |gzip| if gzip { text.gzip(render) } else { text.plain(render) })
    }

    pub(super) fn mpd(&self, stream: &Stream, asked: &Asked<'_>) -> Response<Body> {
        let catalog = Arc::clone(&stream.catalog().borrow());
        if catalog.periods.is_empty() {
            return respond::retry(StatusCode::NOT_FOUND, 1, "the stream has begun, but DASH cannot be offered yet");
        }
        self.viewers.seen(asked.viewer, stream.name(), Instant::now());
        let windows = stream.windows();
        let mpd = self.mpds.get(stream.name(), &catalog, &windows);
        let facts = Facts { content_type: MPD, caching: Caching::Seconds(1), etag: mpd.etag, urgency: Some(1) };
        let render = || dash::render(&catalog, &windows);
        if mpd.text.plain(render).is_empty() {
            return respond::retry(StatusCode::NOT_FOUND, 1, "there is nothing to play over DASH yet");
        }
        respond::text(asked.headers, facts, |gzip| if gzip { mpd.text.gzip(render) } else { mpd.text.plain(render) })
    }

    pub(super) async fn playlist(
        &self,
        stream: &Stream,
        mut cell: Cell,
        directives: Result<Directives, &'static str>,
        asked: &Asked<'_>,
    ) -> Response<Body> {
        let mut window = Arc::clone(&cell.borrow());
        let target = window.rendition.config.target_duration;
        let bad = |rule| respond::problem(StatusCode::BAD_REQUEST, Caching::targets(4, target), rule);
        let directives = match directives {
            Ok(directives) => directives,
            Err(rule) => return bad(rule),
        };
        self.count_viewer(stream, window.rendition.id, asked);
        match blocking::decide(&window, &directives) {
            Answer::Now => {}
            Answer::BadRequest(rule) => return bad(rule),
            Answer::Wait => {
                let listed = |window: &Window| blocking::decide(window, &directives) == Answer::Now;
                window = match self.hold(&mut cell, asked, &window.rendition.config, listed).await {
                    Ok(window) => window,
                    Err(unmet) => return unmet.response(),
                };
            }
        }
        let blocked = directives.msn.is_some();
        let facts = Facts {
            content_type: M3U8,
            caching: if blocked { Caching::targets(6, target) } else { Caching::Seconds(1) },
            etag: format!("{}-{}{}", Tag(&window.rendition), window.version, if directives.skip { "d" } else { "" }),
            urgency: Some(1),
        };
        let text = if directives.skip { &window.rendered.delta } else { &window.rendered.full };
        let render = || hls_media::render(&window, &reports(stream, window.rendition.id), directives.skip);
        respond::text(asked.headers, facts, |gzip| if gzip { text.gzip(render) } else { text.plain(render) })
    }

    pub(super) fn init(&self, cell: &Cell, number: u32, asked: &Asked<'_>) -> Response<Body> {
        let window = Arc::clone(&cell.borrow());
        let Some(init) = window.init(number) else { return not_found("no segment that is kept needs this init") };
        // An init is needed before the first picture, and small.
        let facts = Facts { urgency: Some(2), ..media_facts(&window.rendition, format_args!("init{number}")) };
        respond::media(asked.headers, facts, init.bytes.len() as u64, std::iter::once(init.bytes.clone()))
    }

    pub(super) async fn part(&self, mut cell: Cell, number: u64, asked: &Asked<'_>) -> Response<Body> {
        let mut window = Arc::clone(&cell.borrow());
        // The next part's name was given away by EXT-X-PRELOAD-HINT: whoever asks for it early gets it the moment it is whole
        // (RFC 8216bis §6.2.6).
        let hinted = number == window.next_part && !window.ended;
        if hinted {
            let decided = |window: &Window| window.next_part > number || window.ended;
            window = match self.hold(&mut cell, asked, &window.rendition.config, decided).await {
                Ok(window) => window,
                Err(Unmet::TooLong | Unmet::Gone) => return never_came(),
                Err(unmet) => return unmet.response(),
            };
        }
        match window.part(number) {
            Some(part) => {
                let facts = media_facts(&window.rendition, format_args!("p{number}"));
                respond::media(asked.headers, facts, part.len() as u64, part.slices())
            }
            None if hinted => never_came(),
            None => not_found("no such part is kept, or named as the next"),
        }
    }

    pub(super) async fn segment(&self, mut cell: Cell, msn: u64, asked: &Asked<'_>) -> Response<Body> {
        let mut window = Arc::clone(&cell.borrow());
        let ahead = msn.checked_sub(window.open_msn);
        let near = matches!(ahead, Some(0 | 1)) && !window.ended && !window.waiting;
        if near && window.segment(msn).is_none() {
            let begun = |window: &Window| {
                window.segment(msn).is_some() || window.is_complete(msn) || window.ended || window.waiting
            };
            window = match self.hold(&mut cell, asked, &window.rendition.config, begun).await {
                Ok(window) => window,
                Err(Unmet::TooLong | Unmet::Gone) => return never_came(),
                Err(unmet) => return unmet.response(),
            };
        }
        let facts = media_facts(&window.rendition, format_args!("s{msn}"));
        match window.segment(msn) {
            Some(segment) if segment.is_gap() => not_found("nothing was published then: the playlist says EXT-X-GAP"),
            Some(segment) if window.is_complete(msn) || window.ended => {
                respond::media(asked.headers, facts, segment.len() as u64, segment.slices())
            }
            // A part at a time, as they are made: LL-DASH.
            Some(_) => respond::growing(&facts, Body::Open(Tail::new(msn, cell).boxed_unsync())),
            None if near => never_came(),
            None => not_found("no such segment is kept, or about to begin"),
        }
    }

    /// Holds a request until `met`, and gives the window that meets it.
    async fn hold(
        &self,
        cell: &mut Cell,
        asked: &Asked<'_>,
        config: &Config,
        met: impl Fn(&Window) -> bool,
    ) -> Result<Arc<Window>, Unmet> {
        let _place = self.place_to_wait(asked.peer.ip())?;
        let _counted = Gauged::one(&self.metrics.waiting);
        let deadline = asked.at + config.target_duration * 3;
        let changed = async { cell.wait_for(|window| met(window)).await.map(|window| Arc::clone(&window)) };
        tokio::select! {
            // What is there is given out even to late comers.
            biased;
            window = changed => {
                let window = window.map_err(|_| Unmet::Gone)?;
                if let Some(there) = window.published.get() {
                    let _ = asked.there.set(*there);
                }
                Ok(window)
            }
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

    /// A viewer follows one video playlist, or an audio one where there is no video; the others would count it twice.
    fn count_viewer(&self, stream: &Stream, id: RenditionId, asked: &Asked<'_>) {
        let leading = id.kind == Kind::Video || stream.window(RenditionId { kind: Kind::Video, index: 0 }).is_none();
        if leading {
            self.viewers.seen(asked.viewer, stream.name(), Instant::now());
        }
    }
}

/// 404 for a name that was given away and then never used: it must not outlive the second in which it might be.
fn never_came() -> Response<Body> {
    respond::problem(StatusCode::NOT_FOUND, Caching::NoStore, "it was expected, but never came")
}

/// What a rendition's entity tags begin with.
struct Tag<'a>(&'a Rendition);

impl std::fmt::Display for Tag<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.0.epoch, self.0.id)
    }
}

fn media_facts(rendition: &Rendition, file: std::fmt::Arguments<'_>) -> Facts {
    // Sound before pictures: it is small, and its absence is noticed first.
    let (content_type, urgency) = match rendition.id.kind {
        Kind::Video => ("video/mp4", 3),
        Kind::Audio => ("audio/mp4", 2),
    };
    Facts {
        content_type: HeaderValue::from_static(content_type),
        caching: Caching::Immutable,
        etag: format!("{}-{file}", Tag(rendition)),
        urgency: Some(urgency),
    }
}

/// Where all other renditions are. Spec: RFC 8216bis §4.4.5.4, Appendix B.1.
fn reports(stream: &Stream, own: RenditionId) -> Vec<Report> {
    let others = stream.windows().into_iter().filter(|window| window.rendition.id != own);
    let report = |window: Arc<Window>| {
        let (last_msn, last_part) = window.last_part()?;
        Some(Report { id: window.rendition.id, last_msn, last_part })
    };
    others.filter_map(report).collect()
}

#[cfg(test)]
mod tests;
