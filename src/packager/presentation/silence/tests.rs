//! A track that falls silent while the other goes on: how soon viewers are told, and how it comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::media::{Kind, RenditionId, Timescale};
use crate::packager::Config;
use crate::packager::playlist::dash;
use crate::packager::testing::simulation::Simulation;
use crate::packager::testing::{audio_track, video_track};

const VIDEO: RenditionId = RenditionId { kind: Kind::Video, index: 0 };
const AUDIO: RenditionId = RenditionId { kind: Kind::Audio, index: 0 };
const KHZ48: fn() -> Timescale = || Timescale::new(48_000).expect("not zero");

/// 30 pictures a second with a key frame every two seconds, and AAC, for `seconds`; nothing of what `left_out` says, given kind and picture. Video
/// arrives `late` pictures after the sound that belongs to it, or before where that is negative. Calls `look` after each picture's time.
fn av(
    simulation: &mut Simulation,
    seconds: i64,
    late: i64,
    left_out: impl Fn(Kind, i64) -> bool,
    look: impl FnMut(&Simulation, i64),
) {
    av_with(simulation, (seconds, 60), late, left_out, look);
}

/// The same with a key frame every `gop` pictures; where that is 0, three to seven a segment, and no segment as long as the one before.
fn av_with(
    simulation: &mut Simulation,
    (seconds, gop): (i64, i64),
    late: i64,
    left_out: impl Fn(Kind, i64) -> bool,
    mut look: impl FnMut(&Simulation, i64),
) {
    let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
    for n in 0..seconds * 30 {
        let (picture, n) = (n - late.max(0), n + late.min(0));
        if picture >= 0 && !left_out(Kind::Video, picture) {
            simulation.push(video, picture * 3_000, picture * 3_000, is_key(picture, gop), 900, Timescale::NINETY_KHZ);
        }
        if n >= 0 && !left_out(Kind::Audio, n) {
            for frame in (n * 1_600 + 1_023) / 1_024..((n + 1) * 1_600 + 1_023) / 1_024 {
                simulation.push(audio, frame * 1_024, frame * 1_024, true, 300, KHZ48());
            }
        }
        look(simulation, n);
    }
}

fn is_key(picture: i64, gop: i64) -> bool {
    let irregular = || [9, 10, 11, 13][(picture / 66 % 4) as usize];
    picture % if gop == 0 { irregular() } else { gop } == 0
}

/// 1.5 target durations are 6 s (RFC 8216bis §6.2.1), from when a segment was first seen to when the next one was, as a client sees them.
#[test]
fn a_track_that_falls_silent_has_a_new_segment_in_time() {
    for kind in [Kind::Video, Kind::Audio] {
        for from in (180..240).step_by(5).chain([239]) {
            let mut simulation = Simulation::new(Config::default());
            let mut seen: BTreeMap<u64, i64> = BTreeMap::new();
            let id = RenditionId { kind, index: 0 };
            let silent = |of: Kind, n: i64| of == kind && (from..900).contains(&n);
            av(&mut simulation, 36, 0, silent, |simulation, n| {
                let Some(window) = simulation.windows.get(&id) else { return };
                for segment in window.segments.iter().chain(&window.open) {
                    seen.entry(segment.msn).or_insert(n);
                }
            });
            let first: Vec<i64> = seen.into_values().collect();
            let longest = first.windows(2).map(|pair| pair[1] - pair[0]).max().expect("segments");
            assert!(longest <= 6 * 30, "{kind:?} silent from picture {from}: {:.2} s", longest as f64 / 30.0);
            let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
            assert_eq!((video.open_msn, video.waiting, audio.waiting), (audio.open_msn, false, false), "{from}");
        }
    }
}

