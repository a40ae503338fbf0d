//! How answers look: headers that every one of them carries, caching, errors.
//!
//! Specification: RFC 9110, RFC 9111, RFC 9218 (priority), RFC 9457 (problem details), the Fetch standard (CORS).

use std::fmt::{self, Write as _};
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

use super::body::{Body, cut};
use super::negotiate::{self, Extent};

const M3U8: &str = "application/vnd.apple.mpegurl";
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

/// What every answer carries, errors included: a page of another site may read all of it. Answers begin with a copy, since to copy a map costs a fraction
/// of what filling one does.
static COMMON: LazyLock<HeaderMap> = LazyLock::new(|| {
    let mut headers = HeaderMap::with_capacity(USUAL_HEADERS);
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, ANYBODY);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.insert(TIMING_ALLOW_ORIGIN, ANYBODY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers
});

/// As many headers as an answer has, those included that the connection adds: a map that has room for them is not sorted again when they come.
const USUAL_HEADERS: usize = 12;

/// How long a redirection is kept: the next version may have something at the place.
const REDIRECT_SECONDS: u64 = 3600;

/// When to ask again for what is not there yet, seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

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

/// The headers that successful answers of one kind have in common, ready to be copied.
#[derive(Debug)]
pub(crate) struct Template(HeaderMap);

impl Template {
    fn new(mut headers: HeaderMap, content_type: &'static str, urgency: Option<u8>) -> Self {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(urgency) = urgency {
            set(&mut headers, PRIORITY, &format!("u={urgency}"));
        }
        // Each answer has its own in their places, which it need not make.
        headers.insert(header::CACHE_CONTROL, Caching::NoStore.value());
        headers.insert(header::ETAG, HeaderValue::from_static("\"\""));
        Self(headers)
    }

    /// Of a text that is sent gzip-coded where the client takes that.
    pub(crate) fn text(content_type: &'static str, urgency: Option<u8>) -> Self {
        let mut template = Self::new(COMMON.clone(), content_type, urgency);
        template.0.insert(header::VARY, ACCEPT_ENCODING);
        template
    }

    /// Of a playlist of HLS. It is asked for several times a second, and each header costs as much as a hundredth of it: it has none of those that
    /// are for measuring how fast media comes, and for what a browser might take for a page.
    pub(crate) fn playlist() -> Self {
        let mut template = Self::text(M3U8, Some(urgency::PLAYLIST));
        template.0.remove(TIMING_ALLOW_ORIGIN);
        template.0.remove(header::X_CONTENT_TYPE_OPTIONS);
        template
    }

    /// Of finished media, any bytes of which can be asked for.
    pub(crate) fn media(content_type: &'static str, urgency: u8) -> Self {
        let mut template = Self::new(COMMON.clone(), content_type, Some(urgency));
        template.0.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        template
    }

    fn headers(&self, caching: Caching, etag: Bytes) -> HeaderMap {
        let mut headers = self.0.clone();
        if let Some(place) = headers.get_mut(header::CACHE_CONTROL) {
            *place = caching.value();
        }
        match (headers.get_mut(header::ETAG), HeaderValue::from_maybe_shared(etag)) {
            (Some(place), Ok(value)) => *place = value,
            _ => _ = headers.remove(header::ETAG),
        }
        headers
    }
}

