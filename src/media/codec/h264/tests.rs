//! Records and access units as encoders write them, and as nobody should.

use proptest::prelude::*;

use super::*;

/// NAL unit type of supplemental enhancement information.
const SEI: u8 = 6;

/// Writes what [`BitReader`] reads.
#[derive(Default)]
struct BitWriter(Vec<bool>);

impl BitWriter {
    fn bits(mut self, value: u32, count: u32) -> Self {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        self
    }
    fn ue(self, value: u32) -> Self {
        let code = u64::from(value) + 1;
        let length = 64 - code.leading_zeros();
        self.bits(0, length - 1).bits(code as u32, length)
    }
    fn bytes(mut self) -> Vec<u8> {
        self.0.push(true);
        self.0
            .chunks(8)
            .map(|byte| byte.iter().enumerate().fold(0, |all, (i, bit)| all | u8::from(*bit) << (7 - i)))
            .collect()
    }
}

/// A High profile SPS of `width_mbs` x `height_mbs` with `crop` units below, and VUI timing.
fn sps(width_mbs: u32, height_mbs: u32, crop: u32, timing: Option<(u32, u32)>) -> Vec<u8> {
    let mut bits = BitWriter::default()
        .ue(0)
        .ue(1)
        .ue(0)
        .ue(0)
        .bits(0, 2) // id, 4:2:0, 8 bit, no bypass, no matrix
        .ue(0)
        .ue(2)
        .ue(4)
        .bits(0, 1) // frame_num, poc type, references, gaps
        .ue(width_mbs - 1)
        .ue(height_mbs - 1)
        .bits(0b11, 2)
        .bits(1, 1)
        .ue(0)
        .ue(0)
        .ue(0)
        .ue(crop)
        .bits(u32::from(timing.is_some()), 1);
    if let Some((tick, scale)) = timing {
        bits = bits.bits(0, 4).bits(1, 1).bits(tick, 32).bits(scale, 32).bits(1, 1);
    }
    let mut unit = vec![0x67, 100, 0, 40];
    let mut zeros = 0;
    for byte in bits.bytes() {
        if zeros >= 2 && byte <= 3 {
            unit.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        unit.push(byte);
    }
    unit
}

fn record(sps: &[u8]) -> Vec<u8> {
    let mut record = vec![1, 100, 0, 40, 0xFF, 0xE1, (sps.len() >> 8) as u8, sps.len() as u8];
    record.extend_from_slice(sps);
    record.extend_from_slice(&[1, 0, 4, 0x68, 0xEE, 0x3C, 0x80]);
    record
}

#[test]
fn a_full_hd_record_with_timing() {
    let config = Config::parse(&record(&sps(120, 68, 4, Some((1_001, 60_000))))).unwrap();
    assert_eq!((config.width, config.height, config.frame_rate), (1920, 1080, Some((30_000, 1_001))));
    assert_eq!((config.codec_string().as_str(), config.nal_length_bytes), ("avc1.640028", 4));
    let config = Config::parse(&record(&sps(80, 45, 0, Some((0, 60))))).unwrap();
    assert_eq!((config.width, config.height, config.frame_rate), (1280, 720, None));
}

#[test]
fn cropping_counts_in_units_of_the_sampling_and_of_fields() {
    for (name, profile, sampling, chroma, progressive, crop) in [
        ("4:2:0, pictures", 100, [1, 0, 0], None, true, 4),
        ("4:2:0, fields", 100, [1, 0, 0], None, false, 2),
        ("4:2:2 with ten bits, fields", 122, [2, 2, 2], None, false, 4),
        ("4:4:4, pictures", 244, [3, 0, 0], Some(0), true, 8),
        ("three separate planes, fields", 244, [3, 0, 0], Some(1), false, 4),
    ] {
        let [format, luma, colour] = sampling;
        let mut bits = BitWriter::default().ue(0).ue(format);
        if let Some(separate) = chroma {
            bits = bits.bits(separate, 1);
        }
        // No bypass, no scaling matrix; frame_num, picture order of type 2, references, gaps.
        bits = bits.ue(luma).ue(colour).bits(0, 2).ue(0).ue(2).ue(4).bits(0, 1);
        let map_units = if progressive { 68 } else { 34 };
        bits = bits
            .ue(119)
            .ue(map_units - 1)
            .bits(if progressive { 0b11 } else { 0b001 }, if progressive { 2 } else { 3 });
        let mut unit = vec![0x67, profile, 0, 40];
        unit.extend(bits.bits(1, 1).ue(0).ue(0).ue(0).ue(crop).bits(0, 1).bytes());
        let config = Config::parse(&record(&unit)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((config.width, config.height), (1920, 1080), "{name}");
        let found = config.sampling().unwrap();
        let depths = [found.chroma_format, found.luma_bits - 8, found.chroma_bits - 8].map(u32::from);
        assert_eq!(depths, sampling, "{name}");
    }
}

/// Ten bits of High 10, with a colour description that ends in nonsense.
#[test]
fn the_dynamic_range_is_that_of_the_transfer_characteristics() {
    for (code, range) in
        [(1, DynamicRange::Standard), (14, DynamicRange::Standard), (16, DynamicRange::Pq), (18, DynamicRange::Hlg)]
    {
        let bits = BitWriter::default().ue(0).ue(1).ue(2).ue(2).bits(0, 2).ue(0).ue(2).ue(4).bits(0, 1);
        let bits = bits.ue(119).ue(67).bits(0b11, 2).bits(0, 1);
        // VUI: no aspect ratio, no overscan; a video signal type with colours, of BT.2020. Then it breaks off.
        let bits = bits.bits(1, 1).bits(0, 2).bits(1, 1).bits(0b1010, 4).bits(1, 1).bits(9, 8).bits(code, 8);
        let mut unit = vec![0x67, 110, 0, 40];
        unit.extend(bits.bytes());
        assert_eq!(Config::parse(&record(&unit)).unwrap().dynamic_range, range, "{code}");
    }
}

#[test]
fn x264_baseline_as_ffmpeg_writes_it() {
    // ffmpeg -f lavfi -i testsrc=s=640x360:r=25 -c:v libx264 -profile:v baseline -f flv
    let sps = [
        0x67, 0x42, 0xC0, 0x1E, 0xD9, 0x00, 0xA0, 0x2F, 0xF9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00,
        0x03, 0x00, 0x32, 0x0F, 0x16, 0x2E, 0x48,
    ];
    let config = Config::parse(&record(&sps)).unwrap();
    assert_eq!((config.width, config.height, config.frame_rate), (640, 360, Some((25, 1))));
    assert_eq!(config.codec_string(), "avc1.42C01E");
}

#[test]
fn absurd_records_are_refused() {
    let good = record(&sps(120, 68, 4, None));
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        Config::parse(&bad)
    };
    assert_eq!(with(0, 0), Err(Error::Version(0)));
    assert_eq!(with(4, 0xFE), Err(Error::NalLength));
    assert_eq!(Config::parse(&[1, 100, 0, 40, 0xFF, 0xE0, 1, 0, 1, 0x68]), Err(Error::NoParameterSet("sequence")));
    assert!(matches!(with(6, 0xFF), Err(Error::Truncated(_))));
    assert_eq!(with(8, 0x68), Err(Error::NotAnSps(8)));
    for level in [0, 8, 63, 255] {
        assert_eq!(with(11, level), Err(Error::OutOfRange { field: "level_idc", value: u64::from(level) }));
    }
    for (field, numbers) in [
        ("seq_parameter_set_id", &[32][..]),
        ("chroma_format_idc", &[0, 4]),
        ("bit_depth_luma_minus8", &[0, 1, 7]),
        ("bit_depth_chroma_minus8", &[0, 1, 0, 7]),
    ] {
        let bits = numbers.iter().fold(BitWriter::default(), |bits, number| bits.ue(*number));
        let unit = [&[0x67, 110, 0, 40][..], &bits.bits(0, 32).bytes()].concat();
        assert!(matches!(Config::parse(&record(&unit)), Err(Error::OutOfRange { field: named, .. }) if named == field));
    }
    for (width, height, crop) in [(1_025, 68, 0), (120, 4_096, 0), (120, 68, 544), (u32::MAX / 2, 1, 0), (1, 1, 1)] {
        assert!(
            matches!(Config::parse(&record(&sps(width, height, crop, None))), Err(Error::Size { .. })),
            "{width}x{height}"
        );
    }
    let mut no_picture_set = good.clone();
    no_picture_set.truncate(good.len() - 6);
    *no_picture_set.last_mut().unwrap() = 0;
    assert_eq!(Config::parse(&no_picture_set), Err(Error::NoParameterSet("picture")));
}

#[test]
fn every_prefix_of_a_record_is_an_error() {
    let good = record(&sps(120, 68, 4, Some((1, 50))));
    for end in 0..good.len() {
        assert!(Config::parse(&good[..end]).is_err(), "{end}");
    }
}

#[test]
fn nal_units_are_walked_within_bounds() {
    let idr = Contents { idr: true, captions: false };
    for (name, data, expected) in [
        ("IDR after parameter sets", &[0, 0, 0, 2, 0x67, 1, 0, 0, 0, 1, 0x65][..], Ok(idr)),
        ("P slice", &[0, 0, 0, 1, 0x41], Ok(Contents::default())),
        ("empty NAL unit", &[0, 0, 0, 0], Err(UnitError::Length)),
        ("past the end", &[0, 0, 0, 9, 0x65], Err(UnitError::Length)),
        ("largest length", &[255, 255, 255, 255, 0x65], Err(UnitError::Length)),
        ("cut prefix", &[0, 0, 0, 1, 0x65, 0, 0], Err(UnitError::Length)),
        ("SEI alone", &[0, 0, 0, 1, 0x06], Err(UnitError::NoPicture)),
        ("nothing", &[], Err(UnitError::NoPicture)),
    ] {
        assert_eq!(inspect(data, 4), expected, "{name}");
    }
    assert_eq!(inspect(&[1, 0x65, 1, 0x41], 1), Ok(idr));
    assert_eq!(inspect(&[0, 1, 0x65], 2), Ok(idr));
}

#[test]
fn closed_captions_are_found_behind_other_messages_and_nowhere_else() {
    let with = |kind: u8, message: &[u8]| {
        let mut unit = vec![1, 0x41, 3 + message.len() as u8, kind, 0, 0];
        unit.extend_from_slice(message);
        inspect(&unit, 1).unwrap().captions
    };
    assert!(with(SEI, &[4, 14, 0xB5, 0, 0x31, b'G', b'A', b'9', b'4', 3, 0xC1, 0xFF, 0xFC, 0x94, 0x20, 0xFF, 0x80]));
    assert!(!with(SEI, &[4, 9, 0xB5, 0, 0x31, b'G', b'A', b'9', b'4', 6, 0x80]), "bar data");
    assert!(!with(SEI, &[4, 9, 0xB5, 0, 0x31, b'D', b'T', b'G', b'1', 3, 0x80]), "active format");
    assert!(!with(1, &[0xB5, 0, 0x31, b'G', b'A', b'9', b'4', 3]), "picture data that looks like it");
}

proptest! {
    #[test]
    fn any_size_and_rate_comes_back(width in 1_u32..=1_024, height in 1_u32..=1_024, tick in 1_u32..=2_002, rate in 1_u32..=120) {
        let config = Config::parse(&record(&sps(width, height, 0, Some((tick, 2 * tick * rate))))).unwrap();
        prop_assert_eq!((u32::from(config.width), u32::from(config.height)), (width * 16, height * 16));
        prop_assert_eq!(config.frame_rate, Some((rate, 1)));
    }

    #[test]
    fn random_records_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), prefix in any::<bool>()) {
        if prefix {
            let mut all = vec![1, 100, 0, 40, 0xFF, 0xE1, 0, 40, 0x67, 244, 0, 40];
            all.append(&mut bytes);
            bytes = all;
        }
        let _ = Config::parse(&bytes);
        let _ = inspect(&bytes, 4);
    }
}