/// The same from one complete segment to the next, however rare key frames are: every three and four seconds, so rarely that segments are ended
/// without. Sound arrives beside the pictures that it belongs to, late or early.
#[test]
fn a_track_that_falls_silent_beside_rare_key_frames_has_a_new_segment_in_time() {
    for (kind, gop) in
        [Kind::Video, Kind::Audio].into_iter().flat_map(|kind| [60, 90, 120, 134, 450].map(|gop| (kind, gop)))
    {
        // A picture that comes after its sound, and once in fifteen seconds, comes after the gap that it could have begun behind.
        let late: &[i64] = if (kind, gop) == (Kind::Video, 450) { &[0, -20] } else { &[0, 20, -20] };
        for (from, late) in (360..480).step_by(7).flat_map(|from| late.iter().map(move |late| (from, *late))) {
            let what = format!("{kind:?} silent from picture {from}, {late} late, a key frame every {gop}");
            let mut simulation = Simulation::new(Config::default());
            let mut seen: BTreeMap<u64, i64> = BTreeMap::new();
            let (id, other) = if kind == Kind::Video { (VIDEO, AUDIO) } else { (AUDIO, VIDEO) };
            let silent = |of: Kind, n: i64| of == kind && (from..1_200).contains(&n);
            av_with(&mut simulation, (60, gop), late, silent, |simulation, n| {
                let Some(window) = simulation.windows.get(&id) else { return };
                for segment in &window.segments {
                    seen.entry(segment.msn).or_insert(n);
                }
                let Some(others) = simulation.windows.get(&other).map(|window| window.open_msn) else { return };
                assert!(window.open_msn.abs_diff(others) <= 2, "{what}: {} and {others}", window.open_msn);
            });
            let first: Vec<i64> = seen.into_values().collect();
            let longest = first.windows(2).map(|pair| pair[1] - pair[0]).max().expect("segments");
            assert!(longest <= 6 * 30, "{what}: {:.2} s", longest as f64 / 30.0);
            let (window, other) = (&simulation.windows[&id], &simulation.windows[&other]);
            assert_eq!((window.waiting, other.waiting), (false, false), "{what}");
            assert!(
                window.open_msn.abs_diff(other.open_msn) <= 1,
                "{what}: {} and {}",
                window.open_msn,
                other.open_msn
            );
        }
    }
}

/// Sound that comes back while its gap is open is heard at once; where the gap had to be listed, from the next cut on.
#[test]
fn sound_that_comes_back_is_numbered_as_the_pictures_are() {
    for gop in [60, 120, 900] {
        for until in (400..700).step_by(3) {
            let mut simulation = Simulation::new(Config::default());
            let silent = |of: Kind, n: i64| of == Kind::Audio && (370..until).contains(&n);
            av_with(&mut simulation, (40, gop), 0, silent, |_, _| {});
            let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
            assert_eq!((audio.open_msn, audio.waiting), (video.open_msn, false), "back at {until}, gop {gop}");
            let back = audio.segments.windows(2).find(|pair| pair[0].is_gap() && !pair[1].is_gap());
            let Some([_, back]) = back else { continue };
            let late = KHZ48().seconds(back.start) - until as f64 / 30.0;
            let most = if gop == 60 { 0.1 } else { 3.6 };
            assert!((-0.1..most).contains(&late), "back at {until}, gop {gop}: heard {late:.2} s later");
            let pictures = video.segment(back.msn).expect("the same numbers");
            let apart = KHZ48().seconds(back.start) - Timescale::NINETY_KHZ.seconds(pictures.start);
            assert!((-0.1..4.5).contains(&apart), "back at {until}, gop {gop}: {apart:.2} s after its pictures");
        }
    }
}

/// Sound comes back and waits for the next cut, which never comes, since pictures fall silent at that moment.
#[test]
fn sound_that_waits_for_a_cut_of_silent_pictures_does_not_wait_for_ever() {
    for from in (400..700).step_by(2) {
        let mut simulation = Simulation::new(Config::default());
        let silent = |of: Kind, n: i64| if of == Kind::Audio { (370..from).contains(&n) } else { n >= from };
        av_with(&mut simulation, (40, 120), 0, silent, |_, _| {});
        let audio = &simulation.windows[&AUDIO];
        let newest = audio.open.as_ref().or(audio.segments.last()).expect("media");
        assert!(!audio.waiting && KHZ48().seconds(newest.start + newest.duration) > 39.5, "silent from {from}");
    }
}

