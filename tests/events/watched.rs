//! What clients that are not ours make of a stream that is over: m3u8-rs of its playlists, dash-mpd of its MPD, ffmpeg of its media.

use std::io::Write as _;
use std::iter;
use std::process::Command;
use std::time::Duration;

use dash_mpd_core::{Period, Representation};
use m3u8_rs::MediaSegment;
use tempfile::NamedTempFile;

use crate::common::process::run;
use crate::common::server::{Server, media_playlists};
use crate::common::wait_for;

const LIMIT: Duration = Duration::from_secs(60);
/// PART-TARGET and EXT-X-TARGETDURATION of the defaults.
const PART_TARGET: f64 = 0.215;
const TARGET_DURATION: f32 = 4.0;
/// Dates are re-anchored in steps below this (ARCHITECTURE §6), and written in milliseconds.
const DATE_STEP_MS: f64 = 51.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Video,
    Audio,
}

/// One packet as it is coded.
#[derive(Clone, Debug)]
pub struct Packet {
    pub kind: Kind,
    /// Decode and presentation time in milliseconds.
    pub dts: f64,
    pub pts: f64,
    pub md5: String,
}

/// The packets of an input, in the order of each stream.
#[track_caller]
pub fn packets(input: &str) -> Vec<Packet> {
    let mut command = Command::new("ffmpeg");
    // Beside MP3 the picture is offered a second time, alone.
    command.args([
        "-loglevel",
        "error",
        "-i",
        input,
        "-map",
        "0:v:0?",
        "-map",
        "0:a:0?",
        "-c",
        "copy",
        "-copyts",
        "-f",
        "framemd5",
        "-",
    ]);
    let text = run("ffmpeg (framemd5)", &mut command, LIMIT);
    let (mut ticks, mut kinds, mut packets) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(base) = line.strip_prefix("#tb ") {
            let (_, fraction) = base.split_once(": ").expect("`#tb 0: 1/90000`");
            let (numerator, denominator) = fraction.split_once('/').expect("a fraction");
            ticks.push(
                1_000.0 * numerator.parse::<f64>().expect("a number") / denominator.parse::<f64>().expect("a number"),
            );
        } else if let Some(media) = line.strip_prefix("#media_type ") {
            kinds.push(if media.ends_with("video") { Kind::Video } else { Kind::Audio });
        } else if !line.starts_with('#') {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let [stream, dts, pts, _, _, md5, ..] = fields[..] else { continue };
            let stream: usize = stream.parse().expect("a number");
            let time = |text: &str| text.parse::<f64>().expect("a number") * ticks[stream];
            packets.push(Packet { kind: kinds[stream], dts: time(dts), pts: time(pts), md5: md5.to_owned() });
        }
    }
    packets
}

pub fn of_kind(packets: &[Packet], kind: Kind) -> Vec<Packet> {
    packets.iter().filter(|packet| packet.kind == kind).cloned().collect()
}

/// One rendition from its first segment to its last.
pub struct Rendition {
    pub uri: String,
    pub text: String,
    pub first: u64,
    pub segments: Vec<MediaSegment>,
}

impl Rendition {
    pub fn discontinuities(&self) -> usize {
        self.segments.iter().filter(|segment| segment.discontinuity).count()
    }

    pub fn is_gap(segment: &MediaSegment) -> bool {
        segment.unknown_tags.iter().any(|tag| tag.tag == "X-GAP")
    }

    /// Milliseconds of the Unix clock at which a segment begins.
    pub fn date(segment: &MediaSegment) -> f64 {
        segment.program_date_time.expect("each segment is dated").timestamp_millis() as f64
    }
}

/// A stream that is over, as it was published from beginning to end.
pub struct Watched {
    server: Server,
    base: String,
    pub multivariant: String,
    pub renditions: Vec<Rendition>,
    pub packets: Vec<Packet>,
}

impl Watched {
    /// A server that keeps all of a stream, which ends with its publisher.
    #[track_caller]
    pub fn server() -> Server {
        Server::start_with(&[("RILLCAST__PACKAGER__WINDOW", "3min")])
    }

    /// Waits for the end of `name` and reads all of it; asserts what must hold of every stream.
    #[track_caller]
    pub fn of(server: Server, name: &str) -> Self {
        let base = format!("/live/{name}/");
        wait_for(&format!("the end of {name}"), LIMIT, || {
            server.stream(name).is_none_or(|stream| stream["state"] == "ended").then_some(())
        });
        let multivariant = server.get(&format!("{base}index.m3u8")).text();
        let renditions = media_playlists(&multivariant).into_iter().map(|uri| {
            let text = server.get(&format!("{base}{uri}")).text();
            let (_, playlist) =
                m3u8_rs::parse_media_playlist(text.as_bytes()).unwrap_or_else(|error| panic!("{error}:\n{text}"));
            assert!(playlist.end_list, "the stream is over:\n{text}");
            Rendition { uri, first: playlist.media_sequence, segments: playlist.segments, text }
        });
        let watched = Self {
            renditions: renditions.collect(),
            packets: packets(&server.url(&format!("{base}index.m3u8"))),
            multivariant,
            base,
            server,
        };
        watched.assert_rules();
        watched
    }

    #[track_caller]
    pub fn rendition(&self, id: &str) -> &Rendition {
        self.renditions
            .iter()
            .find(|rendition| rendition.uri.contains(&format!("/{id}/")))
            .unwrap_or_else(|| panic!("no {id}:\n{}", self.multivariant))
    }

