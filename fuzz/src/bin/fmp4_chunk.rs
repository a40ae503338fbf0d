//! Chunk headers of any samples are what mp4-atom reads.
#![no_main]
use libfuzzer_sys::fuzz_target;
use mp4_atom::{Decode, DecodeMaybe, Moof, Prft, Styp};
use rillcast::media::WallTime;
use rillcast::packager::fmp4::chunk::{Header, Sample};
use rillcast_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let (sequence, opens_segment) = (choices.word(), choices.below(2) == 0);
    let (decode_time, micros) = (choices.long() >> 1, (choices.long() >> 12).cast_signed());
    let mut samples = Vec::new();
    while (!choices.is_empty() && samples.len() < 100) || samples.is_empty() {
        let plain = choices.below(3) > 0;
        samples.push(Sample {
            duration: if plain { 3_000 } else { choices.word() },
            size: if plain { u32::from(choices.byte()) } else { choices.word() >> 8 },
            composition_offset: if plain { 0 } else { choices.word().cast_signed() },
            sync: choices.below(2) == 0,
        });
    }
    let reference = (decode_time, WallTime::from_micros(micros));
    let bytes = Header { sequence, opens_segment, decode_time, reference, samples: &samples }.write();
    let mut rest = &bytes[..];
    if opens_segment {
        Styp::decode(&mut rest).expect("styp");
    }
    Prft::decode(&mut rest).expect("prft");
    let before = rest.len();
    let moof = Moof::decode_maybe(&mut rest).expect("moof").expect("whole");
    let traf = &moof.traf[0];
    assert_eq!((moof.mfhd.sequence_number, traf.trun[0].samples.len()), (sequence, samples.len()));
    assert_eq!(traf.tfdt.as_ref().map(|tfdt| tfdt.base_media_decode_time), Some(decode_time));
    assert_eq!(traf.trun[0].data_offset, Some((before - rest.len()) as i32 + 8));
    for (read, sample) in traf.trun[0].samples.iter().zip(&samples) {
        assert_eq!(read.duration.or(traf.tfhd.default_sample_duration), Some(sample.duration));
        assert_eq!(read.size, Some(sample.size));
        assert_eq!(read.cts.unwrap_or(0) as i32, sample.composition_offset);
        let flags = read.flags.or(traf.tfhd.default_sample_flags).expect("flags");
        assert_eq!(flags & 0x1_0000 == 0, sample.sync);
    }
    assert!(rest.len() == 8 && &rest[4..] == b"mdat");
});
