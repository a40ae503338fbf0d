//! The part in the making: samples whose durations are known, and their payload.

use bytes::{Bytes, BytesMut};

use crate::media::AccessUnit;
use crate::packager::fmp4::chunk::Sample;

/// A part shorter than this share of PART-TARGET must not be listed but at the end of a segment. Spec: RFC 8216bis §4.4.4.9.
const LEAST_PERCENT: i64 = 85;

/// A part in the making.
#[derive(Debug, Default)]
pub(super) struct OpenPart {
    /// Decode time of its first sample, or of the one that is waited for, ticks.
    start: i64,
    /// Sum of its samples' durations, ticks.
    duration: i64,
    samples: Vec<Sample>,
    /// One slice, or a few where the samples straddle two allocations.
    payload: Vec<BytesMut>,
    /// Of the payload, counted as it comes.
    bytes: usize,
    /// Its first sample can be decoded by itself.
    independent: bool,
}

impl OpenPart {
    /// An empty part whose first sample will be decoded at `start`, in ticks.
    pub(super) fn starting(start: i64) -> Self {
        Self { start, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    pub(super) fn duration(&self) -> i64 {
        self.duration
    }

    pub(super) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_independent(&self) -> bool {
        self.independent
    }

    /// Whether it may be listed as it is, were it not the last of its segment.
    pub(super) fn is_long_enough(&self, target: i64) -> bool {
        self.duration.saturating_mul(100) >= target.saturating_mul(LEAST_PERCENT)
    }

    /// Whether it stays within `target` with a sample of `duration` more. An empty part has room for any sample: a single one may be longer.
    pub(super) fn has_room(&self, duration: i64, target: i64) -> bool {
        self.is_empty() || self.duration + duration <= target
    }

    /// Adds `unit`, which lasts for `duration` ticks.
    pub(super) fn add(&mut self, unit: AccessUnit, duration: i64) {
        if self.is_empty() {
            self.start = unit.dts;
            self.independent = unit.sync;
        }
        let composition_offset = unit.pts.saturating_sub(unit.dts).clamp(i64::from(i32::MIN), i64::from(i32::MAX));
        self.samples.push(Sample {
            duration: u32::try_from(duration).unwrap_or(u32::MAX),
            size: u32::try_from(unit.data.len()).unwrap_or(u32::MAX),
            composition_offset: composition_offset as i32,
            sync: unit.sync,
        });
        self.duration += duration;
        self.bytes += unit.data.len();
        join(&mut self.payload, unit.data);
    }

    /// The payload, which does not change any more.
    pub(super) fn into_payload(self) -> Vec<Bytes> {
        self.payload.into_iter().map(BytesMut::freeze).collect()
    }
}

/// Appends `data`, without a copy where it lies right behind the last slice.
fn join(payload: &mut Vec<BytesMut>, data: BytesMut) {
    if data.is_empty() {
        return;
    }
    match payload.last_mut() {
        // The same allocation, in all likelihood: then `unsplit` only moves a length. Two allocations that happen to touch are
        // copied together, which is rare and harmless.
        Some(last) if last.as_ptr() as usize + last.len() == data.as_ptr() as usize => last.unsplit(data),
        _ => payload.push(data),
    }
}
