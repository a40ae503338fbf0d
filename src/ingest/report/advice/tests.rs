//! Every sentence, from the figures that bring it forth, and silence where all is well.

use super::*;
use crate::media::report::{RefusedTrack, Repaired};

const RULES: Rules = Rules {
    key_frames: Duration::from_secs(2),
    longest_segment: Duration::from_secs(4),
    part: Duration::from_millis(215),
};

fn good() -> IngestReport {
    IngestReport {
        health: Health::Good,
        connected: true,
        seconds: 60.0,
        silent_ms: 20,
        encoder: Some("obs-output module".into()),
        video: Some(VideoReport {
            codec: "avc1.64001F".into(),
            format: "H.264 High, level 3.1".into(),
            width: Some(1280),
            height: Some(720),
            fps: Some(30.0),
            fps_announced: Some(30.0),
            steadiness: Some(Steadiness::Steady),
            longest_gap_ms: 33,
            bitrate: Some(2_450_000),
            bitrate_peak: Some(2_900_000),
            bitrate_target: Some(2_500_000),
            key_frame_interval: Some(2.0),
            key_frame_interval_longest: Some(2.0),
            key_frame_interval_shortest: Some(2.0),
            b_frames: 0,
            reorder_ms: 0,
            jitter_ms: 20,
            dropped_ms: 40,
            dropped_recently_ms: 0,
        }),
        audio: Some(AudioReport {
            codec: "mp4a.40.2".into(),
            format: "AAC-LC".into(),
            sample_rate: Some(48_000),
            channels: Some(2),
            bitrate: Some(160_000),
            bitrate_target: Some(160_000),
            jitter_ms: 20,
            dropped_ms: 0,
            dropped_recently_ms: 0,
        }),
        av_skew_ms: Some(12),
        lag_ms: 10,
        refused: Vec::new(),
        repairs: Vec::new(),
        advice: Vec::new(),
    }
}

fn with_video(change: impl FnOnce(&mut VideoReport)) -> IngestReport {
    let mut report = good();
    change(report.video.as_mut().expect("there are pictures"));
    report
}

fn with_audio(change: impl FnOnce(&mut AudioReport)) -> IngestReport {
    let mut report = good();
    change(report.audio.as_mut().expect("there is sound"));
    report
}

/// The only advice for `report`.
#[track_caller]
fn only(report: &IngestReport) -> Advice {
    let advice = advise(report, &RULES);
    assert_eq!(advice.len(), 1, "{advice:#?}");
    advice.into_iter().next().expect("one")
}

#[track_caller]
fn assert_says(report: &IngestReport, severity: Severity, id: &str, finding: &str, remedy: &str) {
    let advice = only(report);
    assert_eq!((advice.severity, advice.id, advice.finding.as_str()), (severity, id, finding));
    assert!(advice.remedy.contains(remedy), "{}", advice.remedy);
}

#[test]
fn a_good_stream_needs_no_advice() {
    assert_eq!(advise(&good(), &RULES), []);
    assert_eq!(health(&[]), Health::Good);
}

#[test]
fn key_frames_too_far_apart() {
    let far = |longest| with_video(|video| video.key_frame_interval_longest = Some(longest));
    assert_says(
        &far(8.0),
        Severity::Error,
        "key_frame_interval",
        "Key frames come too rarely: viewers now wait up to 8 s for the first picture.",
        "Set the keyframe interval in OBS to 2 s",
    );
    assert_says(
        &far(3.53),
        Severity::Warning,
        "key_frame_interval",
        "Key frames come too rarely: viewers now wait up to 3.5 s for the first picture.",
        "Set the keyframe interval in OBS to 2 s",
    );
}

#[test]
fn key_frames_uneven_or_too_near() {
    assert_says(
        &with_video(|video| video.key_frame_interval_shortest = Some(0.4)),
        Severity::Info,
        "key_frames_uneven",
        "Key frames come unevenly, every 0.4 s to 2 s: segments differ in length, and DASH loses its low latency.",
        "scenecut=0",
    );
    let near = with_video(|video| {
        video.key_frame_interval = Some(0.03);
        video.key_frame_interval_longest = Some(0.03);
        video.key_frame_interval_shortest = Some(0.03);
    });
    assert_eq!((only(&near).id, only(&near).severity), ("key_frames_frequent", Severity::Info));
}

#[test]
fn refused_tracks_in_the_servers_words() {
    let mut report = good();
    report.video = None;
    report.refused =
        vec![RefusedTrack { kind: Kind::Video, why: "HEVC (codec 12) video is not taken; send H.264".into() }];
    assert_says(
        &report,
        Severity::Error,
        "video_refused",
        "Viewers get no pictures: HEVC (codec 12) video is not taken; send H.264.",
        "In OBS, choose an H.264 encoder",
    );
    let mut report = good();
    report.audio = None;
    report.refused = vec![RefusedTrack { kind: Kind::Audio, why: "Speex audio is not taken; send AAC".into() }];
    assert_says(
        &report,
        Severity::Error,
        "audio_refused",
        "Viewers get no sound: Speex audio is not taken; send AAC.",
        "AAC encoder",
    );
}

