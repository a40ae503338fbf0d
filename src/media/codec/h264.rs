//! AVC: the decoder configuration record and what its sequence parameter set says.
//!
//! Specification: ISO/IEC 14496-15 §5.3.3.1 (record), ITU-T H.264 §7.3.2.1.1 and Annex E (SPS, VUI).

use bytes::Bytes;

use crate::media::reader::{BitReader, Reader, Truncated};

/// Largest width or height, in luma samples: level 6.2 ends at 16,384. An absurd size would make players allocate what a peer asks for.
pub const MAX_SIDE: u64 = 16_384;
/// Pictures a second above which VUI timing is taken for nonsense.
const MAX_FRAME_RATE: u64 = 300;
/// NAL unit types of coded slices, supplemental enhancement information and the sequence parameter set. Spec: ITU-T H.264 table 7-1.
const SLICE: u8 = 1;
const IDR_SLICE: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
/// How caption data begins in an SEI message of registered user data: United States, ATSC, `GA94`, cc_data. No byte of it is ever escaped
/// by emulation prevention. Spec: ATSC A/72 part 1 §6.4.2, ANSI/SCTE 128-1 §8.1.
const CAPTIONS: [u8; 8] = [0xB5, 0x00, 0x31, b'G', b'A', b'9', b'4', 0x03];

/// Why a configuration record is refused; the text is shown to the publisher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A length in it points past its end, or it is simply too short.
    #[error("the AVC configuration is cut short: {0}")]
    Truncated(#[from] Truncated),
    /// configurationVersion is not 1.
    #[error("the AVC configuration has version {0}, not 1")]
    Version(u8),
    /// lengthSizeMinusOne is 2, which the specification forbids.
    #[error("the AVC configuration asks for NAL unit lengths of 3 bytes")]
    NalLength,
    /// No sequence or no picture parameter set.
    #[error("the AVC configuration holds no {0} parameter set")]
    NoParameterSet(&'static str),
    /// The first parameter set is no SPS.
    #[error("the AVC configuration begins with a NAL unit of type {0}, not with an SPS")]
    NotAnSps(u8),
    /// A syntax element is out of its range.
    #[error("the SPS has {field} {value}")]
    OutOfRange {
        /// The element's name in the specification.
        field: &'static str,
        /// What stands there.
        value: u64,
    },
    /// Nothing left after cropping, or larger than [`MAX_SIDE`].
    #[error("the SPS describes a picture of {width}x{height}")]
    Size {
        /// Width after cropping.
        width: i64,
        /// Height after cropping.
        height: i64,
    },
}

/// Why an access unit is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// A NAL unit's length is zero or points past the end.
    #[error("a NAL unit length does not fit its access unit")]
    Length,
    /// No coded slice in it: parameter sets, SEI or a delimiter alone.
    #[error("no coded picture in the access unit")]
    NoPicture,
}

/// An AVCDecoderConfigurationRecord and the facts that playlists and init segments repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The record as it came, which is the body of `avcC`.
    pub record: Bytes,
    /// profile_idc.
    pub profile: u8,
    /// The constraint flags byte.
    pub compatibility: u8,
    /// level_idc.
    pub level: u8,
    /// Bytes of the length prefix before each NAL unit: 1, 2 or 4.
    pub nal_length_bytes: u8,
    /// Picture width after cropping, in luma samples.
    pub width: u16,
    /// Picture height after cropping, in luma samples.
    pub height: u16,
    /// Pictures a second as the VUI says, as numerator and denominator, when it says so and calls it fixed or gives timing at all.
    pub frame_rate: Option<(u32, u32)>,
}

impl Config {
    /// Reads an AVCDecoderConfigurationRecord and its first SPS. Profile, compatibility and level are the SPS's, because some encoders
    /// leave them zero in the record.
    ///
    /// # Errors
    /// [`Error`] says which rule the record breaks. Nonsense in the VUI is no error, only no `frame_rate`.
    pub fn parse(record: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(record);
        let version = reader.u8()?;
        if version != 1 {
            return Err(Error::Version(version));
        }
        reader.take(3)?;
        let nal_length_bytes = (reader.u8()? & 0b11) + 1;
        if nal_length_bytes == 3 {
            return Err(Error::NalLength);
        }
        let mut first_sps = None;
        for _ in 0..reader.u8()? & 0b1_1111 {
            let length = usize::from(reader.u16()?);
            let sps = reader.take(length)?;
            first_sps.get_or_insert(sps);
        }
        let pictures = reader.u8()?;
        for _ in 0..pictures {
            let length = usize::from(reader.u16()?);
            reader.take(length)?;
        }
        let sps = parse_sps(first_sps.ok_or(Error::NoParameterSet("sequence"))?)?;
        if pictures == 0 {
            return Err(Error::NoParameterSet("picture"));
        }
        Ok(Self {
            record: Bytes::copy_from_slice(record),
            profile: sps.profile,
            compatibility: sps.compatibility,
            level: sps.level,
            nal_length_bytes,
            width: sps.width,
            height: sps.height,
            frame_rate: sps.frame_rate,
        })
    }

