//! What the presentation promises, over simulated publishers.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::playlist::hls_media;
use super::testing::simulation::{START, Simulation, assert_parts_are_long_enough, payload};
use super::testing::{audio_track, mp3_track, video_track};
use super::{Config, Segment, Window};
use crate::media::{Format, Kind, RenditionId, Timescale, Track};

const VIDEO: RenditionId = RenditionId { kind: Kind::Video, index: 0 };
const AUDIO: RenditionId = RenditionId { kind: Kind::Audio, index: 0 };
const BOTH: [Kind; 2] = [Kind::Video, Kind::Audio];

/// Every usual picture rate; the key frame comes every two seconds.
const RATES: [((i64, i64), i64); 8] = [
    ((24_000, 1_001), 48),
    ((24, 1), 48),
    ((25, 1), 50),
    ((30_000, 1_001), 60),
    ((30, 1), 60),
    ((50, 1), 100),
    ((60_000, 1_001), 120),
    ((60, 1), 120),
];

#[test]
fn every_usual_rate_gives_two_second_segments_of_legal_parts() {
    for (rate, gop) in RATES {
        for reordering in [false, true] {
            let mut simulation = Simulation::new(Config::default());
            simulation.stream(30.0, rate, gop, reordering, &BOTH);
            let window = &simulation.windows[&VIDEO];
            assert_parts_are_long_enough(window);
            assert_parts_are_long_enough(&simulation.windows[&AUDIO]);
            for segment in &window.segments {
                assert!(segment.independent);
                let seconds = Timescale::NINETY_KHZ.seconds(segment.duration);
                assert!((seconds - gop as f64 * rate.1 as f64 / rate.0 as f64).abs() < 0.001, "{rate:?}: {seconds}");
            }
            let catalog = simulation.catalog.as_ref().unwrap();
            let shown = catalog.renditions[0].frame_rate;
            assert!((shown - rate.0 as f64 / rate.1 as f64).abs() < 0.001, "{rate:?} shown as {shown}");
        }
    }
}

/// An access unit lasts until the next one, which therefore ends the part that is full.
#[test]
fn a_part_is_shown_with_the_access_unit_that_ends_it() {
    let unseen = |simulation: &Simulation, id: RenditionId, until: i64| -> i64 {
        let window: &Window = &simulation.windows[&id];
        let last = window.open.as_ref().or(window.segments.last());
        until - last.map_or(0, |last| last.start + last.duration)
    };
    let scale = Timescale::new(48_000).unwrap();
    // 24, 25, 30, 50 and 60 pictures a second, and how many of them a part holds. Ten frames of sound are one.
    for (picture, most) in [(3_750, 5), (3_600, 5), (3_000, 6), (1_800, 10), (1_500, 12)] {
        let mut simulation = Simulation::new(Config::default());
        let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
        let mut frame = 0;
        for dts in (0..300).map(|n| n * picture) {
            simulation.push(video, dts, dts, dts % 180_000 == 0, 700, Timescale::NINETY_KHZ);
            let pictures = unseen(&simulation, video, dts) / picture;
            assert!(pictures < most, "{pictures} pictures of {picture} ticks before {dts} are a part");
            while frame * 1_024 * 90_000 < (dts + picture) * 48_000 {
                simulation.push(audio, frame * 1_024, frame * 1_024, true, 200, scale);
                let frames = unseen(&simulation, audio, frame * 1_024) / 1_024;
                assert!(frames < 10, "{frames} frames before {frame} are a part");
                frame += 1;
            }
        }
    }
}

#[test]
fn audio_is_cut_where_video_is_and_dated_alike() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(30.0, (30, 1), 60, true, &BOTH);
    let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
    assert_eq!(video.segments[0].msn, 40);
    for segment in &video.segments {
        let Some(other) = audio.segment(segment.msn) else { continue };
        let v = Timescale::NINETY_KHZ.micros(segment.presentation_start);
        let a = other.init.track.timescale.micros(other.presentation_start);
        assert!((0..=21_334).contains(&(a - v)), "segment {}: audio {} µs after video", segment.msn, a - v);
        assert_eq!(other.date.micros_since(segment.date), a - v, "one mapping from media time to dates");
    }
    assert_eq!(video.segments.last().unwrap().msn, audio.segments.last().unwrap().msn);
}

