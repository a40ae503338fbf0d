//! A publisher that mostly does what publishers do: pictures, sound, configurations, metadata, aggregates, unpublishing, on chunk streams
//! that interleave; with mutations. Decoding times rise and no payload is invented.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast_fuzz::Choices;
use rillcast_fuzz::publisher::{AUDIO_CONFIGS, AVC_RECORD, Publisher, command, message, picture, pieces, text};
use rml_amf0::Amf0Value;

fn body(choices: &mut Choices<'_>) -> (u8, Vec<u8>) {
    match choices.below(16) {
        0 => (9, [&[0x17, 0, 0, 0, 0], &AVC_RECORD[..]].concat()),
        1 => (8, [&[0xAF, 0], AUDIO_CONFIGS[choices.below(AUDIO_CONFIGS.len())]].concat()),
        2 => (8, [&[0x2F, 0xFF, 0xFB, 0x90, 0x64][..], &[0; 413]].concat()),
        3..=6 => (9, picture(choices.below(4) == 0, i32::from(choices.byte().cast_signed()), choices.below(256))),
        7..=12 => (8, [&[0xAF, 1], &[0x21; 200][..choices.below(200)]].concat()),
        13 => (9, choices.bytes(120).to_vec()),
        14 => (8, choices.bytes(120).to_vec()),
        _ => (choices.byte() % 24, choices.bytes(60).to_vec()),
    }
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let mut publisher = Publisher::publishing();
    let (mut clock, mut sent) = (i64::from(choices.word()), 0);
    while !choices.is_empty() {
        clock += choices.step_ms();
        let (kind, first) = body(&mut choices);
        sent += first.len() as u64;
        let bytes = match choices.below(12) {
            0 => {
                let (other, second) = body(&mut choices);
                sent += second.len() as u64;
                // Two messages, chunk by chunk.
                let (mut a, mut b) = (pieces(4, clock as u32, kind, &first), pieces(6, clock as u32, other, &second));
                let mut all = Vec::new();
                while !a.is_empty() || !b.is_empty() {
                    [&mut a, &mut b]
                        .into_iter()
                        .filter(|list| !list.is_empty())
                        .for_each(|list| all.extend(list.remove(0)));
                }
                all
            }
            1 => {
                let mut tag = vec![kind];
                tag.extend_from_slice(&(first.len() as u32).to_be_bytes()[1..]);
                tag.extend_from_slice(&(clock as u32).to_be_bytes()[1..]);
                tag.extend_from_slice(&[(clock >> 24) as u8, 0, 0, 0]);
                tag.extend_from_slice(&first);
                tag.extend_from_slice(&(first.len() as u32 + 11).to_be_bytes());
                message(5, clock as u32, 22, &tag)
            }
            2 => {
                let mut bytes = message(4, clock as u32, kind, &first);
                let at = choices.below(bytes.len().min(256));
                bytes[at] ^= choices.byte();
                sent += 1 << 32;
                bytes
            }
            3 if choices.below(4) == 0 => {
                let publish = vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("me"), text("live")];
                [command(vec![text("deleteStream"), Amf0Value::Number(0.0)]), command(publish)].concat()
            }
            _ => message(4 + kind % 2, clock as u32, kind, &first),
        };
        if !publisher.send(&bytes) {
            break;
        }
        assert!(publisher.bytes <= sent);
    }
});