/// One key frame comes in the middle of the silence, after sound that is presented later than it: behind the gap that was listed up to there.
#[test]
fn a_picture_that_comes_too_late_for_its_gap_does_not_lead() {
    let mut missed = 0;
    for from in 180..240 {
        let mut simulation = Simulation::new(Config::default());
        let silent = |of: Kind, n: i64| of == Kind::Video && n >= from && n != 720;
        let mut longest = 0;
        let mut media = false;
        av(&mut simulation, 40, 9, silent, |simulation, n| {
            let window = |id| simulation.windows.get(&id).filter(|_| n > 800);
            let sound = window(AUDIO).and_then(|window| window.segments.last());
            longest = longest.max(sound.map_or(0, |segment| segment.duration));
            media |= window(VIDEO)
                .is_some_and(|window| window.segments.iter().any(|segment| segment.msn > 51 && !segment.is_gap()));
        });
        missed += u64::from(!media);
        let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
        assert!(audio.open_msn - video.open_msn <= 1, "silent from {from}: {} and {}", audio.open_msn, video.open_msn);
        assert!(longest < 4 * 48_000, "silent from {from}: sound was cut where it had to be, {longest}");
        let windows = [video.clone(), audio.clone()];
        let mpd = dash::render(simulation.catalog.as_ref().expect("a catalog"), &windows);
        assert!(dash_mpd_core::parse(&mpd).is_ok(), "{mpd}");
    }
    assert!((1..60).contains(&missed), "of 60 key frames {missed} came too late");
}

/// Sound and pictures arrive up to three seconds apart, all of them: none is silent, and both are there from the start.
#[test]
fn tracks_that_arrive_apart_are_whole() {
    for (late, gop) in (-87..=87).step_by(6).flat_map(|late| [30, 60, 90].map(|gop| (late, gop))) {
        let mut simulation = Simulation::new(Config::default());
        let mut gaps = BTreeSet::new();
        av_with(
            &mut simulation,
            (40, gop),
            late,
            |_, _| false,
            |simulation, _| {
                let segments = simulation
                    .windows
                    .iter()
                    .flat_map(|(id, window)| window.segments.iter().map(move |one| (*id, one)));
                gaps.extend(segments.filter(|(_, one)| one.is_gap()).map(|(id, one)| (id, one.msn)));
            },
        );
        let what = format!("pictures {late} pictures later than sound, a key frame every {gop}");
        assert!(gaps.is_empty(), "{what}: {gaps:?}");
        for (id, scale, end) in [
            (VIDEO, Timescale::NINETY_KHZ, 40.0 - late.max(0) as f64 / 30.0),
            (AUDIO, KHZ48(), 40.0 + late.min(0) as f64 / 30.0),
        ] {
            let window = simulation.windows.get(&id).unwrap_or_else(|| panic!("{what}: no {id}"));
            let newest = window.open.as_ref().or(window.segments.last()).expect("media");
            let last = scale.seconds(newest.start + newest.duration);
            assert!(last > end - 0.6, "{what}: {id} ends at {last:.2} s of {end:.2}");
            // DASH is told of each segment what it is, within a frame.
            for segment in window.segments.iter().filter(|segment| segment.announced.is_some()) {
                let off = scale.seconds((segment.presentation_start - segment.start).abs());
                assert!(off < 0.04, "{what}: {id} {} is announced {off:.2} s off", segment.msn);
            }
        }
        let periods = &simulation.catalog.as_ref().expect("a catalog").periods;
        let lives: Vec<_> = periods.iter().map(|one| (one.id, one.low_latency)).collect();
        assert!(lives.len() <= 5 && lives.last().is_some_and(|(_, low_latency)| *low_latency), "{what}: {lives:?}");
    }
}