#[test]
fn the_window_lists_what_was_configured_and_keeps_what_left_it() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(120.0, (25, 1), 50, false, &BOTH);
    for window in simulation.windows.values() {
        let listed: i64 = window.listed_segments().iter().map(|segment| segment.duration).sum();
        let scale = window.rendition.init.track.timescale;
        assert!((16.0..=20.0).contains(&scale.seconds(listed)), "{}", scale.seconds(listed));
        let kept: i64 = window.segments[..window.listed].iter().map(|segment| segment.duration).sum();
        assert!(scale.seconds(kept) >= 16.0 + 2.0 * 2.0 && scale.seconds(kept) < 40.0, "{}", scale.seconds(kept));
    }
}

/// Sound of `sample_rate` whose frames have `frame_samples`, alone for 20 s.
fn sound_alone(sample_rate: u32, frame_samples: u32) -> Arc<Window> {
    let mut track = mp3_track(48_000);
    track.timescale = Timescale::new(sample_rate).expect("not zero");
    if let Format::Mp3(config) = &mut track.format {
        (config.sample_rate, config.frame_samples) = (sample_rate, frame_samples);
    }
    let mut simulation = Simulation::new(Config::default());
    let (scale, id) = (track.timescale, simulation.add(track));
    for frame in 0..i64::from(20 * sample_rate / frame_samples) {
        let at = frame * i64::from(frame_samples);
        simulation.push(id, at, at, true, 300, scale);
    }
    Arc::clone(&simulation.windows[&AUDIO])
}

/// It waits for pictures at first, and loses nothing by it.
#[test]
fn sound_alone_is_heard_from_its_beginning() {
    let window = sound_alone(48_000, 1_024);
    let first = &window.segments[0];
    assert_eq!(first.start, 0);
    assert!((first.date.micros() - START).abs() < 1_000, "{:?}", first.date);
}

#[test]
fn frames_of_every_usual_sound_fill_parts() {
    // AAC, MP3 of MPEG-1 and MPEG-2, HE-AAC.
    for (rate, samples) in [
        (44_100, 1_024),
        (48_000, 1_024),
        (32_000, 1_024),
        (24_000, 1_024),
        (22_050, 1_024),
        (16_000, 1_024),
        (48_000, 960),
        (96_000, 1_024),
        (44_100, 1_152),
        (48_000, 1_152),
        (24_000, 576),
        (22_050, 576),
        (44_100, 2_048),
        (48_000, 2_048),
        (32_000, 2_048),
    ] {
        println!("{rate} Hz, {samples} samples");
        assert_parts_are_long_enough(&sound_alone(rate, samples));
    }
}

#[test]
fn rare_sound_whose_frames_fit_badly_still_has_parts() {
    // 36 ms five times, 72 ms twice, 128 ms once: below 85 % of PART-TARGET, and nothing between that and too long.
    for (rate, samples, part) in [(32_000, 1_152, 5), (16_000, 576, 5), (8_000, 576, 2), (8_000, 1_024, 1)] {
        let window = sound_alone(rate, samples);
        for segment in &window.segments {
            assert!(segment.parts_listed);
            assert!(segment.parts.iter().rev().skip(1).all(|one| one.duration == i64::from(samples) * part));
        }
    }
}

