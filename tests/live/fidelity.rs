//! What is decoded from HLS and DASH is the source, picture for picture and packet for packet, at the source's times.

use std::time::Duration;

use super::common::media::{Source, What, assert_run_of, frames, text};
use super::common::publisher::Publisher;
use super::common::server::Server;

/// RTMP's clock has milliseconds: a picture can stand one off on the way in, and its neighbour one the other way.
const RTMP_ROUNDING: Duration = Duration::from_millis(2);
/// Seconds of the stream that are decoded. The source is longer, so that the end of the stream is another test's affair.
const WATCHED: u32 = 8;

#[track_caller]
fn assert_faithful(source: Source) {
    let server = Server::start();
    let _publisher = Publisher::ffmpeg(&server.publish_url("show"), &source);
    server.wait_live("show", 3);
    let file = source.file();
    let kinds = [(source.video, What::Pictures), (source.audio, What::AudioPackets)];
    for (_, what) in kinds.into_iter().filter(|(present, _)| *present) {
        let original = frames(text(&file), what, None);
        // Half of what is watched is asked for: ffmpeg counts its seconds from the stream's first packet, audio or video.
        let rate = if what == What::Pictures { source.fps.0 / source.fps.1 } else { 46 };
        let at_least = (rate * WATCHED / 2) as usize;
        for address in ["/live/show/index.m3u8", "/live/show/manifest.mpd"] {
            println!("{source:?}: {what:?} of {address}");
            let seen = frames(&server.url(address), what, Some(WATCHED));
            assert_run_of(&seen, &original, at_least, RTMP_ROUNDING);
        }
    }
}

#[test]
fn plain_stream_arrives_unchanged() {
    assert_faithful(Source { seconds: 60, ..Source::default() });
}

#[test]
fn b_frames_at_ntsc_rate_arrive_unchanged() {
    assert_faithful(Source { fps: (30000, 1001), b_frames: 2, seconds: 60, ..Source::default() });
}

#[test]
fn fifty_pictures_a_second_arrive_unchanged() {
    assert_faithful(Source { fps: (50, 1), gop: 100, b_frames: 2, seconds: 60, ..Source::default() });
}

#[test]
fn audio_alone_arrives_unchanged() {
    assert_faithful(Source { video: false, seconds: 60, ..Source::default() });
}

#[test]
fn video_alone_arrives_unchanged() {
    assert_faithful(Source { audio: false, seconds: 60, ..Source::default() });
}
