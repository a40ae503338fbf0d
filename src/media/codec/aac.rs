//! AAC: the AudioSpecificConfig.
//!
//! Specification: ISO/IEC 14496-3 §1.6.2.1.

use bytes::Bytes;

use crate::media::reader::{BitReader, Truncated};

/// Spec: ISO/IEC 14496-3 table 1.18; 13 and 14 are reserved, 15 is an explicit rate.
const SAMPLE_RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// Explicit rates outside are refused: the rate becomes a timescale that durations are divided by.
const RATES: std::ops::RangeInclusive<u32> = 1_000..=192_000;
/// Longest AudioSpecificConfig read: a program config element with a full comment field ends below it.
const MAX_BYTES: usize = 512;

/// AudioObjectType values. Spec: ISO/IEC 14496-3 table 1.17.
const LOW_COMPLEXITY_AND_KIN: std::ops::RangeInclusive<u8> = 1..=4;
const SBR: u8 = 5;
const BSAC: u8 = 22;
const PS: u8 = 29;

/// Why an AudioSpecificConfig is refused; the text is shown to the publisher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Too short for what it announces.
    #[error("the AAC configuration is cut short: {0}")]
    Truncated(#[from] Truncated),
    /// Longer than any real one.
    #[error("the AAC configuration has {0} bytes, the most is {MAX_BYTES}")]
    TooLong(usize),
    /// Neither AAC Main, LC, SSR, LTP nor HE-AAC on top of them.
    #[error("the AAC configuration has audio object type {0}; AAC-LC and HE-AAC are understood")]
    ObjectType(u8),
    /// A reserved index.
    #[error("the AAC configuration has the reserved sample rate index {0}")]
    RateIndex(u32),
    /// SBR at neither the core's rate nor twice that.
    #[error("the AAC configuration extends {core} Hz to {extended} Hz; SBR doubles the rate or keeps it")]
    Extension {
        /// Hz of the core.
        core: u32,
        /// Hz that it is said to come out at.
        extended: u32,
    },
    /// An explicit rate that is zero or absurd.
    #[error("the AAC configuration has a sample rate of {0} Hz")]
    Rate(u32),
    /// A reserved channel configuration, or a program config element with no channel or more than eight.
    #[error("the AAC configuration has channel configuration {configuration} with {channels} channels")]
    Channels {
        /// channelConfiguration.
        configuration: u32,
        /// What it amounts to.
        channels: u32,
    },
}

/// An AudioSpecificConfig and the facts that playlists and init segments repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The AudioSpecificConfig as it came, which is the DecoderSpecificInfo of `esds`.
    pub record: Bytes,
    /// Audio object type: 2 is AAC-LC, 5 HE-AAC, 29 HE-AAC v2.
    pub object_type: u8,
    /// Hz, as it comes out of the decoder: with SBR, mostly twice that of the core.
    pub sample_rate: u32,
    /// Output channels, 1 to 8.
    pub channels: u8,
    /// Samples in a frame at `sample_rate`: 1024 or 960, with SBR that doubles the rate 2048 or 1920.
    pub frame_samples: u32,
}

