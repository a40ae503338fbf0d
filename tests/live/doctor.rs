//! The ingest doctor: what the API says of publishers as they really are.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::common::media::Source;
use super::common::process::Process;
use super::common::publisher::Publisher;
use super::common::server::{Server, media_playlists};
use super::common::{http, root, wait_for};
use super::hostile::peer::{Chunks, Peer, VIDEO};

/// Ten seconds of media are measured; a busy machine takes longer to bring them.
const MEASURED: Duration = Duration::from_secs(40);

/// Waits until the report of `name` is as `wanted` says, and gives it.
#[track_caller]
fn report(server: &Server, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for(what, MEASURED, || {
            last = server.stream(name)?["ingest"].clone();
            wanted(&last).then(|| last.clone())
        })
    }));
    found.unwrap_or_else(|_| panic!("{what}: the last report was {last:#}"))
}

fn advice<'a>(report: &'a Value, id: &str) -> Option<&'a Value> {
    report["advice"].as_array()?.iter().find(|advice| advice["id"] == id)
}

fn seconds(report: &Value) -> f64 {
    report["seconds"].as_f64().unwrap_or(0.0)
}

/// ffmpeg with these arguments between inputs and output.
#[track_caller]
fn ffmpeg(input: &[&str], arguments: &[&str], url: &str) -> Process {
    let mut command = Command::new("ffmpeg");
    command.args(["-loglevel", "warning", "-re"]).args(input).args(arguments);
    Process::start("ffmpeg (publisher)", command.args(["-f", "flv", url]))
}

const PICTURE: [&str; 4] = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30"];
const X264: [&str; 6] = ["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1"];

#[test]
fn a_good_publisher_is_healthy_and_described() {
    let server = Server::resuming("30s");
    let mut publisher = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    let report = report(&server, "show", "a report of ten seconds", |report| seconds(report) > 10.0);
    let video = &report["video"];
    assert_eq!((video["width"].as_u64(), video["height"].as_u64()), (Some(320), Some(180)), "{report:#}");
    assert!((29.5..30.5).contains(&video["fps"].as_f64().expect("a rate")), "{report:#}");
    assert_eq!((&video["steadiness"], &video["b_frames"]), (&"steady".into(), &0.into()), "{report:#}");
    assert_eq!(video["key_frame_interval"], 2.0, "{report:#}");
    assert!(video["format"].as_str().is_some_and(|format| format.starts_with("H.264 High, level ")), "{report:#}");
    let bitrate = video["bitrate"].as_u64().expect("a bit rate");
    assert!((300_000..1_200_000).contains(&bitrate), "{bitrate}: the source is made at 600 kbit/s");
    let audio = &report["audio"];
    assert_eq!(
        (&audio["format"], &audio["sample_rate"], &audio["channels"]),
        (&"AAC-LC".into(), &48_000.into(), &2.into())
    );
    assert!(report["av_skew_ms"].as_i64().is_some_and(|skew| skew.abs() < 200), "{report:#}");
    assert!(report["encoder"].as_str().is_some_and(|encoder| encoder.contains("Lavf")), "{report:#}");
    assert_eq!((&report["connected"], &report["refused"]), (&true.into(), &Value::Array(vec![])), "{report:#}");
    assert_ne!(report["health"], "poor", "{report:#}");
    for id in [
        "key_frame_interval",
        "b_frames",
        "frame_rate_missed",
        "frame_rate_variable",
        "audio_codec",
        "repairs",
        "av_skew",
    ] {
        assert!(advice(&report, id).is_none(), "{report:#}");
    }
    // What is known last stays while the stream is there, and says that the encoder is gone.
    publisher.wait(Duration::from_secs(60));
    let gone = self::report(&server, "show", "the publisher's departure", |report| report["connected"] == false);
    assert_eq!((&gone["health"], &gone["video"]["fps"]), (&"poor".into(), &video["fps"]), "{gone:#}");
}

#[test]
fn key_frames_eight_seconds_apart_are_told_as_viewers_wait() {
    let server = Server::start();
    let source = Source { gop: 240, ..Source::default() };
    let _publisher = Publisher::ffmpeg(&server.publish_url("rare"), &source);
    let report = report(&server, "rare", "a key frame distance", |report| {
        report["video"]["key_frame_interval"].as_f64().is_some_and(|seconds| seconds > 7.9)
    });
    assert_eq!(report["video"]["key_frame_interval"], 8.0, "{report:#}");
    let advice = advice(&report, "key_frame_interval").expect("advice about key frames");
    assert_eq!(advice["severity"], "error");
    assert_eq!(advice["finding"], "Key frames come too rarely: viewers now wait up to 8 s for the first picture.");
    let remedy = advice["remedy"].as_str().expect("words");
    assert!(remedy.starts_with("Set the keyframe interval in OBS to 2 s"), "{remedy}");
    assert_eq!(report["health"], "poor");
}

