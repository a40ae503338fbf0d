//! Picture times: on the grid of the rate that explains the timestamps best, or as they came.
//!
//! RTMP counts milliseconds, so 60 pictures a second arrive as 16, 17, 17 ms. Durations that dance make parts of uneven length and
//! players that resample; on the grid all are 1,500 ticks.

use super::grid::{Grid, MILLI};
use super::repair::{Repair, Repairs};

/// Rates that cameras and encoders use. A slower one that divides one of these lies on its grid.
const USUAL: [(u32, u32); 11] = [
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
/// Two declared rates are the same when they differ by less than this part: 23.98 is 24000/1001, 29.97 is not 30.
const SAME_RATE: f64 = 0.0003;
/// Timestamps in a row on a grid nobody declared, before it is believed.
const ENOUGH: u32 = 8;
/// Declared rates outside the usual ones that are tried too: the newest ones, so that metadata cannot add without end.
const MAX_GRIDS: usize = USUAL.len() + 2;

#[derive(Debug)]
pub(super) struct Video {
    grids: Vec<Grid>,
    last_ms: Option<i64>,
    last_dts: Option<i64>,
}

impl Default for Video {
    fn default() -> Self {
        let grids = USUAL.iter().map(|(pictures, seconds)| Grid::new(*pictures, *seconds)).collect();
        Self { grids, last_ms: None, last_dts: None }
    }
}

impl Video {
    /// Believes this rate from the next picture on. Rates outside 1 to 240 are ignored.
    pub(super) fn declare(&mut self, pictures: u32, seconds: u32) {
        let rate = f64::from(pictures) / f64::from(seconds.max(1));
        if !(1.0..=240.0).contains(&rate) {
            return;
        }
        if let Some(grid) = self.grids.iter_mut().find(|grid| (grid.rate() / rate - 1.0).abs() < SAME_RATE) {
            grid.declared = true;
            return;
        }
        if self.grids.len() == MAX_GRIDS {
            self.grids.remove(USUAL.len());
        }
        let mut grid = Grid::new(pictures, seconds);
        grid.declared = true;
        self.grids.push(grid);
    }

    /// `(dts, pts)` of a picture whose timestamp lies `instant_ms` after the start.
    pub(super) fn place(&mut self, instant_ms: i64, composition_ms: i32, repairs: &mut Repairs) -> (i64, i64) {
        for grid in &mut self.grids {
            grid.observe(instant_ms);
        }
        let composition_ms = i64::from(composition_ms);
        let grid = self.ruling();
        let wanted = grid.map_or(instant_ms.saturating_mul(MILLI), |grid| grid.instant(0));
        let earliest = self.last_dts.map_or(0, |last| last.saturating_add(MILLI));
        let mut pts = match grid.and_then(|grid| Some(grid.instant(grid.whole(composition_ms)?))) {
            Some(pts) if wanted >= earliest => pts,
            _ => wanted.max(earliest).saturating_add(composition_ms * MILLI),
        };
        let dts = wanted.max(earliest);
        match self.last_ms {
            Some(last) if instant_ms == last => repairs.add(Repair::VideoEqual, 1),
            Some(last) if instant_ms < last => repairs.add(Repair::VideoBack, last - instant_ms),
            _ => {}
        }
        if pts < dts {
            if composition_ms < 0 {
                repairs.add(Repair::Composition, composition_ms);
            }
            pts = dts;
        }
        self.last_ms = Some(instant_ms);
        self.last_dts = Some(dts);
        (dts, pts)
    }

    /// The grid that has explained the most; of equals the declared one, then the coarsest.
    fn ruling(&self) -> Option<&Grid> {
        self.grids.iter().filter(|grid| grid.declared || grid.score() >= ENOUGH).max_by(|a, b| {
            let order = (a.score(), a.declared).cmp(&(b.score(), b.declared));
            order.then(b.rate().total_cmp(&a.rate()))
        })
    }
}
