//! What an MPD says of streams whose publishers come and go, over simulated ones.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dash_mpd_core as mpd;
use mp4_atom::{Decode, Prft, Styp};

use super::render;
use crate::media::codec::h264;
use crate::media::{Format, Kind, RenditionId, Timescale};
use crate::packager::Config;
use crate::packager::testing::simulation::Simulation;

const BOTH: [Kind; 2] = [Kind::Video, Kind::Audio];

fn parsed(simulation: &Simulation) -> mpd::MPD {
    let windows: Vec<_> = simulation.windows.values().cloned().collect();
    let text = render(simulation.catalog.as_ref().expect("a catalog"), &windows);
    mpd::parse(&text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// Where the first segment that is listed ends, seconds after availabilityStartTime, and how many there are.
fn first_end(period: &mpd::Period) -> (f64, i64) {
    let template = period.adaptations[0].representations[0].SegmentTemplate.as_ref().expect("a template");
    let list = &template.SegmentTimeline.as_ref().expect("a timeline").segments;
    let scale = template.timescale.expect("a timescale") as f64;
    let offset = template.presentationTimeOffset.unwrap_or(0);
    let start = period.start.unwrap_or_default().as_secs_f64();
    let end = (list[0].t.expect("a time") + list[0].d).saturating_sub(offset) as f64 / scale;
    (start + end, list.iter().map(|s| s.r.unwrap_or(0) + 1).sum())
}

#[test]
fn what_leaves_the_buffer_during_an_outage_leaves_the_mpd() {
    for outage in [0, 4, 10, 13, 29] {
        let mut simulation = Simulation::new(Config::default());
        simulation.stream(40.0, (30, 1), 60, false, &BOTH);
        simulation.outage(40_000_000, outage * 1_000_000);
        let mpd = parsed(&simulation);
        let depth = mpd.timeShiftBufferDepth.expect("a depth").as_secs_f64();
        let (end, count) = first_end(&mpd.periods[0]);
        let now = 40.0 + outage as f64;
        if now - depth < 40.0 {
            assert!(end > now - depth - 2.0 && end <= now - depth + 2.1, "after {outage} s: the first ends at {end}");
        } else {
            assert_eq!(count, 1, "an MPD without a period is none");
        }
    }
}

#[test]
fn each_period_has_the_picture_rate_of_its_own_encoder() {
    let mut simulation = Simulation::new(Config::default());
    let rates = |simulation: &Simulation| -> Vec<Option<String>> {
        parsed(simulation).periods.iter().map(|p| p.adaptations[0].representations[0].frameRate.clone()).collect()
    };
    simulation.stream(20.0, (30, 1), 60, false, &BOTH);
    simulation.outage(20_000_000, 1_000_000);
    if let Format::H264(config) = &mut simulation.video.format {
        (config.width, config.height) = (1920, 1080);
    }
    simulation.stream(7.0, (24, 1), 48, false, &BOTH);
    let rates = rates(&simulation);
    assert!(rates.len() > 1, "{rates:?}");
    // What the first encoder's pictures came at is not measured any more, and it said nothing.
    assert_eq!(rates.first(), Some(&None));
    assert_eq!(rates.last(), Some(&Some("24".to_owned())));
    let multivariant = crate::packager::playlist::hls_multivariant::render(simulation.catalog.as_ref().unwrap());
    assert!(multivariant.contains("FRAME-RATE=24"), "{multivariant}");
}

/// ISO/IEC 23009-1 §5.3.7.2: 0 promises nothing. Sound can begin with any frame.
#[test]
fn where_a_segment_had_to_end_without_a_key_frame_none_is_promised() {
    for (key_frames, promised) in [(60, 1), (900, 0)] {
        let mut simulation = Simulation::new(Config::default());
        simulation.stream(25.0, (30, 1), key_frames, false, &BOTH);
        let mpd = parsed(&simulation);
        let said: Vec<_> = mpd.periods[0].adaptations.iter().map(|set| set.startWithSAP).collect();
        assert_eq!(said, [Some(promised), Some(1)], "a key frame every {key_frames} pictures");
    }
}

/// Dates move where a publisher's clock is not ours. A player takes them from the MPD or from the part that it has (ISO/IEC 23009-1 §5.12).
#[test]
fn an_mpd_dates_media_as_the_media_itself_does() {
    // Microseconds a picture: one in a hundred.
    for drift in [-333, 333] {
        let mut simulation = Simulation::new(Config::default());
        let (video, audio) = (simulation.add(simulation.video.clone()), simulation.add(simulation.audio.clone()));
        let scale = simulation.audio.timescale;
        let (mut at, mut offsets) = (0, BTreeSet::new());
        for n in 0..30 * 60 {
            simulation.shift = n * drift;
            simulation.push(video, n * 3_000, n * 3_000, n % 60 == 0, 900, Timescale::NINETY_KHZ);
            while at * 90_000 < (n + 1) * 3_000 * i64::from(scale.hz()) {
                simulation.push(audio, at, at, true, 300, scale);
                at += 1_024;
            }
            // A new segment has parts by then.
            if n % 10 == 9 && n > 300 {
                let mpd = parsed(&simulation);
                for set in &mpd.periods.last().expect("a period").adaptations {
                    let (said, held) = dated(&simulation, set);
                    let off = said - held;
                    assert!(off.abs() <= 1_000, "{drift}, {n}: {:?} is {off} µs off", set.contentType);
                    offsets.insert(said / 1_000);
                }
            }
        }
        assert!(offsets.len() > 10, "the dates are led after the publisher's: {offsets:?}");
    }
}

/// From media time to the wall clock in microseconds, as ProducerReferenceTime has it, and as `prft` does in the segment that it is about.
fn dated(simulation: &Simulation, set: &mpd::AdaptationSet) -> (i64, i64) {
    let reference = set.ProducerReferenceTime.first().expect("a reference");
    let at = reference.presentationTime.expect("a time");
    let id = set.representations[0].id.as_deref();
    let mut windows = simulation.windows.values();
    let window = windows.find(|window| Some(window.rendition.id.to_string().as_str()) == id);
    let window = window.expect("a window");
    let segment = window.kept().find(|segment| segment.presentation_start.unsigned_abs() == at).expect("it is kept");
    let mut header = &segment.parts[0].header[..];
    Styp::decode(&mut header).expect("it opens a segment");
    let prft = Prft::decode(&mut header).expect("a reference");
    // Seconds since 1900, and their fractions.
    let seconds = (prft.ntp_timestamp >> 32) as i64 - 2_208_988_800;
    let micros = (((prft.ntp_timestamp & 0xFFFF_FFFF) * 1_000_000) >> 32) as i64;
    let since = |date: i64, at: u64| date - window.rendition.init.track.timescale.micros(at as i64);
    let said = reference.wallClockTime.expect("a date").timestamp_micros();
    (since(said, at), since(seconds * 1_000_000 + micros, prft.media_time))
}

#[test]
fn a_stream_that_has_had_a_long_segment_says_that_it_may_have_one() {
    let mut simulation = Simulation::new(Config::default());
    let id = simulation.add(simulation.video.clone());
    let mut at = 0;
    let mut gop = |simulation: &mut Simulation, pictures: i64| {
        for n in 0..pictures {
            simulation.push(id, at * 3_000, at * 3_000, n == 0, 900, Timescale::NINETY_KHZ);
            at += 1;
        }
    };
    let longest = |simulation: &Simulation| parsed(simulation).maxSegmentDuration.expect("a duration");
    (0..10).for_each(|_| gop(&mut simulation, 60));
    assert!(longest(&simulation) < Duration::from_millis(2_200), "players start where regular streams let them");
    gop(&mut simulation, 200);
    assert!(longest(&simulation) > Duration::from_millis(4_400));
    (0..60).for_each(|_| gop(&mut simulation, 60));
    let window = &simulation.windows[&RenditionId { kind: Kind::Video, index: 0 }];
    assert!(window.segments.iter().all(|segment| segment.duration < 200_000), "the long one is gone");
    assert!(parsed(&simulation).periods.last().is_some_and(|p| p.adaptations[0].representations[0].Resync.len() == 1));
    assert!(longest(&simulation) > Duration::from_millis(4_400));
}

/// What an MPD has said of a segment stands, also where the sound has a hole that ends a segment and is a segment (ISO/IEC 23009-1 §5.3.9.6).
#[test]
fn a_hole_in_the_sound_changes_nothing_that_was_said() {
    // Hundredths of a second; where the sound stops for long enough late in a segment of four seconds, the last frame is a segment of its own.
    for hole in (20..200).step_by(17) {
        for from in (280..400).step_by(13) {
            let mut simulation = Simulation::new(Config::default());
            let video = simulation.add(simulation.video.clone());
            let audio = simulation.add(simulation.audio.clone());
            let scale = simulation.audio.timescale;
            let hundredth = |hundredths: i64| hundredths * i64::from(scale.hz()) / 100;
            let (begins, ends) = (hundredth(2_000 + from), hundredth(2_000 + from + hole));
            let (mut at, mut said) = (0, BTreeMap::new());
            for n in 0..30 * 30 {
                simulation.push(video, n * 3_000, n * 3_000, n % 120 == 0, 900, Timescale::NINETY_KHZ);
                while at * 90_000 < (n + 1) * 3_000 * i64::from(scale.hz()) {
                    if !(begins..ends).contains(&at) {
                        simulation.push(audio, at, at, true, 300, scale);
                    }
                    at += 1_024;
                }
                if n > 30 * 18 && n % 5 == 0 {
                    assert_says_the_same(&mut said, &simulation, &format!("{hole} from {from}"));
                }
            }
        }
    }
}

/// Of each segment: its period, representation and number, its time and duration.
type Said = BTreeMap<(String, String, u64), (u64, u64)>;

fn assert_says_the_same(said: &mut Said, simulation: &Simulation, what: &str) {
    for period in parsed(simulation).periods {
        let id = period.id.expect("an id");
        for representation in period.adaptations.into_iter().flat_map(|set| set.representations) {
            let template = representation.SegmentTemplate.expect("a template");
            let name = representation.id.expect("an id");
            let (mut number, mut at) = (template.startNumber.expect("a number"), 0);
            for s in template.SegmentTimeline.expect("a timeline").segments {
                at = s.t.unwrap_or(at);
                for _ in 0..=s.r.unwrap_or(0) {
                    let before = *said.entry((id.clone(), name.clone(), number)).or_insert((at, s.d));
                    assert_eq!(before, (at, s.d), "{what}: {name} {number} of {id} has changed");
                    (number, at) = (number + 1, at + s.d);
                }
            }
        }
    }
}

/// Pictures from number `from` to `to`, thirty a second with a key frame every two, and sound from `phase` ticks later on whose frames are `step` ticks
/// apart; each comes `late` microseconds after its time. Calls `look` now and then.
fn published(
    simulation: &mut Simulation,
    (from, to, late): (i64, i64, i64),
    (phase, step): (i64, i64),
    mut look: impl FnMut(&Simulation),
) {
    let (video, audio) = (simulation.add(simulation.video.clone()), simulation.add(simulation.audio.clone()));
    simulation.shift = late;
    let scale = simulation.audio.timescale;
    let samples = |picture: i64| picture * i64::from(scale.hz()) / 30;
    let mut sound = samples(from) / 1_024 * 1_024 + phase;
    for n in from..to {
        simulation.push(video, n * 3_000, n * 3_000, n % 60 == 0, 900, Timescale::NINETY_KHZ);
        while sound < samples(n + 1) {
            simulation.push(audio, sound, sound, true, 300, scale);
            sound += step;
        }
        if n % 10 == 0 {
            look(simulation);
        }
    }
}

/// No `S` begins before the one before it ends. Spec: ISO/IEC 23009-1 §5.3.9.6.
fn assert_nothing_overlaps(simulation: &Simulation, what: &str) {
    for period in &parsed(simulation).periods {
        for set in &period.adaptations {
            let template = set.representations[0].SegmentTemplate.as_ref().expect("a template");
            let mut end = 0;
            for s in &template.SegmentTimeline.as_ref().expect("a timeline").segments {
                let start = s.t.unwrap_or(end);
                assert!(start >= end, "{what}: {:?} {:?} has {start} behind {end}", period.id, set.contentType);
                end = start + s.d * (s.r.unwrap_or(0) as u64 + 1);
            }
        }
    }
}

/// Behind an outage nothing is announced of the first segment of sound, and it is known where the next one begins before this one ends.
#[test]
fn no_segment_of_a_period_begins_before_the_one_before_it_ends() {
    // The timeline leads sound back to its stamps by a two hundredth of a frame each time; another sample rate has no grid.
    for (step, rate) in [(1_024, 48_000), (1_019, 48_000), (1_029, 48_000), (1_024, 44_100)] {
        for (silent, outage) in [false, true].into_iter().flat_map(|s| [1_000, 3_333, 9_500, 12_030].map(|o| (s, o))) {
            for (phase, last) in [0, 300, 700, 1_000, 2_100].into_iter().flat_map(|p| [210, 223, 239].map(|l| (p, l))) {
                let what = format!("{step} at {rate}, {outage} ms, silent {silent}, {phase} late, until {last}");
                let mut simulation = Simulation::new(Config::default());
                let look = |simulation: &Simulation| assert_nothing_overlaps(simulation, &what);
                published(&mut simulation, (0, last, 0), (0, 1_024), |_| ());
                simulation.rejoining = true;
                simulation.audio.timescale = Timescale::new(rate).expect("not zero");
                if let Format::Aac(config) = &mut simulation.audio.format {
                    config.sample_rate = rate;
                }
                let (end, outage) = (last * 1_000_000 / 30, outage * 1_000);
                if silent {
                    simulation.silence(end, outage);
                    let from = (end + outage) * 30 / 1_000_000;
                    published(&mut simulation, (from, from + 300, 0), (phase, step), look);
                } else {
                    simulation.outage(end, outage);
                    published(&mut simulation, (0, 300, end + outage), (phase, step), look);
                }
            }
        }
    }
}

/// Windows keep half a minute. A player that gets no MPD in an outage that is longer than that stops for good.
#[test]
fn an_mpd_lists_the_newest_media_however_long_nobody_publishes() {
    for kinds in [&BOTH[..], &BOTH[..1], &BOTH[1..]] {
        let mut simulation = Simulation::new(Config::default());
        if let Format::H264(config) = &mut simulation.video.format {
            // What comes back from a file is read from the record.
            *config = h264::Config::parse(&config.record).expect("a record");
        }
        simulation.stream(40.0, (30, 1), 60, false, kinds);
        simulation.outage(40_000_000, 20_000_000);
        let mut last = None;
        for at in (60..660).step_by(10) {
            let mpd = parsed(&simulation);
            let (end, count) = first_end(&mpd.periods[0]);
            assert!(count == 1 && last.is_none_or(|last| last == end), "at {at} s: {count}, until {end}");
            last = Some(end);
            assert_what_is_listed_is_served(&mpd, &simulation);
            let kept = simulation.windows.values().map(|window| window.kept().count()).max();
            assert!(kept < Some(40), "{kept:?}");
            simulation.passing(at * 1_000_000, 10_000_000);
            if at == 300 {
                simulation.restart();
            }
        }
        // It stays until something newer can be shown, and goes with that.
        let id = simulation.windows.values().next().map(|window| window.rendition.id).expect("a window");
        let pushed = simulation.windows[&id].segments.last().map(|last| last.msn);
        let mut n = 0;
        published_again(&mut simulation, kinds, |simulation| {
            n += 1;
            let mpd = parsed(simulation);
            assert!(!mpd.periods.is_empty(), "picture {n}");
            assert_what_is_listed_is_served(&mpd, simulation);
        });
        let window = &simulation.windows[&id];
        assert!(window.survivor.is_none() && pushed < window.segments.first().map(|first| first.msn));
    }
}

/// Seventy seconds of what there was before.
fn published_again(simulation: &mut Simulation, kinds: &[Kind], mut look: impl FnMut(&Simulation)) {
    let scale = simulation.audio.timescale;
    let ids: Vec<_> = kinds
        .iter()
        .map(|kind| {
            (
                *kind,
                simulation.add(if *kind == Kind::Video { simulation.video.clone() } else { simulation.audio.clone() }),
            )
        })
        .collect();
    for n in 0..2_100 {
        for (kind, id) in &ids {
            match kind {
                Kind::Video => simulation.push(*id, n * 3_000, n * 3_000, n % 60 == 0, 900, Timescale::NINETY_KHZ),
                // Frames of 21.3 ms.
                Kind::Audio => (n * 1_600 / 1_024..(n + 1) * 1_600 / 1_024).for_each(|frame| {
                    simulation.push(*id, frame * 1_024, frame * 1_024, true, 300, scale);
                }),
            }
        }
        look(simulation);
    }
}

fn assert_what_is_listed_is_served(mpd: &mpd::MPD, simulation: &Simulation) {
    for set in mpd.periods.iter().flat_map(|period| &period.adaptations) {
        for representation in &set.representations {
            let id = representation.id.as_deref();
            let window =
                simulation.windows.values().find(|window| Some(window.rendition.id.to_string().as_str()) == id);
            let window = window.expect("a window");
            let template = representation.SegmentTemplate.as_ref().expect("a template");
            let first = template.startNumber.expect("a number");
            let list = &template.SegmentTimeline.as_ref().expect("a timeline").segments;
            let count: i64 = list.iter().map(|s| s.r.unwrap_or(0) + 1).sum();
            for msn in first..first + count.unsigned_abs() {
                let held = window.segment(msn).is_some_and(|segment| !segment.is_gap());
                assert!(held || msn >= window.open_msn, "{id:?} lists {msn}");
            }
            let init = template.initialization.as_ref().and_then(|name| name.split("init-").nth(1));
            let number = init.and_then(|name| name.strip_suffix(".mp4")?.parse().ok()).expect("an init");
            assert!(window.init(number).is_some(), "{id:?} has no init {number}");
        }
    }
}
