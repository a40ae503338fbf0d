//! From path and query to what is wanted. Pure; knows no method and no stream.
//!
//! There is one spelling of every URL. Names of streams hold no character that would need percent-encoding, so a `%` is never decoded, it is
//! refused: nothing can mean one thing to a cache in front of us and another to us.

use crate::media::{Epoch, RenditionId, StreamName, is_unreserved};

/// Longest path that is looked at, in bytes: two names of 128, an epoch, a rendition, a file, with room to spare.
const MAX_PATH: usize = 512;
/// Longest token below `/t/` that is looked at, in bytes.
const MAX_TOKEN: usize = 1024;
/// Most elements of a path: a file of a rendition has as many, and an asset in its folders may.
const DEEPEST: usize = 5;

/// What a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`: the page that lists streams.
    Index,
    /// `/APP/NAME`: the player page.
    Page(StreamName),
    /// `/APP/NAME/`, as people type it: the player page is where [`Self::Page`] says, for its links are relative. With the query.
    Slash(StreamName, Option<String>),
    /// `/APP/NAME/index.m3u8`.
    Multivariant(StreamName),
    /// `/APP/NAME/manifest.mpd`.
    Mpd(StreamName),
    /// `/APP/NAME/EPOCH/RID/…`.
    Rendition(RenditionPath, Object),
    /// `/time`: the clock for DASH clients.
    Time,
    /// `/healthz`.
    Health,
    /// `/readyz`.
    Ready,
    /// `/assets/…`: the rest of the path.
    Asset(String),
    /// `/api/…`, as it is.
    Api,
}

/// A rendition of one life of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenditionPath {
    /// APP/NAME.
    pub stream: StreamName,
    /// Which life.
    pub epoch: Epoch,
    /// `v0`, `a0`, …
    pub rendition: RenditionId,
}

/// What lies below a rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// `index.m3u8`, with its delivery directives, or why they are malformed. The reason waits inside, since the answer needs the stream's
    /// target duration.
    Playlist(Result<Directives, &'static str>),
    /// `init-K.mp4`.
    Init(u32),
    /// `sMSN.m4s`.
    Segment(u64),
    /// `pN.m4s`.
    Part(u64),
}

/// Delivery directives of a media playlist request. Spec: RFC 8216bis §6.2.5.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directives {
    /// `_HLS_msn`.
    pub msn: Option<u64>,
    /// `_HLS_part`.
    pub part: Option<u64>,
    /// `_HLS_skip` is `YES` or `v2`.
    pub skip: bool,
}

/// Why a URL names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Not a spelling that we ever hand out: 400.
    #[error("{0}")]
    Malformed(&'static str),
    /// Well spelled, but there is no such thing: 404.
    #[error("nothing is served under this path")]
    NotFound,
}

/// Takes a signed prefix off: `/t/TOKEN/live/me` is `/live/me` with that token. Everything behind this, caches included, knows the path without it
/// alone, so that viewers share what they are sent. `None` where there is no such prefix, or what cannot be a token.
fn signed(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/t/")?;
    let end = rest.find('/')?;
    let (token, path) = rest.split_at_checked(end)?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let good = (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(legal);
    good.then_some((token, path))
}

impl Route {
    /// The stream that it is about.
    pub fn stream(&self) -> Option<&StreamName> {
        match self {
            Self::Page(stream) | Self::Slash(stream, _) | Self::Multivariant(stream) | Self::Mpd(stream) => {
                Some(stream)
            }
            Self::Rendition(path, _) => Some(&path.stream),
            Self::Index | Self::Time | Self::Health | Self::Ready | Self::Asset(_) | Self::Api => None,
        }
    }
}

/// Routes a path with a signed prefix or without, and gives the token where there is one.
pub fn parse_signed<'a>(path: &'a str, query: Option<&str>) -> (Option<&'a str>, Result<Route, RouteError>) {
    let Some((token, path)) = signed(path) else { return (None, parse(path, query)) };
    let route = match parse(path, query) {
        // What belongs to no stream has one URL, without a token; all but the clock, which MPDs name relative to themselves.
        Ok(route) if route.stream().is_none() && route != Route::Time => Err(RouteError::NotFound),
        route => route,
    };
    (Some(token), route)
}