impl Config {
    /// Reads an AudioSpecificConfig with explicit signalling of SBR and PS, hierarchical or backward-compatible. Where it is signalled
    /// implicitly nothing stands here but the core, and the core is what is described: its frames last as long.
    ///
    /// # Errors
    /// [`Error`] says which rule it breaks.
    pub fn parse(asc: &[u8]) -> Result<Self, Error> {
        if asc.len() > MAX_BYTES {
            return Err(Error::TooLong(asc.len()));
        }
        let mut bits = BitReader::new(asc);
        let mut object_type = read_object_type(&mut bits)?;
        let core_rate = read_rate(&mut bits)?;
        let mut sample_rate = core_rate;
        let configuration = bits.bits(4)?;
        let mut core = object_type;
        if matches!(object_type, SBR | PS) {
            // Explicit signalling: the rate that follows is the one that comes out.
            sample_rate = read_rate(&mut bits)?;
            if !extends(core_rate, sample_rate) {
                return Err(Error::Extension { core: core_rate, extended: sample_rate });
            }
            core = read_object_type(&mut bits)?;
            if core == BSAC {
                return Err(Error::ObjectType(core));
            }
        }
        if !LOW_COMPLEXITY_AND_KIN.contains(&core) {
            return Err(Error::ObjectType(core));
        }
        let short_frames = bits.bit()?;
        if bits.bit()? {
            bits.skip(14)?; // coreCoderDelay
        }
        let extension = bits.bit()?;
        let mut channels = match configuration {
            0 => program_channels(&mut bits, asc.len() * 8)?,
            1..=6 => configuration,
            7 | 12 | 14 => 8,
            11 => 7,
            _ => 0,
        };
        if extension {
            bits.skip(1)?; // extensionFlag3
        }
        if object_type == core
            && let Ok(Some((extension, rate))) = trailing_extension(&mut bits)
            && extends(core_rate, rate)
        {
            (object_type, sample_rate) = (extension, rate);
        }
        if object_type == PS && channels == 1 {
            channels = 2;
        }
        if !(1..=8).contains(&channels) {
            return Err(Error::Channels { configuration, channels });
        }
        Ok(Self {
            record: Bytes::copy_from_slice(asc),
            object_type,
            sample_rate,
            channels: channels as u8,
            frame_samples: if short_frames { 960 } else { 1024 } * (sample_rate / core_rate),
        })
    }

    /// `mp4a.40.N`. Spec: RFC 6381 §3.3.
    pub fn codec_string(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }
}

/// SBR doubles the rate, or works at the core's own (downsampled). Spec: ISO/IEC 14496-3 §4.6.18.
fn extends(core: u32, extended: u32) -> bool {
    extended == core || extended == core * 2
}

fn read_object_type(bits: &mut BitReader<'_>) -> Result<u8, Truncated> {
    let short = bits.bits(5)?;
    let object_type = if short == 31 { 32 + bits.bits(6)? } else { short };
    Ok(object_type as u8)
}

fn read_rate(bits: &mut BitReader<'_>) -> Result<u32, Error> {
    let index = bits.bits(4)?;
    let rate = match index {
        15 => bits.bits(24)?,
        _ => *SAMPLE_RATES.get(index as usize).ok_or(Error::RateIndex(index))?,
    };
    if RATES.contains(&rate) { Ok(rate) } else { Err(Error::Rate(rate)) }
}

/// Backward-compatible signalling behind the core's configuration. What cannot be read there is no error: old decoders ignore it too.
/// Spec: ISO/IEC 14496-3 §1.6.6.
fn trailing_extension(bits: &mut BitReader<'_>) -> Result<Option<(u8, u32)>, Error> {
    if bits.remaining() < 16 || bits.bits(11)? != 0x2B7 || read_object_type(bits)? != SBR || !bits.bit()? {
        return Ok(None);
    }
    let rate = read_rate(bits)?;
    let parametric_stereo = bits.remaining() >= 12 && bits.bits(11)? == 0x548 && bits.bit()?;
    Ok(Some((if parametric_stereo { PS } else { SBR }, rate)))
}

