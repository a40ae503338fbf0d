//! What comes back, or goes on, in another format.

use std::collections::BTreeMap;

use super::*;
use crate::packager::testing::mp3_track;

/// Numbers of the segments of `id` that begin with a discontinuity.
fn marked(simulation: &Simulation, id: RenditionId) -> Vec<u64> {
    simulation.windows[&id].segments.iter().filter(|s| s.discontinuity).map(|s| s.msn).collect()
}

#[test]
fn another_resolution_is_one_discontinuity_with_its_own_init() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(7.0, (30, 1), 60, false, &BOTH);
    simulation.outage(7_000_000, 3_000_000);
    let mut track = video_track();
    if let Format::H264(config) = &mut track.format {
        (config.width, config.height) = (1920, 1080);
    }
    assert_eq!((simulation.add(track), simulation.add(audio_track())), (VIDEO, AUDIO));
    published(&mut simulation, 0..240, |_| 10_000_000);
    for id in [VIDEO, AUDIO] {
        assert_eq!(marked(&simulation, id).len(), 1, "{id}: {}", text(&simulation.windows[&id]));
        assert_eq!(marked(&simulation, id), marked(&simulation, VIDEO));
    }
    let playlist = text(&simulation.windows[&VIDEO]);
    assert!(playlist.contains("init-0.mp4") && playlist.contains("init-1.mp4"), "{playlist}");
    assert!(!text(&simulation.windows[&AUDIO]).contains("init-1.mp4"));
}

/// RFC 8216bis Appendix B.1. Nothing is said of a format before media has come in it: another one may take its place.
#[test]
fn the_init_of_the_next_part_is_hinted_where_it_is_another_one() {
    let mut simulation = Simulation::new(Config::default());
    assert_eq!((simulation.add(video_track()), simulation.add(audio_track())), (VIDEO, AUDIO));
    let mut hinted = BTreeMap::from([VIDEO, AUDIO].map(|id| (id, Vec::new())));
    for n in 0..240 {
        let mut change = |id, track| simulation.presentation.set_track(id, track).expect("a good track");
        match n {
            100 => change(AUDIO, mp3_track(48_000)),
            // The next key frame is the 180th picture, and init-1 is used by none.
            178 => change(VIDEO, Track { language: "de".into(), ..video_track() }),
            179 => change(VIDEO, Track { language: "en".into(), ..video_track() }),
            _ => {}
        }
        picture(&mut simulation, n, 60);
        for (id, hinted) in &mut hinted {
            let window = &simulation.windows[id];
            let playlist = text(window);
            let (_, hints) = playlist.split_once("#EXT-X-PRELOAD-HINT:").expect("a hint");
            let Some(map) = hints.strip_prefix("TYPE=MAP,URI=\"init-") else { continue };
            let (number, part) = map.split_once(".mp4\"\n").expect("a URI");
            let number: u32 = number.parse().expect("a number");
            assert!(window.init(number).is_some() && part.starts_with("#EXT-X-PRELOAD-HINT:TYPE=PART,"), "{playlist}");
            hinted.push((n, number));
        }
    }
    // Six pictures make a part, or ten frames of sound in about the same time, and what follows them ends it.
    let at = |pictures: std::ops::Range<i64>, init: u32| pictures.map(move |n| (n, init));
    assert_eq!(hinted[&VIDEO], at(0..6, 0).chain(at(180..186, 2)).collect::<Vec<_>>());
    assert_eq!(hinted[&AUDIO], at(0..6, 0).chain(at(100..106, 1)).collect::<Vec<_>>());
}

#[test]
fn another_codec_is_one_discontinuity_with_its_own_init() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(7.0, (30, 1), 60, false, &BOTH);
    simulation.outage(7_000_000, 3_000_000);
    simulation.audio = mp3_track(48_000);
    simulation.stream(8.0, (30, 1), 60, false, &BOTH);
    assert_eq!(marked(&simulation, VIDEO).len(), 1);
    assert_eq!(marked(&simulation, VIDEO), marked(&simulation, AUDIO));
    let sound = &simulation.windows[&AUDIO];
    let playlist = text(sound);
    assert!(playlist.contains("init-0.mp4") && playlist.contains("init-1.mp4"), "{playlist}");
    assert!(!text(&simulation.windows[&VIDEO]).contains("init-1.mp4"));
    let segments = sound.segments.iter().filter(|segment| !segment.is_gap());
    let mut codecs: Vec<_> = segments.map(|segment| segment.init.track.format.codec_string()).collect();
    codecs.dedup();
    assert_eq!(codecs, ["mp4a.40.2", "mp4a.6B"]);
}