/// Some encoders describe themselves twice before their first picture.
#[test]
fn a_format_that_is_replaced_before_any_media_was_never_there() {
    let mut simulation = Simulation::new(Config::default());
    let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
    let scale = Timescale::new(48_000).unwrap();
    // Sound of the old format waits for the first picture, and in vain.
    simulation.push(audio, 0, 0, true, 200, scale);
    simulation.presentation.set_track(audio, mp3_track(48_000)).unwrap();
    simulation.presentation.set_track(video, Track { language: "de".into(), ..video_track() }).unwrap();
    for n in 0..200 {
        simulation.push(video, n * 3_000, n * 3_000, n % 60 == 0, 700, Timescale::NINETY_KHZ);
        simulation.push(audio, n * 1_600 + 800, n * 1_600 + 800, true, 300, scale);
    }
    for window in simulation.windows.values() {
        assert!(window.segments.len() == 3, "{}: {} segments", window.rendition.id, window.segments.len());
        assert!(window.segments.iter().all(|segment| segment.init.number == 1 && !segment.discontinuity));
        assert!(payload(window).len() > 180 * 300, "all that came afterwards is there");
    }
    assert_eq!(simulation.windows[&AUDIO].segments[0].start, 800);
}

#[test]
fn an_audio_only_stream_is_cut_by_time() {
    let mut simulation = Simulation::new(Config::default());
    let id = simulation.add(audio_track());
    let scale = Timescale::new(48_000).unwrap();
    for frame in 0..1_000 {
        simulation.push(id, frame * 1024, frame * 1024, true, 300, scale);
    }
    let window = &simulation.windows[&AUDIO];
    assert_parts_are_long_enough(window);
    assert!(window.segments.len() >= 8);
    assert!(window.segments.iter().all(|segment| (1.95..2.05).contains(&scale.seconds(segment.duration))));
}

#[test]
fn without_key_frames_segments_are_forced_and_say_so() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(60.0, (30, 1), 900, false, &BOTH);
    let window = &simulation.windows[&VIDEO];
    assert!(window.segments.iter().filter(|segment| segment.independent).count() <= 2);
    let longest = window.segments.iter().map(|segment| segment.duration).max().unwrap();
    assert!(longest < Timescale::NINETY_KHZ.ticks(Duration::from_millis(4_500)));

    let strict = Config { require_keyframes: true, ..Config::default() };
    let mut simulation = Simulation::new(strict);
    let id = simulation.add(video_track());
    let refused = (0..900).find_map(|n| {
        let unit = crate::media::AccessUnit {
            dts: n * 3_000,
            pts: n * 3_000,
            sync: n == 0,
            captions: false,
            data: [1][..].into(),
        };
        simulation.presentation.push(id, unit, crate::media::WallTime::from_micros(n * 33_333)).err()
    });
    assert!(refused.unwrap().to_string().contains("key frame"));
}

#[test]
fn one_picture_a_second_is_listed_in_whole_segments() {
    let mut simulation = Simulation::new(Config::default());
    let id = simulation.add(video_track());
    for n in 0..40 {
        simulation.push(id, n * 90_000, n * 90_000, n % 2 == 0, 500, Timescale::NINETY_KHZ);
    }
    let window = &simulation.windows[&VIDEO];
    assert!(window.segments.len() > 5 && window.segments.iter().all(|segment| !segment.parts_listed));
}

/// RFC 8216bis §6.2.4: consistent mappings of dates to media. The segments end where it was not known that they would, while dates follow a
/// publisher whose first packets were late.
#[test]
fn one_picture_a_second_is_dated_like_its_sound_while_dates_move() {
    let mut simulation = Simulation::new(Config::default());
    let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
    let scale = Timescale::new(48_000).unwrap();
    let mut frame = 0;
    for n in 0..40 {
        simulation.shift = if n < 6 { 200_000 } else { 0 };
        simulation.push(video, n * 90_000, n * 90_000, n % 2 == 0, 500, Timescale::NINETY_KHZ);
        while frame * 1_024 < (n + 1) * 48_000 {
            simulation.push(audio, frame * 1_024, frame * 1_024, true, 200, scale);
            frame += 1;
        }
    }
    let mut offsets = Vec::new();
    for segment in &simulation.windows[&VIDEO].segments {
        let Some(other) = simulation.windows[&AUDIO].segment(segment.msn) else { continue };
        let offset =
            |segment: &Segment| segment.date.micros() - segment.init.track.timescale.micros(segment.presentation_start);
        assert!((offset(segment) - offset(other)).abs() < 1_000, "segment {}", segment.msn);
        offsets.push(offset(segment));
    }
    assert!(offsets.first() > offsets.last(), "dates have moved: {offsets:?}");
}

