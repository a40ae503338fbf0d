//! MP3: MPEG audio layer III, whose configuration stands in the header of every frame.
//!
//! Specification: ISO/IEC 11172-3 §2.4.2.3 (MPEG-1), ISO/IEC 13818-3 §2.4.2.3 (MPEG-2, half the rates); MPEG-2.5 (a quarter) by usage.

/// Bytes of a header.
pub const HEADER_BYTES: usize = 4;

/// Why a frame is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It does not begin with eleven set bits, or has a reserved version, bit rate or sample rate.
    #[error("an MP3 frame has no header")]
    NoHeader,
    /// Layer I or II.
    #[error("the audio is MPEG layer {0}, not layer III")]
    Layer(u8),
}

/// Which of the three standards a frame is of: they share the bit stream and halve the sample rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MPEG-1: 32, 44.1 and 48 kHz.
    One,
    /// MPEG-2: half of that.
    Two,
    /// MPEG-2.5: a quarter of it.
    TwoAndAHalf,
}

/// What all frames of a track have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Of which standard it is.
    pub version: Version,
    /// Hz.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u8,
    /// Samples in a frame: 1152, or 576 below 32 kHz.
    pub frame_samples: u32,
}

/// One frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// What it has in common with the others.
    pub config: Config,
    /// Bytes of the frame with its header; `None` for the free format, which does not say.
    pub length: Option<usize>,
}

/// Kilobits a second by index. Spec: ISO/IEC 11172-3 §2.4.2.3, ISO/IEC 13818-3 §2.4.2.3.
const RATES_ONE: [usize; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const RATES_TWO: [usize; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
const MONO: u8 = 3;

impl Frame {
    /// Reads the header that `data` begins with.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse(data: &[u8]) -> Result<Self, Error> {
        let Some(&[first, second, third, fourth]) = data.first_chunk::<HEADER_BYTES>() else {
            return Err(Error::NoHeader);
        };
        if first != 0xFF || second & 0xE0 != 0xE0 {
            return Err(Error::NoHeader);
        }
        let version = match second >> 3 & 0b11 {
            0 => Version::TwoAndAHalf,
            2 => Version::Two,
            3 => Version::One,
            _ => return Err(Error::NoHeader),
        };
        match second >> 1 & 0b11 {
            1 => {}
            0 => return Err(Error::NoHeader),
            other => return Err(Error::Layer(4 - other)),
        }
        let (rates, divisor, frame_samples) = match version {
            Version::One => (&RATES_ONE, 1, 1_152),
            Version::Two => (&RATES_TWO, 2, 576),
            Version::TwoAndAHalf => (&RATES_TWO, 4, 576),
        };
        let kilobits = *rates.get(usize::from(third >> 4)).ok_or(Error::NoHeader)?;
        let index = usize::from(third >> 2 & 0b11);
        let sample_rate = [44_100, 48_000, 32_000].get(index).ok_or(Error::NoHeader)? / divisor;
        let padding = usize::from(third >> 1 & 1);
        let channels = if fourth >> 6 == MONO { 1 } else { 2 };
        let length = kilobits * 1_000 / 8 * frame_samples as usize / sample_rate as usize + padding;
        Ok(Self {
            config: Config { version, sample_rate, channels, frame_samples },
            length: (kilobits > 0).then_some(length),
        })
    }
}

impl Config {
    /// A track of `channels` at `sample_rate` Hz, which tells the standard. `None` for what no frame can say.
    pub fn new(sample_rate: u32, channels: u8) -> Option<Self> {
        let (version, base, frame_samples) = match sample_rate {
            32_000.. => (Version::One, sample_rate, 1_152),
            16_000.. => (Version::Two, sample_rate * 2, 576),
            _ => (Version::TwoAndAHalf, sample_rate * 4, 576),
        };
        let possible = [32_000, 44_100, 48_000].contains(&base) && (1..=2).contains(&channels);
        possible.then_some(Self { version, sample_rate, channels, frame_samples })
    }

    /// objectTypeIndication in `esds`: audio of ISO/IEC 11172-3, or of 13818-3. Spec: ISO/IEC 14496-1 table 5.
    pub fn object_type_indication(&self) -> u8 {
        if self.version == Version::One { 0x6B } else { 0x69 }
    }

    /// `mp4a.6B` or `mp4a.69`: the object type indication has no second part but for MPEG-4 audio. Spec: RFC 6381 §3.3.
    pub fn codec_string(&self) -> String {
        format!("mp4a.{:02X}", self.object_type_indication())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_as_encoders_write_them() {
        for (name, header, rate, channels, samples, length) in [
            ("LAME, 44.1 kHz, 128 kb/s, joint stereo", [0xFF, 0xFB, 0x90, 0x64], 44_100, 2, 1_152, Some(417)),
            ("the same, padded", [0xFF, 0xFB, 0x92, 0x64], 44_100, 2, 1_152, Some(418)),
            ("48 kHz, 192 kb/s, mono", [0xFF, 0xFB, 0xB4, 0xC4], 48_000, 1, 1_152, Some(576)),
            ("with a checksum", [0xFF, 0xFA, 0x90, 0x00], 44_100, 2, 1_152, Some(417)),
            ("22.05 kHz, 64 kb/s", [0xFF, 0xF3, 0x80, 0x44], 22_050, 2, 576, Some(208)),
            ("8 kHz, 8 kb/s, mono", [0xFF, 0xE3, 0x18, 0xC4], 8_000, 1, 576, Some(72)),
            ("free format", [0xFF, 0xFB, 0x00, 0x00], 44_100, 2, 1_152, None),
        ] {
            let frame = Frame::parse(&header).unwrap_or_else(|error| panic!("{name}: {error}"));
            let Config { sample_rate, channels: got, frame_samples, .. } = frame.config;
            assert_eq!((sample_rate, got, frame_samples, frame.length), (rate, channels, samples, length), "{name}");
        }
        assert_eq!(Frame::parse(&[0xFF, 0xFB, 0x90, 0x64]).unwrap().config.codec_string(), "mp4a.6B");
        assert_eq!(Frame::parse(&[0xFF, 0xF3, 0x80, 0x44]).unwrap().config.codec_string(), "mp4a.69");
    }

    #[test]
    fn what_is_no_mp3_is_refused() {
        for (data, error) in [
            (&[][..], Error::NoHeader),
            (&[0xFF, 0xFB, 0x90], Error::NoHeader),
            (&[0xFE, 0xFB, 0x90, 0x64], Error::NoHeader),
            (&[0xFF, 0xEB, 0x90, 0x64], Error::NoHeader),
            (&[0xFF, 0xFB, 0xF0, 0x64], Error::NoHeader),
            (&[0xFF, 0xFB, 0x9C, 0x64], Error::NoHeader),
            (&[0xFF, 0xF9, 0x50, 0x64], Error::NoHeader),
            (&[0xFF, 0xFD, 0x90, 0x64], Error::Layer(2)),
            (&[0xFF, 0xFF, 0x90, 0x64], Error::Layer(1)),
        ] {
            assert_eq!(Frame::parse(data), Err(error), "{data:X?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_within_bounds(data in proptest::collection::vec(any::<u8>(), 0..8)) {
            if let Ok(frame) = Frame::parse(&data) {
                prop_assert!((8_000..=48_000).contains(&frame.config.sample_rate));
                prop_assert!(frame.length.is_none_or(|length| (24..=1_441).contains(&length)), "{frame:?}");
            }
        }
    }
}
