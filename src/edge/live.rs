//! Answers about live streams: playlists, MPDs, init segments, segments, parts.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;

use super::blocking::{self, Decision};
use super::body::Body;
use super::handler::{Asked, Edge, not_found};
use super::hold::{Cell, Unmet};
use super::reply::Reply;
use super::respond::{self, Caching, Template, urgency};
use super::route::Directives;
use super::tail::Tail;
use crate::media::{Kind, RenditionId};
use crate::packager::live::Stream;
use crate::packager::playlist::hls_media::{self, Report};
use crate::packager::playlist::{dash, hls_multivariant};
use crate::packager::{Rendition, Window};

static PLAYLIST: LazyLock<Template> = LazyLock::new(Template::playlist);
static MPD: LazyLock<Template> = LazyLock::new(|| Template::text("application/dash+xml", Some(urgency::PLAYLIST)));
static INIT_OF_VIDEO: LazyLock<Template> = LazyLock::new(|| Template::media("video/mp4", urgency::INIT));
static VIDEO: LazyLock<Template> = LazyLock::new(|| Template::media("video/mp4", urgency::VIDEO));
static AUDIO: LazyLock<Template> = LazyLock::new(|| Template::media("audio/mp4", urgency::AUDIO));

/// How long a playlist is kept that was asked for by its number, in target durations: it will not be another. Spec: RFC 8216bis Appendix B.1.
const BLOCKING_PLAYLIST: u32 = 6;
/// How long a refusal of directives is kept, in target durations. Spec: RFC 8216bis Appendix B.1.
const REFUSED: u32 = 4;
/// How long what changes with every part is kept, seconds: a plain playlist, an MPD.
const NEWEST: Caching = Caching::Seconds(1);

impl Edge {
    /// `index.m3u8`, once the first segment has shown what rates to name.
    pub(super) fn multivariant(&self, stream: &Stream, asked: &Asked) -> Response<Body> {
        let catalog = Arc::clone(&stream.catalog().borrow());
        let Some(first) = catalog.renditions.first() else {
            return respond::retry(
                StatusCode::NOT_FOUND,
                "the stream has begun, but its first segment is not measured yet",
            );
        };
        let caching = Caching::targets(1, first.rendition.config.target_duration);
        let (published, number) = (catalog.published.micros(), catalog.number);
        let etag = |gzip| respond::etag(format_args!("{}-mv-{published}-{number}", catalog.epoch), gzip);
        let render = || hls_multivariant::render(&catalog);
        let text = &catalog.multivariant;
        respond::text(&asked.headers, &PLAYLIST, caching, etag, |gzip| text.coded(gzip, render))
    }

    /// `manifest.mpd`, once a period can be shown.
    pub(super) fn mpd(&self, stream: &Stream, asked: &Asked) -> Response<Body> {
        let catalog = Arc::clone(&stream.catalog().borrow());
        if catalog.periods.is_empty() {
            return respond::retry(StatusCode::NOT_FOUND, "the stream has begun, but DASH cannot be offered yet");
        }
        self.viewers.seen(asked.viewer, stream.name(), Instant::now());
        let windows = stream.windows();
        let mpd = self.mpds.get(stream.name(), &catalog, &windows);
        let etag = |gzip| respond::etag(format_args!("{}", mpd.etag), gzip);
        let render = || dash::render(&catalog, &windows);
        if mpd.text.plain(render).is_empty() {
            return respond::retry(StatusCode::NOT_FOUND, "there is nothing to play over DASH yet");
        }
        respond::text(&asked.headers, &MPD, NEWEST, etag, |gzip| mpd.text.coded(gzip, render))
    }

