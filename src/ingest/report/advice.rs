//! From figures to sentences: what is the matter, what it does to viewers, and what to change, by its name in OBS. Pure.

use std::time::Duration;

use super::words;
use crate::media::Kind;
use crate::media::report::{Advice, AudioReport, Health, IngestReport, Severity, Steadiness, VideoReport};
use crate::packager;

/// Before this many seconds nothing is said that needs a measurement: encoders begin unevenly.
const SETTLED_S: f64 = 4.0;
/// Nothing has come for so long: more than any encoder takes between two access units.
const SILENT_MS: u64 = 3_000;
const SILENT_FIRST_MS: u64 = 5_000;
/// How late media may become before viewers, who stay a part or three behind, run dry.
const LAG_MS: u64 = 500;
const LAG_BAD_MS: u64 = 2_000;
const JITTER_MS: u64 = 300;
/// Sound and pictures further apart than this wait for each other in every player.
const SKEW_MS: u64 = 250;
/// Missing media in ten seconds: a hiccup, and what everybody sees.
const DROPPED_MS: u64 = 100;
const DROPPED_BAD_MS: u64 = 1_000;
/// Reordering below this is lost in the latency of a part.
const REORDER_MS: u64 = 60;
/// Key frames are too far apart, or unevenly so, beyond this part of what is wanted: a picture more or less is no matter.
const KEY_FRAMES_TOLERANCE: f64 = 1.1;
/// Seconds by which distances of key frames must differ besides, and below which they are wasteful.
const KEY_FRAMES_UNEVEN_S: f64 = 0.1;
const KEY_FRAMES_FREQUENT_S: f64 = 0.5;
/// Below this part of the announced rate pictures are missing; above, it is rounding.
const FPS_REACHED: f64 = 0.93;
/// The lowest of the Common FPS Values that OBS offers.
const LEAST_USUAL_FPS: f64 = 10.0;
/// Browsers decode 5.1 and downmix it.
const MAX_CHANNELS: u8 = 6;
/// Repairs in ten to twenty seconds that are no accident any more.
const REPAIRS: u64 = 3;
/// Kinds of repair that cost viewers something; the others are inaudible and invisible.
const NOTICED: [&str; 7] =
    ["audio_gap", "audio_overlap", "jump", "malformed", "before_config", "unsupported", "video_back"];

/// What the server wants of a publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Distance of key frames that segments are made for.
    pub key_frames: Duration,
    /// A segment never gets longer; without a key frame by then it begins with none.
    pub longest_segment: Duration,
    /// The unit of low-latency delivery: a picture that lasts longer spoils it.
    pub part: Duration,
}

impl Rules {
    /// Fewer pictures a second, and not every part has one.
    fn least_fps(&self) -> f64 {
        1.0 / self.part.as_secs_f64()
    }
}

impl From<&packager::Config> for Rules {
    fn from(config: &packager::Config) -> Self {
        Self { key_frames: config.segment_target, longest_segment: config.target_duration, part: config.part_target }
    }
}

/// What there is to say about `report` (whose own advice is not looked at), the worst first.
pub fn advise(report: &IngestReport, rules: &Rules) -> Vec<Advice> {
    let mut found = Found(Vec::new());
    found.refused(report);
    found.silence(report);
    found.missing_tracks(report);
    if let Some(video) = &report.video {
        found.key_frames(video, rules);
        found.profile(video);
        if report.seconds >= SETTLED_S {
            found.pace(video, rules);
            found.bitrate(video);
            found.b_frames(video);
        }
    }
    if let Some(audio) = &report.audio {
        found.codec(audio);
    }
    if report.seconds >= SETTLED_S {
        found.network(report, rules);
        found.skew(report);
        found.repairs(report);
    }
    let Found(mut advice) = found;
    advice.sort_by_key(|advice| advice.severity);
    advice
}

/// All in all: as bad as the worst of it.
pub(super) fn health(advice: &[Advice]) -> Health {
    match advice.iter().map(|advice| advice.severity).min() {
        Some(Severity::Error) => Health::Poor,
        Some(Severity::Warning) => Health::Fair,
        Some(Severity::Info) | None => Health::Good,
    }
}

struct Found(Vec<Advice>);

impl Found {
    fn say(&mut self, severity: Severity, id: &'static str, finding: String, remedy: impl Into<String>) {
        self.0.push(Advice { id, severity, finding, remedy: remedy.into() });
    }

