//! Outages, silence and changes of format, over simulated publishers.

use std::time::Duration;

use crate::media::codec::h264;
use crate::media::{Format, Kind, RenditionId, Timescale, Track};
use crate::packager::playlist::{dash, hls_media};
use crate::packager::testing::simulation::{START, Simulation, payload};
use crate::packager::testing::{audio_track, video_track};
use crate::packager::{Config, Window};

mod formats;
mod late;

const VIDEO: RenditionId = RenditionId { kind: Kind::Video, index: 0 };
const AUDIO: RenditionId = RenditionId { kind: Kind::Audio, index: 0 };
const BOTH: [Kind; 2] = [Kind::Video, Kind::Audio];

fn text(window: &Window) -> String {
    hls_media::render(window, &[], false)
}

/// Published for 7 s, gone for `outage` µs, published for 7 s again.
fn interrupted(outage: i64) -> Simulation {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(7.0, (30, 1), 60, true, &BOTH);
    simulation.outage(7_000_000, outage);
    simulation.stream(7.0, (30, 1), 60, true, &BOTH);
    simulation
}

/// Pictures `numbers`, thirty a second and a key frame every two, and the sound beside them, each arriving `late` microseconds after its time.
fn published(simulation: &mut Simulation, numbers: std::ops::Range<i64>, late: impl Fn(i64) -> i64) {
    for n in numbers {
        simulation.shift = late(n);
        picture(simulation, n, 60);
    }
}

/// Picture `n` of thirty a second, with a key frame every `key_frames`, and the sound beside it.
fn picture(simulation: &mut Simulation, n: i64, key_frames: i64) {
    simulation.push(VIDEO, n * 3_000, n * 3_000, n % key_frames == 0, 900, Timescale::NINETY_KHZ);
    for frame in (n * 1_600 + 1_023) / 1_024..((n + 1) * 1_600 + 1_023) / 1_024 {
        simulation.push(AUDIO, frame * 1_024, frame * 1_024, true, 300, Timescale::new(48_000).unwrap());
    }
}

#[test]
fn the_same_encoder_goes_on_behind_gaps_without_a_discontinuity() {
    for outage in [1, 300_000, 1_999_000, 10_000_000, 31_000_000] {
        let simulation = interrupted(outage);
        for id in [VIDEO, AUDIO] {
            let window = &simulation.windows[&id];
            assert!(window.segments.iter().all(|segment| !segment.discontinuity), "{outage} {id}");
            assert!(!window.waiting && text(window).contains("PRELOAD-HINT"));
            let gaps: i64 = window.segments.iter().filter(|segment| segment.is_gap()).map(|gap| gap.duration).sum();
            if outage <= 10_000_000 {
                let gaps = window.rendition.init.track.timescale.micros(gaps);
                // Pictures shown late, a frame of audio, and the least there is.
                assert!((gaps - outage.max(20_000)).abs() < 150_000, "{outage} {id}: {gaps}");
            }
            for segment in window.segments.iter().filter(|segment| !segment.is_gap()) {
                let media = window.rendition.init.track.timescale.micros(segment.presentation_start);
                assert!((segment.date.micros() - START - media).abs() < 100_000, "dates run on with the timeline");
            }
        }
        let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
        assert_eq!(video.open_msn, audio.open_msn, "segment numbers mean the same everywhere");
        for segment in video.segments.iter().filter(|segment| !segment.is_gap()) {
            let Some(other) = audio.segment(segment.msn).filter(|other| !other.is_gap()) else { continue };
            let apart = other.init.track.timescale.micros(other.presentation_start)
                - Timescale::NINETY_KHZ.micros(segment.presentation_start);
            assert!((-1..=21_400).contains(&apart), "{outage}: audio {apart} µs after video in {}", segment.msn);
        }
    }
}

