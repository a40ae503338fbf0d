//! Codecs that real encoders send: what is decoded from HLS and DASH is the source, and what playlists and manifests call it is the truth.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use super::common::keep;
use super::common::media::{What, frames, probe, text};
use super::common::process::run;
use super::common::publisher::Publisher;
use super::common::server::Server;
use super::fidelity::assert_arrives;

const LIMIT: Duration = Duration::from_secs(120);
const WATCHED: u32 = 6;

/// A source of 40 s that ffmpeg makes with `arguments`, once.
#[track_caller]
fn source(name: &str, arguments: &str) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = keep("test-media").join(format!("codec-{name}.flv"));
    if path.exists() {
        return path;
    }
    let partial = path.with_extension("partial");
    let mut command = Command::new("ffmpeg");
    command.args(["-y", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30"]);
    command.args(["-f", "lavfi", "-i", "sine=frequency=440:beep_factor=4:sample_rate=48000", "-t", "40"]);
    command.args("-c:v libx264 -preset ultrafast -g 60 -keyint_min 60 -sc_threshold 0".split(' '));
    run("ffmpeg (source)", command.args(arguments.split(' ')).args(["-f", "flv"]).arg(&partial), LIMIT);
    std::fs::rename(&partial, &path).expect("target/ is writable");
    path
}

/// Publishes `file` and asserts that pictures and sound come back as they are in it, over HLS and DASH. Gives the server with the stream
/// running.
#[track_caller]
fn assert_faithful(file: &Path, options: &[&str]) -> (Server, Publisher) {
    let server = Server::start();
    let publisher = Publisher::ffmpeg_file(&server.publish_url("show"), file, options);
    server.wait_live("show", 2);
    for (what, at_least) in [(What::Pictures, 90), (What::AudioPackets, 60)] {
        let original = frames(text(file), what, None);
        println!("{}", file.display());
        assert_arrives(&server, what, WATCHED, &original, at_least);
    }
    (server, publisher)
}

/// What ffprobe says of the first stream of that kind.
#[track_caller]
fn stream(input: &str, kind: &str) -> serde_json::Value {
    let all = probe(input);
    let found = all["streams"].as_array().expect("streams").iter().find(|stream| stream["codec_type"] == kind).cloned();
    found.unwrap_or_else(|| panic!("no {kind} in {all}"))
}

/// What is the same of a stream in the source and in HLS and DASH.
#[track_caller]
fn assert_same_facts(server: &Server, file: &Path, kind: &str, facts: &[&str]) {
    let original = stream(text(file), kind);
    for address in ["/live/show/index.m3u8", "/live/show/manifest.mpd"] {
        let seen = stream(&server.url(address), kind);
        for fact in facts {
            assert_eq!(seen[fact], original[fact], "{fact} of {address}");
        }
    }
}

#[track_caller]
fn assert_called(server: &Server, codecs: &str) {
    let multivariant = server.get("/live/show/index.m3u8").text();
    assert!(multivariant.contains(&format!("CODECS=\"{codecs}\"")), "{multivariant}");
    let mpd = server.get("/live/show/manifest.mpd").text();
    for codec in codecs.split(',') {
        assert!(mpd.contains(&format!("codecs=\"{codec}\"")), "{codec}: {mpd}");
    }
}

#[test]
fn mp3_arrives_unchanged() {
    for (name, arguments, codec) in [
        ("mp3-44100", "-pix_fmt yuv420p -c:a libmp3lame -ar 44100 -ac 2 -b:a 128k", "mp4a.6B"),
        ("mp3-22050-mono", "-pix_fmt yuv420p -c:a libmp3lame -ar 22050 -ac 1 -b:a 48k", "mp4a.69"),
    ] {
        let file = source(name, arguments);
        let (server, _publisher) = assert_faithful(&file, &[]);
        assert_same_facts(&server, &file, "audio", &["codec_name", "sample_rate", "channels"]);
        let multivariant = server.get("/live/show/index.m3u8").text();
        assert!(multivariant.contains(codec), "{multivariant}");
        assert_eq!(
            multivariant.matches("#EXT-X-STREAM-INF").count(),
            2,
            "the picture alone, for browsers: {multivariant}"
        );
        assert!(server.get("/live/show/manifest.mpd").text().contains(&format!("codecs=\"{codec}\"")));
    }
}

#[test]
fn aac_of_every_layout_arrives_unchanged() {
    for channels in 1..=6 {
        let arguments = format!("-pix_fmt yuv420p -c:a aac -b:a 192k -ac {channels}");
        let file = source(&format!("aac-{channels}"), &arguments);
        let (server, _publisher) = assert_faithful(&file, &[]);
        assert_same_facts(&server, &file, "audio", &["codec_name", "sample_rate", "channels", "channel_layout"]);
        let multivariant = server.get("/live/show/index.m3u8").text();
        assert!(multivariant.contains(&format!("CHANNELS=\"{channels}\"")), "{multivariant}");
    }
}

#[test]
fn high_profiles_of_avc_arrive_unchanged() {
    for (name, arguments, codec) in [
        ("high10", "-pix_fmt yuv420p10le -profile:v high10", "avc1.6E"),
        ("high422", "-pix_fmt yuv422p10le -profile:v high422", "avc1.7A"),
        ("high444", "-pix_fmt yuv444p -profile:v high444", "avc1.F4"),
        ("high444-lossless", "-pix_fmt yuv444p -profile:v high444 -qp 0", "avc1.F4"),
    ] {
        let file = source(name, &format!("{arguments} -c:a aac -ac 2"));
        let (server, _publisher) = assert_faithful(&file, &[]);
        assert_same_facts(&server, &file, "video", &["codec_name", "profile", "pix_fmt", "level", "width", "height"]);
        let multivariant = server.get("/live/show/index.m3u8").text();
        assert!(multivariant.contains(&format!("CODECS=\"{codec}")), "{multivariant}");
    }
}

/// Debian has no encoder of HE-AAC. AAC-LC that is declared as HE-AAC is a legal stream of it: frames without SBR data, which a decoder
/// brings to the doubled rate all the same.
#[test]
fn he_aac_is_told_and_timed_by_the_rate_that_comes_out() {
    let plain = source("he-aac-core", "-pix_fmt yuv420p -c:a aac -ar 24000 -ac 2 -b:a 64k");
    let bytes = std::fs::read(&plain).expect("the source is there");
    // The configuration's tag: sequence header, AAC-LC at 24 kHz, stereo, and an extension that says no.
    let written = [0xAF, 0, 0x13, 0x10, 0x56, 0xE5, 0];
    let at = bytes.windows(written.len()).position(|bytes| bytes == written).expect("ffmpeg's configuration");
    for (name, asc, codec) in [
        ("backward-compatible", [0x13, 0x10, 0x56, 0xE5, 0x98], "mp4a.40.5"),
        ("hierarchical", [0x2B, 0x11, 0x88, 0, 0], "mp4a.40.5"),
    ] {
        let mut declared = bytes.clone();
        declared[at + 2..at + 7].copy_from_slice(&asc);
        let file = keep("test-media").join(format!("codec-he-aac-{name}.flv"));
        std::fs::write(&file, declared).expect("target/ is writable");
        let (server, _publisher) = assert_faithful(&file, &[]);
        let codecs = server.get("/live/show/index.m3u8").text();
        assert!(codecs.contains(&format!(",{codec}\"")), "{codecs}");
        assert!(server.get("/live/show/manifest.mpd").text().contains("audioSamplingRate=\"48000\""));
        for address in ["/live/show/index.m3u8", "/live/show/manifest.mpd"] {
            let seen = stream(&server.url(address), "audio");
            assert_eq!((&seen["codec_name"], &seen["sample_rate"]), (&"aac".into(), &"48000".into()), "{name}: {seen}");
        }
    }
}

#[test]
fn a_stream_without_metadata_is_a_stream_like_any_other() {
    let file = source("plain", "-pix_fmt yuv420p -c:a aac -ac 2");
    let (server, _publisher) = assert_faithful(&file, &["-flvflags", "no_metadata"]);
    assert_called(&server, &format!("{},mp4a.40.2", video_codec(&server)));
    let track = &server.stream("show").expect("it is live")["tracks"][0];
    assert_eq!((track["width"].as_u64(), track["height"].as_u64()), (Some(320), Some(180)));
}

fn video_codec(server: &Server) -> String {
    let multivariant = server.get("/live/show/index.m3u8").text();
    let at = multivariant.find("avc1.").expect("a video codec");
    multivariant[at..at + 11].to_owned()
}