    fn refused(&mut self, report: &IngestReport) {
        for track in &report.refused {
            let (id, what, remedy) = match track.kind {
                Kind::Video => (
                    "video_refused",
                    "pictures",
                    "In OBS, choose an H.264 encoder (Settings → Output → Streaming → Video Encoder) and start streaming again.",
                ),
                Kind::Audio => (
                    "audio_refused",
                    "sound",
                    "In OBS, choose an AAC encoder (Settings → Output → Streaming → Audio Encoder) and start streaming again.",
                ),
            };
            self.say(Severity::Error, id, format!("Viewers get no {what}: {}.", track.why), remedy);
        }
    }

    fn silence(&mut self, report: &IngestReport) {
        let begun = report.video.is_some() || report.audio.is_some();
        if !report.connected {
            let finding = "The encoder is gone. Viewers wait for it to come back.";
            self.say(
                Severity::Error,
                "disconnected",
                finding.into(),
                "Press Start Streaming in OBS, or check the network of its computer.",
            );
        } else if report.silent_ms >= if begun { SILENT_MS } else { SILENT_FIRST_MS } && report.refused.is_empty() {
            let finding = format!("Nothing has arrived for {}.", seconds(report.silent_ms as f64 / 1e3));
            let remedy = "Check the network of the computer that OBS runs on; if it stays silent, stop streaming in OBS and start again.";
            self.say(Severity::Error, "silent", finding, remedy);
        }
    }

    fn missing_tracks(&mut self, report: &IngestReport) {
        if report.seconds < SETTLED_S {
            return;
        }
        let refused = |kind| report.refused.iter().any(|track| track.kind == kind);
        if report.audio.is_none() && report.video.is_some() && !refused(Kind::Audio) {
            let remedy =
                "If that is not intended: check in OBS that an Audio Track is ticked (Settings → Output → Streaming).";
            self.say(Severity::Info, "no_audio", "The stream has no sound.".into(), remedy);
        }
        if report.video.is_none() && report.audio.is_some() && !refused(Kind::Video) {
            let remedy = "If that is not intended: check the Video Encoder in OBS (Settings → Output → Streaming).";
            self.say(Severity::Info, "no_video", "The stream has no pictures.".into(), remedy);
        }
    }

    fn key_frames(&mut self, video: &VideoReport, rules: &Rules) {
        let Some(longest) = video.key_frame_interval_longest else { return };
        let wanted = rules.key_frames.as_secs_f64();
        let set = format!(
            "Set the keyframe interval in OBS to {} (Settings → Output → Streaming → Keyframe Interval).",
            seconds(wanted)
        );
        let shortest = video.key_frame_interval_shortest.unwrap_or(longest);
        if longest > wanted * KEY_FRAMES_TOLERANCE {
            let cut = longest > rules.longest_segment.as_secs_f64();
            let severity = if cut { Severity::Error } else { Severity::Warning };
            let finding = format!(
                "Key frames come too rarely: viewers now wait up to {} for the first picture.",
                seconds(longest)
            );
            self.say(severity, "key_frame_interval", finding, set);
        } else if longest > shortest * KEY_FRAMES_TOLERANCE && longest - shortest > KEY_FRAMES_UNEVEN_S {
            let (from, to) = (seconds(shortest), seconds(longest));
            let finding = format!(
                "Key frames come unevenly, every {from} to {to}: segments differ in length, and DASH loses its low latency."
            );
            let remedy = format!("{set} With x264, add scenecut=0 to x264 Options.");
            self.say(Severity::Info, "key_frames_uneven", finding, remedy);
        } else if longest < KEY_FRAMES_FREQUENT_S && video.key_frame_interval.is_some() {
            let finding =
                format!("Key frames come every {}: they take bits that the other pictures need.", seconds(longest));
            self.say(Severity::Info, "key_frames_frequent", finding, set);
        }
    }

    fn profile(&mut self, video: &VideoReport) {
        if ["High 10", "4:2:2", "4:4:4"].iter().any(|profile| video.format.contains(profile)) {
            let finding = format!("Many browsers and phones cannot decode {}.", video.format);
            let remedy =
                "In OBS, set Color Format to NV12 (Settings → Advanced → Video) and the encoder's Profile to high.";
            self.say(Severity::Error, "video_profile", finding, remedy);
        }
    }

