//! What one publisher has sent, measured as it comes.

use std::time::Instant;

use super::advice::{Rules, advise, health};
use super::track::{TrackMeter, Unit};
use super::words;
use crate::ingest::timeline::{Repair, Repairs};
use crate::media::report::{AudioReport, Health, IngestReport, RefusedTrack, Repaired, Steadiness, VideoReport};
use crate::media::{AccessUnit, Format, Kind, Track};

/// Longest encoder name and longest reason kept, in characters.
const MAX_TEXT: usize = 200;
/// A standard deviation of distances up to this part of their mean is rounding, up to the other a hiccup.
const STEADY: f64 = 0.1;
const UNEVEN: f64 = 0.35;
/// Repairs are counted in periods of this length, the running and the last one being recent.
const PERIOD_US: i64 = 10_000_000;

/// What a publisher says about its stream. What it does not say is absent, what is absurd too.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Announced {
    /// The encoder, as it calls itself.
    pub encoder: Option<String>,
    /// Pictures a second.
    pub fps: Option<f64>,
    /// Bits a second.
    pub video_bps: Option<u64>,
    /// Bits a second.
    pub audio_bps: Option<u64>,
}

type Counts = [u64; Repair::ALL.len()];

/// How often each kind of repair was made.
#[derive(Debug, Default)]
struct RepairCounts {
    total: Counts,
    /// Which period is running, since the publisher connected.
    period: i64,
    running: Counts,
    /// Those of the period before.
    before: Counts,
}

/// A track and its figures.
#[derive(Debug)]
struct Measured {
    format: Format,
    meter: TrackMeter,
}

/// Measures one publisher. About 5 KiB, whatever it sends.
#[derive(Debug)]
pub struct Meter {
    /// When the publisher connected: what all times are counted from.
    start: Instant,
    /// When the last access unit came.
    last: Instant,
    announced: Announced,
    video: Option<Measured>,
    audio: Option<Measured>,
    /// Why pictures are refused, and why sound is.
    refused: [Option<String>; 2],
    repairs: RepairCounts,
}

impl Meter {
    /// Of a publisher that was let in now.
    pub fn new(now: Instant) -> Self {
        Self {
            start: now,
            last: now,
            announced: Announced::default(),
            video: None,
            audio: None,
            refused: [None, None],
            repairs: RepairCounts::default(),
        }
    }

    /// The publisher described its stream.
    pub fn announce(&mut self, announced: Announced) {
        let bounded = |text: String| text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
        self.announced = Announced { encoder: announced.encoder.map(bounded), ..announced };
    }

    /// A track begins, or its format changes.
    pub fn track(&mut self, track: &Track) {
        let kind = track.format.kind();
        *self.refusal(kind) = None;
        let format = track.format.clone();
        match self.slot(kind) {
            Some(measured) => {
                measured.meter.restart(track.timescale);
                measured.format = format;
            }
            slot => *slot = Some(Measured { format, meter: TrackMeter::new(kind, track.timescale) }),
        }
    }

    /// A track is not taken.
    pub fn refused(&mut self, kind: Kind, why: &str) {
        *self.refusal(kind) = Some(why.chars().take(MAX_TEXT).collect());
    }

    /// The next access unit of that track, which arrived at `now`.
    pub fn unit(&mut self, kind: Kind, unit: &AccessUnit, now: Instant) {
        self.last = now;
        let at_us = self.micros(now);
        if let Some(measured) = self.slot(kind) {
            let AccessUnit { dts, pts, sync, .. } = *unit;
            measured.meter.unit(Unit { at_us, dts, pts, sync, bytes: unit.data.len() });
        }
    }

    /// What was repaired since the last call.
    pub fn repaired(&mut self, repairs: &Repairs, now: Instant) {
        if repairs.is_empty() {
            return;
        }
        let period = self.micros(now) / PERIOD_US;
        let counts = &mut self.repairs;
        if period != counts.period {
            let next = period == counts.period + 1;
            counts.before = if next { counts.running } else { Counts::default() };
            (counts.running, counts.period) = (Counts::default(), period);
        }
        for (place, kind) in counts.total.iter_mut().zip(Repair::ALL) {
            *place += repairs.count(kind);
        }
        for (place, kind) in counts.running.iter_mut().zip(Repair::ALL) {
            *place += repairs.count(kind);
        }
    }

    /// When the last access unit came, or the publisher.
    pub fn last_seen(&self) -> Instant {
        self.last
    }

