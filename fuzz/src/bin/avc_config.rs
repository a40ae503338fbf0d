//! AVC configuration records and NAL unit walking: no panic, and what is accepted lies within bounds.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::media::codec::h264::{Config, MAX_SIDE, MIN_SIDE, inspect};

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = Config::parse(data) {
        assert!(
            (MIN_SIDE..=MAX_SIDE).contains(&u64::from(config.width))
                && (MIN_SIDE..=MAX_SIDE).contains(&u64::from(config.height))
        );
        assert!(matches!(config.nal_length_bytes, 1 | 2 | 4));
    }
    for length_bytes in [1, 2, 4] {
        let _ = inspect(data, length_bytes);
    }
});
