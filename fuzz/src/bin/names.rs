//! Names, epochs and rendition ids: one spelling each, and what is accepted is what is written again.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::media::{Epoch, RenditionId, StreamName};

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Ok(name) = text.parse::<StreamName>() {
        assert_eq!(name.to_string(), text);
        assert!(name.app().len() <= 128 && name.name().len() <= 128 && name.app() != "..");
        assert!(text.bytes().filter(|byte| *byte == b'/').count() == 1);
    }
    if let Ok(epoch) = text.parse::<Epoch>() {
        assert_eq!(epoch.to_string(), text);
    }
    if let Ok(id) = text.parse::<RenditionId>() {
        assert_eq!(id.to_string(), text);
    }
});