    /// Colour sampling and depth, as the first SPS says.
    ///
    /// # Errors
    /// None for a record that [`parse`](Self::parse) took; [`Error`] for others.
    pub fn sampling(&self) -> Result<Sampling, Error> {
        Ok(parse_sps(first_sps(&self.record)?)?.sampling)
    }

    /// `avc1.PPCCLL`. Spec: RFC 6381 §3.3.
    pub fn codec_string(&self) -> String {
        format!("avc1.{:02X}{:02X}{:02X}", self.profile, self.compatibility, self.level)
    }
}

/// What an access unit holds, as far as anyone but a decoder wants to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// An IDR picture.
    pub idr: bool,
    /// Closed captions (CEA-608 or CEA-708).
    pub captions: bool,
}

/// Walks the NAL units of an access unit. `data` is length-prefixed NAL units as [`Config::nal_length_bytes`] says.
///
/// # Errors
/// [`UnitError`]: the access unit must be dropped, since a player would stop at it.
pub fn inspect(data: &[u8], nal_length_bytes: u8) -> Result<Contents, UnitError> {
    let mut reader = Reader::new(data);
    let (mut picture, mut contents) = (false, Contents::default());
    while !reader.is_empty() {
        let prefix = reader.take(usize::from(nal_length_bytes)).map_err(|_| UnitError::Length)?;
        let length = prefix.iter().fold(0_u64, |length, byte| length << 8 | u64::from(*byte));
        let length = usize::try_from(length).map_err(|_| UnitError::Length)?;
        let unit = reader.take(length).map_err(|_| UnitError::Length)?;
        let kind = unit.first().ok_or(UnitError::Length)? & 0x1F;
        picture |= (SLICE..=IDR_SLICE).contains(&kind);
        contents.idr |= kind == IDR_SLICE;
        contents.captions |= kind == SEI && unit.windows(CAPTIONS.len()).any(|bytes| bytes == CAPTIONS);
    }
    if picture { Ok(contents) } else { Err(UnitError::NoPicture) }
}

/// How colours are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// chroma_format_idc: 0 is monochrome, 1 is 4:2:0, 2 is 4:2:2, 3 is 4:4:4.
    pub chroma_format: u8,
    /// Bits of a luma sample, 8 to 14.
    pub luma_bits: u8,
    /// Bits of a chroma sample, 8 to 14.
    pub chroma_bits: u8,
}

/// Spec: ISO/IEC 14496-15 §5.3.3.1.2.
fn first_sps(record: &[u8]) -> Result<&[u8], Error> {
    let mut reader = Reader::new(record);
    reader.take(5)?;
    if reader.u8()? & 0b1_1111 == 0 {
        return Err(Error::NoParameterSet("sequence"));
    }
    let length = usize::from(reader.u16()?);
    Ok(reader.take(length)?)
}

struct Sps {
    sampling: Sampling,
    profile: u8,
    compatibility: u8,
    level: u8,
    width: u16,
    height: u16,
    frame_rate: Option<(u32, u32)>,
}

