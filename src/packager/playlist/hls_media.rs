//! The HLS media playlist: a pure function from a window to text.
//!
//! Specification: RFC 8216bis-22 §4.4.3 to §4.4.5, §6.2.1, §6.2.5.1, Appendix B.1.

use std::fmt::Write;
use std::sync::Arc;

use crate::media::{Kind, RenditionId, Timescale};
use crate::packager::{Segment, Window};

/// One EXT-X-RENDITION-REPORT: where another rendition's live edge is. Spec: RFC 8216bis §4.4.5.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Which rendition.
    pub id: RenditionId,
    /// LAST-MSN.
    pub last_msn: u64,
    /// LAST-PART.
    pub last_part: Option<usize>,
}

/// Version with EXT-X-MAP. Spec: RFC 8216bis §8.
const VERSION: u32 = 6;
/// Version with EXT-X-GAP.
const VERSION_GAP: u32 = 8;
/// Version with EXT-X-SKIP.
const VERSION_SKIP: u32 = 9;
/// CAN-SKIP-UNTIL in target durations, the least that is allowed. Spec: RFC 8216bis §4.4.3.8.
const SKIP_UNTIL: u32 = 6;
/// Parts are listed this many target durations from the end of the playlist. Spec: RFC 8216bis §6.2.2.
const PARTS_LISTED: u32 = 3;

/// Sound is dated so much earlier than it is. Dates are rounded to milliseconds, and a player that starts within a segment of sound whose date says a fraction
/// of one more than its media, as seen from the picture, waits at that segment's end for what it has (hls.js 1.7.4).
const SOUND_EARLY_MICROS: i64 = 2_000;

/// Renders `window`; as a delta update where `delta` is set and there is something to skip.
pub fn render(window: &Window, reports: &[Report], delta: bool) -> String {
    let mut text = String::with_capacity(4_096);
    // Writing to a String cannot fail.
    let _ = write(&mut text, window, reports, delta);
    text
}

fn write(text: &mut String, window: &Window, reports: &[Report], delta: bool) -> std::fmt::Result {
    let config = &window.rendition.config;
    let scale = window.rendition.init.track.timescale;
    let listed = window.listed_segments();
    let skipped = if delta { skippable(listed, scale.ticks(config.target_duration * SKIP_UNTIL)) } else { 0 };
    header(text, window, skipped)?;

    let segments = listed.get(skipped..).unwrap_or_default();
    // How far the end of the segment at hand lies behind the end of the playlist, ticks.
    let mut behind: i64 = segments.iter().chain(&window.open).map(|segment| segment.duration).sum();
    let near_edge = scale.ticks(config.target_duration * PARTS_LISTED);
    let mut init = None;
    for segment in segments {
        behind -= segment.duration;
        before_parts(text, segment, &mut init)?;
        if behind <= near_edge {
            parts(text, segment, scale)?;
            gap_parts(text, segment, scale, config.part_ticks(scale))?;
        }
        if segment.is_gap() {
            writeln!(text, "#EXT-X-GAP")?;
        }
        writeln!(text, "#EXTINF:{},", decimal(scale.seconds(segment.duration)))?;
        writeln!(text, "s{}.m4s", segment.msn)?;
    }
    if let Some(open) = &window.open {
        before_parts(text, open, &mut init)?;
        parts(text, open, scale)?;
    }
    if window.ended { writeln!(text, "#EXT-X-ENDLIST") } else { what_comes(text, window, reports) }
}