/// Pictures come back, each two thirds of a second after the sound that it belongs to: a key frame just before a cut comes behind it, when the gap
/// before that was to be listed, and so does the next. They are seen again all the same.
#[test]
fn pictures_that_come_later_than_their_sound_come_back() {
    for (late, gop) in [10, 20, 30].into_iter().flat_map(|late| [60, 90, 120].map(|gop| (late, gop))) {
        for from in (360..480).step_by(8) {
            let mut simulation = Simulation::new(Config::default());
            let until = from + 300;
            let silent = |of: Kind, n: i64| of == Kind::Video && (from..until).contains(&n);
            let mut back = None;
            av_with(&mut simulation, (45, gop), late, silent, |simulation, n| {
                let media = simulation.windows.get(&VIDEO).is_some_and(|window| window.open.is_some() && n > until);
                back = back.or(media.then_some(n));
            });
            let what = format!("silent from {from}, {late} late, a key frame every {gop}");
            let back = back.unwrap_or_else(|| panic!("{what}: not back"));
            // A key frame comes within a group. One that is too late costs another, and so does a gap that is due just then.
            assert!(back - until - late <= 3 * gop + 15, "{what}: back after {:.1} s", (back - until) as f64 / 30.0);
            let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
            assert_eq!((video.open_msn, video.waiting), (audio.open_msn, false), "{what}");
        }
    }
}

#[test]
fn a_picture_every_two_seconds_is_not_silence() {
    let mut simulation = Simulation::new(Config::default());
    av(&mut simulation, 30, 0, |of, n| of == Kind::Video && n % 60 != 0, |_, _| {});
    let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
    assert_eq!((video.open_msn, video.waiting), (audio.open_msn, false));
    assert!(video.segments.len() > 6 && video.segments.iter().all(|segment| !segment.is_gap()));
}

/// Found by fuzzing: one of four tracks runs a minute ahead, and each of the others leads, or would, in between. What viewers have seen of a
/// segment in the making stays (which every window is held to), and no playlist stands still.
#[test]
fn no_track_stands_still_while_another_is_a_minute_ahead() {
    let mut simulation = Simulation::new(Config::default());
    let mut sound = audio_track();
    sound.timescale = Timescale::new(44_100).expect("not zero");
    let tracks = [video_track(), audio_track(), video_track(), sound];
    let scales = tracks.each_ref().map(|track| track.timescale);
    let ids = tracks.map(|track| simulation.add(track));
    let mut units = vec![(0, 0, 100, true), (1, 0, 0, true), (1, 840, 840, true)];
    units.extend((1..5).map(|n| (3, n * 2_290, n * 2_290, true)));
    units.extend([(2, 2_550, 2_650, true), (3, 11_450, 11_450, true), (0, 20, 120, true), (1, 9_852, 9_852, true)]);
    units.extend((0..15).map(|n| (3, 25_934 + n * 2_290, 25_934 + n * 2_290, true)));
    units.extend([(1, 12_142, 12_142, true), (0, 220, 220, false), (1, 12_163, 12_163, true)]);
    units.extend([(0, 18_320, 18_320, true), (1, 12_363, 12_363, true), (3, 60_284, 60_284, true)]);
    let mut latest = 0;
    for (track, dts, pts, sync) in units {
        let at = |millis: i64| scales[track].ticks(Duration::from_millis(millis.unsigned_abs()));
        // It arrives when the one before did, at the earliest.
        latest = latest.max(dts);
        simulation.shift = (latest - dts) * 1_000;
        simulation.push(ids[track], at(dts), at(pts), sync, 100, scales[track]);
        let newest = simulation.windows.values().map(|window| window.open_msn).max().expect("a window");
        for window in simulation.windows.values() {
            assert!(
                newest - window.open_msn <= 3,
                "{} is {} segments behind",
                window.rendition.id,
                newest - window.open_msn
            );
        }
    }
    simulation.finish();
}