/// Counts the channels of a program config element and moves past it. Spec: ISO/IEC 14496-3 §4.4.1.1.
fn program_channels(bits: &mut BitReader<'_>, total_bits: usize) -> Result<u32, Truncated> {
    bits.skip(10)?; // element_instance_tag, object_type, sampling_frequency_index
    let speakers = bits.bits(4)? + bits.bits(4)? + bits.bits(4)?;
    let (low, data, coupling) = (bits.bits(2)?, bits.bits(3)?, bits.bits(4)?);
    for mixdown_bits in [4, 4, 3] {
        if bits.bit()? {
            bits.skip(mixdown_bits)?;
        }
    }
    let mut channels = low;
    for _ in 0..speakers {
        channels += if bits.bit()? { 2 } else { 1 };
        bits.skip(4)?;
    }
    bits.skip((low * 4 + data * 4 + coupling * 5) as usize)?;
    let read = total_bits - bits.remaining();
    bits.skip(read.next_multiple_of(8) - read)?;
    let comment = bits.bits(8)? as usize;
    bits.skip(comment * 8)?;
    Ok(channels)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_configurations() {
        for (name, asc, object_type, rate, channels, samples) in [
            ("LC 48 kHz stereo", &[0x11, 0x90][..], 2, 48_000, 2, 1024),
            ("LC 44.1 kHz stereo, as ffmpeg writes it", &[0x12, 0x10, 0x56, 0xE5, 0x00], 2, 44_100, 2, 1024),
            ("LC 960", &[0x11, 0x94], 2, 48_000, 2, 960),
            ("LC 5.1", &[0x11, 0xB0], 2, 48_000, 6, 1024),
            ("LC 7.1", &[0x11, 0xB8], 2, 48_000, 8, 1024),
            ("HE explicit", &[0x2B, 0x11, 0x88, 0x00], 5, 48_000, 2, 2048),
            ("HE downsampled", &[0x29, 0x91, 0x88, 0x00], 5, 48_000, 2, 1024),
            ("HE v2 explicit, mono core", &[0xEB, 0x09, 0x88, 0x00], 29, 48_000, 2, 2048),
            ("HE backward compatible", &[0x13, 0x10, 0x56, 0xE5, 0x98], 5, 48_000, 2, 2048),
            ("HE v2 backward compatible", &[0x13, 0x08, 0x56, 0xE5, 0x9D, 0x48, 0x80], 29, 48_000, 2, 2048),
            ("a trailing extension that is nonsense", &[0x13, 0x10, 0x56, 0xE5, 0x90], 2, 24_000, 2, 1024),
            ("explicit rate 44,100", &[0x17, 0x80, 0x56, 0x22, 0x10], 2, 44_100, 2, 1024),
        ] {
            let config = Config::parse(asc).unwrap_or_else(|error| panic!("{name}: {error}"));
            let facts = (config.object_type, config.sample_rate, config.channels, config.frame_samples);
            assert_eq!(facts, (object_type, rate, channels, samples), "{name}");
            assert_eq!(config.record, asc);
        }
    }

    #[test]
    fn a_program_config_element_is_counted() {
        // LC, 48 kHz, configuration 0; one CPE in front and one LFE: 3 channels, no comment.
        let bits = "00010 0011 0000 0 0 0 0000 01 0011 0001 0000 0000 01 000 0000 0 0 0 1 0000 0000 0000000 00000000";
        let bits: Vec<u8> = bits.bytes().filter(|b| *b != b' ').map(|b| b - b'0').collect();
        let asc: Vec<u8> =
            bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |all, (i, bit)| all | bit << (7 - i))).collect();
        assert_eq!(Config::parse(&asc).map(|config| config.channels), Ok(3));
    }

    #[test]
    fn absurd_configurations_are_refused() {
        for (name, asc, error) in [
            ("empty", &[][..], Error::Truncated(Truncated { missing: 1 })),
            ("one byte", &[0x11], Error::Truncated(Truncated { missing: 1 })),
            ("reserved rate", &[0x16, 0x90], Error::RateIndex(13)),
            ("zero rate", &[0x17, 0x80, 0, 0, 0x10], Error::Rate(0)),
            ("reserved channels", &[0x11, 0xC0], Error::Channels { configuration: 8, channels: 0 }),
            ("null object type", &[0x01, 0x90], Error::ObjectType(0)),
            ("SBR from 24 to 32 kHz", &[0x2B, 0x12, 0x88, 0x00], Error::Extension { core: 24_000, extended: 32_000 }),
            ("xHE-AAC", &[0xF9, 0x46, 0x40], Error::ObjectType(42)),
        ] {
            assert_eq!(Config::parse(asc), Err(error), "{name}");
        }
        assert_eq!(Config::parse(&[0x11; 600]), Err(Error::TooLong(600)));
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_within_bounds(asc in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(config) = Config::parse(&asc) {
                prop_assert!((1..=8).contains(&config.channels) && RATES.contains(&config.sample_rate));
                prop_assert!(matches!(config.frame_samples, 960 | 1024 | 1920 | 2048));
            }
        }
    }
}
