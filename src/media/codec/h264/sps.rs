//! AVC: what a sequence parameter set says.
//!
//! Specification: ITU-T H.264 §7.3.2.1.1 and Annex E (VUI).

use std::ops::RangeInclusive;

use super::Error;
use crate::media::reader::{BitReader, Reader, Truncated};

/// Largest width or height, in luma samples: level 6.2 ends at 16,384. An absurd size would make players allocate what a peer asks for.
pub const MAX_SIDE: u64 = 16_384;
/// Smallest width or height, in luma samples: a macroblock. Nothing films less, and many decoders show none of it.
pub const MIN_SIDE: u64 = 16;
/// Levels 1b to 6.2. Others tell no decoder how much it must be able to do. Spec: ITU-T H.264 table A-1.
const LEVELS: RangeInclusive<u8> = 9..=62;
/// Pictures a second above which VUI timing is taken for nonsense.
const MAX_FRAME_RATE: u64 = 300;
/// NAL unit type of a sequence parameter set. Spec: ITU-T H.264 table 7-1.
const SPS: u8 = 7;
/// Profiles whose parameter set says how colours are sampled; those of the others are 4:2:0 with 8 bits. Spec: ITU-T H.264 §7.3.2.1.1.
const HAS_SAMPLING: [u8; 13] = [44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244];
/// Luma samples on a side of a macroblock.
const MACROBLOCK: i64 = 16;
/// aspect_ratio_idc that is followed by the ratio itself. Spec: ITU-T H.264 table E-1.
const EXTENDED_SAR: u32 = 255;

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

impl Sampling {
    const YUV_420: Self = Self { chroma_format: 1, luma_bits: 8, chroma_bits: 8 };
}

/// How bright the pictures' brightest samples are meant to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DynamicRange {
    /// Standard, which is also what nothing is said of.
    #[default]
    Standard,
    /// High, as ITU-R BT.2100 has it: hybrid log-gamma.
    Hlg,
    /// High, likewise: perceptual quantisation (SMPTE ST 2084).
    Pq,
}

impl DynamicRange {
    /// Spec: ITU-T H.264 table E-4.
    fn of_transfer_characteristics(code: u32) -> Self {
        match code {
            16 => Self::Pq,
            18 => Self::Hlg,
            _ => Self::Standard,
        }
    }
}

/// What a sequence parameter set says, as far as anyone but a decoder wants to know.
pub(super) struct Sps {
    /// profile_idc.
    pub(super) profile: u8,
    /// The constraint flags byte.
    pub(super) compatibility: u8,
    /// level_idc.
    pub(super) level: u8,
    pub(super) sampling: Sampling,
    /// After cropping, in luma samples.
    pub(super) width: u16,
    /// After cropping, in luma samples.
    pub(super) height: u16,
    pub(super) vui: Vui,
}

/// What the usability information says, as far as it is there and makes sense.
#[derive(Default)]
pub(super) struct Vui {
    pub(super) dynamic_range: DynamicRange,
    /// Pictures a second, numerator and denominator.
    pub(super) frame_rate: Option<(u32, u32)>,
}

impl Sps {
    /// Reads the NAL unit `unit`. Spec: ITU-T H.264 §7.3.2.1.1.
    pub(super) fn parse(unit: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(unit);
        let unit_type = reader.u8()? & 0x1F;
        if unit_type != SPS {
            return Err(Error::NotAnSps(unit_type));
        }
        let (profile, compatibility, level) = (reader.u8()?, reader.u8()?, reader.u8()?);
        if !LEVELS.contains(&level) {
            return Err(Error::OutOfRange { field: "level_idc", value: u64::from(level) });
        }
        let payload = without_emulation_prevention(reader.rest());
        let mut bits = BitReader::new(&payload);
        limited(&mut bits, "seq_parameter_set_id", 31)?;
        let (sampling, chroma_array_type) =
            if HAS_SAMPLING.contains(&profile) { read_sampling(&mut bits)? } else { (Sampling::YUV_420, 1) };
        limited(&mut bits, "log2_max_frame_num_minus4", 12)?;
        skip_picture_order(&mut bits)?;
        bits.ue()?; // max_num_ref_frames
        bits.skip(1)?; // gaps_in_frame_num_value_allowed_flag
        let (width, height) = read_size(&mut bits, chroma_array_type)?;
        let mut vui = Vui::default();
        let has_vui = bits.bit()?;
        if has_vui {
            // What stands before the nonsense is good, and no decoder needs the rest.
            let _ = vui.read(&mut bits);
        }
        Ok(Self { profile, compatibility, level, sampling, width, height, vui })
    }
}

