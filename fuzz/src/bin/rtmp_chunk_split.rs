//! The de-chunker gives the same messages however its input is cut.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::ingest::rtmp::chunk::{Decoder, Error, Header, MAX_CHUNK_STREAMS};

type Messages = Vec<(usize, Header, Vec<u8>)>;

fn run(data: &[u8], portion: usize) -> (Messages, Option<Error>) {
    let (mut decoder, mut done) = (Decoder::default(), Vec::new());
    let mut gathered = vec![Vec::new(); MAX_CHUNK_STREAMS];
    let (mut start, mut end) = (0, 0);
    while end < data.len() {
        end = data.len().min(end + portion);
        let mut rest = &data[start..end];
        loop {
            match decoder.next(&mut rest) {
                Ok(Some(piece)) => {
                    let body = &mut gathered[piece.slot];
                    body.extend_from_slice(piece.data);
                    if piece.last {
                        done.push((piece.slot, piece.header, std::mem::take(body)));
                    }
                }
                Ok(None) => break,
                Err(error) => return (done, Some(error)),
            }
        }
        start = end - rest.len();
    }
    (done, None)
}

fuzz_target!(|data: &[u8]| {
    let Some((&portion, data)) = data.split_first() else { return };
    assert_eq!(run(data, usize::from(portion) % 23 + 1), run(data, data.len().max(1)));
});
