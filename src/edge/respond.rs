//! How answers look: headers that every one of them carries, caching, errors.
//!
//! Specification: RFC 9110, RFC 9111, RFC 9218 (priority), RFC 9457 (problem details), the Fetch standard (CORS).

use std::fmt::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

use super::body::{Body, cut};
use super::negotiate::{self, Extent};

/// `application/vnd.apple.mpegurl`.
pub(crate) const M3U8: HeaderValue = HeaderValue::from_static("application/vnd.apple.mpegurl");
/// `application/dash+xml`.
pub(crate) const MPD: HeaderValue = HeaderValue::from_static("application/dash+xml");
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
const PRIORITY: HeaderName = HeaderName::from_static("priority");
// Constants, since making them means checking every byte.
const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");
const ANYBODY: HeaderValue = HeaderValue::from_static("*");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("Accept-Encoding");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Content-Length, Content-Range, Content-Encoding, Date, ETag, Age, Cache-Control, Retry-After, Accept-Ranges",
);

/// As many headers as an answer has, those included that the connection adds.
const USUAL_HEADERS: usize = 12;

/// How long an answer may be kept. Spec: ARCHITECTURE §5; RFC 8216bis Appendix B.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    /// A year: the name will never mean anything else.
    Immutable,
    /// This many seconds.
    Seconds(u64),
    /// Ask every time whether it is still the same.
    NoCache,
    /// Not at all.
    NoStore,
}

impl Caching {
    /// `count` target durations.
    pub(crate) fn targets(count: u32, target: Duration) -> Self {
        Self::Seconds((target * count).as_secs())
    }

    pub(crate) fn value(self) -> HeaderValue {
        match self {
            Self::Immutable => const { HeaderValue::from_static("max-age=31536000, immutable") },
            Self::Seconds(1) => const { HeaderValue::from_static("max-age=1") },
            Self::Seconds(seconds) => {
                HeaderValue::from_str(&format!("max-age={seconds}")).unwrap_or(HeaderValue::from_static("max-age=1"))
            }
            Self::NoCache => HeaderValue::from_static("no-cache"),
            Self::NoStore => HeaderValue::from_static("no-store"),
        }
    }
}

/// What goes first over one connection, lowest first: the next playlist is never stuck behind media. Spec: RFC 9218 §4.1.
pub(crate) mod urgency {
    pub(crate) const PLAYLIST: u8 = 1;
    /// An init is needed before the first picture, and small.
    pub(crate) const INIT: u8 = 2;
    /// Sound before pictures: it is small, and its absence is noticed first.
    pub(crate) const AUDIO: u8 = 2;
    pub(crate) const VIDEO: u8 = 3;
}

/// The facts of a successful answer.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) content_type: HeaderValue,
    pub(crate) caching: Caching,
    /// One of [`urgency`], where it matters.
    pub(crate) urgency: Option<u8>,
}

