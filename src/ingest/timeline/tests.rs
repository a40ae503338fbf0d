//! Timestamps as encoders write them, and as nobody should.

use proptest::prelude::*;

use super::*;

/// Milliseconds as an encoder stamps picture `n`.
fn stamp(n: i64, (pictures, seconds): (i64, i64), rounded: bool) -> u32 {
    let half = if rounded { pictures / 2 } else { 0 };
    ((n * 1_000 * seconds + half) / pictures) as u32
}

const JUMP_FORWARD: i64 = 10_000;
const JUMP_BACK: i64 = 1_000;

const RATES: [(i64, i64); 11] = [
    (24_000, 1_001),
    (24, 1),
    (25, 1),
    (30_000, 1_001),
    (30, 1),
    (48, 1),
    (50, 1),
    (60_000, 1_001),
    (60, 1),
    (100, 1),
    (120, 1),
];

#[test]
fn declared_rates_give_exact_durations_from_the_first_picture() {
    for rate in RATES {
        for rounded in [false, true] {
            let mut timeline = Timeline::default();
            timeline.declare_rate(rate.0 as u32, rate.1 as u32);
            for n in 0..20_000 {
                // Two B pictures: presented two pictures after decoding.
                let now = stamp(n, rate, rounded);
                let composition = stamp(n + 2, rate, rounded) - now;
                let (dts, pts) = timeline.picture(now.wrapping_add(77), composition as i32);
                let exact = |n: i64| (n * 90_000 * rate.1 + rate.0 / 2) / rate.0;
                assert_eq!((dts, pts), (exact(n), exact(n + 2)), "{rate:?} picture {n} rounded {rounded}");
            }
            assert!(timeline.take_repairs().is_empty());
        }
    }
}

#[test]
fn measured_rates_become_exact_within_a_few_seconds() {
    for rate in RATES {
        let mut timeline = Timeline::default();
        let mut last = -1;
        for n in 0..2_000 {
            let (dts, _) = timeline.picture(stamp(n, rate, false), 0);
            assert!(dts > last);
            if n > 500 {
                let exact = 90_000.0 * rate.1 as f64 / rate.0 as f64;
                assert!(((dts - last) as f64 - exact).abs() <= 1.0, "{rate:?} picture {n}: {} ticks", dts - last);
            }
            last = dts;
        }
    }
}

#[test]
fn a_wrong_declaration_is_overruled_by_the_timestamps() {
    let mut timeline = Timeline::default();
    timeline.declare_rate(25, 1);
    let mut last = 0;
    for n in 0..200 {
        let (dts, _) = timeline.picture(stamp(n, (60, 1), true), 0);
        if n > 40 {
            assert!((dts - last - 1_500).abs() <= 90, "picture {n}: {}", dts - last);
        }
        if n > 120 {
            assert_eq!(dts - last, 1_500);
        }
        last = dts;
    }
}

#[test]
fn pictures_without_a_rate_keep_their_times() {
    let mut timeline = Timeline::default();
    for ms in [0, 37, 61, 144, 150, 263, 291] {
        assert_eq!(timeline.picture(ms, 11), (i64::from(ms) * 90, i64::from(ms) * 90 + 990));
    }
}

#[test]
fn dropped_pictures_leave_a_hole_on_the_grid() {
    let mut timeline = Timeline::default();
    timeline.declare_rate(30, 1);
    let times: Vec<_> = [0, 33, 67, 300, 333].map(|ms| timeline.picture(ms, 0).0).into();
    assert_eq!(times, [0, 3_000, 6_000, 27_000, 30_000]);
}

#[test]
fn audio_is_counted_in_samples() {
    let mut timeline = Timeline::default();
    timeline.set_audio(44_100, 1_024);
    for n in 0..10_000_i64 {
        // Jitter of a capture callback.
        let jitter = (n * 7) % 20;
        let ms = n * 1_024 * 1_000 / 44_100 + jitter;
        assert_eq!(timeline.audio(ms as u32), Some(n * 1_024));
    }
    assert!(timeline.take_repairs().is_empty());
}

/// Pictures that pause for `pause` milliseconds (or whose stamps do, where they are `sent` all the same), and go on by their own clock, which is behind
/// that of the sound then. How far pictures are behind the sound when each comes, milliseconds, with its time.
fn paused(pause: i64, sent: bool) -> (Vec<(i64, i64)>, Repairs) {
    let mut timeline = Timeline::default();
    timeline.set_audio(48_000, 1_024);
    let (mut sound, mut behind) = (0, Vec::new());
    for ms in (0..40_000_i64).step_by(20) {
        sound = timeline.audio(ms as u32).map_or(sound, |samples| samples / 48);
        let stands = (10_000..10_000 + pause).contains(&ms);
        if ms % 40 == 0 && (sent || !stands) {
            let clock = if ms < 10_000 { ms } else { (ms - pause).max(10_000) };
            behind.push((ms, sound - timeline.picture(clock as u32, 0).0 / 90));
        }
    }
    (behind, timeline.take_repairs())
}