/// How colours are sampled, and ChromaArrayType, which cropping is counted by.
fn read_sampling(bits: &mut BitReader<'_>) -> Result<(Sampling, u32), Error> {
    let chroma_format = limited(bits, "chroma_format_idc", 3)?;
    let full_chroma = chroma_format == 3;
    let separate_planes = full_chroma && bits.bit()?;
    let luma_bits = 8 + limited(bits, "bit_depth_luma_minus8", 6)? as u8;
    let chroma_bits = 8 + limited(bits, "bit_depth_chroma_minus8", 6)? as u8;
    bits.skip(1)?; // qpprime_y_zero_transform_bypass_flag
    let has_scaling_matrix = bits.bit()?;
    if has_scaling_matrix {
        for list in 0..if full_chroma { 12 } else { 8 } {
            let is_present = bits.bit()?;
            if is_present {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    // Separate planes are three monochrome pictures.
    let chroma_array_type = if separate_planes { 0 } else { chroma_format };
    Ok((Sampling { chroma_format: chroma_format as u8, luma_bits, chroma_bits }, chroma_array_type))
}

fn skip_picture_order(bits: &mut BitReader<'_>) -> Result<(), Error> {
    match limited(bits, "pic_order_cnt_type", 2)? {
        0 => {
            limited(bits, "log2_max_pic_order_cnt_lsb_minus4", 12)?;
        }
        1 => {
            bits.skip(1)?; // delta_pic_order_always_zero_flag
            bits.se()?; // offset_for_non_ref_pic
            bits.se()?; // offset_for_top_to_bottom_field
            for _ in 0..limited(bits, "num_ref_frames_in_pic_order_cnt_cycle", 255)? {
                bits.se()?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Width and height after cropping, in luma samples. Spec: ITU-T H.264 §7.4.2.1.1, formulas 7-19 to 7-22.
fn read_size(bits: &mut BitReader<'_>, chroma_array_type: u32) -> Result<(u16, u16), Error> {
    let width_in_macroblocks = i64::from(bits.ue()?) + 1;
    let height_in_map_units = i64::from(bits.ue()?) + 1;
    let progressive = bits.bit()?;
    // Two fields make a picture, and height is that of one.
    let fields = if progressive { 1 } else { 2 };
    if !progressive {
        bits.skip(1)?; // mb_adaptive_frame_field_flag
    }
    bits.skip(1)?; // direct_8x8_inference_flag
    let mut width = width_in_macroblocks * MACROBLOCK;
    let mut height = height_in_map_units * MACROBLOCK * fields;
    let is_cropped = bits.bit()?;
    if is_cropped {
        let [left, right, top, bottom] = [bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?].map(i64::from);
        let unit_x = if matches!(chroma_array_type, 1 | 2) { 2 } else { 1 };
        let unit_y = fields * if chroma_array_type == 1 { 2 } else { 1 };
        width -= unit_x * (left + right);
        height -= unit_y * (top + bottom);
    }
    match (legal_side(width), legal_side(height)) {
        (Some(width), Some(height)) => Ok((width, height)),
        _ => Err(Error::Size { width, height }),
    }
}

fn legal_side(side: i64) -> Option<u16> {
    u16::try_from(side).ok().filter(|side| (MIN_SIDE..=MAX_SIDE).contains(&u64::from(*side)))
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

impl Vui {
    /// Spec: ITU-T H.264 §E.1.1, §E.2.1.
    fn read(&mut self, bits: &mut BitReader<'_>) -> Result<(), Truncated> {
        let has_aspect_ratio = bits.bit()?;
        if has_aspect_ratio && bits.bits(8)? == EXTENDED_SAR {
            bits.skip(32)?; // sar_width, sar_height
        }
        let has_overscan = bits.bit()?;
        if has_overscan {
            bits.skip(1)?; // overscan_appropriate_flag
        }
        let has_video_signal_type = bits.bit()?;
        if has_video_signal_type {
            bits.skip(4)?; // video_format, video_full_range_flag
            let has_colour_description = bits.bit()?;
            if has_colour_description {
                bits.skip(8)?; // colour_primaries
                self.dynamic_range = DynamicRange::of_transfer_characteristics(bits.bits(8)?);
                bits.skip(8)?; // matrix_coefficients
            }
        }
        let has_chroma_location = bits.bit()?;
        if has_chroma_location {
            bits.ue()?; // chroma_sample_loc_type_top_field
            bits.ue()?; // chroma_sample_loc_type_bottom_field
        }
        let has_timing = bits.bit()?;
        if has_timing {
            self.frame_rate = frame_rate(bits.bits(32)?.into(), bits.bits(32)?.into());
        }
        Ok(())
    }
}

/// `None` where it is implausible. Spec: ITU-T H.264 §E.2.1 (num_units_in_tick, time_scale).
fn frame_rate(tick: u64, scale: u64) -> Option<(u32, u32)> {
    // Two ticks a picture: the clock counts fields.
    let tick = tick * 2;
    if tick == 0 || scale < tick || scale > tick * MAX_FRAME_RATE {
        return None;
    }
    let divisor = gcd(scale, tick);
    u32::try_from(scale / divisor).ok().zip(u32::try_from(tick / divisor).ok())
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
