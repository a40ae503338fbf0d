//! FLV heads and aggregates: no panic, and a head is no longer than what was given.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::ingest::rtmp::flv::{read_head, tags};
use rillcast::media::Kind;

fuzz_target!(|data: &[u8]| {
    for kind in [Kind::Video, Kind::Audio] {
        if let Ok(Some(head)) = read_head(kind, data) {
            assert!(head.length <= data.len());
        }
    }
    assert!(tags(data).map(|tag| tag.body.len() + 11).sum::<usize>() <= data.len());
});