/// What holds for the whole playlist, `skipped` segments of which are left out.
fn header(text: &mut String, window: &Window, skipped: usize) -> std::fmt::Result {
    let config = &window.rendition.config;
    let segments = window.listed_segments();
    let version = match skipped {
        0 if segments.iter().any(|segment| segment.is_gap()) => VERSION_GAP,
        0 => VERSION,
        _ => VERSION_SKIP,
    };
    writeln!(text, "#EXTM3U")?;
    writeln!(text, "#EXT-X-VERSION:{version}")?;
    writeln!(text, "#EXT-X-TARGETDURATION:{}", config.target_duration.as_secs())?;
    writeln!(
        text,
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={},HOLD-BACK={},CAN-SKIP-UNTIL={}",
        decimal(config.part_hold_back().as_secs_f64()),
        decimal(config.hold_back().as_secs_f64()),
        decimal((config.target_duration * SKIP_UNTIL).as_secs_f64()),
    )?;
    writeln!(text, "#EXT-X-PART-INF:PART-TARGET={}", decimal(config.part_target.as_secs_f64()))?;
    writeln!(text, "#EXT-X-MEDIA-SEQUENCE:{}", window.media_sequence())?;
    writeln!(text, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", window.discontinuity_sequence())?;
    if skipped > 0 {
        writeln!(text, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")?;
    }
    Ok(())
}

/// What a live playlist ends with: the next part's name, before it that of its init where it is not the one listed last, and where the other renditions
/// are. Spec: RFC 8216bis §4.4.5.3, Appendix B.1.
fn what_comes(text: &mut String, window: &Window, reports: &[Report]) -> std::fmt::Result {
    let next = window.rendition.init.number;
    let last = window.open.as_ref().or(window.listed_segments().last());
    if last.is_none_or(|last| last.init.number != next) {
        writeln!(text, "#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"init-{next}.mp4\"")?;
    }
    writeln!(text, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"p{}.m4s\"", window.next_part)?;
    for report in reports {
        write!(text, "#EXT-X-RENDITION-REPORT:URI=\"../{}/index.m3u8\",LAST-MSN={}", report.id, report.last_msn)?;
        match report.last_part {
            Some(part) => writeln!(text, ",LAST-PART={part}")?,
            None => writeln!(text)?,
        }
    }
    Ok(())
}

/// How many segments lie wholly beyond the Skip Boundary, which is measured from the end of the last segment.
/// Spec: RFC 8216bis §4.4.5.2, §6.2.5.1.
fn skippable(segments: &[Arc<Segment>], boundary: i64) -> usize {
    let mut behind: i64 = segments.iter().map(|segment| segment.duration).sum();
    segments
        .iter()
        .take_while(|segment| {
            behind -= segment.duration;
            behind >= boundary
        })
        .count()
}

/// What must stand before the first part of a segment. Spec: RFC 8216bis §4.4.4.9.
fn before_parts(text: &mut String, segment: &Segment, init: &mut Option<u32>) -> std::fmt::Result {
    if segment.discontinuity {
        writeln!(text, "#EXT-X-DISCONTINUITY")?;
    }
    if *init != Some(segment.init.number) {
        *init = Some(segment.init.number);
        writeln!(text, "#EXT-X-MAP:URI=\"init-{}.mp4\"", segment.init.number)?;
    }
    let early = if segment.init.track.format.kind() == Kind::Audio { SOUND_EARLY_MICROS } else { 0 };
    writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{}", segment.date.plus_micros(-early).rfc3339())
}

fn parts(text: &mut String, segment: &Segment, scale: Timescale) -> std::fmt::Result {
    if !segment.parts_listed {
        return Ok(());
    }
    for part in &segment.parts {
        let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
        let duration = decimal(scale.seconds(part.duration));
        writeln!(text, "#EXT-X-PART:DURATION={duration},URI=\"p{}.m4s\"{independent}", part.number)?;
    }
    Ok(())
}

/// Parts that nobody is to load. They have names apart from the numbers of real parts, so that a part that was hinted at before the gap is the first
/// one behind it.
fn gap_parts(text: &mut String, segment: &Segment, scale: Timescale, target: i64) -> std::fmt::Result {
    for (index, duration) in segment.gap_parts(target).enumerate() {
        let duration = decimal(scale.seconds(duration));
        writeln!(text, "#EXT-X-PART:DURATION={duration},URI=\"gap{}-{index}.m4s\",GAP=YES", segment.msn)?;
    }
    Ok(())
}

/// Seconds to the microsecond, without trailing zeros.
fn decimal(seconds: f64) -> String {
    let text = format!("{seconds:.6}");
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    String::from(trimmed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Kind;
    use crate::packager::Config;
    use crate::packager::testing::simulation::Simulation;

    const VIDEO: RenditionId = RenditionId { kind: Kind::Video, index: 0 };
    const AUDIO: RenditionId = RenditionId { kind: Kind::Audio, index: 0 };

    fn simulation(seconds: f64, config: Config) -> Simulation {
        let mut simulation = Simulation::new(config);
        simulation.stream(seconds, (30, 1), 60, true, &[Kind::Video, Kind::Audio]);
        simulation
    }

    fn report() -> Report {
        Report { id: AUDIO, last_msn: 43, last_part: Some(2) }
    }

    #[test]
    fn a_live_playlist() {
        let simulation = simulation(7.5, Config::default());
        insta::assert_snapshot!("live", render(&simulation.windows[&VIDEO], &[report()], false));
        insta::assert_snapshot!("live_audio", render(&simulation.windows[&AUDIO], &[], false));
    }

    #[test]
    fn an_ended_playlist_has_no_hint_and_no_reports() {
        let mut simulation = simulation(5.0, Config::default());
        simulation.finish();
        insta::assert_snapshot!("ended", render(&simulation.windows[&VIDEO], &[report()], false));
    }

    #[test]
    fn a_delta_update_skips_only_what_lies_beyond_the_boundary() {
        let config = Config { window: std::time::Duration::from_secs(60), ..Config::default() };
        let simulation = simulation(58.0, config);
        let window = &simulation.windows[&VIDEO];
        let (full, delta) = (render(window, &[], false), render(window, &[], true));
        let skipped: usize = delta
            .lines()
            .find_map(|line| line.strip_prefix("#EXT-X-SKIP:SKIPPED-SEGMENTS="))
            .and_then(|count| count.parse().ok())
            .unwrap();
        let listed = window.listed_segments();
        // From the end of each skipped segment to the end of the last: at least 6 target durations, and no more could be skipped.
        let behind = |index: usize| -> i64 { listed.iter().skip(index).map(|segment| segment.duration).sum() };
        assert!(behind(skipped) >= 24 * 90_000 && behind(skipped + 1) < 24 * 90_000);
        let names = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with('#')).map(String::from).collect()
        };
        assert_eq!(names(&full)[skipped..], names(&delta));
        assert!(delta.contains("#EXT-X-VERSION:9\n") && full.contains("#EXT-X-VERSION:6\n"));
        let header = |text: &str| text.lines().find(|line| line.starts_with("#EXT-X-MEDIA-SEQUENCE")).map(String::from);
        assert_eq!(header(&full), header(&delta));
    }

    #[test]
    fn with_nothing_to_skip_a_delta_update_is_the_whole_playlist() {
        let simulation = simulation(20.0, Config::default());
        let window = &simulation.windows[&VIDEO];
        assert_eq!(render(window, &[], true), render(window, &[], false));
    }

    /// RFC 8216bis §6.2.2.
    #[test]
    fn parts_are_listed_up_to_three_target_durations_from_the_end_and_no_further() {
        let simulation = simulation(30.5, Config::default());
        for window in simulation.windows.values() {
            let text = render(window, &[], false);
            let (whole, _) = text.split_once("#EXT-X-PART:").unwrap();
            let whole = whole.matches("#EXTINF:").count();
            let all: Vec<_> = window.listed_segments().iter().chain(&window.open).collect();
            // From the end of a segment to the end of the playlist, seconds.
            let behind = |index: usize| -> f64 {
                let ticks = all.iter().skip(index + 1).map(|segment| segment.duration).sum();
                window.rendition.init.track.timescale.seconds(ticks)
            };
            assert!(
                behind(whole) <= 12.0 && behind(whole - 1) > 12.0,
                "{whole} segments are listed without parts\n{text}"
            );
        }
    }

    #[test]
    fn readers_that_are_not_ours_understand_it() {
        let simulation = simulation(30.0, Config::default());
        let window = &simulation.windows[&VIDEO];
        let text = render(window, &[report()], false);
        let (_, playlist) = m3u8_rs::parse_media_playlist(text.as_bytes()).unwrap();
        assert_eq!(playlist.media_sequence, window.media_sequence());
        let expected: Vec<f32> = window.listed_segments().iter().map(|s| s.duration as f32 / 90_000.0).collect();
        let read: Vec<f32> = playlist.segments.iter().filter(|s| !s.uri.is_empty()).map(|s| s.duration).collect();
        assert_eq!(read.len(), expected.len());
        assert!(read.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4));

        let mut reader = quick_m3u8::Reader::from_str(&text, quick_m3u8::config::ParsingOptions::default());
        let (mut parts, mut hints, mut reports) = (0, 0, 0);
        while let Ok(Some(line)) = reader.read_line() {
            let line = format!("{line:?}");
            parts += usize::from(line.contains("Part(Part {") || line.contains("Part(Part "));
            hints += usize::from(line.contains("PreloadHint("));
            reports += usize::from(line.contains("RenditionReport("));
        }
        assert_eq!((hints, reports), (1, 1));
        assert_eq!(parts, text.matches("#EXT-X-PART:").count());
    }
}
