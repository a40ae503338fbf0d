//! The bit reader against a row of bits.
#![no_main]
use libfuzzer_sys::fuzz_target;
use rillcast::media::reader::BitReader;
use rillcast_fuzz::Choices;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices::new(data);
    let bytes = choices.bytes(64);
    let bits: Vec<u32> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |n| u32::from(byte >> n & 1))).collect();
    let (mut reader, mut at) = (BitReader::new(bytes), 0);
    while !choices.is_empty() {
        let left = bits.len() - at;
        assert_eq!(reader.remaining(), left);
        let count = choices.below(33);
        match choices.below(4) {
            0 => {
                let value = reader.bits(count as u32);
                assert_eq!(value.is_ok(), count <= left);
                let Ok(value) = value else { return };
                assert_eq!(value, bits[at..at + count].iter().fold(0, |all, bit| all << 1 | bit));
                at += count;
            }
            1 => {
                assert_eq!(reader.skip(count).is_ok(), count <= left);
                at += if count <= left { count } else { 0 };
            }
            2 => {
                let zeros = bits[at..].iter().take_while(|bit| **bit == 0).count();
                let fits = zeros <= 31 && 2 * zeros < left;
                let value = reader.ue();
                assert_eq!(value.is_ok(), fits);
                let Ok(value) = value else { return };
                let code = bits[at + zeros..=at + 2 * zeros].iter().fold(0_u64, |all, bit| all << 1 | u64::from(*bit));
                assert_eq!(u64::from(value), code - 1);
                at += 2 * zeros + 1;
            }
            _ => {
                let mut other = reader.clone();
                let (Ok(signed), Ok(code)) = (reader.se(), other.ue()) else { return };
                let magnitude = i64::from(code).div_euclid(2) + i64::from(code % 2);
                assert_eq!(i64::from(signed), if code % 2 == 1 { magnitude } else { -magnitude });
                at = bits.len() - reader.remaining();
            }
        }
    }
});
