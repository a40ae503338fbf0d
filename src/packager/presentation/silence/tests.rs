//! A track that falls silent while the other goes on: how soon viewers are told, and how it comes back.

use std::collections::BTreeMap;

use crate::media::{Kind, RenditionId, Timescale};
use crate::packager::Config;
use crate::packager::playlist::dash;
use crate::packager::testing::simulation::Simulation;
use crate::packager::testing::{audio_track, video_track};

const VIDEO: RenditionId = RenditionId { kind: Kind::Video, index: 0 };
const AUDIO: RenditionId = RenditionId { kind: Kind::Audio, index: 0 };
const KHZ48: fn() -> Timescale = || Timescale::new(48_000).expect("not zero");

/// 30 pictures a second with a key frame every two seconds, and AAC, for `seconds`; nothing of what `left_out` says, given kind and picture. Video
/// arrives `late` pictures after the sound that belongs to it. Calls `look` after each picture's time.
fn av(
    simulation: &mut Simulation,
    seconds: i64,
    late: i64,
    left_out: impl Fn(Kind, i64) -> bool,
    mut look: impl FnMut(&Simulation, i64),
) {
    let (video, audio) = (simulation.add(video_track()), simulation.add(audio_track()));
    for n in 0..seconds * 30 {
        let picture = n - late;
        if picture >= 0 && !left_out(Kind::Video, picture) {
            simulation.push(video, picture * 3_000, picture * 3_000, picture % 60 == 0, 900, Timescale::NINETY_KHZ);
        }
        if !left_out(Kind::Audio, n) {
            for frame in (n * 1_600 + 1_023) / 1_024..((n + 1) * 1_600 + 1_023) / 1_024 {
                simulation.push(audio, frame * 1_024, frame * 1_024, true, 300, KHZ48());
            }
        }
        look(simulation, n);
    }
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

#[test]
fn a_picture_every_two_seconds_is_not_silence() {
    let mut simulation = Simulation::new(Config::default());
    av(&mut simulation, 30, 0, |of, n| of == Kind::Video && n % 60 != 0, |_, _| {});
    let (video, audio) = (&simulation.windows[&VIDEO], &simulation.windows[&AUDIO]);
    assert_eq!((video.open_msn, video.waiting), (audio.open_msn, false));
    assert!(video.segments.len() > 6 && video.segments.iter().all(|segment| !segment.is_gap()));
}
