//! AVC: the decoder configuration record.
//!
//! ```text
//!   h264          AVCDecoderConfigurationRecord: what RTMP sends before the first picture, and what `avcC` holds
//!   sps           the sequence parameter set in it: size, sampling, picture rate
//!   access_unit   what follows: length-prefixed NAL units
//! ```
//!
//! Specification: ISO/IEC 14496-15 §5.3.3.1.

mod access_unit;
mod sps;

use bytes::Bytes;

pub use self::access_unit::{Contents, UnitError, inspect};
use self::sps::Sps;
pub use self::sps::{DynamicRange, MAX_SIDE, MIN_SIDE, Sampling};
use crate::media::reader::{Reader, Truncated};

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
    /// After cropping, larger than [`MAX_SIDE`] or smaller than [`MIN_SIDE`].
    #[error("the SPS describes a picture of {width}x{height}")]
    Size {
        /// Width after cropping.
        width: i64,
        /// Height after cropping.
        height: i64,
    },
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
    /// As the VUI says.
    pub dynamic_range: DynamicRange,
    /// Pictures a second as the VUI says, as numerator and denominator, when it says so and calls it fixed or gives timing at all.
    pub frame_rate: Option<(u32, u32)>,
}

impl Config {
    /// Reads an AVCDecoderConfigurationRecord and its first SPS. Profile, compatibility and level are the SPS's, because some encoders
    /// leave them zero in the record.
    ///
    /// # Errors
    /// [`Error`] says which rule the record breaks. Nonsense in the VUI is no error, only no `frame_rate`, and the standard `dynamic_range`.
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
        let sps = Sps::parse(first_sps.ok_or(Error::NoParameterSet("sequence"))?)?;
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
            dynamic_range: sps.vui.dynamic_range,
            frame_rate: sps.vui.frame_rate,
        })
    }

    /// Colour sampling and depth, as the first SPS says.
    ///
    /// # Errors
    /// None for a record that [`parse`](Self::parse) took; [`Error`] for others.
    pub fn sampling(&self) -> Result<Sampling, Error> {
        Ok(Sps::parse(first_sps(&self.record)?)?.sampling)
    }

    /// `avc1.PPCCLL`. Spec: RFC 6381 §3.3.
    pub fn codec_string(&self) -> String {
        format!("avc1.{:02X}{:02X}{:02X}", self.profile, self.compatibility, self.level)
    }
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

#[cfg(test)]
mod tests;
