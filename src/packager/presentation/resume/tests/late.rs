//! Media that comes late, or slower than real time, from a publisher who is there.

use std::collections::BTreeMap;

use super::*;

/// Where a window's media begins again behind its gaps, seconds after the start. All is dated by when it came.
fn comes_back(simulation: &Simulation, id: RenditionId) -> f64 {
    let window = &simulation.windows[&id];
    assert!(!window.waiting && window.segments.iter().all(|segment| !segment.discontinuity), "{}", text(window));
    let scale = window.rendition.init.track.timescale;
    for segment in window.segments.iter().filter(|segment| !segment.is_gap()) {
        let media = scale.micros(segment.presentation_start);
        assert!((segment.date.micros() - START - media).abs() < 100_000, "{}", text(window));
    }
    let last_gap = window.segments.iter().rposition(|segment| segment.is_gap()).expect("gaps");
    let back = window.segments.get(last_gap + 1).expect("a segment behind it");
    scale.micros(back.presentation_start) as f64 / 1e6
}

/// A network that is gone for ten seconds, and then delivers the two seconds that it held up. The encoder had dropped the rest.
#[test]
fn what_a_silent_publisher_brings_late_is_left_out_and_what_comes_on_time_goes_on() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(7.0, (30, 1), 60, false, &BOTH);
    simulation.silence(7_000_000, 4_000_000);
    assert!(!text(&simulation.windows[&VIDEO]).contains("EXT-X-GAP"), "a stall of 4 s costs nothing");
    simulation.silence(11_000_000, 6_000_000);
    for id in [VIDEO, AUDIO] {
        let playlist = text(&simulation.windows[&id]);
        assert_eq!(playlist.matches("#EXT-X-GAP\n").count(), 4, "{playlist}");
    }
    published(&mut simulation, 210..270, |n| 17_000_000 - n * 1_000_000 / 30);
    published(&mut simulation, 510..750, |_| 40_000);
    // The first key frame that comes on time is the 540th picture.
    assert!((comes_back(&simulation, VIDEO) - 18.0).abs() < 0.01);
    assert!((comes_back(&simulation, AUDIO) - 18.0).abs() < 0.05);
}

/// An encoder that was stopped for ten seconds, its clock with it.
#[test]
fn a_publisher_whose_times_stood_still_goes_on_from_there() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(7.0, (30, 1), 60, false, &BOTH);
    simulation.silence(7_000_000, 10_000_000);
    published(&mut simulation, 210..500, |_| 10_000_000);
    // It has two seconds to catch up, until 19; the first key frame behind them comes at 20.
    assert!((comes_back(&simulation, VIDEO) - 20.0).abs() < 0.1, "{}", comes_back(&simulation, VIDEO));
    assert!((comes_back(&simulation, AUDIO) - 20.0).abs() < 0.1);
}

/// When each complete segment of the pictures was first seen, seconds after the start; pictures come as `arrives` says of their time, microseconds.
fn listed_at(simulation: &mut Simulation, key_frames: i64, arrives: impl Fn(i64) -> i64) -> Vec<f64> {
    assert_eq!((simulation.add(video_track()), simulation.add(audio_track())), (VIDEO, AUDIO));
    let (mut seen, mut last) = (BTreeMap::new(), 0);
    let mut look = |simulation: &Simulation, at: i64| {
        let segments = simulation.windows.get(&VIDEO).into_iter().flat_map(|window| &window.segments);
        for segment in segments {
            seen.entry(segment.msn).or_insert(at as f64 / 1e6);
        }
    };
    for n in 0..900_i64 {
        let at = arrives(n * 100_000 / 3);
        for silent in (last + 1_000_000..at).step_by(500_000) {
            simulation.silence(silent, 1);
            look(simulation, silent);
        }
        (simulation.shift, last) = (at - n * 100_000 / 3, at);
        picture(simulation, n, key_frames);
        look(simulation, at);
    }
    seen.into_values().collect()
}

/// 1.5 target durations are 6 s (RFC 8216bis §6.2.1).
#[test]
fn media_that_comes_slower_than_real_time_is_listed_in_time() {
    for slower in [2, 3, 7, 12] {
        for key_frames in [60, 150, 900] {
            let mut simulation = Simulation::new(Config::default());
            let listed = listed_at(&mut simulation, key_frames, |time| time * slower);
            let longest = listed.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
            assert!(longest <= 6.0, "{slower} times slower, a key frame every {key_frames}: {longest:.2} s");
        }
    }
}

/// Too short for gaps, and the publisher's clock stood still meanwhile.
#[test]
fn a_short_stall_is_no_reason_to_list_the_next_segment_late() {
    for key_frames in [60, 300] {
        for (from, stall) in
            (8_000_000..10_000_000).step_by(100_000).flat_map(|from| [4.0, 4.8, 5.3].map(|s| (from, s)))
        {
            let mut simulation = Simulation::new(Config::default());
            let held = (stall * 1e6) as i64;
            let listed = listed_at(&mut simulation, key_frames, |time| if time < from { time } else { time + held });
            let longest = listed.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
            assert!(longest <= 6.0, "{stall} s from {from}, a key frame every {key_frames}: {longest:.2} s");
        }
    }
}
