//! What happens to a stream (CONFORMANCE §1.7), from real publishers to clients that are not ours. Each test has a server of its own and waits for media
//! most of its time, so that many run at once. What browsers make of it is in `tests/players/events.rs`.

#![forbid(unsafe_code)]

#[path = "../common/mod.rs"]
mod common;
mod watched;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::crafted::{AUDIO, Crafted, Script, VIDEO};
use common::keep;
use common::media::{Source, What, assert_run_of, frames, probe, text};
use common::process::run;
use common::publisher::Publisher;
use watched::{Kind, Packet, Rendition, Watched, of_kind, packets};

const HOUR_MS: i64 = 3_600_000;
/// RTMP's milliseconds, an audio frame that stands between two of them, and the picture grid: nobody sees or hears less than this.
const IN_SYNC_MS: f64 = 25.0;
/// A publisher's connection, and a machine that runs many of them.
const DATED_MS: f64 = 400.0;

fn source() -> Source {
    Source { seconds: 20, ..Source::default() }
}

/// Publishes `script` to its end.
#[track_caller]
fn watch(script: Script) -> (Watched, f64) {
    let server = Watched::server();
    let mut publisher = Crafted::publish(server.rtmp(), "show", script);
    publisher.wait();
    (Watched::of(server, "show"), publisher.began)
}

/// ffmpeg publishes `file` to its end.
#[track_caller]
fn watch_ffmpeg(file: &Path, options: &[&str]) -> (Watched, f64) {
    let server = Watched::server();
    let began = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs_f64() * 1_000.0;
    let mut publisher = Publisher::ffmpeg_file(&server.publish_url("show"), file, options);
    publisher.wait(Duration::from_secs(120));
    (Watched::of(server, "show"), began)
}

#[track_caller]
fn sent(source: &Source) -> Vec<Packet> {
    packets(text(&source.file()))
}

#[test]
fn timestamps_that_jump_by_an_hour_and_back_leave_no_trace() {
    let script = Script::of(&source()).each(|tag| {
        if (6_000..13_000).contains(&tag.stamp) {
            tag.stamp += HOUR_MS;
        }
    });
    let (watched, began) = watch(script);
    watched.assert_seamless();
    watched.assert_all_of(&sent(&source()), IN_SYNC_MS);
    watched.assert_dates(|at| began + at, DATED_MS);
}

#[test]
fn the_wrap_of_rtmps_clock_is_not_seen() {
    // 2^32 ms is 4,294,967.296 s: seven seconds after the start.
    let (watched, began) = watch_ffmpeg(&source().file(), &["-output_ts_offset", "4294960"]);
    watched.assert_seamless();
    watched.assert_all_of(&sent(&source()), IN_SYNC_MS);
    watched.assert_dates(|at| began + at, 1_500.0);
}

#[test]
fn equal_and_decreasing_times_harm_only_the_pictures_that_have_them() {
    let mut number = 0;
    let mut last = 0;
    let script = Script::of(&source()).each(|tag| {
        if tag.kind == VIDEO && !tag.is_header() {
            number += 1;
            let own = tag.stamp;
            match number % 20 {
                7 => tag.stamp = last,
                13 => tag.stamp = last - 20,
                _ => {}
            }
            last = own;
        }
    });
    let (watched, began) = watch(script);
    watched.assert_seamless();
    // A picture that is told the time of another stands up to a picture and 20 ms from its place.
    watched.assert_all_of(&sent(&source()), IN_SYNC_MS + 34.0 + 20.0);
    watched.assert_dates(|at| began + at, DATED_MS);
}

/// ffmpeg encodes what `arguments` say, once.
#[track_caller]
fn encoded(name: &str, arguments: &[&str]) -> PathBuf {
    let path = keep("test-media").join(name);
    if !path.exists() {
        let partial = path.with_extension("partial");
        let mut command = Command::new("ffmpeg");
        command.args(["-y", "-loglevel", "error"]).args(arguments).args(["-f", "flv"]).arg(&partial);
        run("ffmpeg (source)", &mut command, Duration::from_secs(60));
        std::fs::rename(&partial, &path).expect("target/ is writable");
    }
    path
}