/// Spec: ITU-T H.264 §7.3.2.1.1.
fn parse_sps(unit: &[u8]) -> Result<Sps, Error> {
    let mut reader = Reader::new(unit);
    let kind = reader.u8()? & 0x1F;
    if kind != SPS {
        return Err(Error::NotAnSps(kind));
    }
    let (profile, compatibility, level) = (reader.u8()?, reader.u8()?, reader.u8()?);
    let payload = without_emulation_prevention(reader.rest());
    let mut bits = BitReader::new(&payload);
    limited(&mut bits, "seq_parameter_set_id", 31)?;
    let mut chroma_array_type = 1;
    let mut sampling = Sampling { chroma_format: 1, luma_bits: 8, chroma_bits: 8 };
    if matches!(profile, 44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244) {
        chroma_array_type = limited(&mut bits, "chroma_format_idc", 3)?;
        sampling.chroma_format = chroma_array_type as u8;
        let lists = if chroma_array_type == 3 { 12 } else { 8 };
        if chroma_array_type == 3 && bits.bit()? {
            // separate_colour_plane_flag: three monochrome pictures.
            chroma_array_type = 0;
        }
        sampling.luma_bits += limited(&mut bits, "bit_depth_luma_minus8", 6)? as u8;
        sampling.chroma_bits += limited(&mut bits, "bit_depth_chroma_minus8", 6)? as u8;
        bits.skip(1)?;
        if bits.bit()? {
            for list in 0..lists {
                if bits.bit()? {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    limited(&mut bits, "log2_max_frame_num_minus4", 12)?;
    match limited(&mut bits, "pic_order_cnt_type", 2)? {
        0 => {
            limited(&mut bits, "log2_max_pic_order_cnt_lsb_minus4", 12)?;
        }
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..limited(&mut bits, "num_ref_frames_in_pic_order_cnt_cycle", 255)? {
                bits.se()?;
            }
        }
        _ => {}
    }
    bits.ue()?; // max_num_ref_frames: no use for it here.
    bits.skip(1)?;
    let width_mbs = u64::from(bits.ue()?) + 1;
    let height_units = u64::from(bits.ue()?) + 1;
    let progressive = bits.bit()?;
    let fields = if progressive { 1 } else { 2 };
    bits.skip(if progressive { 1 } else { 2 })?;
    let (mut crop_x, mut crop_y) = (0, 0);
    if bits.bit()? {
        let (left, right, top, bottom) = (bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?);
        let unit_x = if matches!(chroma_array_type, 1 | 2) { 2 } else { 1 };
        let unit_y = fields * if chroma_array_type == 1 { 2 } else { 1 };
        crop_x = unit_x * (i64::from(left) + i64::from(right));
        crop_y = unit_y * (i64::from(top) + i64::from(bottom));
    }
    let width = side(width_mbs * 16, crop_x);
    let height = side(height_units * 16 * fields as u64, crop_y);
    let (Ok(short_width), Ok(short_height)) = (legal_side(width), legal_side(height)) else {
        return Err(Error::Size { width, height });
    };
    let frame_rate = if bits.bit()? { vui_frame_rate(&mut bits).ok().flatten() } else { None };
    Ok(Sps { sampling, profile, compatibility, level, width: short_width, height: short_height, frame_rate })
}

fn side(coded: u64, crop: i64) -> i64 {
    i64::try_from(coded).unwrap_or(i64::MAX).saturating_sub(crop)
}

fn legal_side(side: i64) -> Result<u16, ()> {
    if side < 1 || side as u64 > MAX_SIDE {
        return Err(());
    }
    u16::try_from(side).map_err(|_| ())
}

fn limited(bits: &mut BitReader<'_>, field: &'static str, most: u32) -> Result<u32, Error> {
    let value = bits.ue()?;
    if value > most { Err(Error::OutOfRange { field, value: u64::from(value) }) } else { Ok(value) }
}

/// Spec: ITU-T H.264 §7.3.2.1.1.1.
fn skip_scaling_list(bits: &mut BitReader<'_>, size: u32) -> Result<(), Truncated> {
    let (mut last, mut next) = (8_i32, 8_i32);
    for _ in 0..size {
        if next != 0 {
            next = (last.wrapping_add(bits.se()?)).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Ok(())
}

/// `None` where the VUI says nothing, or nothing plausible. Spec: ITU-T H.264 §E.1.1, §E.2.1.
fn vui_frame_rate(bits: &mut BitReader<'_>) -> Result<Option<(u32, u32)>, Truncated> {
    if bits.bit()? && bits.bits(8)? == 255 {
        bits.skip(32)?; // Extended_SAR.
    }
    if bits.bit()? {
        bits.skip(1)?; // overscan_appropriate_flag.
    }
    if bits.bit()? {
        bits.skip(4)?;
        if bits.bit()? {
            bits.skip(24)?; // Colour primaries, transfer, matrix.
        }
    }
    if bits.bit()? {
        bits.ue()?;
        bits.ue()?;
    }
    if !bits.bit()? {
        return Ok(None);
    }
    let (tick, scale) = (u64::from(bits.bits(32)?), u64::from(bits.bits(32)?));
    // Two ticks a picture: the clock counts fields.
    let tick = tick * 2;
    if tick == 0 || scale < tick || scale > tick * MAX_FRAME_RATE {
        return Ok(None);
    }
    let divisor = gcd(scale, tick);
    Ok(u32::try_from(scale / divisor).ok().zip(u32::try_from(tick / divisor).ok()))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Takes out each 3 that follows two zero bytes. Spec: ITU-T H.264 §7.4.1.1.
fn without_emulation_prevention(unit: &[u8]) -> Vec<u8> {
    let mut zeros = 0;
    let mut payload = Vec::with_capacity(unit.len());
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        payload.push(byte);
    }
    payload
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        for (width, height, crop) in [(1_025, 68, 0), (120, 4_096, 0), (120, 68, 544), (u32::MAX / 2, 1, 0)] {
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
        assert!(with(
            SEI,
            &[4, 14, 0xB5, 0, 0x31, b'G', b'A', b'9', b'4', 3, 0xC1, 0xFF, 0xFC, 0x94, 0x20, 0xFF, 0x80]
        ));
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
}
