//! AVC access units: which NAL units they are made of.
//!
//! Specification: ISO/IEC 14496-15 §5.3.4.2 (length prefixes), ITU-T H.264 §7.4.1.2 (NAL units).

use crate::media::reader::Reader;

/// NAL unit types of coded slices and supplemental enhancement information. Spec: ITU-T H.264 table 7-1.
const SLICE: u8 = 1;
const IDR_SLICE: u8 = 5;
const SEI: u8 = 6;
/// How caption data begins in an SEI message of registered user data: United States, ATSC, `GA94`, cc_data. No byte of it is ever escaped
/// by emulation prevention. Spec: ATSC A/72 part 1 §6.4.2, ANSI/SCTE 128-1 §8.1.
const CAPTIONS: [u8; 8] = [0xB5, 0x00, 0x31, b'G', b'A', b'9', b'4', 0x03];

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

/// What an access unit holds, as far as anyone but a decoder wants to know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// An IDR picture.
    pub idr: bool,
    /// Closed captions (CEA-608 or CEA-708).
    pub captions: bool,
}

/// Walks the NAL units of an access unit. `data` is length-prefixed NAL units as [`Config::nal_length_bytes`](super::Config::nal_length_bytes) says.
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
