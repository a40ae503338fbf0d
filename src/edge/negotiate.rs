//! What a request's headers ask for: coding, ranges, conditions. Pure.
//!
//! Specification: RFC 9110 §12.5.3 (Accept-Encoding), §13.1 (conditions), §14 (ranges).

use std::ops::Range;

use http::HeaderValue;
use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};

/// Most elements of a list that are looked at. Nobody sends as many; what follows them counts as absent.
const MAX_ELEMENTS: usize = 32;

/// What part of a body is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// All of it: 200.
    Whole,
    /// These bytes: 206.
    Bytes(Range<u64>),
    /// Bytes that there are not: 416.
    Unsatisfiable,
}

/// What is asked of `headers` here, copied: a request that waits with them does not keep all of its head, nor the buffer that it was read into.
pub fn kept(headers: &HeaderMap) -> HeaderMap {
    let lines = [ACCEPT_ENCODING, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE].into_iter().flat_map(|name| {
        let values = headers.get_all(&name).into_iter();
        values.filter_map(move |value| Some((name.clone(), HeaderValue::from_bytes(value.as_bytes()).ok()?)))
    });
    lines.collect()
}

/// The values of `name`. Requests have a dozen headers, through which it takes less to go than to look one up.
pub(crate) fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &HeaderValue> {
    headers.iter().filter_map(move |(held, value)| (*held == name).then_some(value))
}

fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = values(headers, name).filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|element| !element.is_empty()).take(MAX_ELEMENTS)
}

/// Whether gzip is acceptable, and no less welcome than the text as it is. Spec: RFC 9110 §12.5.3, §12.4.2.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for element in elements(headers, ACCEPT_ENCODING) {
        let (coding, weight) = element.split_once(';').unwrap_or((element, "q=1"));
        let weight = weight.trim().strip_prefix(['q', 'Q']).and_then(|rest| rest.trim_start().strip_prefix('='));
        let weight = weight.and_then(|weight| weight.trim().parse::<f32>().ok()).unwrap_or(0.0);
        let coding = coding.trim();
        if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
            gzip = Some(weight);
        } else if coding.eq_ignore_ascii_case("identity") {
            identity = Some(weight);
        } else if coding == "*" {
            any = Some(weight);
        }
    }
    let gzip = gzip.or(any).unwrap_or(0.0);
    gzip > 0.0 && gzip >= identity.unwrap_or(0.0)
}

/// Whether the client wants none but others than `etag` (a strong one, with its quotes): 412. To be asked before [`is_cached`] (RFC 9110 §13.2.2).
/// Spec: RFC 9110 §13.1.1.
pub fn is_unmet(headers: &HeaderMap, etag: impl AsRef<[u8]>) -> bool {
    // A weak tag, which begins with "W/", is like none of ours.
    let same = |tag: &str| tag == "*" || tag.as_bytes() == etag.as_ref();
    values(headers, IF_MATCH).next().is_some() && !elements(headers, IF_MATCH).any(same)
}

/// Whether the client has `etag` (a strong one, with its quotes) already. Spec: RFC 9110 §13.1.2.
pub fn is_cached(headers: &HeaderMap, etag: impl AsRef<[u8]>) -> bool {
    let same = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == etag.as_ref();
    elements(headers, IF_NONE_MATCH).any(|tag| tag == "*" || same(tag))
}

/// What is wanted of a body of `len` bytes whose strong tag is `etag`. Several ranges get the whole, which RFC 9110 §14.2 allows and
/// which makes range bombs cheap.
pub fn extent(headers: &HeaderMap, etag: impl AsRef<[u8]>, len: u64) -> Extent {
    let Some(range) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else { return Extent::Whole };
    // If-Range holds one strong tag, or a date; nothing of ours has a Last-Modified date to agree with.
    if headers.get(IF_RANGE).is_some_and(|tag| tag.as_bytes() != etag.as_ref()) {
        return Extent::Whole;
    }
    single_range(range, len).unwrap_or(Extent::Whole)
}

/// `None` for what is no byte range, or several: the header is ignored then.
fn single_range(range: &str, len: u64) -> Option<Extent> {
    let (unit, spec) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return None;
    }
    let (first, last) = spec.trim().split_once('-')?;
    if first.is_empty() {
        let suffix = digits(last)?;
        return Some(match (suffix, len) {
            (0, _) | (_, 0) => Extent::Unsatisfiable,
            _ => Extent::Bytes(len.saturating_sub(suffix)..len),
        });
    }
    let first = digits(first)?;
    let end = if last.is_empty() { len } else { digits(last)?.saturating_add(1) };
    if !last.is_empty() && end <= first {
        return None;
    }
    Some(if first >= len { Extent::Unsatisfiable } else { Extent::Bytes(first..end.min(len)) })
}

