//! AudioSpecificConfigs: no panic, and what is accepted lies within bounds.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::media::codec::aac::Config;

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = Config::parse(data) {
        assert!((1..=8).contains(&config.channels) && config.sample_rate >= 1_000);
        assert!(matches!(config.frame_samples, 960 | 1_024 | 1_920 | 2_048));
        assert!(config.sample_rate <= 192_000);
    }
});
