//! What the period state machine promises, whatever key frames come.

use proptest::prelude::*;

use super::*;
use crate::media::{Kind, Timescale};
use crate::packager::testing::show::{PICTURE, Show, ZERO};

const SECOND: i64 = 90_000;

fn av() -> Show {
    Show::new(&[Kind::Video, Kind::Audio])
}

fn seconds(list: &[i64]) -> impl Iterator<Item = i64> + '_ {
    list.iter().map(|second| second * SECOND)
}

fn kinds(show: &Show) -> Vec<bool> {
    show.periods.snapshot().iter().map(|period| period.low_latency).collect()
}

#[test]
fn a_regular_stream_has_one_low_latency_period_from_its_start() {
    let mut show = av();
    show.cuts(seconds(&[0, 2]));
    assert!(show.periods.snapshot().is_empty(), "not before two segments are complete");
    let predicted = show.cut(4 * SECOND, true, false);
    assert_eq!(predicted, Some(MediaTime::new(6 * SECOND, Timescale::NINETY_KHZ)));
    show.cuts((3..100).map(|k| k * 2 * SECOND));
    let periods = show.periods.snapshot();
    assert_eq!(periods.len(), 1);
    assert!(periods[0].low_latency && !periods[0].connected);
    assert_eq!((periods[0].id, periods[0].start_micros, periods[0].duration_micros), (0, 0, None));
    assert_eq!(periods[0].renditions.iter().map(|rendition| rendition.first_msn).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn an_irregular_stream_has_complete_segments_only() {
    let mut show = av();
    show.cuts(seconds(&[0, 2, 5]));
    assert_eq!(kinds(&show), [false]);
    show.cuts(seconds(&[7, 10, 12, 15]));
    assert_eq!(kinds(&show), [false]);
    assert_eq!(show.periods.announced(show.catalog().renditions[0].rendition.id), None);
}

#[test]
fn a_key_frame_elsewhere_closes_the_period_there() {
    let mut show = av();
    show.cuts(seconds(&[0, 2, 4, 6]));
    let announced: Vec<_> = show.periods.snapshot()[0].renditions.iter().map(|r| r.announced).collect();
    assert!(announced.iter().all(Option::is_some));
    show.cuts(seconds(&[7]));
    let periods = show.periods.snapshot();
    assert_eq!(kinds(&show), [true, false]);
    assert_eq!((periods[0].start_micros, periods[0].duration_micros), (0, Some(7_000_000)));
    assert_eq!((periods[1].start_micros, periods[1].duration_micros), (7_000_000, None));
    assert!(periods[1].connected);
    assert_eq!(periods[1].renditions[1].offset, 7 * 48_000);
    assert_eq!((periods[0].renditions[0].end_msn, periods[1].renditions[0].first_msn), (Some(4), 4));
}

/// Of a camera that makes ten pictures a second in the dark: the last one is long, and those of the next segment are not.
#[test]
fn a_long_picture_does_not_make_a_key_frame_elsewhere_right() {
    let mut show = av();
    show.picture = 9_000;
    show.cuts(seconds(&[0, 2, 4, 6]));
    show.cut(8 * SECOND + 3_870, true, false);
    assert_eq!(kinds(&show), [true, false], "43 ms off is more than a picture of 30 a second");
    let mut show = av();
    show.picture = 9_000;
    show.cuts(seconds(&[0, 2, 4, 6]));
    show.cut(8 * SECOND + 1_400, true, false);
    assert_eq!(kinds(&show), [true]);
}

#[test]
fn each_failure_doubles_the_proof_that_the_next_promise_needs() {
    let mut show = av();
    show.cuts(seconds(&[0, 2, 4, 7, 9, 11]));
    assert_eq!(kinds(&show), [true, false], "two equal ones are not enough any more");
    show.cuts(seconds(&[13, 15]));
    assert_eq!(kinds(&show), [true, false, true]);
}

#[test]
fn a_segment_that_was_forced_is_not_announced_to_be_like_the_others() {
    let mut show = av();
    show.cuts(seconds(&[0, 2, 4]));
    show.cut(6 * SECOND, false, false);
    assert_eq!(kinds(&show), [true, false]);
}

#[test]
fn jitter_within_half_a_picture_is_carried_and_never_adds_up() {
    let mut show = av();
    // 2.0011 s a segment, told in whole milliseconds: neither two segments nor their mean tell the truth.
    let cuts = (0..500_i64).map(|k| (k * 20_011 + 5) / 10 * 90);
    show.cuts(cuts);
    assert_eq!(show.periods.snapshot().len(), 1);
}

#[test]
fn a_clock_that_leaves_the_timeline_moves_the_next_period() {
    let mut show = av();
    show.cuts(seconds(&[0, 2, 4, 6]));
    show.late_micros = 499_000;
    show.cuts(seconds(&[8]));
    assert_eq!(kinds(&show), [true]);
    show.late_micros = 500_000;
    show.cuts(seconds(&[10]));
    show.late_micros = -100_000;
    show.cuts(seconds(&[12, 14]));
    let periods = show.periods.snapshot();
    assert_eq!(kinds(&show), [true, true, true], "the encoder is as regular as before");
    assert!(periods[1].connected && periods[2].connected);
    assert_eq!((periods[0].duration_micros, periods[1].start_micros), (Some(10_000_000), 10_500_000));
    assert_eq!((periods[1].duration_micros, periods[2].start_micros), (Some(1_400_000), 11_900_000));
}

#[test]
fn an_outage_closes_the_period_and_the_next_begins_on_resume() {
    let mut show = av();
    show.cuts(seconds(&[0, 2, 4]));
    show.stop(5 * SECOND);
    let closed = show.periods.snapshot();
    assert_eq!((closed[0].duration_micros, closed[0].renditions[0].end_msn), (Some(5_000_000), Some(3)));
    show.late_micros = 20_000_000;
    show.cut(5 * SECOND, true, true);
    assert_eq!(
        show.periods.snapshot().len(),
        1,
        "there is nothing to show of the next one before its first segment is complete"
    );
    show.cuts(seconds(&[8]));
    let periods = show.periods.snapshot();
    assert_eq!(periods[0], closed[0], "what is closed does not change");
    assert_eq!((periods[1].id, periods[1].start_micros, periods[1].connected), (1, 25_000_000, false));
    assert_eq!(periods[1].renditions[0].offset, 5 * SECOND);
}

#[test]
fn behind_an_outage_one_segment_of_the_usual_length_is_proof_enough() {
    for (back, next) in [(7, true), (8, false)] {
        let mut show = av();
        show.cuts(seconds(&[0, 2, 4]));
        show.stop(5 * SECOND);
        show.late_micros = 20_000_000;
        show.cut(5 * SECOND, true, true);
        let predicted = show.cut(back * SECOND, true, false);
        assert_eq!(kinds(&show), [true, next], "a segment of {} s", back - 5);
        assert_eq!(predicted.is_some(), next);
        assert!(predicted.is_none_or(|at| at.ticks == (back + 2) * SECOND), "{predicted:?}");
    }
}

#[test]
fn a_publisher_that_drops_again_and_again_is_remembered_until_it_shows_otherwise() {
    let mut show = av();
    show.cuts(seconds(&[0, 2, 4]));
    show.stop(5 * SECOND);
    show.cut(5 * SECOND, true, true);
    show.stop(6 * SECOND);
    show.cut(6 * SECOND, true, true);
    show.cuts(seconds(&[8]));
    assert_eq!(kinds(&show), [true, false, true]);
    show.stop(9 * SECOND);
    show.cut(9 * SECOND, true, true);
    show.cuts(seconds(&[12]));
    show.stop(13 * SECOND);
    show.cut(13 * SECOND, true, true);
    show.cuts(seconds(&[15]));
    assert_eq!(kinds(&show), [true, false, true, false, false]);
}

#[test]
fn a_stream_that_ends_before_two_segments_is_shown_all_the_same() {
    let mut show = av();
    show.cut(0, true, false);
    show.finish(SECOND);
    let periods = show.periods.snapshot();
    assert_eq!((periods.len(), periods[0].duration_micros, periods[0].low_latency), (1, Some(1_000_000), false));
}

#[test]
fn a_follower_that_begins_elsewhere_than_announced_asks_for_a_new_period() {
    let mut show = av();
    show.cuts(seconds(&[0, 2, 4, 6]));
    let audio = show.catalog().renditions[1].rendition.id;
    let announced = show.periods.announced(audio).expect("low latency");
    show.periods.follower_begins(audio, announced, announced.start + 1_024);
    show.cuts(seconds(&[8]));
    assert_eq!(kinds(&show), [true], "a frame is allowed");
    let announced = show.periods.announced(audio).expect("low latency");
    show.periods.follower_begins(audio, announced, announced.start + 1_025);
    show.cuts(seconds(&[10]));
    assert_eq!(kinds(&show), [true, true]);
}

#[test]
fn audio_alone_leads() {
    let mut show = Show::new(&[Kind::Audio]);
    show.cuts((0..20).map(|k| k * 94 * 1_024));
    assert_eq!(kinds(&show), [true]);
    let announced = show.periods.announced(show.catalog().renditions[0].rendition.id).expect("low latency");
    assert_eq!((announced.msn, announced.start, announced.duration), (19, 19 * 94 * 1_024, 94 * 1_024));
}

#[test]
fn what_the_caller_never_retires_is_bounded() {
    let mut periods = Periods::new(ZERO, 7);
    for msn in 0..1_000_u64 {
        let start = MediaTime::new(msn as i64 * SECOND, Timescale::NINETY_KHZ);
        let date = ZERO.plus_micros(start.micros());
        let renditions: &[Entrant] = &[];
        periods.segment_begins(&Begin {
            msn,
            start,
            picture: PICTURE,
            date,
            independent: true,
            discontinuity: true,
            renditions,
        });
    }
    periods.end(MediaTime::new(1_000 * SECOND, Timescale::NINETY_KHZ));
    let held = periods.snapshot();
    assert_eq!((held.len(), held.last().map(|period| period.id)), (MAX_PERIODS, Some(1_006)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Periods neither overlap nor change once closed, ids count on, and what is announced follows on what was announced.
    #[test]
    fn no_sequence_of_gops_makes_periods_overlap_or_announcements_change(
        steps in prop::collection::vec((prop_oneof![4 => Just(50_i64), 1 => 1..120_i64], -60..60_i64, 0..40_u8), 1..120),
    ) {
        let mut show = av();
        let mut at = 0;
        let mut closed: Vec<Period> = Vec::new();
        let mut before: Option<(u64, Vec<Option<Announced>>)> = None;
        for (pictures, jitter, event) in steps {
            match event {
                0 => show.late_micros += 300_000,
                1 => show.late_micros -= 300_000,
                2 => show.stop(at - PICTURE),
                _ => {}
            }
            let predicted = show.cut(at.max(0), event != 3, event == 2);
            let periods = show.periods.snapshot();
            for pair in periods.windows(2) {
                let end = pair[0].start_micros + pair[0].duration_micros.expect("closed");
                prop_assert!(end <= pair[1].start_micros, "{pair:?}");
                prop_assert_eq!(pair[0].id + 1, pair[1].id);
                // Less where a segment was begun and never held anything.
                prop_assert!(pair[0].renditions[0].end_msn <= Some(pair[1].renditions[0].first_msn));
            }
            for period in &periods {
                let known = closed.iter().find(|known| known.id == period.id);
                if let Some(known) = known {
                    prop_assert_eq!((known.start_micros, known.duration_micros), (period.start_micros, period.duration_micros));
                } else if period.duration_micros.is_some() {
                    closed.push(period.clone());
                }
            }
            let going = periods.last().filter(|last| last.duration_micros.is_none());
            prop_assert_eq!(predicted.is_some(), going.is_some_and(|last| last.low_latency));
            if let Some(last) = going {
                let announced: Vec<_> = last.renditions.iter().map(|rendition| rendition.announced).collect();
                prop_assert!(announced.iter().all(|a| a.is_some() == last.low_latency));
                for (rendition, announced) in last.renditions.iter().zip(&announced) {
                    prop_assert!(announced.is_none_or(|a| a.duration > 0 && a.start >= rendition.offset));
                }
                if let Some((_, held)) = before.filter(|(id, _)| *id == last.id) {
                    for (old, new) in held.iter().zip(&announced) {
                        if let (Some(old), Some(new)) = (old, new) {
                            prop_assert_eq!((old.msn + 1, old.end()), (new.msn, new.start));
                        }
                    }
                }
                if let Some(leader) = announced.first().copied().flatten() {
                    prop_assert!((at.max(0) - leader.start).abs() <= PICTURE / 2, "errors must not add up");
                }
                before = Some((last.id, announced));
            }
            prop_assert!(periods.len() < 40);
            at = (at + pictures * PICTURE + jitter * 20).max(at + 1);
        }
    }
}
