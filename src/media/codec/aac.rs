//! AAC: the AudioSpecificConfig.
//!
//! Specification: ISO/IEC 14496-3 §1.6.2.1.

use bytes::Bytes;

/// An AudioSpecificConfig and the facts that playlists and init segments repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The AudioSpecificConfig as it came, which is the DecoderSpecificInfo of `esds`.
    pub record: Bytes,
    /// Audio object type: 2 is AAC-LC, 5 HE-AAC, 29 HE-AAC v2.
    pub object_type: u8,
    /// Hz, of the core codec (HE-AAC doubles it).
    pub sample_rate: u32,
    /// Output channels, 1 to 8.
    pub channels: u8,
    /// Samples in a frame at `sample_rate`: 1024 or 960.
    pub frame_samples: u32,
}

impl Config {
    /// `mp4a.40.N`. Spec: RFC 6381 §3.3.
    pub fn codec_string(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }
}
