//! Golden MPDs, and what a reader that is not ours makes of them.

use std::collections::HashMap;
use std::path::Path;

use dash_mpd_core as mpd;
use proptest::prelude::*;

use super::*;
use crate::media::Timescale;
use crate::packager::testing::show::{PICTURE, Show};

const SECOND: i64 = 90_000;

fn show(kinds: &[Kind], cuts: impl IntoIterator<Item = i64>) -> Show {
    let mut show = Show::new(kinds);
    show.cuts(cuts);
    show
}

fn av(seconds: impl IntoIterator<Item = i64>) -> Show {
    show(&[Kind::Video, Kind::Audio], seconds.into_iter().map(|second| second * SECOND))
}

fn text(show: &Show) -> String {
    render(&show.catalog(), &show.windows())
}

fn parse(text: &str) -> mpd::MPD {
    mpd::parse(text).expect("an MPD")
}

/// `t`, `d`, number and URL of everything that is listed.
fn listed(set: &mpd::AdaptationSet) -> Vec<(u64, u64, u64)> {
    let template = set.representations[0].SegmentTemplate.as_ref().expect("a template");
    let (mut at, mut number) = (0, template.startNumber.expect("a start number"));
    let mut all = Vec::new();
    for s in &template.SegmentTimeline.as_ref().expect("a timeline").segments {
        at = s.t.unwrap_or(at);
        for _ in 0..=s.r.unwrap_or(0) {
            all.push((at, s.d, number));
            (at, number) = (at + s.d, number + 1);
        }
    }
    all
}

/// Compares with a file; `UPDATE_GOLDEN=1` writes it instead.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/packager/playlist/golden").join(name);
    parse(text);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("the golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).expect("a golden file; UPDATE_GOLDEN=1 makes it");
    assert_eq!(text, golden, "{name} differs; UPDATE_GOLDEN=1 accepts");
}

#[test]
fn nothing_is_offered_before_there_is_something_to_play() {
    assert_eq!(text(&av([])), "");
    assert_eq!(text(&av([0, 2])), "");
}

#[test]
fn golden_files() {
    golden("start.mpd", &text(&av([0, 2, 4])));
    golden("low_latency.mpd", &text(&av((0..20).map(|k| 2 * k))));
    golden("irregular.mpd", &text(&av([0, 2, 4, 6, 9, 11, 14])));
    golden("audio_only.mpd", &text(&show(&[Kind::Audio], (0..6).map(|k| k * 94 * 1_024))));
    let mut ended = av([0, 2, 4, 6]);
    ended.finish(7 * SECOND);
    golden("ended.mpd", &text(&ended));
}

#[test]
fn the_segment_that_has_begun_is_listed_before_its_first_part() {
    let show = av([0, 2, 4, 6]);
    let (with, without) = (parse(&text(&show)), parse(&render(&show.catalog(), &show.windows_without_open())));
    for (with, without) in with.periods[0].adaptations.iter().zip(&without.periods[0].adaptations) {
        assert_eq!(listed(with), listed(without));
        assert_eq!(listed(with).last().map(|last| last.2), Some(3));
    }
}

#[test]
fn a_closed_period_goes_on_until_its_successor_has_a_segment() {
    let mut show = av([0, 2, 4, 6, 9]);
    let mpd = parse(&text(&show));
    assert_eq!((mpd.periods.len(), mpd.periods[0].duration), (1, None));
    show.cuts([11 * SECOND]);
    let mpd = parse(&text(&show));
    assert_eq!(mpd.periods.len(), 2);
    assert_eq!(mpd.periods[0].duration, Some(Duration::from_secs(9)));
    let set = &mpd.periods[1].adaptations[0];
    let connected = &set.supplemental_property[0];
    assert_eq!((connected.schemeIdUri.as_str(), connected.value.as_deref()), (CONNECTIVITY, Some("p0")));
    let template = set.representations[0].SegmentTemplate.as_ref().expect("a template");
    assert_eq!((template.availabilityTimeOffset, template.availabilityTimeComplete), (None, None));
}