#[test]
fn a_picture_rate_that_changes_all_the_time_is_kept() {
    // Two seconds of 30 pictures a second, two of 10, and so on.
    let file = encoded(
        "vfr.flv",
        &[
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=320x180:rate=30",
            "-f",
            "lavfi",
            "-i",
            "sine=frequency=440:sample_rate=48000",
            "-t",
            "20",
            "-vf",
            "select='lt(mod(t,4),2)+not(mod(n,3))'",
            "-fps_mode",
            "vfr",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-pix_fmt",
            "yuv420p",
            "-bf",
            "0",
            "-force_key_frames",
            "expr:gte(t,n_forced*2)",
            "-c:a",
            "aac",
            "-b:a",
            "96k",
        ],
    );
    let (watched, began) = watch_ffmpeg(&file, &[]);
    watched.assert_seamless();
    let source = packets(text(&file));
    watched.assert_all_of(&source, IN_SYNC_MS);
    watched.assert_dates(|at| began + at, 1_500.0);
    let pictures = of_kind(&watched.packets, Kind::Video);
    let steps: Vec<i64> = pictures.windows(2).map(|pair| (pair[1].pts - pair[0].pts).round() as i64).collect();
    let near = |wanted: i64| steps.iter().filter(|step| (**step - wanted).abs() <= 2).count();
    assert!(near(33) > 200 && near(100) > 60, "both rates are there: {steps:?}");
}

#[test]
fn a_picture_longer_than_a_part_makes_segments_without_parts() {
    let source = Source { fps: (1, 1), gop: 2, ..source() };
    let (watched, began) = watch_ffmpeg(&source.file(), &[]);
    watched.assert_seamless();
    watched.assert_all_of(&sent(&source), IN_SYNC_MS);
    watched.assert_dates(|at| began + at, 1_500.0);
    assert!(!watched.rendition("v0").text.contains("#EXT-X-PART:"), "{}", watched.rendition("v0").text);
    assert!(watched.rendition("a0").text.contains("#EXT-X-PART:"), "{}", watched.rendition("a0").text);
}

const LATE_MS: i64 = 5_000;

/// The source, in which nothing of `kind` comes before [`LATE_MS`].
fn without_a_beginning(kind: u8) -> Script {
    let mut script = Script::of(&source());
    script.0.retain_mut(|tag| {
        if tag.kind == kind && tag.is_header() {
            (tag.at, tag.stamp) = (LATE_MS as f64, LATE_MS);
        }
        tag.kind != kind || tag.stamp >= LATE_MS
    });
    script.0.sort_by(|a, b| a.at.total_cmp(&b.at).then(b.is_header().cmp(&a.is_header())));
    script
}

#[track_caller]
fn assert_added_in_sync(watched: &Watched, source: &[Packet]) {
    watched.assert_seamless();
    let multivariant = &watched.multivariant;
    for part in ["mp4a.40.2", "TYPE=AUDIO", "avc1.", "RESOLUTION="] {
        assert!(multivariant.contains(part), "{part}: {multivariant}");
    }
    watched.assert_all_of(source, IN_SYNC_MS);
    let (video, audio) = (watched.rendition("v0"), watched.rendition("a0"));
    assert_eq!(
        audio.first + audio.segments.len() as u64,
        video.first + video.segments.len() as u64,
        "segment numbers mean the same"
    );
}

#[test]
fn sound_that_begins_late_is_added_in_sync() {
    let (watched, _) = watch(without_a_beginning(AUDIO));
    // It joins at the beginning of a segment's time: what belongs to the part of a segment that had none is heard, too.
    let comes = |packet: &Packet| packet.kind == Kind::Video || packet.pts >= LATE_MS as f64;
    assert_added_in_sync(&watched, &sent(&source()).into_iter().filter(comes).collect::<Vec<_>>());
}

