//! The handshake: however the bytes arrive, it takes 3,073 of them and leaves the rest.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::ingest::rtmp::handshake::Handshake;

fuzz_target!(|data: &[u8]| {
    let Some((&portion, mut rest)) = data.split_first() else { return };
    let (mut handshake, mut used) = (Handshake::default(), 0);
    while !rest.is_empty() {
        let offered = &rest[..rest.len().min(usize::from(portion) * 16 + 1)];
        let Ok(progress) = handshake.receive(offered) else { return };
        assert!(progress.used <= offered.len());
        used += progress.used;
        assert_eq!(progress.done, used == 3_073);
        if progress.done {
            return;
        }
        assert_eq!(progress.used, offered.len());
        rest = &rest[progress.used..];
    }
});