#[test]
fn a_hole_in_the_timeline_is_a_discontinuity_in_every_rendition() {
    let mut simulation = Simulation::new(Config::default());
    let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
    let scale = Timescale::new(48_000).unwrap();
    let mut frame = 0;
    let mut publish = |simulation: &mut Simulation, pictures: std::ops::Range<i64>| {
        for n in pictures {
            let jump = if n >= 300 { 3_600 } else { 0 };
            let dts = n * 3_000 + jump * 90_000;
            simulation.push(video, dts, dts, n % 60 == 0, 700, Timescale::NINETY_KHZ);
            while frame * 1024 * 90_000 < (n + 1) * 3_000 * 48_000 {
                let at = frame * 1024 + jump * 48_000;
                simulation.push(audio, at, at, true, 200, scale);
                frame += 1;
            }
        }
    };
    let of = |simulation: &Simulation, id: RenditionId| -> Vec<(u64, u64)> {
        let window: &Window = &simulation.windows[&id];
        let marked = window.segments.iter().filter(|segment| segment.discontinuity);
        marked.map(|segment| (segment.msn, segment.discontinuity_sequence)).collect()
    };
    publish(&mut simulation, 0..600);
    assert_eq!(of(&simulation, VIDEO).len(), 1);
    assert_eq!(of(&simulation, VIDEO), of(&simulation, AUDIO));
    assert_eq!(of(&simulation, VIDEO)[0].1, 4);
    // What playlists say of it: the number before their first tag (RFC 8216bis §4.4.3.3).
    let said = |simulation: &Simulation, id: RenditionId| {
        let text = hls_media::render(&simulation.windows[&id], &[], false);
        let (_, number) = text.split_once("#EXT-X-DISCONTINUITY-SEQUENCE:").unwrap();
        (number.lines().next().map(String::from), text.matches("#EXT-X-DISCONTINUITY\n").count())
    };
    for id in [VIDEO, AUDIO] {
        assert_eq!(said(&simulation, id), (Some("3".into()), 1), "{id}: the tag is listed");
    }
    publish(&mut simulation, 600..1_000);
    for id in [VIDEO, AUDIO] {
        assert_eq!(said(&simulation, id), (Some("4".into()), 0), "{id}: the tag has left, its segment is kept");
        assert_eq!(of(&simulation, id).len(), 1, "{id}");
    }
}

#[test]
fn payload_goes_out_as_it_came_in_and_a_part_is_two_slices() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(20.0, (30, 1), 60, false, &[Kind::Video]);
    let window = &simulation.windows[&VIDEO];
    let bytes = payload(window);
    let mut expected = bytes.clone();
    expected.clear();
    for n in 0..20 * 30_usize {
        let size = if n % 60 == 0 { 9_000 } else { 1_000 + (n % 7) * 100 };
        expected.extend_from_slice(&vec![(n + 1) as u8; size]);
    }
    assert_eq!(bytes[..], expected[..bytes.len()]);
    let parts: Vec<_> = window.segments.iter().flat_map(|segment| &segment.parts).collect();
    // What viewers get lies where the publisher's bytes were gathered: nothing was copied on the way.
    let mut published = simulation.published.iter();
    for slice in parts.iter().flat_map(|part| &part.payload) {
        let mut address = slice.as_ptr() as usize;
        let end = address + slice.len();
        while address < end {
            let (at, length) = published.next().unwrap();
            assert_eq!(*at, address);
            address += length;
        }
        assert_eq!(address, end);
    }
    let straddling = parts.iter().filter(|part| part.slices().count() > 2).count();
    assert!(straddling * 4 <= parts.len(), "{straddling} of {} parts straddle two allocations", parts.len());
}