#[test]
fn pictures_that_begin_late_are_added_in_sync() {
    let (watched, _) = watch(without_a_beginning(VIDEO));
    // Those before their first key frame can be shown by nobody.
    let key_ms = source().gop as f64 * 1_000.0 / 30.0;
    let first = (LATE_MS as f64 / key_ms).ceil() * key_ms;
    let comes = |packet: &Packet| packet.kind == Kind::Audio || packet.pts >= first;
    assert_added_in_sync(&watched, &sent(&source()).into_iter().filter(comes).collect::<Vec<_>>());
}

#[test]
fn a_minute_without_a_key_frame_is_cut_all_the_same() {
    let source = Source { gop: 100_000, seconds: 64, ..Source::default() };
    let (watched, began) = watch_ffmpeg(&source.file(), &[]);
    watched.assert_seamless();
    watched.assert_all_of(&sent(&source), IN_SYNC_MS);
    watched.assert_dates(|at| began + at, 1_500.0);
    let video = watched.rendition("v0");
    assert!(video.segments.len() >= 14, "{}", video.text);
    assert!(
        !watched.multivariant.contains("INDEPENDENT-SEGMENTS") && !video.text.contains("INDEPENDENT"),
        "{}\n{}",
        watched.multivariant,
        video.text
    );
}

/// The publisher's clock runs `factor` times as fast as ours, for 50 s.
#[track_caller]
fn assert_follows_a_clock(factor: f64) {
    let source = Source { seconds: 50, ..Source::default() };
    let (watched, began) = watch(Script::of(&source).each(|tag| tag.at /= factor));
    watched.assert_seamless();
    watched.assert_all_of(&sent(&source), IN_SYNC_MS);
    // Left alone, the date of the last segment would be off by half a second. Half of that is what a busy machine may be late.
    let video = &watched.rendition("v0").segments;
    let first = Rendition::date(&video[0]) - began;
    watched.assert_dates(|at| began + first + at / factor, 250.0);
}

// A hundredth fast or slow for 50 s is a thousandth for eight minutes.
#[test]
fn a_fast_publishers_dates_stay_with_the_wall_clock() {
    assert_follows_a_clock(1.01);
}

#[test]
fn a_slow_publishers_dates_stay_with_the_wall_clock() {
    assert_follows_a_clock(1.0 / 1.01);
}

#[test]
fn bursts_are_cut_into_parts_as_short_as_any() {
    let (watched, began) = watch(Script::of(&source()).each(|tag| tag.at = (tag.at / 1_000.0).ceil() * 1_000.0));
    watched.assert_seamless();
    watched.assert_all_of(&sent(&source()), IN_SYNC_MS);
    // What came in a burst was taken during the second before.
    watched.assert_dates(|at| began + at, 1_000.0 + DATED_MS);
    assert!(watched.rendition("v0").text.matches("#EXT-X-PART:").count() > 10, "{}", watched.rendition("v0").text);
}

/// There are `count` discontinuities and no gap, in the same segments of all renditions.
#[track_caller]
fn assert_discontinuities(watched: &Watched, count: usize) {
    let numbers = |rendition: &Rendition| -> Vec<usize> {
        let all = rendition.segments.iter().enumerate();
        all.filter(|(_, segment)| segment.discontinuity).map(|(number, _)| number).collect()
    };
    let first = numbers(&watched.renditions[0]);
    for rendition in &watched.renditions {
        assert_eq!(rendition.discontinuities(), count, "{}", rendition.text);
        assert_eq!(numbers(rendition), first, "in the same segments everywhere:\n{}", rendition.text);
        assert!(!rendition.segments.iter().any(Rendition::is_gap), "{}", rendition.text);
    }
}

/// What ffmpeg decodes of `piece` is what it decodes of `file`.
#[track_caller]
fn assert_decodes(piece: &Path, file: &Path, what: What, at_least: usize) {
    let (seen, encoded) = (frames(text(piece), what, None), frames(text(file), what, None));
    assert_run_of(&seen, &encoded, at_least, Duration::from_millis(2));
}

