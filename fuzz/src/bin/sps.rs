//! Sequence parameter sets inside a record that is otherwise good.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::media::codec::h264::{Config, MAX_SIDE, MIN_SIDE};

fuzz_target!(|data: &[u8]| {
    let Ok(length) = u16::try_from(data.len() + 1) else { return };
    let mut record = vec![1, 100, 0, 40, 0xFF, 0xE1];
    record.extend_from_slice(&length.to_be_bytes());
    record.push(0x67);
    record.extend_from_slice(data);
    record.extend_from_slice(&[1, 0, 1, 0x68]);
    if let Ok(config) = Config::parse(&record) {
        assert!(
            (MIN_SIDE..=MAX_SIDE).contains(&u64::from(config.width))
                && (MIN_SIDE..=MAX_SIDE).contains(&u64::from(config.height))
        );
        assert_eq!([config.profile, config.compatibility, config.level], data[..3]);
        if let Some((pictures, seconds)) = config.frame_rate {
            assert!(seconds > 0 && (1.0..=300.0).contains(&(f64::from(pictures) / f64::from(seconds))));
        }
        let string = config.codec_string();
        assert!(string.len() == 11 && string.starts_with("avc1."), "{string}");
    }
});
