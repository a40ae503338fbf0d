//! The DASH MPD: a pure function from catalog and windows to text.
//!
//! Low-latency periods list the segment that is being made, with the duration that was announced for it; the others list complete
//! segments. Nothing that was listed once is ever written differently.
//!
//! Specifications: ISO/IEC 23009-1:2022 §5; DASH-IF guidelines, timing model and low-latency live (CR r8).

mod timeline;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use self::timeline::{Line, Shown, shown};
use self::xml::{Tag, Xml, decimal, duration};
use crate::media::{Format, Kind, Track, WallTime};
use crate::packager::{Catalog, Config, Window};

const PROFILES: &str = "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019";
const LOW_LATENCY_PROFILE: &str = ",http://www.dashif.org/guidelines/low-latency-live-v5";
const CONNECTIVITY: &str = "urn:mpeg:dash:period-connectivity:2015";
const ROLE: &str = "urn:mpeg:dash:role:2011";
const CHANNELS: &str = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011";
const UTC: &str = "urn:mpeg:dash:utc:http-iso:2014";

/// `/time`, seen from `/APP/NAME/manifest.mpd`. Relative, so that it works below `/t/TOKEN/` and wherever a proxy mounts us.
const TIME_URI: &str = "../../time";

/// `ProducerReferenceTime@id`, and track_ID in every file, which the inband `prft` boxes refer to.
const REFERENCE_ID: u32 = 1;

/// Renders the MPD of `catalog`, whose renditions offer `windows`. Empty while there is nothing to play.
///
/// The catalog may be newer than the windows, but not older: publish it first.
pub fn render(catalog: &Catalog, windows: &[Arc<Window>]) -> String {
    let Some(config) = catalog.renditions.first().map(|first| &first.rendition.config) else { return String::new() };
    let depth = depth_micros(config);
    let periods = shown(catalog, windows, depth);
    let Some(last) = periods.last() else { return String::new() };
    let mpd = Mpd { catalog, config, low_latency: last.period.low_latency, periods: &periods };
    let mut xml = Xml::new();
    xml.nest(mpd.root(windows, depth), |xml| mpd.children(xml));
    xml.finish()
}

/// timeShiftBufferDepth: what playlists list but for one segment, so that a client with an old MPD still finds what it asks for.
fn depth_micros(config: &Config) -> i64 {
    micros(config.listed().saturating_sub(config.segment_target))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

struct Mpd<'a> {
    catalog: &'a Catalog,
    config: &'a Config,
    /// The newest period is a low-latency one.
    low_latency: bool,
    periods: &'a [Shown<'a>],
}