#[test]
fn a_track_that_stood_still_and_goes_on_by_its_own_clock_is_put_where_it_comes() {
    for (pause, sent) in [(3_500, false), (8_000, false), (5_000, true), (14_000, true)] {
        let (behind, repairs) = paused(pause, sent);
        for (ms, behind) in &behind {
            let stood = (10_000..11_100 + pause).contains(ms);
            let most = if !stood {
                3_000
            } else if sent {
                4_100
            } else {
                pause + 100
            };
            assert!((-100..=most).contains(behind), "{pause} ms, sent {sent}: at {ms} they are {behind} ms apart");
        }
        assert!(repairs.count(Repair::Apart) > 0, "{pause} ms, sent {sent}");
    }
}

#[test]
fn a_track_that_catches_up_keeps_its_place() {
    let mut timeline = Timeline::default();
    timeline.set_audio(48_000, 1_024);
    for ms in (0..30_000_i64).step_by(20) {
        timeline.audio(ms as u32);
        // Eight seconds of pictures are held up on the way and come within half a second.
        let until = match ms {
            10_000..18_000 => continue,
            18_000..18_500 => 10_000 + (ms - 18_000) * 17,
            _ => ms,
        };
        for picture in (if (18_000..18_500).contains(&ms) { until - 340 } else { until }..=until).step_by(20) {
            let (dts, _) = timeline.picture(picture.max(0) as u32, 0);
            assert!((dts / 90 - picture).abs() <= 340, "the picture of {picture} is put at {}", dts / 90);
        }
    }
    assert_eq!(timeline.take_repairs().count(Repair::Apart), 0);
}

#[test]
fn audio_gaps_are_kept_and_overlaps_dropped() {
    let mut timeline = Timeline::default();
    timeline.set_audio(48_000, 1_024);
    assert_eq!(timeline.audio(0), Some(0));
    assert_eq!(timeline.audio(500), Some(24_000));
    assert_eq!(timeline.audio(400), None);
    assert_eq!(timeline.audio(520), Some(25_024));
    let repairs = timeline.take_repairs();
    assert_eq!((repairs.count(Repair::AudioGap), repairs.count(Repair::AudioOverlap)), (1, 1));
}

#[test]
fn both_tracks_share_the_first_timestamp() {
    let mut timeline = Timeline::default();
    timeline.set_audio(48_000, 1_024);
    assert_eq!(timeline.picture(5_000, 0), (0, 0));
    assert_eq!(timeline.audio(4_990), None, "before the start");
    assert_eq!(timeline.audio(5_011), Some(528));
    let mut other = Timeline::default();
    other.set_audio(48_000, 1_024);
    assert_eq!(other.audio(5_011), Some(0));
    assert_eq!(other.picture(5_000, 0), (0, 0), "a picture is never lost");
    assert_eq!(other.picture(5_033, 0).0, 22 * 90);
}

/// mediamtx #1002, #1431: a muxer that is destroyed by "DTS is not monotonically increasing".
#[test]
fn equal_and_backward_pictures_are_moved_on() {
    let mut timeline = Timeline::default();
    let times: Vec<_> = [0, 40, 40, 30, 80].map(|ms| timeline.picture(ms, 0).0).into();
    assert_eq!(times, [0, 3_600, 3_690, 3_780, 7_200]);
    let repairs = timeline.take_repairs();
    assert_eq!((repairs.count(Repair::VideoEqual), repairs.count(Repair::VideoBack)), (1, 1));
}

/// mediamtx #4617: "too many reordered frames (11)" where decoding times are guessed from the pictures; #1317: pictures that are presented in
/// another order than they are decoded in. Ours come with both times.
#[test]
fn any_depth_of_reordering_is_kept() {
    let mut timeline = Timeline::default();
    timeline.declare_rate(25, 1);
    for n in 0..400_i64 {
        let delay = 11 - n % 12 + n % 3;
        assert_eq!(timeline.picture((n * 40) as u32, (delay * 40) as i32), (n * 3_600, (n + delay) * 3_600));
    }
    assert!(timeline.take_repairs().is_empty());
}

#[test]
fn pictures_are_not_presented_before_they_are_decoded() {
    let mut timeline = Timeline::default();
    assert_eq!(timeline.picture(0, 0), (0, 0));
    assert_eq!(timeline.picture(40, -80), (3_600, 3_600));
    let repairs = timeline.take_repairs();
    assert_eq!((repairs.count(Repair::Composition), repairs.millis(Repair::Composition)), (1, 80));
}

/// A jump that is just too long on one track and just short enough on the other. Taken out of one alone it would part them by as much.
#[test]
fn a_jump_at_the_threshold_is_the_same_for_both_tracks() {
    for jump in [JUMP_FORWARD, -JUMP_BACK] {
        for beyond in -45..=45 {
            for sound_first in [false, true] {
                let mut timeline = Timeline::default();
                timeline.set_audio(48_000, 960);
                let mut skew = Vec::new();
                for n in 0..400_i64 {
                    let clock = 60_000 + n * 40 + if n >= 200 { jump + beyond } else { 0 };
                    let sound = |timeline: &mut Timeline| {
                        // Every second picture has sound, so that the tracks step by different amounts.
                        [0, 20].map(|half| timeline.audio((clock + half) as u32)).into_iter().flatten().next()
                    };
                    let early = if sound_first { sound(&mut timeline) } else { None };
                    let (dts, _) = timeline.picture(clock as u32, 0);
                    let at = if sound_first { early } else { sound(&mut timeline) };
                    if n > 300
                        && let Some(at) = at
                    {
                        skew.push(at / 48 - dts / 90);
                    }
                }
                assert!(skew.iter().all(|skew| skew.abs() <= 40), "{jump} {beyond} {sound_first}: {:?}", skew.first());
            }
        }
    }
}