    fn pace(&mut self, video: &VideoReport, rules: &Rules) {
        let Some(fps) = video.fps else { return };
        let least = rules.least_fps();
        if fps < least {
            let finding = format!(
                "{} pictures a second are too few for low latency: viewers stay whole segments behind.",
                rounded(fps)
            );
            let remedy = format!(
                "Set Common FPS Values in OBS to {} or more (Settings → Video).",
                least.ceil().max(LEAST_USUAL_FPS)
            );
            self.say(Severity::Warning, "frame_rate_low", finding, remedy);
        }
        let announced = video.fps_announced.filter(|announced| fps < announced * FPS_REACHED);
        match (announced, video.steadiness) {
            (Some(announced), Some(Steadiness::Steady | Steadiness::Uneven) | None) => {
                let finding =
                    format!("{} of {} pictures a second arrive: movement stutters.", rounded(fps), rounded(announced));
                let remedy = "The computer is too slow for these settings, or the network drops pictures: see Stats in OBS (View → Stats). \
                    Choose a faster encoder preset, a hardware encoder, or a smaller Output Resolution (Settings → Video).";
                self.say(Severity::Warning, "frame_rate_missed", finding, remedy);
            }
            // What comes as it changes comes less often than was announced, and lacks nothing.
            (_, Some(Steadiness::Variable)) => {
                let finding =
                    format!("The frame rate varies ({} a second on average): movement is uneven.", rounded(fps));
                let remedy = "Set a constant frame rate: in OBS, Settings → Video → Common FPS Values; with other encoders, turn off variable frame rate.";
                self.say(Severity::Warning, "frame_rate_variable", finding, remedy);
            }
            (None, Some(Steadiness::Uneven)) => {
                let finding = format!(
                    "Some pictures come late or not at all; the longest stood for {} ms.",
                    video.longest_gap_ms
                );
                let remedy = "See in OBS whether frames are missed or skipped (View → Stats); choose a faster encoder preset or close other programs.";
                self.say(Severity::Info, "frame_rate_uneven", finding, remedy);
            }
            (None, Some(Steadiness::Steady) | None) => {}
        }
    }

    fn bitrate(&mut self, video: &VideoReport) {
        let (Some(average), Some(peak)) = (video.bitrate, video.bitrate_peak) else { return };
        let Some(target) = video.bitrate_target else { return };
        if average > target + target * 3 / 10 {
            let finding = format!("The video takes {}, more than the {} it is set to.", bits(average), bits(target));
            let remedy = "Set Rate Control in OBS to CBR (Settings → Output → Streaming).";
            self.say(Severity::Warning, "bitrate_over", finding, remedy);
        } else if peak > target * 2 {
            let finding = format!(
                "The bit rate peaks at {}, at a target of {}: viewers on narrow lines stall then.",
                bits(peak),
                bits(target)
            );
            let remedy = "Set Rate Control in OBS to CBR (Settings → Output → Streaming).";
            self.say(Severity::Info, "bitrate_peaks", finding, remedy);
        }
    }

    fn b_frames(&mut self, video: &VideoReport) {
        if video.b_frames > 0 && video.reorder_ms >= REORDER_MS {
            let finding =
                format!("B-frames (up to {} in a row) delay every viewer by {} ms.", video.b_frames, video.reorder_ms);
            let remedy = "For the lowest latency, set Max B-frames in OBS to 0, or the tune zerolatency with x264 (Settings → Output → Streaming).";
            self.say(Severity::Info, "b_frames", finding, remedy);
        }
    }

    fn codec(&mut self, audio: &AudioReport) {
        let unplayable =
            matches!(audio.codec.as_str(), "mp4a.40.1" | "mp4a.40.3" | "mp4a.40.4") || words::is_mp3(&audio.codec);
        if unplayable {
            let finding = format!(
                "Most browsers do not play {}: their viewers hear nothing, or see nothing either.",
                audio.format
            );
            let remedy = "Set the Audio Encoder in OBS to AAC (Settings → Output → Streaming).";
            self.say(Severity::Error, "audio_codec", finding, remedy);
        } else if audio.channels.is_some_and(|channels| channels > MAX_CHANNELS) {
            let finding =
                format!("The sound has {} channels; browsers play six at most.", audio.channels.unwrap_or_default());
            self.say(Severity::Warning, "audio_channels", finding, "Set Channels in OBS to Stereo (Settings → Audio).");
        }
    }