#[test]
fn while_nobody_publishes_the_playlist_moves_on_and_hints_at_what_comes_next() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(7.0, (30, 1), 60, true, &BOTH);
    let before = simulation.windows[&VIDEO].next_part;
    simulation.outage(7_000_000, 5_000_000);
    let window = &simulation.windows[&VIDEO];
    let playlist = text(window);
    assert_eq!(playlist.matches("#EXT-X-GAP\n").count(), 2, "{playlist}");
    let hint = format!("PRELOAD-HINT:TYPE=PART,URI=\"p{}.m4s\"", window.next_part);
    assert!(playlist.contains(&hint) && !playlist.contains("ENDLIST"), "{playlist}");
    assert!(playlist.contains("#EXT-X-VERSION:8\n"), "{playlist}");
    assert!(window.next_part > before, "what had come was completed");
    for gap in window.listed_segments().iter().filter(|segment| segment.is_gap()) {
        // Who follows parts follows gaps.
        let ours = format!("URI=\"gap{}-", gap.msn);
        let parts: Vec<f64> = playlist
            .lines()
            .filter(|line| line.contains(&ours) && line.ends_with(",GAP=YES"))
            .filter_map(|line| line.strip_prefix("#EXT-X-PART:DURATION=")?.split(',').next()?.parse().ok())
            .collect();
        let target = window.rendition.config.part_target.as_secs_f64();
        assert!(parts.iter().rev().skip(1).all(|part| (part - target).abs() < 1e-3) && parts.last() <= Some(&target));
        assert!(
            (parts.iter().sum::<f64>() - gap.init.track.timescale.seconds(gap.duration)).abs() < 1e-3,
            "{playlist}"
        );
        assert_eq!(parts.len(), window.gap_parts(gap));
    }
    assert_eq!(window.last_part().map(|(msn, _)| msn), Some(window.open_msn - 1));
    assert!(window.last_part().is_some_and(|(_, part)| part > Some(4)), "parts of a gap count in reports");
    simulation.finish();
    assert!(text(&simulation.windows[&VIDEO]).ends_with("#EXT-X-ENDLIST\n"));
}

#[test]
fn a_follower_that_falls_silent_has_gaps_and_comes_back() {
    let mut simulation = Simulation::new(Config::default());
    let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
    let scale = Timescale::new(48_000).unwrap();
    for n in 0..900_i64 {
        simulation.push(video, n * 3_000, n * 3_000, n % 60 == 0, 900, Timescale::NINETY_KHZ);
        if (200..500).contains(&n) {
            continue;
        }
        for frame in (n * 1_600 + 1_023) / 1_024..((n + 1) * 1_600 + 1_023) / 1_024 {
            simulation.push(audio, frame * 1_024, frame * 1_024, true, 300, scale);
        }
        if n == 499 {
            let window = &simulation.windows[&AUDIO];
            assert!(window.waiting && window.segments.iter().filter(|segment| segment.is_gap()).count() >= 3);
        }
    }
    let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
    assert!(!audio.waiting && video.segments.iter().all(|segment| !segment.is_gap()));
    assert_eq!(audio.open_msn, video.open_msn);
    let mpd = dash::render(simulation.catalog.as_ref().unwrap(), &[video.clone(), audio.clone()]);
    assert!(dash_mpd_core::parse(&mpd).is_ok(), "{mpd}");
}