    /// A media playlist: now, or when what `directives` ask for is there. Spec: RFC 8216bis §6.2.5.
    pub(super) fn playlist(
        self: &Arc<Self>,
        stream: Arc<Stream>,
        cell: Cell,
        directives: Result<Directives, &'static str>,
        asked: Asked,
    ) -> Reply {
        let window = Arc::clone(&cell.borrow());
        let target = window.rendition.config.target_duration;
        let bad = |rule| respond::problem(StatusCode::BAD_REQUEST, Caching::targets(REFUSED, target), rule);
        let directives = match directives {
            Ok(directives) => directives,
            Err(rule) => return bad(rule).into(),
        };
        self.count_viewer(&stream, window.rendition.id, &asked);
        match blocking::decide(&window, &directives) {
            Decision::Now => playlist_of(&stream, &window, directives, &asked.headers).into(),
            Decision::BadRequest(rule) => bad(rule).into(),
            // A cache that kept this would refuse those who ask when it is time.
            Decision::TooEarly(rule) => respond::problem(StatusCode::BAD_REQUEST, Caching::NoStore, rule).into(),
            Decision::Wait => {
                let listed = move |window: &Window| blocking::decide(window, &directives) == Decision::Now;
                self.later(cell, asked, target, listed, move |window, _, headers| match window {
                    Ok(window) => playlist_of(&stream, window, directives, headers),
                    Err(unmet) => unmet.response(),
                })
            }
        }
    }

    /// `init-K.mp4`, as long as a segment that is kept needs it.
    pub(super) fn init(&self, cell: &Cell, number: u32, asked: &Asked) -> Response<Body> {
        let window = Arc::clone(&cell.borrow());
        let Some(init) = window.init(number) else { return not_found("no segment that is kept needs this init") };
        let template = if window.rendition.id.kind == Kind::Video { &INIT_OF_VIDEO } else { &AUDIO };
        let etag = media_etag(&window.rendition, format_args!("init{number}"));
        respond::media(&asked.headers, template, etag, init.bytes.len() as u64, std::iter::once(init.bytes.clone()))
    }

    /// `pN.m4s`: one that is kept, or the next, which is waited for.
    pub(super) fn part(self: &Arc<Self>, cell: Cell, number: u64, asked: Asked) -> Reply {
        let window = Arc::clone(&cell.borrow());
        // The next part's name was given away by EXT-X-PRELOAD-HINT: whoever asks for it early gets it the moment it is whole
        // (RFC 8216bis §6.2.6).
        let hinted = number == window.next_part && !window.ended;
        if !hinted {
            let part = part_of(&window, number, &asked.headers);
            let early = number > window.next_part;
            return part.unwrap_or_else(|| absent(early, "no such part is kept, or named as the next")).into();
        }
        let decided = move |window: &Window| window.next_part > number || window.ended;
        let target = window.rendition.config.target_duration;
        self.later(cell, asked, target, decided, move |window, _, headers| match window {
            Ok(window) => part_of(window, number, headers).unwrap_or_else(never_came),
            Err(Unmet::TooLong | Unmet::Gone) => never_came(),
            Err(unmet) => unmet.response(),
        })
    }

    /// `sMSN.m4s`: one that is kept, whole; the open one, as it grows; or the one behind that, which is waited for.
    pub(super) fn segment(self: &Arc<Self>, cell: Cell, msn: u64, asked: Asked) -> Reply {
        let window = Arc::clone(&cell.borrow());
        let ahead = msn.checked_sub(window.open_msn);
        let near = matches!(ahead, Some(0 | 1)) && !window.ended && !window.waiting;
        if !near || window.segment(msn).is_some() {
            let segment = segment_of(&window, cell, msn, &asked.headers);
            let early = msn >= window.open_msn;
            return segment.unwrap_or_else(|| absent(early, "no such segment is kept, or about to begin")).into();
        }
        let begun = move |window: &Window| {
            window.segment(msn).is_some() || window.is_complete(msn) || window.ended || window.waiting
        };
        let target = window.rendition.config.target_duration;
        let edge = Arc::clone(self);
        self.later(cell, asked, target, begun, move |window, cell, headers| match window {
            // A server that stops puts its streams down, and they are back when it is: before it tells its viewers, it interrupts publishers.
            Ok(window)
                if window.segment(msn).is_none_or(|segment| segment.is_gap())
                    && (edge.stop.is_cancelled() || edge.registry.is_stopping()) =>
            {
                Unmet::Stopping.response()
            }
            Ok(window) => segment_of(window, cell, msn, headers).unwrap_or_else(never_came),
            Err(Unmet::TooLong | Unmet::Gone) => never_came(),
            Err(unmet) => unmet.response(),
        })
    }