#[test]
fn another_picture_size_and_profile_on_the_same_connection_are_one_discontinuity() {
    const AT: i64 = 8_000;
    let arguments = "-f lavfi -i testsrc2=size=640x360:rate=24 -f lavfi -i sine=frequency=440:sample_rate=48000 -t 9 \
                     -c:v libx264 -profile:v baseline -preset veryfast -pix_fmt yuv420p -g 48 -keyint_min 48 -sc_threshold 0 \
                     -c:a aac -b:a 96k -ac 2";
    let other = encoded("baseline.flv", &arguments.split_whitespace().collect::<Vec<_>>());
    let (before, behind) = (Script::of(&source()).until(AT as f64), Script::of_file(&other).until(AT as f64));
    let (counts, codecs) = ([before.count(VIDEO), behind.count(VIDEO)], [before.video_codec(), behind.video_codec()]);
    assert_ne!(codecs[0], codecs[1], "the profiles differ");
    let (watched, began) = watch(before.then(behind, AT));
    assert_discontinuities(&watched, 1);
    watched.assert_dates(|at| began + at, DATED_MS);
    let seen = of_kind(&watched.packets, Kind::Video);
    assert_eq!(seen.len(), counts[0] + counts[1], "every picture of both");
    let longest = seen.windows(2).map(|pair| pair[1].pts - pair[0].pts).fold(0.0, f64::max);
    assert!(longest < 60.0, "a hole of {longest} ms");
    let pieces = watched.pieces("v0");
    assert_eq!(pieces.len(), 2, "an init for each:\n{}", watched.rendition("v0").text);
    for ((piece, file), count) in pieces.iter().zip([source().file(), other]).zip(counts) {
        assert_decodes(piece.path(), &file, What::Pictures, count);
    }
    let multivariant = &watched.multivariant;
    assert!(multivariant.contains("RESOLUTION=640x360") && multivariant.contains(&codecs[1]), "{multivariant}");
    let told = watched.representations("v0");
    let mut formats: Vec<_> = told.iter().map(|(_, own)| (own.width, own.height, own.codecs.as_deref())).collect();
    formats.dedup();
    assert_eq!(formats, [(Some(320), Some(180), Some(&*codecs[0])), (Some(640), Some(360), Some(&*codecs[1]))]);
    let (at, _) = told.iter().find(|(_, own)| own.width == Some(640)).expect("a Period of the second size");
    let off = at - told[0].0 - AT as f64;
    assert!(off.abs() < DATED_MS, "the Period of the second size begins {off} ms off");
}

/// Sound of another form than that of a [`Source`].
struct Sound {
    /// When it is first sent, milliseconds: where the sound before ends, and far from a key frame.
    begins: i64,
    encoder: &'static str,
    rate: &'static str,
    channels: u32,
    /// As ffprobe has it, and as playlists do.
    codec: (&'static str, &'static str),
}

impl Sound {
    #[track_caller]
    fn file(&self) -> PathBuf {
        let Self { encoder, rate, channels, .. } = self;
        let arguments = format!(
            "-f lavfi -i sine=frequency=440:beep_factor=4:sample_rate={rate} -t 5 -c:a {encoder} -b:a 64k -ac {channels}"
        );
        encoded(&format!("{encoder}-{rate}-{channels}.flv"), &arguments.split(' ').collect::<Vec<_>>())
    }
}

