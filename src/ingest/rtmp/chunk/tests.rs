//! Chunks made by hand, whole and cut.

use proptest::prelude::*;

use super::*;

/// A chunk with a type 0 header.
fn full(id: u8, timestamp: u32, type_id: u8, length: usize, payload: &[u8]) -> Vec<u8> {
    let mut chunk = vec![id];
    let field = timestamp.min(EXTENDED);
    chunk.extend_from_slice(&field.to_be_bytes()[1..]);
    chunk.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    chunk.push(type_id);
    chunk.extend_from_slice(&1_u32.to_le_bytes());
    if field == EXTENDED {
        chunk.extend_from_slice(&timestamp.to_be_bytes());
    }
    chunk.extend_from_slice(payload);
    chunk
}

fn continuation(id: u8, payload: &[u8]) -> Vec<u8> {
    [&[0xC0 | id], payload].concat()
}

/// Complete messages, in order of completion, of input that arrives in portions.
fn messages<'a>(
    decoder: &mut Decoder,
    portions: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<(Header, Vec<u8>)>, Error> {
    let (mut buffer, mut open, mut done) = (Vec::new(), vec![Vec::new(); MAX_CHUNK_STREAMS], Vec::new());
    for portion in portions {
        buffer.extend_from_slice(portion);
        let mut rest = &buffer[..];
        while let Some(piece) = decoder.next(&mut rest)? {
            assert_eq!(piece.first, open[piece.slot].is_empty());
            open[piece.slot].extend_from_slice(piece.data);
            if piece.last {
                done.push((piece.header, std::mem::take(&mut open[piece.slot])));
            }
        }
        assert!(rest.len() <= 18, "only a header may wait");
        buffer = rest.to_vec();
    }
    Ok(done)
}

fn all(input: &[u8]) -> Result<Vec<(Header, Vec<u8>)>, Error> {
    messages(&mut Decoder::default(), [input])
}

#[test]
fn interleaved_chunk_streams_are_kept_apart() {
    // The input on which rml_rtmp 0.8.0 panics: an audio chunk between two video chunks.
    let input = [
        full(6, 40, VIDEO, 200, &[9; 128]),
        full(4, 41, AUDIO, 140, &[8; 128]),
        continuation(6, &[9; 72]),
        continuation(4, &[8; 12]),
    ]
    .concat();
    let got = all(&input).unwrap();
    assert_eq!((got[0].0.type_id, got[0].0.timestamp, &got[0].1), (VIDEO, 40, &vec![9; 200]));
    assert_eq!((got[1].0.type_id, got[1].0.timestamp, &got[1].1), (AUDIO, 41, &vec![8; 140]));
}

#[test]
fn abbreviated_headers_add_deltas() {
    let mut input = full(4, 1_000, AUDIO, 1, &[1]);
    input.extend_from_slice(&[0x44, 0, 0, 20, 0, 0, 2, 8, 1, 2]); // type 1: delta 20, length 2
    input.extend_from_slice(&[0x84, 0, 0, 30, 3, 4]); // type 2: delta 30
    input.extend_from_slice(&[0xC4, 5, 6]); // type 3: delta 30 again
    let times: Vec<_> = all(&input).unwrap().iter().map(|(header, _)| header.timestamp).collect();
    assert_eq!(times, [1_000, 1_020, 1_050, 1_080]);
}

#[test]
fn a_type_3_chunk_after_an_absolute_time_repeats_it_only_while_it_can_be_a_delta() {
    for (time, next) in [(23, 46), (0, 0), (50_000_000, 50_000_000)] {
        let got = all(&[
            full(4, time, AUDIO, 1, &[1]),
            continuation(4, &if time > EXTENDED { vec![2, 250, 240, 128, 7] } else { vec![7] }),
        ]
        .concat());
        assert_eq!(got.unwrap()[1].0.timestamp, next, "{time}");
    }
}

#[test]
fn extended_timestamps_repeated_or_left_out() {
    for repeated in [true, false] {
        let time = 0x0123_4567_u32;
        let mut input = full(6, time, VIDEO, 300, &[7; 128]);
        for size in [128, 44] {
            input.push(0xC6);
            if repeated {
                input.extend_from_slice(&time.to_be_bytes());
            }
            input.extend_from_slice(&vec![7; size]);
        }
        let got = all(&input).unwrap();
        assert_eq!((got.len(), got[0].0.timestamp, &got[0].1), (1, time, &vec![7; 300]), "repeated: {repeated}");
    }
}

#[test]
fn an_extended_delta_wraps_the_clock() {
    let mut input = full(6, u32::MAX, VIDEO, 1, &[7]);
    input.extend_from_slice(&[0x86, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0, 7]);
    let got = all(&input).unwrap();
    assert_eq!((got[0].0.timestamp, got[1].0.timestamp), (u32::MAX, 0x00FF_FFFF));
}

#[test]
fn chunk_stream_ids_of_two_and_three_bytes() {
    let one = full(0, 0, AUDIO, 1, &[1]);
    let two = [&[0, 255][..], &one[1..]].concat();
    let three = [&[1, 255, 255][..], &one[1..]].concat();
    let mut decoder = Decoder::default();
    assert_eq!(messages(&mut decoder, [&two[..], &three[..]]).unwrap().len(), 2);
    assert_eq!((decoder.streams[0].id, decoder.streams[1].id), (319, 65_599));
}