/// Text in the coding that the client accepts, with validation. `etag` and `text` are asked for the coding that it is sent in: the two are two
/// representations, and a strong tag names one.
pub(crate) fn text(
    headers: &HeaderMap,
    facts: &Facts,
    etag: impl FnOnce(bool) -> Bytes,
    text: impl FnOnce(bool) -> Bytes,
) -> Response<Body> {
    let gzip = negotiate::accepts_gzip(headers);
    let etag = etag(gzip);
    let mut response = if negotiate::is_cached(headers, &etag) {
        with_status(StatusCode::NOT_MODIFIED, Body::empty())
    } else {
        let mut response = with_status(StatusCode::OK, Body::from(text(gzip)));
        if gzip {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    };
    response.headers_mut().insert(header::VARY, ACCEPT_ENCODING);
    describe(response, facts, etag)
}

/// Finished media: ranges, validation, exact length. The slices go out as they are.
pub(crate) fn media(
    headers: &HeaderMap,
    facts: &Facts,
    etag: Bytes,
    len: u64,
    slices: impl Iterator<Item = Bytes>,
) -> Response<Body> {
    if negotiate::is_cached(headers, &etag) {
        return describe(with_status(StatusCode::NOT_MODIFIED, Body::empty()), facts, etag);
    }
    let mut response = match negotiate::extent(headers, &etag, len) {
        Extent::Whole => with_status(StatusCode::OK, slices.collect()),
        Extent::Bytes(range) => {
            let line = format!("bytes {}-{}/{len}", range.start, range.end.saturating_sub(1));
            let mut response = with_status(StatusCode::PARTIAL_CONTENT, Body::Slices(cut(slices, range)));
            set(response.headers_mut(), header::CONTENT_RANGE, &line);
            response
        }
        Extent::Unsatisfiable => {
            let mut response =
                problem(StatusCode::RANGE_NOT_SATISFIABLE, Caching::NoStore, "the range lies outside of the file");
            set(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{len}"));
            return response;
        }
    };
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    describe(response, facts, etag)
}

/// Media in the making: of unknown length, so without ranges.
pub(crate) fn growing(facts: &Facts, etag: Bytes, body: Body) -> Response<Body> {
    describe(with_status(StatusCode::OK, body), facts, etag)
}

fn describe(mut response: Response<Body>, facts: &Facts, etag: Bytes) -> Response<Body> {
    let not_modified = response.status() == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    if !not_modified {
        headers.insert(header::CONTENT_TYPE, facts.content_type.clone());
    }
    headers.insert(header::CACHE_CONTROL, facts.caching.value());
    if let Ok(value) = HeaderValue::from_maybe_shared(etag) {
        headers.insert(header::ETAG, value);
    }
    match facts.urgency {
        Some(1) => _ = headers.insert(PRIORITY, const { HeaderValue::from_static("u=1") }),
        Some(2) => _ = headers.insert(PRIORITY, const { HeaderValue::from_static("u=2") }),
        Some(urgency) => set(headers, PRIORITY, &format!("u={urgency}")),
        None => {}
    }
    response
}

/// A strong entity tag with this opaque part, for a text gzip-coded or not. Spec: RFC 9110 §8.8.3.
pub(crate) fn etag(opaque: fmt::Arguments<'_>, gzip: bool) -> Bytes {
    let mut text = String::with_capacity(40);
    // Writing to a String cannot fail.
    let _ = write!(text, "\"{opaque}{}\"", if gzip { "z" } else { "" });
    Bytes::from(text)
}

/// A short text that is never kept: health, time.
pub(crate) fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = with_status(status, Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, Caching::NoStore.value());
    response
}

/// An error, naming the rule. Spec: RFC 9457.
pub(crate) fn problem(status: StatusCode, caching: Caching, rule: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or("Error");
    let json = serde_json::json!({"type": "about:blank", "title": title, "status": status.as_u16(), "detail": rule});
    let mut response = with_status(status, Body::from(json.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, PROBLEM);
    response.headers_mut().insert(header::CACHE_CONTROL, caching.value());
    response
}

/// The same, worth asking again in `seconds`.
pub(crate) fn retry(status: StatusCode, seconds: u64, rule: &str) -> Response<Body> {
    let mut response = problem(status, Caching::NoStore, rule);
    set(response.headers_mut(), header::RETRY_AFTER, &seconds.to_string());
    response
}

/// The answer to a CORS preflight, or to a bare OPTIONS. Spec: Fetch §3.2.
pub(crate) fn options() -> Response<Body> {
    let mut response = with_status(StatusCode::NO_CONTENT, Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    let allowed = "range, if-range, if-none-match, cache-control, accept, priority, origin";
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    headers.insert(header::CACHE_CONTROL, Caching::NoStore.value());
    response
}

/// What every answer carries, errors included: a page of another site may read all of it. A HEAD answer keeps its length and loses its body.
pub(crate) fn finish(method: &Method, mut response: Response<Body>) -> Response<Body> {
    let head = method == Method::HEAD;
    let len = response.body().len();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANYBODY);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.insert(TIMING_ALLOW_ORIGIN, ANYBODY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if head {
        let bodiless = response.status() == StatusCode::NOT_MODIFIED || response.status() == StatusCode::NO_CONTENT;
        if let (Some(len), false) = (len, bodiless) {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        }
        *response.body_mut() = Body::empty();
    }
    response
}

pub(crate) fn with_status(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    // All headers find room at once: growing means sorting them in again.
    *response.headers_mut() = HeaderMap::with_capacity(USUAL_HEADERS);
    response
}

/// Sets a header whose value we made; one that is no legal value (none is) is left out.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