#[test]
fn b_frames_are_counted_and_their_delay_is_told() {
    let server = Server::start();
    let source = Source { b_frames: 3, ..Source::default() };
    let _publisher = Publisher::ffmpeg(&server.publish_url("b"), &source);
    let report = report(&server, "b", "advice about B-frames", |report| advice(report, "b_frames").is_some());
    assert_eq!(advice(&report, "b_frames").expect("it is there")["severity"], "info");
    let count = report["video"]["b_frames"].as_u64().expect("a number");
    assert!((1..=3).contains(&count), "{report:#}");
    let delay = report["video"]["reorder_ms"].as_u64().expect("a number");
    assert!((60..=170).contains(&delay), "{report:#}");
}

#[test]
fn a_variable_frame_rate_is_seen() {
    let server = Server::start();
    // Of every 30 pictures the first ten come one by one, then every fifth alone.
    let vary = ["-vf", "select='lt(mod(n,30),10)+not(mod(n,5))',format=yuv420p", "-fps_mode", "vfr", "-g", "20"];
    let arguments: Vec<&str> = X264.into_iter().chain(["-tune", "zerolatency"]).chain(vary).collect();
    let _publisher = ffmpeg(&PICTURE, &arguments, &server.publish_url("vfr"));
    let report = report(&server, "vfr", "a variable rate", |report| {
        report["video"]["steadiness"] == "variable" && seconds(report) > 6.0
    });
    let told = ["frame_rate_variable", "frame_rate_missed"].iter().any(|id| advice(&report, id).is_some());
    assert!(told, "{report:#}");
    assert_eq!(report["health"], "fair", "{report:#}");
}

#[test]
fn hevc_over_plain_flv_is_refused_in_words_that_help() {
    let server = Server::start();
    // ffmpeg 5 writes no HEVC into FLV; encoders that do call it codec 12.
    let mut peer = Peer::dial(server.rtmp());
    let (code, _) = peer.publish("live", "hevc");
    assert_eq!(code, "NetStream.Publish.Start");
    for (time, tag) in [(0, [0x1C, 0, 0, 0, 0]), (40, [0x1C, 1, 0, 0, 0]), (80, [0x2C, 1, 0, 0, 0])] {
        peer.send(&Chunks::of(6, time, VIDEO, 1, &[&tag[..], &[0; 100]].concat()).in_a_row());
    }
    let report = report(&server, "hevc", "the refusal", |report| advice(report, "video_refused").is_some());
    let refused = &report["refused"][0];
    assert_eq!(
        (&refused["kind"], &refused["why"]),
        (&"video".into(), &"HEVC (codec 12) video is not taken; send H.264".into())
    );
    assert_eq!(report["repairs"][0]["kind"], "unsupported", "{report:#}");
    let advice = advice(&report, "video_refused").expect("it is there");
    assert_eq!(advice["severity"], "error");
    assert!(advice["remedy"].as_str().is_some_and(|remedy| remedy.contains("H.264 encoder")), "{advice}");
    assert_eq!(report["health"], "poor");
}

#[test]
fn a_refused_codec_of_ffmpeg_leaves_the_sound() {
    let server = Server::start();
    let sound = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"];
    let input: Vec<&str> = PICTURE.into_iter().chain(["-re"]).chain(sound).collect();
    let _publisher = ffmpeg(&input, &["-c:v", "flv", "-c:a", "aac"], &server.publish_url("sorenson"));
    let report = report(&server, "sorenson", "sound without pictures", |report| {
        advice(report, "video_refused").is_some() && report["audio"]["bitrate"].is_number()
    });
    assert_eq!(report["refused"][0]["why"], "Sorenson H.263 video is not taken; send H.264");
    assert_eq!((&report["video"], &report["audio"]["sample_rate"]), (&Value::Null, &44_100.into()), "{report:#}");
}

#[test]
fn sound_that_browsers_do_not_play_is_told() {
    let server = Server::start();
    let input = ["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"];
    let _publisher = ffmpeg(&input, &["-c:a", "libmp3lame"], &server.publish_url("mp3"));
    let report = report(&server, "mp3", "advice about MP3", |report| report["health"] == "poor");
    // Refused, or taken for those players that know it: either way the streamer is told to send AAC.
    let said = ["audio_refused", "audio_codec"].into_iter().find_map(|id| advice(&report, id));
    let said = said.unwrap_or_else(|| panic!("{report:#}"));
    assert!(said["finding"].as_str().is_some_and(|words| words.contains("MP3")), "{said}");
    assert!(said["remedy"].as_str().is_some_and(|words| words.contains("AAC")), "{said}");
}

