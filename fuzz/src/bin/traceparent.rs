//! The trace that a request names: whole fields of hexadecimal digits, or none.
#![no_main]
use http::header::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use rillcast::edge::traceparent::parent;
use rillcast_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let mut headers = HeaderMap::new();
    for _ in 0..choices.below(3) {
        if let Ok(value) = HeaderValue::from_bytes(choices.bytes(80)) {
            headers.append("traceparent", value);
        }
    }
    let Some(parent) = parent(&headers) else { return };
    assert_eq!((headers.len(), parent.trace.len(), parent.span.len()), (1, 32, 16));
    for field in [parent.trace, parent.span] {
        assert!(field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{field}");
        assert!(field.bytes().any(|byte| byte != b'0'), "{field}");
    }
});