    /// What rendition `id` lists behind each EXT-X-MAP, as a file that begins with that init.
    #[track_caller]
    pub fn pieces(&self, id: &str) -> Vec<NamedTempFile> {
        let Rendition { uri, segments, .. } = self.rendition(id);
        let folder = format!("{}{}", self.base, uri.trim_end_matches("index.m3u8"));
        let piece = |segments: &[MediaSegment]| {
            let init = &segments[0].map.as_ref().expect("the first segment has an init").uri;
            let mut file = NamedTempFile::new().expect("the temporary folder is writable");
            for uri in iter::once(init).chain(segments.iter().map(|segment| &segment.uri)) {
                let response = self.server.get(&format!("{folder}{uri}"));
                assert_eq!(response.status, 200, "{folder}{uri}");
                file.write_all(&response.body).expect("the temporary folder is writable");
            }
            file
        };
        segments.chunk_by(|_, next| next.map.is_none()).map(piece).collect()
    }

    /// What the MPD says of rendition `id` in each Period, behind where that begins in milliseconds.
    #[track_caller]
    pub fn representations(&self, id: &str) -> Vec<(f64, Representation)> {
        let text = self.server.get(&format!("{}manifest.mpd", self.base)).text();
        let mpd = dash_mpd_core::parse(&text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
        let own = |period: &Period| {
            let mut all = period.adaptations.iter().flat_map(|set| &set.representations);
            let own = all.find(|representation| representation.id.as_deref() == Some(id));
            let own = own.unwrap_or_else(|| panic!("a Period without {id}:\n{text}")).clone();
            (period.start.expect("each Period says when it begins").as_secs_f64() * 1_000.0, own)
        };
        mpd.periods.iter().map(own).collect()
    }

    #[track_caller]
    fn assert_rules(&self) {
        for Rendition { uri, text, segments, .. } in &self.renditions {
            for segment in segments {
                assert!(
                    (segment.duration + 0.5).floor() <= TARGET_DURATION,
                    "{uri}: EXTINF {}:\n{text}",
                    segment.duration
                );
            }
            for part in text.lines().filter_map(|line| line.strip_prefix("#EXT-X-PART:DURATION=")) {
                let duration: f64 = part.split(',').next().and_then(|number| number.parse().ok()).expect("a duration");
                assert!(duration <= PART_TARGET + 1e-6, "{uri}: a part of {duration} s:\n{text}");
            }
            for pair in segments.windows(2) {
                let step =
                    Rendition::date(&pair[1]) - Rendition::date(&pair[0]) - f64::from(pair[0].duration) * 1_000.0;
                assert!(step.abs() < DATE_STEP_MS, "{uri}: the date moves by {step} ms at {}:\n{text}", pair[1].uri);
            }
        }
        for kind in [Kind::Video, Kind::Audio] {
            let times: Vec<f64> = of_kind(&self.packets, kind).iter().map(|packet| packet.dts).collect();
            assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{kind:?}: decode times go back");
        }
    }

    /// No discontinuity and no gap anywhere.
    #[track_caller]
    pub fn assert_seamless(&self) {
        for rendition in &self.renditions {
            assert_eq!(rendition.discontinuities(), 0, "{}:\n{}", rendition.uri, rendition.text);
            assert!(!rendition.segments.iter().any(Rendition::is_gap), "{}:\n{}", rendition.uri, rendition.text);
        }
    }

    /// Every picture of `source` was seen once and in its order, and so was its sound but for what came before the first picture; sound and picture
    /// stand where they stand in the source, to within `tolerance` milliseconds of each other.
    #[track_caller]
    pub fn assert_all_of(&self, source: &[Packet], tolerance: f64) {
        let mut offsets = Vec::new();
        for kind in [Kind::Video, Kind::Audio] {
            let (seen, wanted) = (of_kind(&self.packets, kind), of_kind(source, kind));
            // A player joins sound to the picture: an eighth of a second of it may lie before the first one.
            let late =
                wanted.iter().position(|packet| seen.first().is_some_and(|first| first.md5 == packet.md5)).unwrap_or(0);
            assert!(late <= if kind == Kind::Audio { 6 } else { 0 }, "{kind:?} begins {late} packets late");
            let wanted = &wanted[late..];
            assert_eq!(seen.len(), wanted.len(), "{kind:?}: packets seen, and sent");
            for (number, (seen, wanted)) in seen.iter().zip(wanted).enumerate() {
                assert_eq!(seen.md5, wanted.md5, "{kind:?} packet {number}");
                offsets.push((seen.pts - wanted.pts, kind, number));
            }
        }
        let (least, most) =
            (offsets.iter().min_by(|a, b| a.0.total_cmp(&b.0)), offsets.iter().max_by(|a, b| a.0.total_cmp(&b.0)));
        let (least, most) = (least.expect("packets"), most.expect("packets"));
        assert!(
            most.0 - least.0 <= tolerance,
            "moved against each other, {least:?} and {most:?}, by {} ms",
            most.0 - least.0
        );
    }

    /// Segments are dated when their media was sent: `sent` gives the Unix milliseconds for a time in milliseconds since the first picture.
    #[track_caller]
    pub fn assert_dates(&self, sent: impl Fn(f64) -> f64, tolerance: f64) {
        for Rendition { uri, text, segments, .. } in &self.renditions {
            let mut at = 0.0;
            for segment in segments {
                let off = Rendition::date(segment) - sent(at);
                assert!(off.abs() <= tolerance, "{uri}: {} is dated {off} ms off:\n{text}", segment.uri);
                at += f64::from(segment.duration) * 1_000.0;
            }
        }
    }
}