    fn network(&mut self, report: &IngestReport, rules: &Rules) {
        let video = report.video.as_ref();
        let measured = video.and_then(|video| video.bitrate);
        let lower = measured.map_or_else(
            || String::from("Lower the Video Bitrate in OBS (Settings → Output → Streaming)."),
            |now| format!("Lower the Video Bitrate in OBS below {} (Settings → Output → Streaming), or use a cable instead of Wi-Fi.", bits(now * 7 / 10)),
        );
        let jitter =
            video.map_or(0, |video| video.jitter_ms).max(report.audio.as_ref().map_or(0, |audio| audio.jitter_ms));
        // Arrival is measured to within one picture, and that much is said of few pictures already.
        let is_slow = video.and_then(|video| video.fps).is_some_and(|fps| fps < rules.least_fps());
        if report.lag_ms >= LAG_MS {
            let severity = if report.lag_ms >= LAG_BAD_MS { Severity::Error } else { Severity::Warning };
            let finding = format!(
                "The uplink is too slow: media arrives {} late and falls further behind.",
                seconds(report.lag_ms as f64 / 1e3)
            );
            self.say(severity, "uplink", finding, lower.clone());
        } else if jitter >= JITTER_MS && !is_slow {
            let finding =
                format!("Media arrives in bursts, up to {jitter} ms apart: viewers with low latency may stall.");
            let remedy = "Use a cable instead of Wi-Fi and end other uploads; in OBS, a lower Video Bitrate leaves the line more room \
                (Settings → Output → Streaming).";
            self.say(Severity::Warning, "jitter", finding, remedy);
        }
        let variable = video.is_some_and(|video| video.steadiness == Some(Steadiness::Variable));
        let lost = video.filter(|_| !variable).map_or(0, |video| video.dropped_recently_ms);
        if lost >= DROPPED_MS {
            let severity = if lost >= DROPPED_BAD_MS { Severity::Error } else { Severity::Warning };
            let finding = format!("{lost} ms of pictures are missing from the last ten seconds.");
            let remedy = format!(
                "See in OBS why frames are dropped (View → Stats). Network: {lower} Encoding: choose a faster preset."
            );
            self.say(severity, "video_missing", finding, remedy);
        }
        let lost = report.audio.as_ref().map_or(0, |audio| audio.dropped_recently_ms);
        if lost >= DROPPED_MS {
            let severity = if lost >= DROPPED_BAD_MS { Severity::Error } else { Severity::Warning };
            let finding = format!("{lost} ms of sound are missing from the last ten seconds.");
            let remedy =
                "Check the audio devices in OBS (Settings → Audio): an unplugged or sleeping device leaves holes.";
            self.say(severity, "audio_missing", finding, remedy);
        }
    }

    fn skew(&mut self, report: &IngestReport) {
        let Some(skew) = report.av_skew_ms.filter(|skew| skew.unsigned_abs() >= SKEW_MS) else { return };
        let finding = format!(
            "Sound arrives {} ms {} than the pictures that belong to it: every viewer waits for the later one.",
            skew.unsigned_abs(),
            if skew > 0 { "earlier" } else { "later" }
        );
        let remedy = "Check the Sync Offset of the sources in OBS (Edit → Advanced Audio Properties) and delays set on the camera.";
        self.say(Severity::Warning, "av_skew", finding, remedy);
    }

    fn repairs(&mut self, report: &IngestReport) {
        let noticed = || report.repairs.iter().filter(|repair| repair.recently > 0 && NOTICED.contains(&repair.kind));
        let recently: u64 = noticed().map(|repair| repair.recently).sum();
        let Some(worst) = noticed().max_by_key(|repair| repair.recently) else { return };
        // Tracks that are refused are said in their own words.
        if worst.kind == "unsupported" && !report.refused.is_empty() {
            return;
        }
        if recently >= REPAIRS {
            let finding = format!("{recently} repairs were made lately. The most frequent: {}", worst.words);
            let remedy = "Update OBS or the encoder; if it goes on, stop streaming and start again. Capture devices with their own clock (Use Device Timestamps) are a usual cause.";
            self.say(Severity::Warning, "repairs", finding, remedy);
        }
    }
}

/// `8 s`, `2.5 s`.
fn seconds(seconds: f64) -> String {
    format!("{} s", rounded((seconds * 10.0).round() / 10.0))
}

/// Up to two digits behind the point, as few as needed.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn bits(bits: u64) -> String {
    if bits >= 1_000_000 {
        format!("{:.1} Mbit/s", bits as f64 / 1e6)
    } else {
        format!("{} kbit/s", (bits + 500) / 1_000)
    }
}

#[cfg(test)]
mod tests;