#[test]
fn silence_and_departure() {
    let mut report = good();
    report.silent_ms = 6_000;
    assert_says(&report, Severity::Error, "silent", "Nothing has arrived for 6 s.", "start again");
    report.connected = false;
    assert_says(
        &report,
        Severity::Error,
        "disconnected",
        "The encoder is gone. Viewers wait for it to come back.",
        "Start Streaming in OBS",
    );
    let mut report = good();
    (report.video, report.audio, report.seconds, report.silent_ms) = (None, None, 4.5, 4_500);
    assert_eq!(advise(&report, &RULES), [], "the first access unit may take a while");
    report.silent_ms = 5_000;
    assert_eq!(only(&report).id, "silent");
}

#[test]
fn a_track_that_is_missing() {
    let mut report = good();
    report.audio = None;
    assert_says(&report, Severity::Info, "no_audio", "The stream has no sound.", "Audio Track");
    let mut report = good();
    report.video = None;
    assert_says(&report, Severity::Info, "no_video", "The stream has no pictures.", "Video Encoder");
}

#[test]
fn formats_that_browsers_do_not_play() {
    for (format, plays) in [
        ("H.264 High 4:4:4, level 4", false),
        ("H.264 High 4:2:2, level 4", false),
        ("H.264 High 10, level 4", false),
        ("H.264 High, level 4", true),
    ] {
        let advice = advise(&with_video(|video| video.format = format.into()), &RULES);
        assert_eq!(advice.first().map(|advice| advice.id), (!plays).then_some("video_profile"), "{format}");
    }
    for (codec, plays) in [
        ("mp4a.6B", false),
        ("mp4a.40.34", false),
        ("mp4a.69", false),
        ("mp4a.40.1", false),
        ("mp4a.40.2", true),
        ("mp4a.40.5", true),
        ("mp4a.40.29", true),
    ] {
        let advice = advise(&with_audio(|audio| audio.codec = codec.into()), &RULES);
        assert_eq!(advice.first().map(|advice| advice.id), (!plays).then_some("audio_codec"), "{codec}");
    }
    assert_says(
        &with_audio(|audio| (audio.codec, audio.format) = ("mp4a.6B".into(), "MP3".into())),
        Severity::Error,
        "audio_codec",
        "Most browsers do not play MP3: their viewers hear nothing, or see nothing either.",
        "Audio Encoder in OBS to AAC",
    );
    assert_eq!(only(&with_audio(|audio| audio.channels = Some(8))).id, "audio_channels");
}

#[test]
fn the_pace_of_pictures() {
    assert_says(
        &with_video(|video| (video.fps, video.steadiness) = (Some(24.1), Some(Steadiness::Uneven))),
        Severity::Warning,
        "frame_rate_missed",
        "24.1 of 30 pictures a second arrive: movement stutters.",
        "faster encoder preset",
    );
    let variable = with_video(|video| {
        (video.fps, video.steadiness, video.dropped_recently_ms) = (Some(22.0), Some(Steadiness::Variable), 3_000);
    });
    let ids: Vec<_> = advise(&variable, &RULES).iter().map(|advice| advice.id).collect();
    assert_eq!(ids, ["frame_rate_variable"], "nothing is missing of what comes as it changes");
    let slow = with_video(|video| (video.fps, video.fps_announced, video.jitter_ms) = (Some(2.0), Some(2.0), 500));
    let ids: Vec<_> = advise(&slow, &RULES).iter().map(|advice| advice.id).collect();
    assert_eq!(ids, ["frame_rate_low"], "half a second between pictures is no burst");
    assert_says(
        &with_video(|video| video.steadiness = Some(Steadiness::Variable)),
        Severity::Warning,
        "frame_rate_variable",
        "The frame rate varies (30 a second on average): movement is uneven.",
        "Common FPS Values",
    );
    assert_says(
        &with_video(|video| (video.steadiness, video.longest_gap_ms) = (Some(Steadiness::Uneven), 100)),
        Severity::Info,
        "frame_rate_uneven",
        "Some pictures come late or not at all; the longest stood for 100 ms.",
        "View → Stats",
    );
    assert_says(
        &with_video(|video| (video.fps, video.fps_announced) = (Some(1.0), Some(1.0))),
        Severity::Warning,
        "frame_rate_low",
        "1 pictures a second are too few for low latency: viewers stay whole segments behind.",
        "Common FPS Values",
    );
}

