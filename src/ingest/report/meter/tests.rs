//! A publisher's seconds, and what the snapshot says of them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::media::Timescale;
use crate::media::codec::{aac, h264};

const RULES: Rules = Rules {
    key_frames: Duration::from_secs(2),
    longest_segment: Duration::from_secs(4),
    part: Duration::from_millis(215),
};

fn video_track() -> Track {
    let config = h264::Config {
        record: Bytes::new(),
        profile: 100,
        compatibility: 0,
        level: 31,
        nal_length_bytes: 4,
        width: 1280,
        height: 720,
        dynamic_range: h264::DynamicRange::Standard,
        frame_rate: Some((30, 1)),
    };
    Track { format: Format::H264(config), timescale: Timescale::NINETY_KHZ, language: "und".into() }
}

fn audio_track() -> Track {
    let config =
        aac::Config { record: Bytes::new(), object_type: 2, sample_rate: 48_000, channels: 2, frame_samples: 1_024 };
    Track { format: Format::Aac(config), timescale: Timescale::new(48_000).expect("not zero"), language: "und".into() }
}

fn unit(dts: i64, sync: bool, bytes: usize) -> AccessUnit {
    AccessUnit { dts, pts: dts, sync, captions: false, data: BytesMut::zeroed(bytes) }
}

/// Twelve seconds of 30 pictures a second and AAC, key frames `gop` pictures apart; sound arrives `audio_late` later than it should.
fn published(gop: i64, audio_late: Duration) -> (Meter, Instant) {
    let start = Instant::now();
    let mut meter = Meter::new(start);
    meter.track(&video_track());
    meter.track(&audio_track());
    meter.announce(Announced {
        encoder: Some("obs\n30".into()),
        fps: Some(30.0),
        video_bps: Some(2_500_000),
        audio_bps: Some(96_000),
    });
    for n in 0..360 {
        let now = start + Duration::from_micros(n as u64 * 100_000 / 3);
        meter.unit(Kind::Video, &unit(n * 3_000, n % gop == 0, 10_000), now);
    }
    for n in 0..560 {
        let now = start + Duration::from_micros(n as u64 * 64_000 / 3) + audio_late;
        meter.unit(Kind::Audio, &unit(n * 1_024, true, 256), now);
    }
    (meter, start + Duration::from_secs(12))
}

#[test]
fn a_good_publisher_in_figures() {
    let (meter, now) = published(60, Duration::ZERO);
    let report = meter.snapshot(now, true, &RULES);
    let (video, audio) = (report.video.as_ref().unwrap(), report.audio.as_ref().unwrap());
    assert_eq!((video.codec.as_str(), video.format.as_str()), ("avc1.64001F", "H.264 High, level 3.1"));
    assert_eq!(
        (video.width, video.height, video.fps, video.fps_announced),
        (Some(1280), Some(720), Some(30.0), Some(30.0))
    );
    assert_eq!((video.bitrate, video.bitrate_target), (Some(2_400_000), Some(2_500_000)));
    assert_eq!((video.key_frame_interval, video.steadiness), (Some(2.0), Some(Steadiness::Steady)));
    assert_eq!((audio.format.as_str(), audio.sample_rate, audio.channels), ("AAC-LC", Some(48_000), Some(2)));
    assert_eq!((audio.bitrate, audio.bitrate_target), (Some(96_000), Some(96_000)));
    assert_eq!((report.av_skew_ms, report.lag_ms, video.jitter_ms), (Some(0), 0, 0));
    assert_eq!((report.encoder.as_deref(), report.seconds), (Some("obs30"), 12.0));
    assert_eq!((report.health, report.advice), (Health::Good, vec![]));
}

#[test]
fn an_eight_second_key_frame_interval_is_told_in_seconds() {
    let (meter, now) = published(240, Duration::ZERO);
    let report = meter.snapshot(now, true, &RULES);
    assert_eq!(report.health, Health::Poor);
    assert!(report.advice[0].finding.contains("up to 8 s"), "{:?}", report.advice);
}

#[test]
fn sound_that_comes_late_is_skew() {
    let (meter, now) = published(60, Duration::from_millis(700));
    assert_eq!(meter.snapshot(now, true, &RULES).av_skew_ms, Some(-700));
}

#[test]
fn the_last_report_of_one_that_is_gone_does_not_age() {
    let (meter, now) = published(60, Duration::ZERO);
    let report = meter.snapshot(now + Duration::from_secs(25), false, &RULES);
    assert!(!report.connected);
    assert_eq!(report.video.unwrap().fps, Some(30.0));
    assert_eq!(report.advice[0].id, "disconnected");
}

#[test]
fn repairs_are_told_by_kind_and_forgotten_as_recent() {
    let start = Instant::now();
    let mut meter = Meter::new(start);
    let mut repairs = Repairs::default();
    repairs.add(Repair::Jump, 20);
    meter.repaired(&repairs, start + Duration::from_secs(3));
    repairs.add(Repair::AudioGap, 20);
    repairs.add(Repair::AudioGap, 20);
    meter.repaired(&repairs, start + Duration::from_secs(13));
    let at = |seconds| {
        let report = meter.snapshot(start + Duration::from_secs(seconds), true, &RULES);
        report.repairs.iter().map(|repair| (repair.kind, repair.count, repair.recently)).collect::<Vec<_>>()
    };
    assert_eq!(at(14), [("audio_gap", 2, 2), ("jump", 2, 2)]);
    assert_eq!(at(24), [("audio_gap", 2, 2), ("jump", 2, 1)]);
    assert_eq!(at(34), [("audio_gap", 2, 0), ("jump", 2, 0)]);
}

#[test]
fn every_repair_is_explained_in_words_of_its_own() {
    let mut words: Vec<_> = Repair::ALL.into_iter().map(Repair::words).collect();
    assert!(words.iter().all(|words| words.ends_with('.')));
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), Repair::ALL.len());
}

#[test]
fn a_refused_track_is_told_until_it_is_taken() {
    let start = Instant::now();
    let mut meter = Meter::new(start);
    meter.refused(Kind::Video, &"x".repeat(10_000));
    let report = meter.snapshot(start, true, &RULES);
    assert_eq!((report.refused.len(), report.refused[0].why.len()), (1, MAX_TEXT));
    meter.track(&video_track());
    assert_eq!(meter.snapshot(start, true, &RULES).refused, []);
}

proptest! {
    #[test]
    fn no_time_overflows(units in prop::collection::vec((any::<bool>(), any::<i64>(), any::<i64>(), any::<bool>(), 0..1_u64 << 40), 0..80)) {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        meter.track(&video_track());
        meter.track(&audio_track());
        for (video, dts, pts, sync, millis) in units {
            let kind = if video { Kind::Video } else { Kind::Audio };
            let now = start + Duration::from_millis(millis);
            meter.unit(kind, &AccessUnit { dts, pts, sync, captions: false, data: BytesMut::new() }, now);
            let _ = meter.snapshot(now, true, &RULES);
        }
    }
}

#[test]
fn it_stays_small() {
    assert!(size_of::<Meter>() < 6 * 1024, "{}", size_of::<Meter>());
}
