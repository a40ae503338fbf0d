//! The de-chunker: no input panics it, and the pieces of a message never exceed what its header announced.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::ingest::rtmp::chunk::{Decoder, MAX_CHUNK_STREAMS};

fuzz_target!(|data: &[u8]| {
    let (mut decoder, mut rest) = (Decoder::default(), data);
    let mut received = [0_u64; MAX_CHUNK_STREAMS];
    while let Ok(Some(piece)) = decoder.next(&mut rest) {
        let sum = &mut received[piece.slot];
        *sum = if piece.first { 0 } else { *sum } + piece.data.len() as u64;
        assert!(*sum <= u64::from(piece.header.length));
        assert_eq!(piece.last, *sum == u64::from(piece.header.length));
    }
});
