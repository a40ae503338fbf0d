//! The AMF0 reader: no panic, no overflow of the stack, and the first value alone is the first of all.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::ingest::rtmp::amf0::{read_all, read_first};

fuzz_target!(|data: &[u8]| {
    if let Ok(values) = read_all(data) {
        // Compared as text, because NaN differs from itself.
        assert_eq!(
            values.first().map(|value| format!("{value:?}")),
            read_first(data).ok().map(|value| format!("{value:?}"))
        );
    }
});
