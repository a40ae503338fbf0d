//! MP3 frame headers: no panic, and what is accepted lies within bounds.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::media::codec::mp3::Frame;

fuzz_target!(|data: &[u8]| {
    let mut rest = data;
    while let Ok(frame) = Frame::parse(rest) {
        let config = frame.config;
        assert!((8_000..=48_000).contains(&config.sample_rate) && matches!(config.channels, 1 | 2));
        assert!(matches!(config.frame_samples, 576 | 1_152));
        assert!(["mp4a.6B", "mp4a.69"].contains(&&*config.codec_string()));
        let Some(length) = frame.length else { return };
        assert!((24..=1_441).contains(&length));
        rest = rest.get(length..).unwrap_or_default();
    }
});