#[test]
fn a_leader_that_falls_silent_is_replaced_until_it_comes_back() {
    // At every phase of a segment: late in one, the other track must end its own before it is clear that the leader is silent.
    for silent_from in [181, 200, 215, 230, 240] {
        let silent = silent_from..700;
        let mut simulation = Simulation::new(Config::default());
        let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
        let scale = Timescale::new(48_000).unwrap();
        for n in 0..1_200_i64 {
            if !silent.contains(&n) {
                simulation.push(video, n * 3_000, n * 3_000, n % 60 == 0, 900, Timescale::NINETY_KHZ);
            }
            for frame in (n * 1_600 + 1_023) / 1_024..((n + 1) * 1_600 + 1_023) / 1_024 {
                simulation.push(audio, frame * 1_024, frame * 1_024, true, 300, scale);
            }
            if n == 650 {
                let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
                let gaps = video.segments.iter().filter(|segment| segment.is_gap()).count();
                assert!(video.waiting && gaps >= 4, "silent from {silent_from}: {gaps} gaps");
                assert!(audio.segments.iter().all(|segment| !segment.is_gap()));
                assert!(audio.open_msn - video.open_msn <= 1, "silent from {silent_from}");
            }
        }
        let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
        assert!(!video.waiting, "silent from {silent_from}");
        assert_eq!(audio.open_msn, video.open_msn, "silent from {silent_from}");
        assert!(video.segments.last().unwrap().independent);
        let mpd = dash::render(simulation.catalog.as_ref().unwrap(), &[video.clone(), audio.clone()]);
        assert!(dash_mpd_core::parse(&mpd).is_ok(), "{mpd}");
    }
}

#[test]
fn a_publisher_that_brings_only_one_of_the_tracks_leaves_the_other_to_gaps() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(7.0, (30, 1), 60, true, &BOTH);
    simulation.outage(7_000_000, 1_000_000);
    simulation.stream(20.0, (30, 1), 60, true, &[Kind::Audio]);
    let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
    assert!(video.waiting && !audio.waiting);
    assert!(audio.open_msn - video.open_msn <= 1);
    simulation.outage(28_000_000, 1_000_000);
    simulation.stream(7.0, (30, 1), 60, true, &BOTH);
    assert!(!simulation.windows[&VIDEO].waiting && !simulation.windows[&AUDIO].waiting);
    assert_eq!(simulation.windows[&VIDEO].open_msn, simulation.windows[&AUDIO].open_msn);
}

#[test]
fn nothing_that_was_published_is_lost() {
    let simulation = interrupted(500_000);
    let window = &simulation.windows[&VIDEO];
    // 420 pictures, of which the first segments may have left the window and one is held back.
    assert!(payload(window).len() > 300_000);
    let samples: i64 = window.segments.iter().filter(|s| !s.is_gap()).map(|s| s.duration).sum();
    assert!(samples > 12 * 90_000, "{samples}");
}

#[test]
fn dash_closes_its_period_and_opens_another() {
    let simulation = interrupted(5_000_000);
    let catalog = simulation.catalog.as_ref().unwrap();
    let windows: Vec<_> = simulation.windows.values().cloned().collect();
    let mpd = dash::render(catalog, &windows);
    assert!(dash_mpd_core::parse(&mpd).is_ok(), "{mpd}");
    let before: Vec<_> = catalog.periods.iter().filter(|period| period.duration_micros.is_some()).collect();
    let after = catalog.periods.iter().rev().find(|period| !period.connected).unwrap();
    assert!(!before.is_empty() && after.start_micros > 11_900_000 && after.start_micros < 12_200_000, "{mpd}");
    assert_eq!(after.renditions.len(), 2);
}