    /// What is known at `now`, with advice by `rules`.
    pub fn snapshot(&self, now: Instant, connected: bool, rules: &Rules) -> IngestReport {
        // What was known last must not age away while the stream waits for its publisher.
        let now = if connected { now } else { self.last };
        let at_us = self.micros(now);
        let lateness = |measured: &Option<Measured>| measured.as_ref()?.meter.lateness.base_us(at_us);
        let skew =
            lateness(&self.video).zip(lateness(&self.audio)).map(|(video, audio)| video.saturating_sub(audio) / 1_000);
        let lag = [&self.video, &self.audio].into_iter().flatten().map(|track| track.meter.lateness.lag_us(at_us));
        let refused = [Kind::Video, Kind::Audio].into_iter().zip(&self.refused);
        let mut report = IngestReport {
            health: Health::Good,
            connected,
            seconds: (at_us as f64 / 1e5).round() / 10.0,
            silent_ms: u64::try_from(now.saturating_duration_since(self.last).as_millis()).unwrap_or(u64::MAX),
            encoder: self.announced.encoder.clone(),
            video: self.video.as_ref().map(|measured| self.video_report(measured, at_us)),
            audio: self.audio.as_ref().map(|measured| self.audio_report(measured, at_us)),
            av_skew_ms: skew,
            lag_ms: millis(lag.max().unwrap_or(0)),
            refused: refused.filter_map(|(kind, why)| Some(RefusedTrack { kind, why: why.clone()? })).collect(),
            repairs: self.repairs.report(at_us),
            advice: Vec::new(),
        };
        report.advice = advise(&report, rules);
        report.health = health(&report.advice);
        report
    }

    fn video_report(&self, measured: &Measured, at_us: i64) -> VideoReport {
        let sums = measured.meter.recent(at_us);
        let keys = measured.meter.key_frames();
        let bitrate = sums.bitrate();
        let (mut size, mut vui) = (None, None);
        if let Format::H264(config) = &measured.format {
            size = Some((config.width, config.height));
            vui = config.frame_rate.map(|(pictures, seconds)| f64::from(pictures) / f64::from(seconds.max(1)));
        }
        let steadiness = sums.unevenness().map(|part| match part {
            _ if part <= STEADY => Steadiness::Steady,
            _ if part <= UNEVEN => Steadiness::Uneven,
            _ => Steadiness::Variable,
        });
        VideoReport {
            codec: measured.format.codec_string(),
            format: words::format(&measured.format),
            width: size.map(|(width, _)| width),
            height: size.map(|(_, height)| height),
            fps: sums.rate().map(hundredths),
            fps_announced: self.announced.fps.or(vui).map(hundredths),
            steadiness,
            longest_gap_ms: millis(sums.longest_us),
            bitrate: bitrate.map(|(average, _)| average),
            bitrate_peak: bitrate.map(|(_, peak)| peak),
            bitrate_target: self.announced.video_bps,
            key_frame_interval: keys.and_then(|keys| keys.last).map(hundredths),
            key_frame_interval_longest: keys.map(|keys| hundredths(keys.longest)),
            key_frame_interval_shortest: keys.and_then(|keys| keys.shortest).map(hundredths),
            b_frames: sums.reordered,
            reorder_ms: if sums.reordered == 0 { 0 } else { millis(sums.wait_us) },
            jitter_ms: millis(measured.meter.lateness.jitter_us(at_us)),
            dropped_ms: millis(measured.meter.dropped_us),
            dropped_recently_ms: millis(sums.dropped_us),
        }
    }

    fn audio_report(&self, measured: &Measured, at_us: i64) -> AudioReport {
        let sums = measured.meter.recent(at_us);
        let sound = measured.format.sound();
        AudioReport {
            codec: measured.format.codec_string(),
            format: words::format(&measured.format),
            sample_rate: sound.map(|sound| sound.sample_rate),
            channels: sound.map(|sound| sound.channels),
            bitrate: sums.bitrate().map(|(average, _)| average),
            bitrate_target: self.announced.audio_bps,
            jitter_ms: millis(measured.meter.lateness.jitter_us(at_us)),
            dropped_ms: millis(measured.meter.dropped_us),
            dropped_recently_ms: millis(sums.dropped_us),
        }
    }

    fn slot(&mut self, kind: Kind) -> &mut Option<Measured> {
        match kind {
            Kind::Video => &mut self.video,
            Kind::Audio => &mut self.audio,
        }
    }

    fn refusal(&mut self, kind: Kind) -> &mut Option<String> {
        let [video, audio] = &mut self.refused;
        match kind {
            Kind::Video => video,
            Kind::Audio => audio,
        }
    }

    /// Since the publisher was let in.
    fn micros(&self, now: Instant) -> i64 {
        i64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(i64::MAX)
    }
}

impl RepairCounts {
    fn report(&self, at_us: i64) -> Vec<Repaired> {
        let since = at_us / PERIOD_US - self.period;
        let mut all: Vec<Repaired> = Repair::ALL
            .into_iter()
            .zip(self.total.iter().zip(self.running.iter().zip(&self.before)))
            .filter(|(_, (total, _))| **total > 0)
            .map(|(kind, (total, (running, before)))| Repaired {
                kind: kind.label(),
                count: *total,
                recently: match since {
                    0 => running + before,
                    1 => *running,
                    _ => 0,
                },
                words: kind.words(),
            })
            .collect();
        all.sort_by_key(|repaired| std::cmp::Reverse(repaired.count));
        all
    }
}

fn millis(micros: i64) -> u64 {
    micros.max(0).unsigned_abs() / 1_000
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests;