#[test]
fn what_breaks_the_protocol_is_refused() {
    let (half, whole) = (full(6, 0, VIDEO, 200, &[0; 128]), full(6, 0, VIDEO, 1, &[0]));
    for (name, input, error) in [
        ("type 1 on a fresh chunk stream", vec![0x45, 0, 0, 0, 0, 0, 1, 8, 0], Error::NoHeader(5)),
        ("type 2 on a fresh chunk stream", vec![0x85, 0, 0, 0, 0], Error::NoHeader(5)),
        ("type 3 on a fresh chunk stream", vec![0xC5, 0], Error::NoHeader(5)),
        ("type 0 inside a message", [half.clone(), whole.clone()].concat(), Error::Interrupted(6)),
        ("16 MiB message", full(6, 0, VIDEO, 0xFF_FFFF, &[0]), Error::MessageTooLong { type_id: 9, length: 0xFF_FFFF }),
        ("64 KiB command", full(3, 0, 20, 65_537, &[0]), Error::MessageTooLong { type_id: 20, length: 65_537 }),
        ("much before publishing", full(6, 0, VIDEO, 131_073, &[0]), Error::TooMuchAnnounced(131_073)),
    ] {
        assert_eq!(all(&input), Err(error), "{name}");
    }
    // librtmp's ping response on the control chunk stream.
    assert_eq!(all(&[0x42, 0, 0, 0, 0, 0, 1, 4, 7]).unwrap().len(), 1);
}

#[test]
fn announced_lengths_are_summed_over_chunk_streams() {
    let mut decoder = Decoder::default();
    decoder.trust();
    let each = full(6, 0, VIDEO, 8 << 20, &[0; 128]);
    let second = [&[7], &each[1..]].concat();
    let third = full(8, 0, AUDIO, 1, &[0]);
    assert_eq!(messages(&mut decoder, [&each[..], &second[..]]), Ok(vec![]));
    assert_eq!(messages(&mut decoder, [&third[..]]), Err(Error::TooMuchAnnounced((16 << 20) + 1)));
}

#[test]
fn chunk_streams_are_counted() {
    let mut input = Vec::new();
    for id in 2..35 {
        input.extend(full(id, 0, AUDIO, 1, &[0]));
    }
    assert_eq!(all(&input), Err(Error::TooManyStreams));
}

#[test]
fn any_positive_chunk_size_is_obeyed() {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.set_chunk_size(0), Err(Error::ChunkSize(0)));
    assert_eq!(decoder.set_chunk_size(0x8000_0000), Err(Error::ChunkSize(0x8000_0000)));
    assert_eq!(decoder.set_chunk_size(0x7FFF_FFFF), Ok(()));
    let input = full(6, 0, VIDEO, 9_000, &[1; 9_000]);
    assert_eq!(messages(&mut decoder, [&input[..]]).unwrap()[0].1.len(), 9_000);
    decoder.set_chunk_size(1).unwrap();
    let input = [full(6, 0, VIDEO, 2, &[1]), continuation(6, &[2])].concat();
    assert_eq!(messages(&mut decoder, [&input[..]]).unwrap()[0].1, [1, 2]);
}

#[test]
fn abort_forgets_the_message_and_unknown_ones_are_ignored() {
    let mut decoder = Decoder::default();
    assert_eq!(messages(&mut decoder, [&full(6, 0, VIDEO, 200, &[0; 128])[..]]), Ok(vec![]));
    assert_eq!(decoder.abort(9), None);
    assert_eq!(decoder.abort(6), Some(0));
    assert_eq!((decoder.abort(6), decoder.announced), (None, 0));
    assert_eq!(messages(&mut decoder, [&full(6, 0, VIDEO, 3, &[1, 2, 3])[..]]).unwrap()[0].1, [1, 2, 3]);
}

#[test]
fn empty_messages_end_at_once() {
    let mut input = &full(6, 5, VIDEO, 0, &[])[..];
    let piece = Decoder::default().next(&mut input).unwrap().unwrap();
    assert!(piece.first && piece.last && piece.data.is_empty());
}

proptest! {
    #[test]
    fn split_anywhere_gives_the_same_messages(
        sent in proptest::collection::vec((2_u8..10, any::<u32>(), proptest::collection::vec(any::<u8>(), 0..400)), 1..12),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let (mut input, mut expected) = (Vec::new(), Vec::new());
        for (id, timestamp, payload) in &sent {
            let (head, rest) = payload.split_at(payload.len().min(128));
            input.extend(full(*id, *timestamp, VIDEO, payload.len(), head));
            for part in rest.chunks(128) {
                input.push(0xC0 | id);
                if *timestamp >= EXTENDED {
                    input.extend_from_slice(&timestamp.to_be_bytes());
                }
                input.extend_from_slice(part);
            }
            expected.push((*timestamp, payload.clone()));
        }
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        at.extend([0, input.len()]);
        at.sort_unstable();
        let portions = at.windows(2).map(|pair| &input[pair[0]..pair[1]]);
        let got = messages(&mut Decoder::default(), portions).unwrap();
        prop_assert_eq!(got.into_iter().map(|(header, payload)| (header.timestamp, payload)).collect::<Vec<_>>(), expected);
        let bytes = input.chunks(1);
        prop_assert_eq!(messages(&mut Decoder::default(), bytes).unwrap().len(), sent.len());
    }

    #[test]
    fn random_bytes_never_panic_and_stay_bounded(input in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let mut decoder = Decoder::default();
        let mut rest = &input[..];
        while let Ok(Some(_)) = decoder.next(&mut rest) {}
        prop_assert!(decoder.announced <= MAX_ANNOUNCED_STRANGER && decoder.streams.len() <= MAX_CHUNK_STREAMS);
    }
}