/// Segments as long as they may be: a rendition that ends before the others has a first gap of a segment and what it is behind, which must
/// not round above TARGETDURATION, nor may its numbers leave those of the others.
#[test]
fn gaps_stay_within_the_target_duration_where_segments_are_as_long_as_it() {
    let target = Duration::from_secs(4);
    for segment_target in [target, target - Duration::from_millis(100)] {
        for behind in [0, 480, 520, 3_900] {
            for outage in [3_990_000, 4_005_000, 4_400_000, 9_000_000] {
                let config = Config { segment_target, target_duration: target, ..Config::default() };
                let mut simulation = Simulation::new(config);
                let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
                let scale = Timescale::new(48_000).unwrap();
                let play = |simulation: &mut Simulation, video, audio, behind: i64| {
                    for n in 0..120_i64 {
                        simulation.push(video, n * 9_000, n * 9_000, n % 40 == 0, 900, Timescale::NINETY_KHZ);
                        for frame in (n * 4_800 + 1_023) / 1_024..((n + 1) * 4_800 + 1_023) / 1_024 {
                            if frame * 1_024 < 12 * 48_000 - behind * 48 {
                                simulation.push(audio, frame * 1_024, frame * 1_024, true, 300, scale);
                            }
                        }
                    }
                };
                play(&mut simulation, video, audio, behind);
                simulation.outage(12_000_000, outage);
                let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
                play(&mut simulation, video, audio, 0);
                // Every window on the way obeyed the rules, EXTINF among them.
                let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
                assert_eq!(video.open_msn, audio.open_msn, "{segment_target:?} {behind} {outage}");
                for segment in video.segments.iter().filter(|segment| !segment.is_gap()) {
                    let Some(other) = audio.segment(segment.msn).filter(|other| !other.is_gap()) else { continue };
                    let apart = other.init.track.timescale.micros(other.presentation_start)
                        - Timescale::NINETY_KHZ.micros(segment.presentation_start);
                    assert!((-1..=21_400).contains(&apart), "{segment_target:?} {behind} {outage}: {apart} µs apart");
                }
            }
        }
    }
}

#[test]
fn a_restart_during_an_outage_is_an_outage_and_nothing_else() {
    let mut plain = interrupted(5_000_000);
    let mut restarted = Simulation::new(Config::default());
    restarted.video = parsed_video();
    plain.finish();
    restarted.stream(7.0, (30, 1), 60, true, &BOTH);
    restarted.outage(7_000_000, 2_000_000);
    restarted.restart();
    restarted.passing(9_000_000, 3_000_000);
    restarted.restart();
    restarted.stream(7.0, (30, 1), 60, true, &BOTH);
    restarted.finish();
    for id in [VIDEO, AUDIO] {
        assert_eq!(text(&plain.windows[&id]), text(&restarted.windows[&id]));
    }
    let mpd = |simulation: &Simulation| {
        let windows: Vec<_> = simulation.windows.values().cloned().collect();
        dash::render(simulation.catalog.as_ref().unwrap(), &windows)
    };
    assert_eq!(mpd(&plain), mpd(&restarted));
}

/// Of the record, as ingest reads it: what comes back from a file is read from there too.
fn parsed_video() -> Track {
    let track = video_track();
    let Format::H264(config) = &track.format else { unreachable!() };
    Track { format: Format::H264(h264::Config::parse(&config.record).unwrap()), ..track }
}

#[test]
fn the_stump_that_a_drop_leaves_is_no_peak() {
    // A sixth of a second: a key frame and three pictures, four times the bit rate of a whole segment.
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(6.0, (30, 1), 60, false, &BOTH);
    let peaks = |simulation: &Simulation| -> Vec<u64> {
        simulation.catalog.as_ref().expect("a catalog").renditions.iter().map(|measured| measured.peak_bps).collect()
    };
    let before = peaks(&simulation);
    let mut again = Simulation::new(Config::default());
    again.stream(6.134, (30, 1), 60, false, &BOTH);
    again.outage(6_134_000, 4_000_000);
    again.stream(7.0, (30, 1), 60, false, &BOTH);
    let stump = again.windows[&VIDEO]
        .segments
        .iter()
        .filter(|segment| !segment.is_gap())
        .map(|segment| (segment.len() as u64 * 8 * 90_000 / segment.duration.unsigned_abs(), segment.duration));
    assert!(stump.max().is_some_and(|(rate, ticks)| rate > 2 * before[0] && ticks < 90_000), "there is a stump");
    // The segment before and the stump together are a set that counts: two key frames in little more than two seconds.
    assert!((before[0]..before[0] * 11 / 10).contains(&peaks(&again)[0]), "{before:?} {:?}", peaks(&again));
}

