//! What is decoded from HLS and DASH is the source, picture for picture and packet for packet, at the source's times.

use std::time::Duration;

use tempfile::TempDir;

use super::common::media::{Frame, Source, What, assert_run_of, frames, text};
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
        println!("{source:?}");
        assert_arrives(&server, what, WATCHED, &original, at_least);
    }
}

/// What ffmpeg reads of `seconds` of `live/show`, over HLS and then over DASH, is an unbroken run of `original`.
#[track_caller]
pub fn assert_arrives(server: &Server, what: What, seconds: u32, original: &[Frame], at_least: usize) {
    println!("{what:?} of HLS");
    let seen = frames(&server.url("/live/show/index.m3u8"), what, Some(seconds));
    assert_run_of(&seen, original, at_least, RTMP_ROUNDING);
    println!("{what:?} of DASH");
    let folder = tempfile::tempdir().expect("the temporary folder is writable");
    let seen = frames(&still_mpd(server, &folder), what, Some(seconds));
    assert_run_of(&seen, original, at_least, RTMP_ROUNDING);
}

/// What the MPD lists now, as a file. ffmpeg, which reckons in whole seconds where it is in an MPD that it has read again, skips a segment or takes one
/// twice when it is late: one in four times on a busy machine, whatever serves it. Players that follow a live MPD are in `tests/players`.
fn still_mpd(server: &Server, folder: &TempDir) -> String {
    let live = server.get("/live/show/manifest.mpd").text();
    let (root, rest) = live.split_once("\n <Period").expect("an MPD with a Period");
    let root = root.replace("type=\"dynamic\"", "type=\"static\"");
    let file = folder.path().join("still.mpd");
    let base = server.url("/live/show/");
    std::fs::write(&file, format!("{root}<BaseURL>{base}</BaseURL>\n <Period{rest}")).expect("the folder is writable");
    text(&file).to_owned()
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