#[test]
fn every_repair_has_words_of_its_own() {
    let mut seen = std::collections::BTreeSet::new();
    for kind in Repair::ALL {
        assert!(kind.words().ends_with('.') && seen.insert(kind.words()) && seen.insert(kind.label()), "{kind:?}");
    }
}

#[test]
fn jumps_leave_no_hole_and_the_tracks_together() {
    for jump in [3_600_000_i64, -3_600_000, 86_400_000 * 20] {
        let mut timeline = Timeline::default();
        timeline.declare_rate(25, 1);
        timeline.set_audio(48_000, 960);
        let start = 5_000_000_i64;
        let mut times = (0, 0);
        for n in 0..200_i64 {
            let moved = if n >= 100 { jump } else { 0 };
            let (dts, _) = timeline.picture((start + n * 40 + moved) as u32, 0);
            // Audio lags two pictures behind, so some of the old clock comes after the jump.
            let late = n - 2;
            let moved = if late >= 100 { jump } else { 0 };
            let mut audio = None;
            for half in [0, 20] {
                audio = timeline.audio((start + late * 40 + half + moved) as u32).or(audio);
            }
            if n > 0 {
                assert_eq!(dts - times.0, 3_600, "picture {n}");
            }
            if let Some(audio) = audio {
                assert_eq!(audio - 960, late * 1_920, "audio at picture {n}");
            }
            times = (dts, audio.unwrap_or(0));
        }
        assert_eq!(timeline.take_repairs().count(Repair::Jump), 1, "{jump}");
    }
}

#[test]
fn the_clock_wraps_unseen() {
    let mut timeline = Timeline::default();
    timeline.set_audio(48_000, 960);
    let start = u32::MAX - 1_000;
    for n in 0..200_u32 {
        assert_eq!(timeline.picture(start.wrapping_add(n * 40), 0).0, i64::from(n) * 3_600);
        for frame in [2 * n, 2 * n + 1] {
            assert_eq!(timeline.audio(start.wrapping_add(frame * 20)), Some(i64::from(frame) * 960));
        }
    }
}

#[test]
fn an_audio_silence_longer_than_a_jump_keeps_its_place() {
    let mut timeline = Timeline::default();
    timeline.set_audio(48_000, 960);
    assert_eq!(timeline.audio(0), Some(0));
    for n in 0..500_u32 {
        timeline.picture(n * 40, 0);
    }
    assert_eq!(timeline.audio(20_000), Some(960_000));
    assert_eq!(timeline.take_repairs().count(Repair::Jump), 0);
}

proptest! {
    #[test]
    fn output_is_strictly_monotone_whatever_comes_in(
        input in proptest::collection::vec((any::<bool>(), prop_oneof![0_u32..200, any::<u32>()], any::<i32>(), any::<bool>()), 1..300),
        rate in 1_u32..130,
        samples in 1_u32..2_048,
    ) {
        let mut timeline = Timeline::default();
        timeline.declare_rate(rate, 1);
        timeline.set_audio(48_000, samples);
        let (mut clock, mut video, mut audio) = (0_u32, -1, -1);
        for (is_video, step, composition, back) in input {
            clock = if back { clock.wrapping_sub(step) } else { clock.wrapping_add(step) };
            if is_video {
                let (dts, pts) = timeline.picture(clock, composition);
                prop_assert!(dts > video && pts >= dts);
                video = dts;
            } else if let Some(dts) = timeline.audio(clock) {
                prop_assert!(dts > audio);
                audio = dts;
            }
        }
    }

    #[test]
    fn tracks_stay_together_through_jitter_and_jumps(
        jitter in proptest::collection::vec((0_i64..8, 0_i64..8), 400),
        jumps in proptest::collection::vec((any::<prop::sample::Index>(), any::<i32>()), 0..4),
    ) {
        let mut timeline = Timeline::default();
        timeline.set_audio(48_000, 1_920);
        let mut moves = [0_i64; 400];
        for (at, by) in jumps {
            // What jumps moves both tracks by more than the threshold.
            moves[at.index(400)] = i64::from(by) + if by < 0 { -20_000 } else { 20_000 };
        }
        let mut clock = 1_000_000_i64;
        for n in 0..400 {
            clock += 40 + moves[n];
            let (dts, _) = timeline.picture((clock + jitter[n].0) as u32, 0);
            if let Some(audio) = timeline.audio((clock + jitter[n].1) as u32) {
                let skew = dts / 90 - audio / 48;
                prop_assert!(skew.abs() <= 100, "picture {n}: {skew} ms");
            }
        }
    }
}
