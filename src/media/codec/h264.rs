//! AVC: the decoder configuration record and what its sequence parameter set says.
//!
//! Specification: ISO/IEC 14496-15 §5.3.3.1 (record), ITU-T H.264 §7.3.2.1.1 and Annex E (SPS, VUI).

use bytes::Bytes;

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
    /// `avc1.PPCCLL`. Spec: RFC 6381 §3.3.
    pub fn codec_string(&self) -> String {
        format!("avc1.{:02X}{:02X}{:02X}", self.profile, self.compatibility, self.level)
    }
}