#[test]
fn memory_is_bounded() {
    let config = Config { max_bytes: bytesize::ByteSize::mib(2), ..Config::default() };
    let mut simulation = Simulation::new(config);
    let id = simulation.add(video_track());
    for n in 0..1_800 {
        simulation.push(id, n * 3_000, n * 3_000, n % 60 == 0, 12_000, Timescale::NINETY_KHZ);
        let kept: usize = simulation.windows.get(&id).map_or(0, |window| window.segments.iter().map(|s| s.len()).sum());
        assert!(kept <= 2 << 20);
    }
}

#[test]
fn the_end_releases_everything() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(5.5, (30, 1), 60, false, &BOTH);
    simulation.finish();
    assert!(simulation.catalog.as_ref().unwrap().ended);
    for window in simulation.windows.values() {
        assert!(window.ended && window.open.is_none() && window.segments.len() == 3);
    }
}

proptest! {
    /// No timing that a publisher can send breaks a rule of `assert_rules`, which `Simulation` checks at every step.
    #[test]
    fn no_timing_breaks_a_rule(steps in prop::collection::vec((1_i64..400_000, 0_i64..20_000, 0_u8..12, 0_usize..3_000), 1..400)) {
        let mut simulation = Simulation::new(Config::default());
        let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
        let scale = Timescale::new(48_000).unwrap();
        let (mut v, mut a) = (0, 0);
        for (step, reorder, kind, bytes) in steps {
            // Mostly small steps, now and then a large one.
            let step = if kind % 4 == 0 { step } else { step % 6_000 + 1 };
            if kind < 6 {
                v += step;
                simulation.push(video, v, v + reorder, kind == 0, bytes, Timescale::NINETY_KHZ);
            } else {
                a += step / 2 + 1;
                simulation.push(audio, a, a, true, bytes, scale);
            }
        }
        simulation.finish();
    }
}

#[test]
fn a_reader_that_is_not_ours_reads_the_files() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(9.0, (30, 1), 60, true, &BOTH);
    for (id, codec, samples) in [(VIDEO, mp4::MediaType::H264, 60), (AUDIO, mp4::MediaType::AAC, 93)] {
        let window = &simulation.windows[&id];
        let segment = &window.segments[1];
        let mut file = segment.init.bytes.to_vec();
        segment.slices().for_each(|slice| file.extend_from_slice(&slice));
        let size = file.len() as u64;
        let reader = mp4::Mp4Reader::read_header(std::io::Cursor::new(file), size).unwrap();
        assert_eq!(reader.tracks()[&1].media_type().unwrap(), codec);
        let count = reader.sample_count(1).unwrap();
        assert!(count.abs_diff(samples) <= 1, "{id}: {count} samples");
    }
}

#[test]
fn the_boxes_are_these() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(5.0, (30, 1), 60, true, &BOTH);
    for (id, name) in [(VIDEO, "video"), (AUDIO, "audio")] {
        let segment = &simulation.windows[&id].segments[0];
        insta::assert_snapshot!(format!("init_{name}"), boxes(&segment.init.bytes));
        insta::assert_snapshot!(format!("first_part_{name}"), boxes(&segment.parts[0].header));
        insta::assert_snapshot!(format!("second_part_{name}"), boxes(&segment.parts[1].header));
    }
}

/// A file as a tree of boxes, by a parser that is not ours.
fn boxes(mut bytes: &[u8]) -> String {
    use mp4_atom::{Any, DecodeMaybe};
    let mut text = String::new();
    while let Ok(Some(any)) = Any::decode_maybe(&mut bytes) {
        text.push_str(&format!("{any:#?}\n"));
    }
    format!("{text}then {} bytes", bytes.len())
}