/// Routes `path` (as on the wire, without the query) and `query` (without its `?`).
///
/// # Errors
/// [`RouteError`].
pub fn parse(path: &str, query: Option<&str>) -> Result<Route, RouteError> {
    if path.starts_with("/api/") {
        return Ok(Route::Api);
    }
    let rest = path.strip_prefix('/').ok_or(RouteError::Malformed("the path must begin with a slash"))?;
    if path.len() > MAX_PATH {
        return Err(RouteError::Malformed("the path is longer than any that is served"));
    }
    if rest.is_empty() {
        return Ok(Route::Index);
    }
    let (rest, has_slash) = match rest.strip_suffix('/') {
        Some(page) if elements(page).count() == 2 => (page, true),
        _ => (rest, false),
    };
    let (mut all, mut count) = ([""; DEEPEST], 0);
    for element in elements(rest) {
        if !element.bytes().all(is_unreserved) {
            return Err(RouteError::Malformed("a path may hold only letters, digits, '.', '_', '~', '-' and slashes"));
        }
        if matches!(element, "" | "." | "..") {
            return Err(RouteError::Malformed("a path has no empty elements and no '.' or '..'"));
        }
        if let Some(place) = all.get_mut(count) {
            *place = element;
        }
        count += 1;
    }
    let stream = |app: &str, name: &str| -> Result<StreamName, RouteError> {
        let text = rest.get(..app.len() + 1 + name.len()).unwrap_or_default();
        text.parse().map_err(|_| RouteError::NotFound)
    };
    match *all.get(..count).ok_or(RouteError::NotFound)? {
        ["time"] => Ok(Route::Time),
        ["healthz"] => Ok(Route::Health),
        ["readyz"] => Ok(Route::Ready),
        [app, name] if has_slash => Ok(Route::Slash(stream(app, name)?, query.map(str::to_owned))),
        ["assets", _, ..] => Ok(Route::Asset(rest.strip_prefix("assets/").unwrap_or_default().to_owned())),
        [app, name] => Ok(Route::Page(stream(app, name)?)),
        [app, name, "index.m3u8"] => Ok(Route::Multivariant(stream(app, name)?)),
        [app, name, "manifest.mpd"] => Ok(Route::Mpd(stream(app, name)?)),
        [app, name, epoch, rendition, file] => {
            let stream = stream(app, name)?;
            let epoch = epoch.parse().map_err(|()| RouteError::NotFound)?;
            let rendition = rendition.parse().map_err(|()| RouteError::NotFound)?;
            Ok(Route::Rendition(RenditionPath { stream, epoch, rendition }, object(file, query)?))
        }
        _ => Err(RouteError::NotFound),
    }
}

/// What stands between the slashes of `path`. `str::split` prepares a search for each element, which takes longer than to go through it.
fn elements(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(path);
    std::iter::from_fn(move || {
        let path = rest?;
        let end = path.bytes().position(|byte| byte == b'/');
        rest = end.and_then(|end| path.get(end + 1..));
        path.get(..end.unwrap_or(path.len()))
    })
}

fn object(file: &str, query: Option<&str>) -> Result<Object, RouteError> {
    if file == "index.m3u8" {
        return Ok(Object::Playlist(directives(query.unwrap_or_default())));
    }
    let between = |head: &str, tail: &str| file.strip_prefix(head)?.strip_suffix(tail);
    if let Some(number) = between("init-", ".mp4").and_then(number) {
        return u32::try_from(number).map(Object::Init).map_err(|_| RouteError::NotFound);
    }
    if let Some(msn) = between("s", ".m4s").and_then(number) {
        return Ok(Object::Segment(msn));
    }
    if let Some(number) = between("p", ".m4s").and_then(number) {
        return Ok(Object::Part(number));
    }
    Err(RouteError::NotFound)
}

