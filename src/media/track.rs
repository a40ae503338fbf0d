//! What an elementary stream is made of.

use super::codec::{aac, h264};
use super::time::Timescale;

/// Picture or sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
}

/// The codec and its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// AVC, length-prefixed NAL units as the configuration record says.
    H264(h264::Config),
    /// Raw AAC frames without ADTS headers.
    Aac(aac::Config),
}

impl Format {
    /// Picture or sound.
    pub fn kind(&self) -> Kind {
        match self {
            Self::H264(_) => Kind::Video,
            Self::Aac(_) => Kind::Audio,
        }
    }

    /// Width and height in pixels; `None` for sound.
    pub fn resolution(&self) -> Option<(u16, u16)> {
        match self {
            Self::H264(config) => Some((config.width, config.height)),
            Self::Aac(_) => None,
        }
    }

    /// The RFC 6381 string for CODECS and @codecs.
    pub fn codec_string(&self) -> String {
        match self {
            Self::H264(config) => config.codec_string(),
            Self::Aac(config) => config.codec_string(),
        }
    }
}

/// One elementary stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Codec and configuration.
    pub format: Format,
    /// Unit of its access units' times.
    pub timescale: Timescale,
    /// BCP 47; `und` where nobody said.
    pub language: String,
}
