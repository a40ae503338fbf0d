//! Ranges, codings and conditions of a request.
#![no_main]
use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use libfuzzer_sys::fuzz_target;
use rillcast::edge::negotiate::{Extent, accepts_gzip, extent, is_cached, is_unmet};
use rillcast_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let length = if choices.below(2) == 0 { choices.long() } else { u64::from(choices.byte()) };
    let mut headers = HeaderMap::new();
    for _ in 0..choices.below(5) {
        let name = [ACCEPT_ENCODING, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE][choices.below(5)].clone();
        let prefix = if name == RANGE && choices.below(2) == 0 { &b"bytes="[..] } else { b"" };
        if let Ok(value) = HeaderValue::from_bytes(&[prefix, choices.bytes(60)].concat()) {
            headers.append(name, value);
        }
    }
    if let Extent::Bytes(range) = extent(&headers, "\"tag\"", length) {
        assert!(range.start < range.end && range.end <= length);
    }
    if accepts_gzip(&headers) {
        assert!(headers.contains_key(ACCEPT_ENCODING));
    }
    if is_cached(&headers, "\"tag\"") {
        assert!(headers.contains_key(IF_NONE_MATCH));
    }
    if is_unmet(&headers, "\"tag\"") {
        assert!(headers.contains_key(IF_MATCH));
    }
});
