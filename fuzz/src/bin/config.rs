//! Sections of config.toml: any text is a configuration that passes its checks, or an error.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::{edge, ingest, packager};

fuzz_target!(|data: &[u8]| {
    let Some((which, text)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(text);
    match which % 3 {
        0 => {
            if let Ok(config) = toml::from_str::<packager::Config>(&text)
                && config.validate().is_ok()
            {
                assert!(config.part_target * 3 <= config.part_hold_back());
                assert!(config.listed() >= config.segment_target * 6);
                assert!(config.segment_target <= config.target_duration);
            }
        }
        1 => {
            let _ = toml::from_str::<ingest::Config>(&text).map(|config| config.validate());
        }
        _ => {
            let _ = toml::from_str::<edge::Config>(&text).map(|config| config.validate());
        }
    }
});