/// A decimal number in its one spelling: digits only, no leading zero.
fn number(digits: &str) -> Option<u64> {
    let canonical = digits == "0" || !digits.starts_with('0');
    if !canonical || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

fn directives(query: &str) -> Result<Directives, &'static str> {
    let mut found = Directives::default();
    let mut skip = None;
    for pair in query.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "_HLS_msn" => {
                let msn = number(value).ok_or("_HLS_msn must be a decimal number below 2^64, without leading zeros")?;
                if found.msn.replace(msn).is_some() {
                    return Err("_HLS_msn stands twice in the query");
                }
            }
            "_HLS_part" => {
                let part =
                    number(value).ok_or("_HLS_part must be a decimal number below 2^64, without leading zeros")?;
                if found.part.replace(part).is_some() {
                    return Err("_HLS_part stands twice in the query");
                }
            }
            "_HLS_skip" => {
                if !matches!(value, "YES" | "v2") {
                    return Err("_HLS_skip must be YES or v2");
                }
                if skip.replace(()).is_some() {
                    return Err("_HLS_skip stands twice in the query");
                }
            }
            // Whatever else a player or a link carries does not change the answer.
            _ => {}
        }
    }
    found.skip = skip.is_some();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendition() -> RenditionPath {
        RenditionPath {
            stream: StreamName::new("live", "me").expect("a good name"),
            epoch: "10".parse().expect("a good epoch"),
            rendition: "v0".parse().expect("a good id"),
        }
    }

    #[test]
    fn every_url_of_the_contract_has_its_route() {
        let name = || StreamName::new("live", "me").expect("a good name");
        for (path, route) in [
            ("/", Route::Index),
            ("/time", Route::Time),
            ("/healthz", Route::Health),
            ("/readyz", Route::Ready),
            ("/live/me", Route::Page(name())),
            ("/live/me/", Route::Slash(name(), None)),
            ("/live/me/index.m3u8", Route::Multivariant(name())),
            ("/live/me/manifest.mpd", Route::Mpd(name())),
            ("/live/me/10/v0/index.m3u8", Route::Rendition(rendition(), Object::Playlist(Ok(Directives::default())))),
            ("/live/me/10/v0/init-0.mp4", Route::Rendition(rendition(), Object::Init(0))),
            ("/live/me/10/v0/s12.m4s", Route::Rendition(rendition(), Object::Segment(12))),
            ("/live/me/10/v0/p0.m4s", Route::Rendition(rendition(), Object::Part(0))),
            ("/assets/a/b.js", Route::Asset("a/b.js".into())),
            ("/api/v1/streams", Route::Api),
        ] {
            assert_eq!(parse(path, None), Ok(route), "{path}");
        }
    }

    #[test]
    fn a_signed_prefix_is_taken_off() {
        assert_eq!(signed("/t/a.b-c_d/live/me"), Some(("a.b-c_d", "/live/me")));
        assert_eq!(signed("/t/x/10/v0/p1.m4s"), Some(("x", "/10/v0/p1.m4s")));
        assert_eq!(signed("/t/x//"), Some(("x", "//")), "what is behind it is judged as ever");
        assert_eq!(parse_signed("/t/x/time", None), (Some("x"), Ok(Route::Time)));
        assert_eq!(parse_signed("/t/x/healthz", None), (Some("x"), Err(RouteError::NotFound)));
        assert_eq!(parse_signed("/healthz", None), (None, Ok(Route::Health)));
        let long = format!("/t/{}/live/me", "x".repeat(MAX_TOKEN + 1));
        for path in
            ["/t/x", "/t//live/me", "/t/%41/live/me", "/t/a b/live/me", "/T/x/live/me", "/live/t/x/y", "", &long]
        {
            assert_eq!(signed(path), None, "{path}");
            assert!(parse(path, None).is_err(), "{path} is nothing else either");
        }
    }

    #[test]
    fn other_spellings_and_unknown_names_are_refused() {
        for path in [
            "/live",
            "/api",
            "/vod/x",
            "/t/x",
            "/metrics",
            "/live/me/INDEX.m3u8",
            "/live/me/index.m3u8/x",
            "/live/me/10/v0",
            "/live/me/10/v0/x/index.m3u8",
            "/live/me/010/v0/index.m3u8",
            "/live/me/1A/v0/index.m3u8",
            "/live/me/10/v00/index.m3u8",
            "/live/me/10/v0/s01.m4s",
            "/live/me/10/v0/s+1.m4s",
            "/live/me/10/v0/s-1.m4s",
            "/live/me/10/v0/s.m4s",
            "/live/me/10/v0/s18446744073709551616.m4s",
            "/live/me/10/v0/init-4294967296.mp4",
            "/live/me/10/v0/p1.mp4",
            "/assets/a/b/c/d/e",
        ] {
            assert!(parse(path, None).is_err(), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn anything_is_routed_or_refused(path in "(/|)[ -~\u{0}\u{e9}]{0,60}", query in "[ -~]{0,60}") {
            // What is routed holds only characters that mean the same everywhere.
            if let Ok(route) = parse(&path, Some(&query))
                && route != Route::Api
            {
                proptest::prop_assert!(!path.split('/').any(|element| element == ".."), "{path}");
                proptest::prop_assert!(!path.contains(['%', '\\', ' ']), "{path}");
            }
        }
    }

    /// RELIABILITY row 64.
    #[test]
    fn traversal_in_any_dress_is_malformed() {
        for path in [
            "",
            "live/me",
            "//",
            "//live/me",
            "/live//me",
            "/live/me//",
            "/live/../etc/passwd",
            "/assets/../../etc/passwd",
            "/assets/.",
            "/live/me/..",
            "/live/%2e%2e/x",
            "/live/%252e%252e/x",
            "/live/..%2fx",
            "/live/..%5cx",
            "/live/..\\x",
            "/live/me\0",
            "/live/me%00",
            "/live/\u{c0}\u{af}",
            "/live/m e",
            "/live/me;x=1",
            "*",
        ] {
            assert!(matches!(parse(path, None), Err(RouteError::Malformed(_))), "{path}");
        }
        let long = format!("/live/{}", "x".repeat(MAX_PATH));
        assert!(matches!(parse(&long, None), Err(RouteError::Malformed(_))));
    }

    #[test]
    fn directives_are_read_and_all_else_is_dropped() {
        let some = |msn, part, skip| Ok(Directives { msn, part, skip });
        for (query, wanted) in [
            ("", some(None, None, false)),
            ("_HLS_msn=7&_HLS_part=0&_HLS_skip=YES", some(Some(7), Some(0), true)),
            ("x=1&_HLS_msn=7&&_HLS_other=abc&=", some(Some(7), None, false)),
            ("_HLS_skip=v2", some(None, None, true)),
            ("_HLS_msn=9223372036854775808", some(Some(1 << 63), None, false)),
        ] {
            assert_eq!(directives(query), wanted, "{query}");
        }
        for query in [
            "_HLS_msn",
            "_HLS_msn=",
            "_HLS_msn=abc",
            "_HLS_msn=-1",
            "_HLS_msn=+1",
            "_HLS_msn=01",
            "_HLS_msn=1.0",
            "_HLS_msn=NaN",
            "_HLS_msn=18446744073709551616",
            "_HLS_msn=1&_HLS_msn=1",
            "_HLS_part=%31",
            "_HLS_skip=no",
            "_HLS_skip=YES&_HLS_skip=v2",
        ] {
            assert!(directives(query).is_err(), "{query}");
        }
    }
}