/// Text in the coding that the client accepts, with validation. `etag` and `text` are asked for the coding that it is sent in: the two are two
/// representations, and a strong tag names one.
pub(crate) fn text(
    headers: &HeaderMap,
    template: &Template,
    caching: Caching,
    etag: impl FnOnce(bool) -> Bytes,
    text: impl FnOnce(bool) -> Bytes,
) -> Response<Body> {
    let gzip = negotiate::accepts_gzip(headers);
    let etag = etag(gzip);
    if negotiate::is_unmet(headers, &etag) {
        return precondition_failed();
    }
    if negotiate::is_cached(headers, &etag) {
        return not_modified(template.headers(caching, etag));
    }
    let mut response = with_headers(StatusCode::OK, template.headers(caching, etag), Body::from(text(gzip)));
    if gzip {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Finished media, which never changes: ranges, validation, exact length. The slices go out as they are.
pub(crate) fn media(
    headers: &HeaderMap,
    template: &Template,
    etag: Bytes,
    len: u64,
    slices: impl Iterator<Item = Bytes>,
) -> Response<Body> {
    if negotiate::is_unmet(headers, &etag) {
        return precondition_failed();
    }
    if negotiate::is_cached(headers, &etag) {
        return not_modified(template.headers(Caching::Immutable, etag));
    }
    match negotiate::extent(headers, &etag, len) {
        Extent::Whole => with_headers(StatusCode::OK, template.headers(Caching::Immutable, etag), slices.collect()),
        Extent::Bytes(range) => {
            let line = format!("bytes {}-{}/{len}", range.start, range.end.saturating_sub(1));
            let mut headers = template.headers(Caching::Immutable, etag);
            set(&mut headers, header::CONTENT_RANGE, &line);
            with_headers(StatusCode::PARTIAL_CONTENT, headers, Body::Slices(cut(slices, range)))
        }
        Extent::Unsatisfiable => {
            let mut response =
                problem(StatusCode::RANGE_NOT_SATISFIABLE, Caching::NoStore, "the range lies outside of the file");
            set(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{len}"));
            response
        }
    }
}

/// Media in the making: of unknown length, so without ranges.
pub(crate) fn growing(headers: &HeaderMap, template: &Template, etag: Bytes, body: Body) -> Response<Body> {
    if negotiate::is_unmet(headers, &etag) {
        return precondition_failed();
    }
    let mut headers = template.headers(Caching::Immutable, etag);
    headers.remove(header::ACCEPT_RANGES);
    with_headers(StatusCode::OK, headers, body)
}

/// What there is is not what the client wants to read more of. Spec: RFC 9110 §13.1.1.
fn precondition_failed() -> Response<Body> {
    problem(
        StatusCode::PRECONDITION_FAILED,
        Caching::NoStore,
        "If-Match names other versions than the one that is here",
    )
}

/// The client has it already; `headers` are those of what it has.
fn not_modified(mut headers: HeaderMap) -> Response<Body> {
    headers.remove(header::CONTENT_TYPE);
    with_headers(StatusCode::NOT_MODIFIED, headers, Body::empty())
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

/// The same of what may be there in a moment: worth asking again.
pub(crate) fn retry(status: StatusCode, rule: &str) -> Response<Body> {
    let mut response = problem(status, Caching::NoStore, rule);
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_SECONDS);
    response
}

/// What can be done with what lies under a path, and which headers of a page's request change the answer.
#[derive(Debug)]
pub(crate) struct Allowed {
    methods: &'static str,
    headers: &'static str,
}

/// All but the API can only be read.
pub(crate) const READ: Allowed = Allowed {
    methods: "GET, HEAD, OPTIONS",
    headers: "range, if-range, if-match, if-none-match, cache-control, accept, priority, origin",
};
/// A page of another site may operate the server, with a key that its user has given it: keys stand in a header, which browsers never send by themselves.
pub(crate) const API: Allowed = Allowed {
    methods: "GET, HEAD, POST, DELETE, OPTIONS",
    headers: "authorization, content-type, accept, cache-control, traceparent, tracestate, origin",
};

impl Allowed {
    /// The value of `Allow`.
    pub(crate) fn methods(&self) -> HeaderValue {
        HeaderValue::from_static(self.methods)
    }
}

/// The answer to a CORS preflight, or to a bare OPTIONS. Spec: Fetch §3.2.
pub(crate) fn options(allowed: &Allowed) -> Response<Body> {
    let mut response = with_status(StatusCode::NO_CONTENT, Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, allowed.methods());
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, allowed.methods());
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed.headers));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    headers.insert(header::CACHE_CONTROL, Caching::NoStore.value());
    response
}

/// What is asked for lies at `location`, a reference in characters that are legal in one, and will.
pub(crate) fn redirect(location: &str) -> Response<Body> {
    let mut response = with_status(StatusCode::PERMANENT_REDIRECT, Body::empty());
    set(response.headers_mut(), header::LOCATION, location);
    response.headers_mut().insert(header::CACHE_CONTROL, Caching::Seconds(REDIRECT_SECONDS).value());
    response
}

/// Gives an answer that was made elsewhere what every answer carries.
pub(crate) fn adopt(headers: &mut HeaderMap) {
    headers.extend(COMMON.clone());
}

/// A HEAD answer keeps its length and loses its body.
pub(crate) fn finish(method: &Method, mut response: Response<Body>) -> Response<Body> {
    if method == Method::HEAD {
        let bodiless = response.status() == StatusCode::NOT_MODIFIED || response.status() == StatusCode::NO_CONTENT;
        if let (Some(len), false) = (response.body().len(), bodiless) {
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(len));
        }
        *response.body_mut() = Body::empty();
    }
    response
}

pub(crate) fn with_status(status: StatusCode, body: Body) -> Response<Body> {
    with_headers(status, COMMON.clone(), body)
}

fn with_headers(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Sets a header whose value we made; one that is no legal value (none is) is left out.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