#[test]
fn a_publisher_of_nothing_but_discontinuities_fills_no_memory() {
    let mut simulation = Simulation::new(Config::default());
    let video = simulation.add(video_track());
    let step = Timescale::NINETY_KHZ.ticks(Duration::from_millis(4_400));
    for n in 0..2_000 {
        simulation.push(video, n * step, n * step, true, 10, Timescale::NINETY_KHZ);
    }
    let window = &simulation.windows[&video];
    assert!(window.open_msn > 1_900, "each picture is a segment");
    assert!(window.listed_segments().len() <= 48, "{} are listed", window.listed_segments().len());
    assert!(window.segments.len() <= 96, "{} are kept", window.segments.len());
}

/// An access unit that lasts until after the others' cut ends the segment of its own track. DASH clients were told of the next one by then.
#[test]
fn sound_that_falls_silent_over_a_cut_keeps_to_what_was_announced() {
    for silent in [9_500..11_500, 9_990..10_400, 11_800..12_300] {
        let mut simulation = Simulation::new(Config::default());
        let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
        let scale = Timescale::new(48_000).expect("not zero");
        let (mut frame, mut said) = (0_i64, std::collections::BTreeMap::new());
        for picture in 0..400_i64 {
            let dts = picture * 3_600;
            simulation.push(video, dts, dts, picture % 50 == 0, 900, Timescale::NINETY_KHZ);
            while frame * 1_024 * 90_000 < (dts + 3_600) * 48_000 {
                if !silent.contains(&(frame * 1_024 / 48)) {
                    simulation.push(audio, frame * 1_024, frame * 1_024, true, 90, scale);
                }
                frame += 1;
            }
            let catalog = simulation.catalog.as_ref();
            let shares = catalog.and_then(|catalog| catalog.periods.last()).map(|last| &last.renditions[..]);
            let share = shares.unwrap_or_default().iter().find(|share| share.id == AUDIO);
            if let Some(announced) = share.and_then(|share| share.announced) {
                said.insert(announced.msn, (announced.start, announced.duration));
            }
        }
        assert!(said.len() > 3, "the stream is regular");
        for segment in &simulation.windows[&AUDIO].segments {
            let told = (segment.presentation_start, segment.dash_duration());
            assert_eq!(told, *said.get(&segment.msn).unwrap_or(&told), "segment {} of {silent:?}", segment.msn);
        }
    }
}

/// One track begins a timeline of its own while another is far ahead: the dates of neither jump without a discontinuity (which every window is
/// held to).
#[test]
fn a_new_format_while_sound_is_far_ahead_moves_its_dates_in_small_steps() {
    let mut simulation = Simulation::new(Config::default());
    let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
    let scale = Timescale::new(48_000).expect("not zero");
    let picture = |simulation: &mut Simulation, dts: i64, key: bool| {
        simulation.push(video, dts, dts, key, 900, Timescale::NINETY_KHZ);
    };
    picture(&mut simulation, 0, true);
    simulation.push(audio, 117_600, 117_600, true, 90, scale);
    simulation.presentation.set_track(video, video_track()).expect("a good track");
    picture(&mut simulation, 3_000, true);
    picture(&mut simulation, 65_100, false);
    simulation.push(audio, 118_624, 118_624, true, 90, scale);
    simulation.finish();
    let sound = &simulation.windows[&AUDIO].segments;
    assert!(sound.len() > 2 && sound.iter().any(|segment| segment.is_gap()));
}

/// 215 ms are no whole number of ticks of 44.1 kHz: a part of the next whole number is too long to be listed.
#[test]
fn no_part_is_longer_than_the_part_target_by_a_fraction_of_a_tick() {
    let scale = Timescale::new(44_100).expect("not zero");
    for (interrupted, wanted) in [(5_167_370, (9_481, true)), (5_167_392, (9_482, false))] {
        let mut simulation = Simulation::new(Config::default());
        let audio = simulation.add(mp3_track(44_100));
        for dts in [0, 109_000, 218_400] {
            simulation.push(audio, dts, dts, true, 90, scale);
        }
        simulation.outage(interrupted, 1);
        let segments = &simulation.windows[&AUDIO].segments;
        let last = segments.iter().rev().find(|segment| !segment.is_gap()).expect("media");
        assert_eq!((last.parts[0].duration, last.parts_listed), wanted);
    }
}