    /// A viewer follows one video playlist, or an audio one where there is no video; the others would count it twice.
    fn count_viewer(&self, stream: &Stream, id: RenditionId, asked: &Asked) {
        let leading = id.kind == Kind::Video || stream.window(RenditionId { kind: Kind::Video, index: 0 }).is_none();
        if leading {
            self.viewers.seen(asked.viewer, stream.name(), asked.at.into_std());
        }
    }
}

/// A media playlist, whole or as a delta update, as `window` has it.
fn playlist_of(stream: &Stream, window: &Window, directives: Directives, headers: &HeaderMap) -> Response<Body> {
    let Directives { msn, skip, .. } = directives;
    // An ended playlist is the same whatever is asked for. Spec: RFC 8216bis §6.2.5.1.
    let skip = skip && !window.ended;
    let target = window.rendition.config.target_duration;
    // One that was asked for by its number will not be another.
    let caching = if msn.is_some() { Caching::targets(BLOCKING_PLAYLIST, target) } else { NEWEST };
    let text = if skip { &window.rendered.delta } else { &window.rendered.full };
    let name = |gzip| {
        let delta = if skip { "d" } else { "" };
        respond::etag(format_args!("{}-{}{delta}", Tag(&window.rendition), window.version), gzip)
    };
    let render = || hls_media::render(window, &reports(stream, window.rendition.id), skip);
    respond::text(headers, &PLAYLIST, caching, |gzip| text.tag(gzip, || name(gzip)), |gzip| text.coded(gzip, render))
}

fn part_of(window: &Window, number: u64, headers: &HeaderMap) -> Option<Response<Body>> {
    let part = window.part(number)?;
    let etag = media_etag(&window.rendition, format_args!("p{number}"));
    Some(respond::media(headers, template_of(&window.rendition), etag, part.len() as u64, part.slices()))
}

/// A segment, whole or as it grows in `cell`, of which `window` is the newest.
fn segment_of(window: &Window, cell: Cell, msn: u64, headers: &HeaderMap) -> Option<Response<Body>> {
    let segment = window.segment(msn)?;
    if segment.is_gap() {
        return Some(not_found("nothing was published then: the playlist says EXT-X-GAP"));
    }
    let template = template_of(&window.rendition);
    let etag = media_etag(&window.rendition, format_args!("s{msn}"));
    Some(if window.is_complete(msn) || window.ended {
        respond::media(headers, template, etag, segment.len() as u64, segment.slices())
    } else {
        // A part at a time, as they are made: LL-DASH.
        respond::growing(headers, template, etag, Body::Open(Tail::new(msn, cell).boxed_unsync()))
    })
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

fn media_etag(rendition: &Rendition, file: std::fmt::Arguments<'_>) -> Bytes {
    respond::etag(format_args!("{}-{file}", Tag(rendition)), false)
}

fn template_of(rendition: &Rendition) -> &'static Template {
    match rendition.id.kind {
        Kind::Video => &VIDEO,
        Kind::Audio => &AUDIO,
    }
}

/// 404; for who asks `early`, of what is to come and then must not be refused by a cache.
fn absent(early: bool, rule: &str) -> Response<Body> {
    if early { respond::problem(StatusCode::NOT_FOUND, Caching::NoStore, rule) } else { not_found(rule) }
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