#[test]
fn a_period_that_an_outage_has_ended_goes_on_until_another_can_be_shown_or_the_stream_is_over() {
    let mut show = av([0, 2, 4]);
    show.stop(5 * SECOND);
    let mpd = parse(&text(&show));
    // dash.js 5.2.1 takes an only period for the last one, and ends playback for good where it has an end and is buffered.
    assert_eq!((mpd.periods.len(), mpd.periods[0].duration), (1, None));
    assert!(mpd.minimumUpdatePeriod.is_some(), "it may be resumed");
    assert_eq!(listed(&mpd.periods[0].adaptations[0]).len(), 3);
    let mut over = show.catalog();
    over.ended = true;
    let mpd = parse(&render(&over, &show.windows()));
    assert_eq!(mpd.periods[0].duration, Some(Duration::from_secs(5)));
}

#[test]
fn rates_are_written_as_fractions() {
    for (rate, text) in [
        (30.0, Some("30")),
        (30_000.0 / 1_001.0, Some("30000/1001")),
        (24_000.0 / 1_001.0, Some("24000/1001")),
        (59.9401, Some("60000/1001")),
        (25.0001, Some("25")),
        (12.5, Some("12500/1000")),
        (0.0, None),
        (f64::NAN, None),
    ] {
        assert_eq!(frame_rate(rate).as_deref(), text, "{rate}");
    }
}

/// What a client remembers of the MPDs that it has seen.
#[derive(Default)]
struct Client {
    spans: HashMap<(String, String, u64), (u64, u64)>,
    starts: HashMap<String, Option<Duration>>,
    published: Option<mpd::XsDatetime>,
}

impl Client {
    fn sees(&mut self, text: &str) {
        let mpd = parse(text);
        assert!(self.published <= mpd.publishTime, "publishTime went back");
        self.published = mpd.publishTime;
        let mut end = None;
        for period in &mpd.periods {
            let id = period.id.clone().expect("an id");
            assert_eq!(*self.starts.entry(id.clone()).or_insert(period.start), period.start);
            assert!(end <= period.start, "periods overlap");
            end = period.start.map(|start| start + period.duration.unwrap_or_default());
            for set in &period.adaptations {
                let all = listed(set);
                assert!(!all.is_empty());
                for pair in all.windows(2) {
                    assert_eq!(pair[0].0 + pair[0].1, pair[1].0, "a gap or an overlap in\n{text}");
                }
                for (at, lasts, number) in all {
                    let key = (id.clone(), set.contentType.clone().expect("a type"), number);
                    assert_eq!(*self.spans.entry(key).or_insert((at, lasts)), (at, lasts), "edited in\n{text}");
                }
            }
        }
        for (place, period) in mpd.periods.iter().enumerate() {
            assert!(place + 1 == mpd.periods.len() || period.duration.is_some(), "only the last period is open");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_the_gops_are_like_nothing_that_was_listed_changes(
        steps in prop::collection::vec((prop_oneof![4 => Just(50_i64), 1 => 25..110_i64], -60..60_i64, 0..40_u8), 1..60),
    ) {
        let mut show = Show::new(&[Kind::Video, Kind::Audio]);
        let (mut client, mut at) = (Client::default(), 0);
        for (pictures, jitter, event) in steps {
            match event {
                0 => show.late_micros += 300_000,
                1 => show.late_micros -= 300_000,
                2 => {
                    show.stop(at);
                    show.late_micros += 10_000_000;
                }
                _ => {}
            }
            show.cut(at, event != 3, event == 2);
            for text in [render(&show.catalog(), &show.windows_without_open()), text(&show)] {
                if !text.is_empty() {
                    client.sees(&text);
                }
            }
            at += pictures * PICTURE + jitter * 20;
        }
    }
}

#[test]
fn the_time_shift_buffer_is_covered_and_no_more() {
    let show = av((0..60).map(|k| 2 * k));
    let mpd = parse(&text(&show));
    let depth = mpd.timeShiftBufferDepth.expect("a depth");
    assert_eq!(depth, Duration::from_secs(14));
    let all = listed(&mpd.periods[0].adaptations[0]);
    // The segment at 118 s has begun: the buffer reaches back to 104 s.
    assert_eq!((all[0].0, all.len()), (104 * 90_000, 8));
    assert_eq!(Timescale::NINETY_KHZ.hz(), 90_000);
}