#[test]
fn a_picture_that_was_to_last_does_not_date_what_comes_next_in_the_future() {
    // The last picture came at 7 s.
    for (after, outage) in [(50_000, 300_000), (50_000, 1), (5_000, 1)] {
        let mut simulation = Simulation::new(Config::default());
        simulation.stream(8.0, (1, 1), 2, false, &[Kind::Video]);
        simulation.outage(7_000_000 + after, outage);
        simulation.stream(7.0, (30, 1), 60, false, &[Kind::Video]);
        let window = &simulation.windows[&VIDEO];
        let behind =
            window.segments.windows(2).find(|pair| pair[0].is_gap() && !pair[1].is_gap()).expect("media behind a gap");
        let late = behind[1].date.micros() - START - 7_000_000 - after - outage;
        assert!(late.abs() < 50_000, "dated {late} µs after it came");
    }
}

/// Found by fuzzing: a track that had broken off by itself, and was then so far behind the others that its gap would have been too long.
#[test]
fn a_track_that_breaks_twice_in_a_row_says_so_twice() {
    let mut simulation = Simulation::new(Config::default());
    let tracks = [(); 2].map(|()| simulation.add(video_track()));
    let scale = Timescale::NINETY_KHZ;
    simulation.push(tracks[0], 222_300, 225_300, true, 100, scale);
    simulation.push(tracks[1], 1_613_250, 1_622_250, true, 100, scale);
    simulation.push(tracks[1], 1_615_050, 1_624_050, true, 100, scale);
    simulation.push(tracks[0], 224_100, 233_100, true, 100, scale);
    simulation.outage(18_000_000, 1);
    simulation.shift = 0;
    for index in [0, 1] {
        simulation.presentation.rejoin_track(index, video_track()).expect("a good track");
    }
    for n in 0..40 {
        for track in tracks {
            simulation.push(track, n * 9_000, n * 9_000 + 3_000, true, 100, scale);
        }
    }
    simulation.finish();
    assert!(simulation.windows.values().all(|window| !window.segments.last().expect("segments").is_gap()));
}

/// Every picture is a tick behind the one before, or the clock runs so many times slower, for twenty seconds; a segment of sound may be whole when that
/// of its pictures has just begun.
#[test]
fn a_clock_that_stands_still_leaves_no_sliver_of_a_gap() {
    for (from, slower) in (200..264).step_by(3).flat_map(|from| [3_000, 100, 20].map(|slower| (from, slower))) {
        for (ahead, key_frames) in [0, 2, 5, -5].into_iter().flat_map(|ahead| [60, 90].map(|key| (ahead, key))) {
            let mut simulation = Simulation::new(Config::default());
            assert_eq!((simulation.add(video_track()), simulation.add(audio_track())), (VIDEO, AUDIO));
            let scale = Timescale::new(48_000).unwrap();
            let (mut dts, mut sound) = (0, 0);
            for n in 0..1_500_i64 {
                let now = n * 100_000 / 3;
                if n % 15 == 0 {
                    simulation.silence(now, 1);
                }
                dts += if (from..from + 600).contains(&n) { 3_000 / slower } else { 3_000 };
                simulation.shift = now - Timescale::NINETY_KHZ.micros(dts);
                simulation.push(VIDEO, dts, dts, n % key_frames == 0, 900, Timescale::NINETY_KHZ);
                while sound < (dts + 3_000) * 48 / 90 + ahead * 1_024 {
                    simulation.shift = now - scale.micros(sound);
                    simulation.push(AUDIO, sound, sound, true, 300, scale);
                    sound += 1_024;
                }
                let bad = simulation.dates_that_stand_still();
                assert_eq!(
                    bad, None,
                    "{slower} times slower from {from}, {ahead} ahead, a key frame every {key_frames}"
                );
            }
        }
    }
}
