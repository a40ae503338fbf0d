//! Which segments of which periods an MPD lists.

use std::sync::Arc;

use super::xml::{Tag, Xml};
use crate::media::{Timescale, WallTime};
use crate::packager::catalog::{Measured, Period, PeriodRendition};
use crate::packager::{Catalog, Segment, Window};

/// A period with something to play in every rendition.
pub(super) struct Shown<'a> {
    pub(super) period: &'a Period,
    /// `Period@duration`, where it is to be written.
    pub(super) duration_micros: Option<i64>,
    /// In the order of the catalog.
    pub(super) lines: Vec<Line<'a>>,
}

/// One rendition's segments in one period. Never empty.
pub(super) struct Line<'a> {
    pub(super) share: &'a PeriodRendition,
    pub(super) measured: &'a Measured,
    pub(super) spans: Vec<Span>,
    /// Presentation time and date of the first sample of the newest segment with media; of the period where it has none yet.
    pub(super) reference: (i64, WallTime),
}

/// One segment on the sample timeline, in ticks of the track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) msn: u64,
    pub(super) start: i64,
    pub(super) duration: i64,
    pub(super) independent: bool,
    /// It is not all there yet.
    open: bool,
}

/// The periods that can be shown, oldest first, with the segments that the time shift buffer of `depth_micros` needs.
pub(super) fn shown<'a>(catalog: &'a Catalog, windows: &[Arc<Window>], depth_micros: i64) -> Vec<Shown<'a>> {
    let mut shown: Vec<Shown<'a>> = Vec::new();
    for period in &catalog.periods {
        let line = |share: &'a PeriodRendition| {
            let measured = catalog.renditions.iter().find(|measured| measured.rendition.id == share.id)?;
            let window = windows.iter().find(|window| window.rendition.id == share.id)?;
            Some(line(period, share, measured, window, catalog.start))
        };
        // A period cannot gain renditions later, so it is not shown before each of them has a segment.
        if let Some(lines) = period.renditions.iter().map(line).collect::<Option<Vec<_>>>()
            && !lines.is_empty()
        {
            shown.push(Shown { period, duration_micros: period.duration_micros, lines });
        }
    }
    let passed = windows.iter().filter_map(|window| window.edge_date()).max();
    let passed = passed.map_or(0, |date| date.micros_since(catalog.start));
    let edge = shown.iter().map(Shown::edge_micros).fold(passed, i64::max);
    shown.retain(Shown::is_playable);
    let count = shown.len();
    for (index, entry) in shown.iter_mut().enumerate() {
        // An MPD lists something, however long nothing has come.
        let least = usize::from(index + 1 == count);
        entry.expire(edge.saturating_sub(depth_micros), least);
    }
    shown.retain(Shown::is_playable);
    hide_end(catalog, &mut shown);
    shown
}

/// While more may come, the newest period that can be shown goes on. Where it has been closed, its end is told together with the period that
/// follows: players take a last period that has an end for the end of the show, and one that has buffered all of it stops for good.
fn hide_end(catalog: &Catalog, shown: &mut [Shown<'_>]) {
    if let Some(last) = shown.last_mut().filter(|_| !catalog.ended) {
        last.duration_micros = None;
    }
}

fn line<'a>(
    period: &Period,
    share: &'a PeriodRendition,
    measured: &'a Measured,
    window: &Window,
    zero: WallTime,
) -> Line<'a> {
    let belongs = |msn: u64| msn >= share.first_msn && share.end_msn.is_none_or(|end| msn < end);
    let whole = window.survivor.iter().chain(&window.segments).map(|segment| (segment, false));
    let announced = window.open.iter().filter(|open| period.low_latency && open.announced.is_some());
    let held: Vec<(&Arc<Segment>, bool)> = whole
        .chain(announced.map(|open| (open, true)))
        // A rendition that fell silent has gaps at its end of the period, which nobody could fetch.
        .filter(|(segment, _)| belongs(segment.msn) && !segment.is_gap())
        .collect();
    let opening = (share.offset, zero.plus_micros(period.start_micros));
    let reference = held.last().map_or(opening, |(segment, _)| (segment.presentation_start, segment.date));
    let span = |(segment, open): &(&Arc<Segment>, bool)| Span {
        msn: segment.msn,
        start: segment.presentation_start,
        duration: segment.dash_duration(),
        independent: segment.independent,
        open: *open,
    };
    let mut spans: Vec<Span> = held.iter().map(span).collect();
    // The segment that has been begun is listed before its first part exists: it becomes available one part target later, and by then
    // clients must know of it. Spec: DASH-IF timing model, necessary segment references.
    if let Some(next) = share.announced.filter(|next| spans.last().is_none_or(|last| last.msn + 1 == next.msn)) {
        spans.push(Span { msn: next.msn, start: next.start, duration: next.duration, independent: true, open: true });
    }
    Line { share, measured, spans, reference }
}

impl Shown<'_> {
    /// The latest instant, in microseconds after availabilityStartTime, that surely lies in the past.
    fn edge_micros(&self) -> i64 {
        let edge = |line: &Line<'_>| {
            let last = line.spans.last()?;
            let at = if last.open { last.start } else { last.start.saturating_add(last.duration) };
            Some(line.micros(self.period, at))
        };
        self.lines.iter().filter_map(edge).max().unwrap_or(i64::MIN)
    }

    fn is_playable(&self) -> bool {
        self.lines.iter().all(|line| !line.spans.is_empty())
    }

    /// Forgets segments that end by `horizon_micros` after availabilityStartTime, but for the `least` newest of each rendition.
    fn expire(&mut self, horizon_micros: i64, least: usize) {
        let period = self.period;
        for line in &mut self.lines {
            let live = |span: &Span| line.micros(period, span.start.saturating_add(span.duration)) > horizon_micros;
            let first = line.spans.iter().position(live).unwrap_or(line.spans.len());
            line.spans.drain(..first.min(line.spans.len().saturating_sub(least)));
        }
    }
}

impl Line<'_> {
    pub(super) fn timescale(&self) -> Timescale {
        self.share.init.track.timescale
    }

    /// Microseconds after availabilityStartTime of a presentation time.
    fn micros(&self, period: &Period, ticks: i64) -> i64 {
        period.start_micros.saturating_add(self.timescale().micros(ticks.saturating_sub(self.share.offset)))
    }

    /// Number of the first segment that is listed.
    pub(super) fn first_msn(&self) -> u64 {
        self.spans.first().map_or(self.share.first_msn, |span| span.msn)
    }

    /// The longest segment, in microseconds.
    pub(super) fn longest_micros(&self) -> i64 {
        self.spans.iter().map(|span| self.timescale().micros(span.duration)).max().unwrap_or(0)
    }

    /// `SegmentTimeline`, runs of equal length as one `S`.
    pub(super) fn write(&self, xml: &mut Xml) {
        xml.nest(Tag::new("SegmentTimeline"), |xml| {
            let mut expected = None;
            let follows =
                |a: &Span, b: &Span| a.duration == b.duration && a.start.saturating_add(a.duration) == b.start;
            for run in self.spans.chunk_by(follows) {
                let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
                let start = (expected != Some(first.start)).then_some(first.start);
                let repeat = run.len() - 1;
                xml.leaf(
                    Tag::new("S")
                        .maybe("t", start)
                        .with("d", first.duration)
                        .maybe("r", (repeat > 0).then_some(repeat)),
                );
                expected = Some(last.start.saturating_add(last.duration));
            }
        });
    }
}