#[test]
fn the_bit_rate_against_its_target() {
    assert_says(
        &with_video(|video| (video.bitrate, video.bitrate_peak) = (Some(4_000_000), Some(4_200_000))),
        Severity::Warning,
        "bitrate_over",
        "The video takes 4.0 Mbit/s, more than the 2.5 Mbit/s it is set to.",
        "CBR",
    );
    assert_says(
        &with_video(|video| video.bitrate_peak = Some(6_000_000)),
        Severity::Info,
        "bitrate_peaks",
        "The bit rate peaks at 6.0 Mbit/s, at a target of 2.5 Mbit/s: viewers on narrow lines stall then.",
        "CBR",
    );
    let untold = with_video(|video| (video.bitrate_peak, video.bitrate_target) = (Some(60_000_000), None));
    assert_eq!(advise(&untold, &RULES), [], "without a target nothing is too much");
}

#[test]
fn b_frames_that_delay() {
    assert_says(
        &with_video(|video| (video.b_frames, video.reorder_ms) = (3, 166)),
        Severity::Info,
        "b_frames",
        "B-frames (up to 3 in a row) delay every viewer by 166 ms.",
        "Max B-frames in OBS to 0",
    );
    assert_eq!(advise(&with_video(|video| (video.b_frames, video.reorder_ms) = (1, 33)), &RULES), []);
}

#[test]
fn a_network_that_does_not_keep_up() {
    let lagging = |lag_ms| IngestReport { lag_ms, ..good() };
    assert_says(
        &lagging(900),
        Severity::Warning,
        "uplink",
        "The uplink is too slow: media arrives 0.9 s late and falls further behind.",
        "Lower the Video Bitrate in OBS below 1.7 Mbit/s",
    );
    assert_eq!(only(&lagging(2_500)).severity, Severity::Error);
    assert_says(
        &with_audio(|audio| audio.jitter_ms = 450),
        Severity::Warning,
        "jitter",
        "Media arrives in bursts, up to 450 ms apart: viewers with low latency may stall.",
        "cable",
    );
    assert_says(
        &with_video(|video| video.dropped_recently_ms = 1_200),
        Severity::Error,
        "video_missing",
        "1200 ms of pictures are missing from the last ten seconds.",
        "Lower the Video Bitrate",
    );
    assert_says(
        &with_audio(|audio| audio.dropped_recently_ms = 200),
        Severity::Warning,
        "audio_missing",
        "200 ms of sound are missing from the last ten seconds.",
        "audio devices",
    );
}

#[test]
fn sound_and_pictures_apart() {
    let apart = |skew| IngestReport { av_skew_ms: Some(skew), ..good() };
    assert_says(
        &apart(-800),
        Severity::Warning,
        "av_skew",
        "Sound arrives 800 ms later than the pictures that belong to it: every viewer waits for the later one.",
        "Sync Offset",
    );
    assert!(only(&apart(400)).finding.contains("400 ms earlier"));
}

#[test]
fn repairs_that_go_on() {
    let repaired = |kind, recently| Repaired { kind, count: 40, recently, words: "Sound was missing." };
    let mut report = good();
    report.repairs = vec![repaired("jump", 0), repaired("audio_gap", 5), repaired("malformed", 1)];
    assert_says(
        &report,
        Severity::Warning,
        "repairs",
        "6 repairs were made lately. The most frequent: Sound was missing.",
        "Update OBS",
    );
    report.repairs = vec![repaired("jump", 2)];
    assert_eq!(advise(&report, &RULES), [], "an accident or two");
    report.repairs = vec![repaired("video_equal", 300)];
    assert_eq!(advise(&report, &RULES), [], "what nobody notices");
}

#[test]
fn nothing_is_judged_before_it_is_measured() {
    let mut report = with_video(|video| {
        (video.steadiness, video.b_frames, video.reorder_ms) = (Some(Steadiness::Variable), 3, 200);
        (video.jitter_ms, video.dropped_recently_ms) = (4_000, 4_000);
    });
    (report.seconds, report.lag_ms, report.av_skew_ms) = (3.0, 9_000, Some(9_000));
    assert_eq!(advise(&report, &RULES), []);
}

#[test]
fn the_worst_comes_first_and_decides() {
    let mut report = with_video(|video| {
        (video.b_frames, video.reorder_ms) = (3, 166);
        video.key_frame_interval_longest = Some(3.0);
    });
    report.lag_ms = 5_000;
    let advice = advise(&report, &RULES);
    let ids: Vec<_> = advice.iter().map(|advice| advice.id).collect();
    assert_eq!(ids, ["uplink", "key_frame_interval", "b_frames"]);
    assert_eq!(health(&advice), Health::Poor);
    assert_eq!(health(&advice[1..]), Health::Fair);
    assert_eq!(health(&advice[2..]), Health::Good);
}
