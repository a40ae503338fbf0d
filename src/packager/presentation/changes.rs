//! What viewers have not seen yet, and the catalog that they are shown.

use std::sync::Arc;

use super::rates::{frame_rate, round_up};
use super::{Entry, Presentation};
use crate::media::Format;
use crate::packager::catalog::{Catalog, Measured};
use crate::packager::periods::Periods;
use crate::packager::window::{Text, Window};

/// A snapshot that viewers have not seen yet.
#[derive(Debug, Default)]
pub struct Changes {
    /// New windows, at most one a rendition.
    pub windows: Vec<Arc<Window>>,
    /// A new catalog.
    pub catalog: Option<Arc<Catalog>>,
    /// Bytes of media kept now.
    pub bytes: usize,
}

impl Presentation {
    /// What viewers have not seen yet. Call after every change.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = Changes { bytes: self.bytes(), ..Changes::default() };
        for entry in &mut self.tracks {
            let progress = entry.segmenter.progress();
            let started = entry.segmenter.has_started();
            if progress != entry.shown && started {
                entry.shown = progress;
                changes.windows.push(Arc::new(entry.segmenter.window()));
            }
        }
        if self.catalog_due || !changes.windows.is_empty() && self.catalog_is_waited_for() {
            let catalog = self.catalog();
            self.catalog_due = false;
            changes.catalog = Some(Arc::new(catalog));
        }
        changes
    }

    /// The catalog as it stands, whether or not viewers have seen it.
    pub fn catalog_now(&mut self) -> Arc<Catalog> {
        Arc::new(self.catalog())
    }

    /// A track has just completed its first segment, so that the presentation can be offered.
    pub(super) fn catalog_is_waited_for(&self) -> bool {
        self.tracks.iter().any(|entry| entry.peak_bps == 0 && entry.segmenter.totals().peak_bps > 0)
    }

    pub(super) fn catalog(&mut self) -> Catalog {
        let leader_segments = self.leading().map_or(0, |leading| leading.complete().len());
        let mut renditions = Vec::new();
        let mut all_measured = true;
        for entry in &mut self.tracks {
            if !entry.segmenter.has_started() {
                continue;
            }
            let totals = entry.segmenter.totals();
            if totals.ticks == 0 {
                all_measured = false;
                continue;
            }
            let scale = entry.segmenter.timescale();
            let average = totals.bytes as f64 * 8.0 / scale.seconds(totals.ticks);
            entry.peak_bps = entry.peak_bps.max(round_up(totals.peak_bps as f64 * 1.1));
            renditions.push(Measured {
                rendition: Arc::clone(entry.segmenter.rendition()),
                inits: entry.segmenter.listed_inits(),
                peak_bps: entry.peak_bps,
                average_bps: round_up(average * 1.02),
                frame_rate: match &entry.segmenter.rendition().init.track.format {
                    Format::H264(config) => {
                        let measured = totals.samples as f64 / scale.seconds(totals.sampled_ticks);
                        frame_rate(Some(measured).filter(|_| totals.sampled_ticks > 0), config.frame_rate)
                    }
                    Format::Aac(_) | Format::Mp3(_) => 0.0,
                },
                captions: entry.captions,
            });
        }
        // A track that has only just begun is waited for, but not for ever.
        if !all_measured && leader_segments < 2 && !self.ended {
            renditions.clear();
        }
        renditions.sort_by_key(|measured| measured.rendition.id);
        self.catalogs += 1;
        let longest = |entry: &Entry| entry.segmenter.timescale().micros(entry.segmenter.totals().longest);
        Catalog {
            epoch: self.epoch,
            start: self.start,
            renditions,
            periods: self.periods.as_ref().map(Periods::snapshot).unwrap_or_default(),
            longest_micros: self.tracks.iter().map(longest).max().unwrap_or(0),
            published: self.published,
            number: self.catalogs,
            ended: self.ended,
            multivariant: Text::default(),
        }
    }
}