impl Mpd<'_> {
    fn root(&self, windows: &[Arc<Window>], depth_micros: i64) -> Tag {
        let any_low_latency = self.periods.iter().any(|shown| shown.period.low_latency);
        let profiles = if any_low_latency { PROFILES.to_owned() + LOW_LATENCY_PROFILE } else { PROFILES.to_owned() };
        let segment = micros(self.config.segment_target);
        // A new MPD is made when a segment completes, and again when one begins.
        let newest = windows.iter().filter_map(|window| window.open.as_ref().or(window.segments.last()));
        let published = newest.map(|segment| segment.date).fold(self.catalog.published, WallTime::max);
        let (min_buffer, delay) = if self.low_latency {
            // Players that know of low latency go by ServiceDescription; the delay is for the others, which wait for whole segments.
            (micros(self.config.part_hold_back()), segment.saturating_mul(3))
        } else {
            (segment, micros(self.config.target_duration).saturating_mul(2))
        };
        Tag::new("MPD")
            .with("xmlns", "urn:mpeg:dash:schema:mpd:2011")
            .with("profiles", profiles)
            // It stays dynamic after the end, as the timing model describes the end of live content: the last period has a duration and no
            // update will come. `static` would promise every segment since the first period's start, of which most are gone.
            .with("type", "dynamic")
            .with("availabilityStartTime", self.catalog.start.rfc3339())
            .with("publishTime", published.rfc3339())
            .maybe("minimumUpdatePeriod", (!self.catalog.ended).then(|| duration(self.update_micros())))
            .maybe("mediaPresentationDuration", self.total_micros().map(duration))
            .with("timeShiftBufferDepth", duration(depth_micros))
            .with("maxSegmentDuration", duration(self.longest_micros()))
            .with("minBufferTime", duration(min_buffer))
            .with("suggestedPresentationDelay", duration(delay.min(depth_micros)))
    }

    /// minimumUpdatePeriod. An MPD that is fetched just before a segment begins is true for one part target: that is when the segment, which
    /// it does not list, becomes available. Where only complete segments are listed, one may become so at any moment, and no less is promised.
    fn update_micros(&self) -> i64 {
        micros(self.config.part_target)
    }

    fn total_micros(&self) -> Option<i64> {
        let last = self.periods.last().filter(|_| self.catalog.ended)?;
        Some(last.period.start_micros.saturating_add(last.duration_micros?))
    }

    /// maxSegmentDuration. Players that reckon the live edge from it must not be kept from it by a bound that regular streams never reach. A
    /// stream that has had a longer segment may have one again, and the value speaks for MPDs to come (ISO/IEC 23009-1 §5.3.1.2).
    fn longest_micros(&self) -> i64 {
        let listed = self.periods.iter().flat_map(|shown| &shown.lines).map(Line::longest_micros).max().unwrap_or(0);
        let listed = listed.max(self.catalog.longest_micros);
        // What a segment may last before EXTINF would round up past the target duration.
        let bound = micros(self.config.target_duration).saturating_add(500_000);
        let longest = if self.low_latency { listed } else { listed.max(bound) };
        // In tenths, so that a frame more or less is no change.
        longest.saturating_add(99_999) / 100_000 * 100_000
    }

    fn children(&self, xml: &mut Xml) {
        if self.low_latency {
            self.service(xml);
        }
        let mut before = None;
        for shown in self.periods {
            self.period(xml, shown, before);
            before = Some(shown.period.id);
        }
        xml.descriptor("UTCTiming", UTC, TIME_URI);
    }

    /// What the service is meant to be like. Players reload the MPD once a second at most, and learn of a segment up to that much after it
    /// begins: a segment and the hold-back of its parts is the least that plays without stalls.
    fn service(&self, xml: &mut Xml) {
        let segment = micros(self.config.segment_target);
        let target = segment.saturating_add(micros(self.config.part_hold_back()));
        let millis = |micros: i64| micros / 1_000;
        xml.nest(Tag::new("ServiceDescription").with("id", 0), |xml| {
            xml.leaf(
                Tag::new("Latency")
                    .with("referenceId", REFERENCE_ID)
                    .with("target", millis(target))
                    .with("min", millis(target - segment / 2))
                    .with("max", millis(target.saturating_add(segment.saturating_mul(2)))),
            );
            xml.leaf(Tag::new("PlaybackRate").with("min", "0.96").with("max", "1.04"));
        });
    }

    fn period(&self, xml: &mut Xml, shown: &Shown<'_>, before: Option<u64>) {
        let tag = Tag::new("Period")
            .with("id", format_args!("p{}", shown.period.id))
            .with("start", duration(shown.period.start_micros))
            .maybe("duration", shown.duration_micros.map(duration));
        // The descriptor names a period, which therefore must be in this MPD.
        let connected = before.filter(|before| shown.period.connected && before + 1 == shown.period.id);
        xml.nest(tag, |xml| {
            for (id, set) in shown.lines.chunk_by(|a, b| same_set(a, b)).enumerate() {
                self.adaptation_set(xml, id, set, shown.period.low_latency, connected);
            }
        });
    }

    fn adaptation_set(&self, xml: &mut Xml, id: usize, set: &[Line<'_>], low_latency: bool, connected: Option<u64>) {
        let Some(first) = set.first() else { return };
        let track = &first.share.init.track;
        let (content, mime) = match track.format.kind() {
            Kind::Video => ("video", "video/mp4"),
            Kind::Audio => ("audio", "audio/mp4"),
        };
        let independent = set.iter().flat_map(|line| &line.spans).all(|span| span.independent);
        let tag = Tag::new("AdaptationSet")
            .with("id", id)
            .with("contentType", content)
            .with("mimeType", mime)
            .maybe("lang", (track.language != "und").then_some(&track.language))
            .with("segmentAlignment", true)
            // 0 says that nothing is promised, which is the truth where a segment was cut without a key frame.
            .with("startWithSAP", u8::from(independent));
        xml.nest(tag, |xml| {
            if let Some(channels) = channel_configuration(track) {
                xml.descriptor("AudioChannelConfiguration", CHANNELS, channels);
            }
            if let Some(before) = connected {
                xml.descriptor("SupplementalProperty", CONNECTIVITY, format_args!("p{before}"));
            }
            if low_latency {
                let (at, date) = first.reference;
                let tag = Tag::new("ProducerReferenceTime")
                    .with("id", REFERENCE_ID)
                    .with("type", "encoder")
                    .with("inband", true)
                    .with("wallClockTime", date.rfc3339())
                    .with("presentationTime", at);
                xml.nest(tag, |xml| xml.descriptor("UTCTiming", UTC, TIME_URI));
            }
            xml.descriptor("Role", ROLE, "main");
            for line in set {
                self.representation(xml, line, low_latency);
            }
        });
    }

    fn representation(&self, xml: &mut Xml, line: &Line<'_>, low_latency: bool) {
        let track = &line.share.init.track;
        let size = track.format.resolution();
        let rate = match &track.format {
            Format::H264(config) => {
                // What is measured is the newest format's. Of one before only what its encoder said is known.
                let newest = line.share.init.number == line.measured.rendition.init.number;
                let said = || config.frame_rate.map(|(pictures, seconds)| f64::from(pictures) / f64::from(seconds));
                if newest { Some(line.measured.frame_rate) } else { said() }
            }
            Format::Aac(_) | Format::Mp3(_) => None,
        };
        let tag = Tag::new("Representation")
            .with("id", line.share.id)
            .with("codecs", track.format.codec_string())
            .with("bandwidth", line.measured.peak_bps)
            .maybe("width", size.map(|(width, _)| width))
            .maybe("height", size.map(|(_, height)| height))
            .maybe("frameRate", rate.and_then(frame_rate))
            .maybe("audioSamplingRate", sampling_rate(track));
        let epoch = self.catalog.epoch;
        let template = Tag::new("SegmentTemplate")
            .with("timescale", line.timescale().hz())
            .with("presentationTimeOffset", line.share.offset.max(0))
            .maybe("availabilityTimeOffset", low_latency.then(|| decimal(self.offset_micros())))
            .maybe("availabilityTimeComplete", low_latency.then_some(false))
            .with("startNumber", line.first_msn())
            .with("initialization", format_args!("{epoch}/$RepresentationID$/init-{}.mp4", line.share.init.number))
            .with("media", format_args!("{epoch}/$RepresentationID$/s$Number$.m4s"));
        xml.nest(tag, |xml| {
            if low_latency {
                // Every part may be the first one that a client appends to a decoder that runs.
                let part = line.timescale().ticks(self.config.part_target);
                xml.leaf(Tag::new("Resync").with("type", 0).with("dT", part));
            }
            xml.nest(template, |xml| line.write(xml));
        });
    }

    /// availabilityTimeOffset: constant, however long the segments of the stream are.
    fn offset_micros(&self) -> i64 {
        micros(self.config.segment_target.saturating_sub(self.config.part_target))
    }
}

