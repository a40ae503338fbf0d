//! Messages that carry no media: control, commands, metadata of any type.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::ingest::rtmp::message::{Message, read};

fuzz_target!(|data: &[u8]| {
    let Some((&kind, body)) = data.split_first() else { return };
    if let Ok(message) = read(kind % 24, body) {
        match message {
            Message::Command(command) => {
                assert!(command.transaction.is_finite() && command.name.len() <= body.len() * 3)
            }
            Message::Metadata(_) => assert!(matches!(kind % 24, 15 | 18)),
            _ => {}
        }
    }
});
