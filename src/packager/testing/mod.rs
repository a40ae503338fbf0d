//! What tests put in the place of publishers and encoders.
//!
//! | a test needs | it takes |
//! |---|---|
//! | real media through a real presentation | [`simulation`] |
//! | many segments and their DASH periods, without media | [`show`] |
//! | one window, or one stream for viewers, exactly so | [`windows`], here as `testing::window` and so on |

pub(crate) mod show;
pub(crate) mod simulation;
#[cfg(feature = "server")]
mod windows;

use std::sync::Arc;

use bytes::Bytes;

#[cfg(feature = "server")]
pub(crate) use self::windows::{Fixture, catalog, fixture, fixture_beside, rendition, window, window_of};
use super::Init;
use crate::media::codec::{aac, h264, mp3};
use crate::media::{Format, Kind, Timescale, Track};

/// [`video_track`] or [`audio_track`].
pub(crate) fn track(kind: Kind) -> Track {
    match kind {
        Kind::Video => video_track(),
        Kind::Audio => audio_track(),
    }
}

/// An init of [`track`] that holds nothing worth reading.
pub(crate) fn init(kind: Kind, number: u32) -> Arc<Init> {
    Arc::new(Init { number, bytes: Bytes::from_static(b"init"), track: track(kind) })
}

/// A 1280 × 720 track. The record is that of a real encoder (x264, high profile, level 3.1).
pub(crate) fn video_track() -> Track {
    let record: &[u8] = &[
        0x01, 0x64, 0x00, 0x1f, 0xff, 0xe1, 0x00, 0x1a, 0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb,
        0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83, 0x19, 0x60, 0x01, 0x00,
        0x06, 0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0, 0xfd, 0xf8, 0xf8, 0x00,
    ];
    let config = h264::Config {
        record: Bytes::from_static(record),
        profile: 0x64,
        compatibility: 0,
        level: 0x1f,
        nal_length_bytes: 4,
        width: 1280,
        height: 720,
        dynamic_range: h264::DynamicRange::Standard,
        frame_rate: None,
    };
    Track { format: Format::H264(config), timescale: Timescale::NINETY_KHZ, language: "und".into() }
}

/// Stereo AAC-LC at 48 kHz.
pub(crate) fn audio_track() -> Track {
    let config = aac::Config {
        record: Bytes::from_static(&[0x11, 0x90]),
        object_type: 2,
        sample_rate: 48_000,
        channels: 2,
        frame_samples: 1024,
    };
    let timescale = Timescale::new(48_000).expect("not zero");
    Track { format: Format::Aac(config), timescale, language: "und".into() }
}

/// Stereo MP3.
pub(crate) fn mp3_track(sample_rate: u32) -> Track {
    let config = mp3::Config::new(sample_rate, 2).expect("a rate of MP3");
    let timescale = Timescale::new(sample_rate).expect("not zero");
    Track { format: Format::Mp3(config), timescale, language: "und".into() }
}