#[test]
fn sound_of_another_codec_rate_or_layout_on_the_same_connection_is_a_discontinuity_each_time() {
    const SOUNDS: [Sound; 3] = [
        Sound { begins: 4_992, encoder: "libmp3lame", rate: "44100", channels: 2, codec: ("mp3", "mp4a.6B") },
        Sound { begins: 8_989, encoder: "aac", rate: "44100", channels: 1, codec: ("aac", "mp4a.40.2") },
        Sound { begins: 12_983, encoder: "libmp3lame", rate: "22050", channels: 1, codec: ("mp3", "mp4a.69") },
    ];
    // Frames that begin before it last until where the next sound begins.
    const EACH: f64 = 3_990.0;
    const END: f64 = 17_000.0;
    let first = SOUNDS[0].begins as f64;
    let mut script = Script::of(&source()).until(END);
    script.0.retain(|tag| tag.kind == VIDEO || tag.at < first);
    let mut wanted = sent(&source());
    wanted.retain(|packet| packet.dts < if packet.kind == Kind::Video { END } else { first });
    for sound in &SOUNDS {
        script = script.then(Script::of_file(&sound.file()).until(EACH), sound.begins);
        let begins = sound.begins as f64;
        let packets = packets(text(&sound.file())).into_iter().filter(|packet| packet.dts < EACH);
        wanted.extend(packets.map(|packet| Packet { dts: packet.dts + begins, pts: packet.pts + begins, ..packet }));
    }
    script.0.sort_by(|a, b| a.at.total_cmp(&b.at));
    let (watched, began) = watch(script);
    assert_discontinuities(&watched, SOUNDS.len());
    watched.assert_all_of(&wanted, IN_SYNC_MS);
    watched.assert_dates(|at| began + at, DATED_MS);
    let pieces = watched.pieces("a0");
    assert_eq!(pieces.len(), 1 + SOUNDS.len(), "an init for each:\n{}", watched.rendition("a0").text);
    for (sound, piece) in SOUNDS.iter().zip(&pieces[1..]) {
        let told = &probe(text(piece.path()))["streams"][0];
        assert_eq!(
            (&told["codec_name"], &told["sample_rate"], &told["channels"]),
            (&sound.codec.0.into(), &sound.rate.into(), &sound.channels.into()),
            "{told}"
        );
        assert_decodes(piece.path(), &sound.file(), What::Sound, 150);
    }
    let Sound { codec: (_, last), channels, .. } = &SOUNDS[2];
    let multivariant = &watched.multivariant;
    let named = multivariant.contains(last) && multivariant.contains(&format!("CHANNELS=\"{channels}\""));
    assert!(named, "the newest sound is named: {multivariant}");
    let told = watched.representations("a0");
    let mut formats: Vec<_> =
        told.iter().map(|(_, own)| (own.codecs.as_deref(), own.audioSamplingRate.as_deref())).collect();
    formats.dedup();
    let each = SOUNDS.iter().map(|sound| (sound.codec.1, sound.rate));
    let wanted: Vec<_> =
        std::iter::once(("mp4a.40.2", "48000")).chain(each).map(|(codec, rate)| (Some(codec), Some(rate))).collect();
    assert_eq!(formats, wanted, "a Period for each");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an outage is what is tested; there is no condition to wait for")]
fn an_outage_is_as_long_as_it_is_and_dates_are_right_behind_it() {
    const OUTAGE: Duration = Duration::from_secs(3);
    let server = common::server::Server::start_with(&[
        ("RILLCAST__PACKAGER__WINDOW", "3min"),
        ("RILLCAST__INGEST__RESUME_WINDOW", "4s"),
    ]);
    let script = Script::of(&source()).until(7_000.0);
    let mut first = Crafted::publish(server.rtmp(), "show", script.clone());
    first.wait();
    thread::sleep(OUTAGE);
    let mut second = Crafted::publish(server.rtmp(), "show", script.clone());
    second.wait();
    let watched = Watched::of(server, "show");
    let seen = of_kind(&watched.packets, Kind::Video);
    assert_eq!(seen.len(), 2 * script.count(VIDEO), "every picture of both");
    let outage = seen.windows(2).map(|pair| pair[1].pts - pair[0].pts).fold(0.0, f64::max);
    assert!((outage - (second.began - first.began - 7_000.0)).abs() < DATED_MS, "{outage} ms");
    for Rendition { segments, text, uri, .. } in &watched.renditions {
        assert!(!segments.iter().any(|segment| segment.discontinuity), "{uri}:\n{text}");
        let behind = segments
            .windows(2)
            .find(|pair| Rendition::is_gap(&pair[0]) && !Rendition::is_gap(&pair[1]))
            .expect("media behind the gaps");
        let off = Rendition::date(&behind[1]) - second.began;
        assert!(off.abs() < DATED_MS, "{uri} goes on {off} ms off:\n{text}");
    }
}