/// A picture that comes more than two seconds after the sound of its time, and no other follows. It leads for a moment where there is a segment that it
/// can begin in, and cannot where it lies before the first one; sound is cut in time after either.
#[test]
fn a_single_picture_that_comes_late_does_not_hold_up_sound() {
    for (first, leads) in [(0, 0), (70, 1)] {
        let mut simulation = Simulation::new(Config::default());
        let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
        let mut longest = 0;
        for frame in first..first + 1_000 {
            simulation.push(audio, frame * 1_024, frame * 1_024, true, 300, KHZ48());
            if frame == first + 140 {
                simulation.push(video, 60_000, 60_000, true, 900, Timescale::NINETY_KHZ);
                assert_eq!(simulation.presentation.leader, Some(leads), "sound from frame {first} on");
            }
            let last = simulation.windows.get(&AUDIO).and_then(|window| window.segments.last());
            longest = longest.max(last.map_or(0, |segment| segment.duration));
        }
        assert!(longest < 2 * 48_000 + 2_048, "sound from frame {first} on: a segment of {longest} ticks");
    }
}

/// Found by fuzzing: segments of a DASH Period are numbered one after the other, so that none may be missing in the middle of it. A track that falls
/// silent within a segment of the others, or is so late that it seems to, may be back before the next one begins.
#[test]
fn no_dash_period_has_a_gap_within() {
    let late = [0, 10, 60].into_iter().flat_map(|gop| (40..200).step_by(3).chain([0]).map(move |late| (gop, late)));
    let late = late.flat_map(|(gop, late)| [0, 200, 222, 244, 266].map(|from| (Kind::Video, gop, late, from, 50)));
    let silent = [(Kind::Video, 10), (Kind::Video, 60), (Kind::Audio, 120)].into_iter();
    let silent = silent.flat_map(|one| (200..260).step_by(3).map(move |from| (one, from)));
    let silent = silent.flat_map(|((kind, gop), from)| [50, 70, 160].map(|count| (kind, gop, 0, from, count)));
    for (kind, gop, late, from, count) in late.chain(silent) {
        let mut simulation = Simulation::new(Config::default());
        let silent = |of: Kind, n: i64| of == kind && from > 0 && (from..from + count).contains(&n);
        av_with(&mut simulation, (18, gop), late, silent, |_, _| {});
        simulation.finish();
        let catalog = simulation.catalog.as_ref().expect("a catalog");
        let shares = catalog.periods.iter().flat_map(|one| one.renditions.iter().map(move |share| (one.id, share)));
        for (period, share) in shares {
            let belongs = |msn: u64| msn >= share.first_msn && share.end_msn.is_none_or(|end| msn < end);
            let all = simulation.windows[&share.id].segments.iter().filter(|segment| belongs(segment.msn));
            let media: Vec<u64> = all.filter(|segment| !segment.is_gap()).map(|segment| segment.msn).collect();
            let holes = media.windows(2).any(|pair| pair[0] + 1 != pair[1]);
            assert!(
                !holes,
                "{} of period {period}: {media:?}, {kind:?} silent from {from} for {count}, {late} late, gop {gop}",
                share.id
            );
        }
    }
}

/// Pictures that come back may lie before the last cut of the sound that has led meanwhile.
#[test]
fn each_segment_is_dated_behind_the_one_before_however_a_track_comes_back() {
    let kinds = [(Kind::Video, 3), (Kind::Video, 30), (Kind::Video, 80), (Kind::Audio, -30), (Kind::Audio, 80)];
    for (kind, late) in kinds {
        for (from, count) in (300..360).step_by(7).flat_map(|from| [40, 100, 131, 400].map(|count| (from, count))) {
            let mut simulation = Simulation::new(Config::default());
            let silent = |of: Kind, n: i64| of == kind && (from..from + count).contains(&n);
            av(&mut simulation, 32, late, silent, |simulation, _| {
                let bad = simulation.dates_that_stand_still();
                assert_eq!(bad, None, "{kind:?} {late} late, silent from {from} for {count}");
            });
        }
    }
}