#[test]
fn another_sample_rate_keeps_the_timescale() {
    let mut simulation = Simulation::new(Config::default());
    simulation.stream(7.0, (30, 1), 60, false, &BOTH);
    simulation.outage(7_000_000, 1_000_000);
    let scale = Timescale::new(44_100).unwrap();
    let mut track = Track { timescale: scale, ..audio_track() };
    if let Format::Aac(config) = &mut track.format {
        config.sample_rate = 44_100;
    }
    let (video, audio) = (simulation.add(video_track()), simulation.add(track));
    for n in 0..240_i64 {
        simulation.push(video, n * 3_000, n * 3_000, n % 60 == 0, 900, Timescale::NINETY_KHZ);
        for frame in (n * 1_470 + 1_023) / 1_024..((n + 1) * 1_470 + 1_023) / 1_024 {
            simulation.push(audio, frame * 1_024, frame * 1_024, true, 300, scale);
        }
    }
    let window = &simulation.windows[&AUDIO];
    assert_eq!(window.rendition.init.track.timescale.hz(), 48_000);
    let last = window.segments.last().unwrap();
    let video = simulation.windows[&VIDEO].segment(last.msn).unwrap();
    let apart = last.init.track.timescale.micros(last.presentation_start)
        - Timescale::NINETY_KHZ.micros(video.presentation_start);
    assert!((0..=24_000).contains(&apart), "{apart}");
}

/// Found by fuzzing: pictures of a deeper reordering are decoded before the gap ends that they come behind, the first ones before zero.
#[test]
fn deeper_reordering_than_before_begins_behind_the_gap_all_the_same() {
    for (before, pictures) in [(0, 1), (0, 60), (9_000, 1), (9_000, 60)] {
        let mut simulation = Simulation::new(Config::default());
        let id = simulation.add(video_track());
        let push = |simulation: &mut Simulation, id, n: i64, delay| {
            simulation.push(id, n * 3_600, n * 3_600 + delay, n % 50 == 0, 500, Timescale::NINETY_KHZ);
        };
        (0..pictures).for_each(|n| push(&mut simulation, id, n, before));
        simulation.outage(pictures * 40_000, 1);
        let id = simulation.add(video_track());
        // The rules that are asserted after each: segments and decode times run on.
        (0..100).for_each(|n| push(&mut simulation, id, n, 18_000));
        assert!(!simulation.windows[&VIDEO].waiting);
    }
}

/// Found by fuzzing: the first picture after the outage is presented later after its decoding than the stream is old.
#[test]
fn deep_reordering_in_the_first_moment_of_a_stream_does_not_begin_before_it() {
    for (known, delay) in [(0, 3_000), (900, 9_000)] {
        let mut simulation = Simulation::new(Config::default());
        let tracks = [(); 2].map(|()| simulation.add(video_track()));
        simulation.push(tracks[1], known, known, true, 100, Timescale::NINETY_KHZ);
        simulation.outage(0, 1);
        simulation.shift = 0;
        for index in [0, 1] {
            simulation.presentation.rejoin_track(index, video_track()).expect("a good track");
        }
        simulation.push(tracks[0], 0, delay, true, 100, Timescale::NINETY_KHZ);
        simulation.finish();
    }
}

/// The catalog is made anew where another track is cut, in the middle of a segment of the pictures.
#[test]
fn the_picture_rate_is_that_of_whole_segments() {
    let mut simulation = Simulation::new(Config::default());
    assert_eq!((simulation.add(video_track()), simulation.add(audio_track())), (VIDEO, AUDIO));
    let mut seen = Vec::new();
    for n in 0..480 {
        if n % 100 == 99 {
            let track = if n % 200 == 99 { mp3_track(48_000) } else { audio_track() };
            simulation.presentation.set_track(AUDIO, track).expect("a good track");
        }
        picture(&mut simulation, n, 60);
        let shown = simulation.catalog.as_ref().and_then(|catalog| catalog.renditions.first());
        seen.extend(shown.map(|video| video.frame_rate));
    }
    assert!(!seen.is_empty() && seen.iter().all(|rate| *rate == 30.0), "{seen:?}");
}