/// Renditions between which a player may switch.
fn same_set(a: &Line<'_>, b: &Line<'_>) -> bool {
    let (a, b) = (&a.share.init.track, &b.share.init.track);
    let codec = std::mem::discriminant(&a.format) == std::mem::discriminant(&b.format);
    codec && a.language == b.language
}

/// ChannelConfiguration of ISO/IEC 23091-3 (CICP), which AAC and MP3 share.
fn channel_configuration(track: &Track) -> Option<u8> {
    Some(match track.format.sound()?.channels {
        7 => 11,
        8 => 7,
        channels => channels,
    })
}

/// What comes out of the decoder.
fn sampling_rate(track: &Track) -> Option<u32> {
    track.format.sound().map(|sound| sound.sample_rate)
}

/// `@frameRate`: a whole number, a fraction over 1001, or thousandths. `None` for 0 and nonsense.
fn frame_rate(rate: f64) -> Option<String> {
    if !rate.is_finite() || !(0.001..=100_000.0).contains(&rate) {
        return None;
    }
    // A hundredth of a percent: a tenth of what lies between 30 and 30000/1001.
    let near = |candidate: f64| (rate - candidate).abs() <= rate * 1e-4;
    let (whole, ntsc) = (rate.round(), (rate * 1.001).round());
    if near(whole) {
        return Some(format!("{whole}"));
    }
    if near(ntsc * 1_000.0 / 1_001.0) {
        return Some(format!("{ntsc}000/1001"));
    }
    Some(format!("{}/1000", (rate * 1_000.0).round()))
}

#[cfg(test)]
mod events_tests;
#[cfg(test)]
mod tests;
