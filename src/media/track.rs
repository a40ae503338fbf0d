//! What an elementary stream is made of.

use super::codec::{aac, h264, mp3};
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
    /// MP3 frames with their headers.
    Mp3(mp3::Config),
}

/// What matters of sound to whoever does not decode it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sound {
    /// Hz, as it comes out of the decoder.
    pub sample_rate: u32,
    /// Output channels.
    pub channels: u8,
    /// Samples of a frame at that rate.
    pub frame_samples: u32,
}

impl Format {
    /// Picture or sound.
    pub fn kind(&self) -> Kind {
        match self {
            Self::H264(_) => Kind::Video,
            Self::Aac(_) | Self::Mp3(_) => Kind::Audio,
        }
    }

    /// Width and height in pixels; `None` for sound.
    pub fn resolution(&self) -> Option<(u16, u16)> {
        match self {
            Self::H264(config) => Some((config.width, config.height)),
            Self::Aac(_) | Self::Mp3(_) => None,
        }
    }

    /// The RFC 6381 string for CODECS and @codecs.
    pub fn codec_string(&self) -> String {
        match self {
            Self::H264(config) => config.codec_string(),
            Self::Aac(config) => config.codec_string(),
            Self::Mp3(config) => config.codec_string(),
        }
    }

    /// Sound that the most used browsers do not play in MP4: Chromium takes MP3 as a file of its own alone.
    pub fn is_silent_in_browsers(&self) -> bool {
        matches!(self, Self::Mp3(_))
    }

    /// Rate, channels and frames of sound; `None` for pictures.
    pub fn sound(&self) -> Option<Sound> {
        match self {
            Self::H264(_) => None,
            Self::Aac(aac::Config { sample_rate, channels, frame_samples, .. })
            | Self::Mp3(mp3::Config { sample_rate, channels, frame_samples, .. }) => {
                Some(Sound { sample_rate: *sample_rate, channels: *channels, frame_samples: *frame_samples })
            }
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