/// Digits only; a number that does not fit is as good as the largest one.
fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    all.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn what_is_kept_asks_for_the_same() {
        let head = bytes::Bytes::from_static(b"gzip;q=0|gzip|\"a\"|bytes=0-9|Mozilla/5.0");
        let line = |range| HeaderValue::from_maybe_shared(head.slice(range)).expect("a value");
        let headers: HeaderMap = [
            (ACCEPT_ENCODING, line(0..8)),
            (ACCEPT_ENCODING, line(9..13)),
            (IF_NONE_MATCH, line(14..17)),
            (RANGE, line(18..27)),
            (http::header::USER_AGENT, line(28..39)),
        ]
        .into_iter()
        .collect();
        let kept = kept(&headers);
        drop(headers);
        assert!(accepts_gzip(&kept) && is_cached(&kept, "\"a\""));
        assert_eq!(extent(&kept, "\"a\"", 100), Extent::Bytes(0..10));
        assert_eq!(kept.len(), 4);
    }

    #[test]
    fn gzip_is_used_only_where_it_is_acceptable() {
        for (value, wanted) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, *", false),
            ("*", true),
            ("*;q=0", false),
            ("identity", false),
            ("", false),
            ("gzip;q=abc", false),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("gzip;q=0.5, identity;q=1", false),
            ("identity, gzip", true),
            ("identity;q=0.5, *;q=0.7", true),
            ("gzip;q=NaN", false),
        ] {
            assert_eq!(accepts_gzip(&with(ACCEPT_ENCODING, value)), wanted, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn tags_compare_weakly_for_if_none_match() {
        for (value, wanted) in
            [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true), ("\"b\"", false), ("a", false)]
        {
            assert_eq!(is_cached(&with(IF_NONE_MATCH, value), "\"a\""), wanted, "{value}");
        }
    }

    #[test]
    fn tags_compare_strongly_for_if_match() {
        for (value, wanted) in [
            ("\"a\"", false),
            ("\"b\", \"a\"", false),
            ("*", false),
            ("W/\"a\"", true),
            ("\"b\"", true),
            ("a", true),
            ("", true),
        ] {
            assert_eq!(is_unmet(&with(IF_MATCH, value), "\"a\""), wanted, "{value}");
            assert_eq!(is_unmet(&kept(&with(IF_MATCH, value)), "\"a\""), wanted, "{value}, kept");
        }
        assert!(!is_unmet(&HeaderMap::new(), "\"a\""));
    }

    #[test]
    fn one_range_is_served_and_all_else_ignored() {
        use Extent::{Bytes, Unsatisfiable, Whole};
        for (value, wanted) in [
            ("bytes=0-0", Bytes(0..1)),
            ("bytes=2-", Bytes(2..10)),
            ("bytes=-3", Bytes(7..10)),
            ("bytes=-99", Bytes(0..10)),
            ("bytes=5-99999999999999999999999", Bytes(5..10)),
            ("Bytes = 5-6", Bytes(5..7)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=10-20", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=9-1", Whole),
            ("bytes=0-1,3-4", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=", Whole),
            ("bytes", Whole),
            ("lines=0-1", Whole),
        ] {
            assert_eq!(extent(&with(RANGE, value), "\"a\"", 10), wanted, "{value}");
        }
        let bomb = HeaderValue::from_str(&format!("bytes={}", "0-,".repeat(1000))).expect("a header value");
        assert_eq!(extent(&HeaderMap::from_iter([(RANGE, bomb)]), "\"a\"", 10), Whole);
    }

    #[test]
    fn if_range_guards_the_range() {
        let mut headers = with(RANGE, "bytes=0-0");
        for (value, wanted) in
            [("\"a\"", true), ("\"b\"", false), ("W/\"a\"", false), ("Sun, 22 Nov 2026 16:00:00 GMT", false)]
        {
            headers.insert(IF_RANGE, HeaderValue::from_static(value));
            assert_eq!(extent(&headers, "\"a\"", 10) == Extent::Bytes(0..1), wanted, "{value}");
        }
    }
}