#[test]
fn every_metric_that_dashboard_and_alerts_name_exists() {
    let server = Server::start();
    let _publisher = Publisher::ffmpeg(&server.publish_url("not-a-label"), &Source::default());
    server.wait_live("not-a-label", 1);
    let mut peer = Peer::dial(server.rtmp());
    peer.publish("api", "reserved");
    let families = wait_for("a refusal to be counted", MEASURED, || {
        let text = http::get(server.admin(), "/metrics").text();
        text.contains("rillcast_rtmp_refused_total{").then_some(text)
    });
    let kinds: BTreeMap<&str, &str> =
        families.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut named = BTreeSet::new();
    for file in ["alerts.yml", "alerts.test.yml", "grafana-dashboard.json", "README.md"] {
        let text = std::fs::read_to_string(root().join("deploy").join(file)).expect("deploy/ is there");
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        named.extend(text.split(|c| !word(c)).filter(|word| is_metric(word)).map(str::to_owned));
    }
    assert!(named.len() > 15, "the files name metrics: {named:?}");
    for name in &named {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| name.strip_suffix(part))
            .filter(|family| kinds.get(family).is_some_and(|kind| *kind == "histogram"));
        assert!(kinds.contains_key(family.unwrap_or(name)), "deploy/ names {name}, which /metrics does not have");
    }
    // And the other way round: what there is, is in the manual.
    let manual = std::fs::read_to_string(root().join("deploy/README.md")).expect("deploy/ is there");
    for name in kinds.keys().filter(|name| name.starts_with("rillcast_")) {
        assert!(manual.contains(&format!("`{name}`")), "deploy/README.md does not explain {name}");
    }
    assert!(families.contains("rillcast_publishers_by_protocol{protocol=\"rtmp\"} 1"), "{families}");
    assert!(families.contains("rillcast_streams_by_health{health=\"good\"}"), "{families}");
    assert_measured(&families, "rillcast_part_publish_seconds", 10.0);
    // Two seconds of the source, and the test's own look at what came of it.
    assert!(value(&families, "rillcast_ingest_bytes_total") > 50_000.0, "{families}");
    assert!(value(&families, "rillcast_viewers") > 0.0, "{families}");
    let mut requests = families.lines().filter(|line| line.starts_with("rillcast_http_requests_total{"));
    let is_good = |line: &str| line.contains("kind=\"playlist\"") && line.contains("code=\"200\"");
    assert!(requests.any(is_good), "{families}");
    assert!(!families.contains("not-a-label"), "a stream's name is no label: {families}");
}

/// What a series is at.
#[track_caller]
fn value(metrics: &str, name: &str) -> f64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in\n{metrics}"))
}

/// That a histogram has seen so many times at least, which are some, and no long ones.
#[track_caller]
fn assert_measured(metrics: &str, name: &str, least: f64) {
    let [sum, count, short] =
        ["_sum", "_count", "_bucket{le=\"0.5\"}"].map(|part| value(metrics, &format!("{name}{part}")));
    assert!(count >= least && short > count * 0.9, "{name}: {short} of {count} within half a second");
    assert!(sum > 0.0 && sum < count, "{name}: {sum} s in {count}");
}

fn is_metric(word: &str) -> bool {
    // Folders of the process are named like metrics by nobody but Prometheus' clients.
    let process = ["cpu_seconds_total", "open_fds", "max_fds", "resident_memory_bytes", "start_time_seconds"];
    let known = |rest| process.contains(&rest);
    word.strip_prefix("rillcast_").is_some_and(|rest| !rest.is_empty())
        || word.strip_prefix("process_").is_some_and(known)
}

#[test]
fn a_viewer_who_waits_is_measured_to_the_first_byte() {
    let server = Server::start();
    let _publisher = Publisher::ffmpeg(&server.publish_url("show"), &Source::default());
    server.wait_live("show", 1);
    let multivariant = server.get("/live/show/index.m3u8").text();
    let uri = media_playlists(&multivariant).into_iter().last().expect("a rendition");
    let playlist = server.get(&format!("/live/show/{uri}")).text();
    let next = playlist.split("EXT-X-PRELOAD-HINT:").nth(1).and_then(|rest| rest.split("URI=\"").nth(1));
    let next = next.and_then(|rest| rest.split('"').next()).expect("a hint");
    let folder = uri.rsplit_once('/').expect("a folder").0;
    assert_eq!(server.get(&format!("/live/show/{folder}/{next}")).status, 200);
    let metrics = wait_for("the wait to be measured", MEASURED, || {
        let metrics = http::get(server.admin(), "/metrics").text();
        (value(&metrics, "rillcast_part_first_byte_seconds_count") > 0.0).then_some(metrics)
    });
    assert_measured(&metrics, "rillcast_part_first_byte_seconds", 1.0);
}

#[test]
fn a_trace_can_be_followed_through_the_log() {
    let mut server = Server::start_with(&[("RILLCAST__LOG__FILTER", "rillcast=debug")]);
    let line = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer =
        http::get_with(server.http(), "/t/a-secret-token/live/show/index.m3u8?key=secret", &[("traceparent", line)]);
    assert_eq!(answer.status, 403);
    server.process().wait_for_log("0af7651916cd43dd8448eb211c80319c", Duration::from_secs(10));
    let log = server.process().log();
    let traced = log.lines().find(|line| line.contains("0af7651916cd43dd8448eb211c80319c")).expect("it is there");
    for part in ["connection=", "id=", "b7ad6b7169203331", "status=403"] {
        assert!(traced.contains(part), "no {part} in {traced}");
    }
    assert!(!log.contains("secret"), "paths stay out of the log: {log}");
}
