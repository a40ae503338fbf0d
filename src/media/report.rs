//! What is known of the way from a publisher to here: the words and figures of the ingest report. `ingest` fills it in, `control` shows it.
//!
//! No field belongs to one protocol: what a protocol cannot tell is absent.

use serde::Serialize;

use super::track::Kind;

/// A stream's ingest, as it was over the last seconds. Totals count from the moment this publisher connected.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct IngestReport {
    /// All in all.
    pub health: Health,
    /// The publisher is connected. False while the stream waits for it to come back: the rest is then what was known last.
    pub connected: bool,
    /// Seconds since this publisher connected.
    pub seconds: f64,
    /// Milliseconds since the last access unit, or since the start where none has come.
    pub silent_ms: u64,
    /// The encoder, as it calls itself.
    pub encoder: Option<String>,
    /// The pictures; null until some have come.
    pub video: Option<VideoReport>,
    /// The sound; null until some has come.
    pub audio: Option<AudioReport>,
    /// How much earlier sound arrives than the pictures that belong to it, in milliseconds; negative where it arrives later.
    pub av_skew_ms: Option<i64>,
    /// By how much media arrives later now than at best in the last 16 seconds, in milliseconds: the uplink falls behind.
    pub lag_ms: u64,
    /// Tracks that are not taken.
    pub refused: Vec<RefusedTrack>,
    /// What had to be repaired or dropped, the most frequent first.
    pub repairs: Vec<Repaired>,
    /// What to do about it, the worst first.
    pub advice: Vec<Advice>,
}

/// The pictures. Rates are those of the last ten seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct VideoReport {
    /// RFC 6381.
    pub codec: String,
    /// Codec, profile and level in words, such as `H.264 High, level 3.1`.
    pub format: String,
    /// Pixels, where the configuration says it.
    pub width: Option<u16>,
    /// Pixels, where the configuration says it.
    pub height: Option<u16>,
    /// Pictures a second.
    pub fps: Option<f64>,
    /// Pictures a second as the publisher announced them.
    pub fps_announced: Option<f64>,
    /// How evenly pictures follow each other.
    pub steadiness: Option<Steadiness>,
    /// Longest time from one picture to the next, in milliseconds of media.
    pub longest_gap_ms: u64,
    /// Bits a second of media.
    pub bitrate: Option<u64>,
    /// The same in the busiest second.
    pub bitrate_peak: Option<u64>,
    /// Bits a second as the publisher announced them.
    pub bitrate_target: Option<u64>,
    /// Seconds from the last but one key frame to the last.
    pub key_frame_interval: Option<f64>,
    /// The longest such distance among the last eight, or the time since the last key frame where that is longer: how long viewers may wait.
    pub key_frame_interval_longest: Option<f64>,
    /// The shortest such distance among the last eight.
    pub key_frame_interval_shortest: Option<f64>,
    /// Most pictures in a row that are shown before one that came earlier; 0 without B-frames.
    pub b_frames: u32,
    /// How long pictures wait for their turn because of that, in milliseconds.
    pub reorder_ms: u64,
    /// Spread of arrival against the timestamps, in milliseconds.
    pub jitter_ms: u64,
    /// Media time that is missing: pictures that never came. Milliseconds, a total. Says nothing while `steadiness` is `variable`: what is late and what
    /// is missing cannot be told apart then.
    pub dropped_ms: u64,
    /// The same in the last ten seconds.
    pub dropped_recently_ms: u64,
}

/// The sound. Rates are those of the last ten seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct AudioReport {
    /// RFC 6381.
    pub codec: String,
    /// Codec and profile in words, such as `AAC-LC`.
    pub format: String,
    /// Hz, where the configuration says it.
    pub sample_rate: Option<u32>,
    /// Where the configuration says it.
    pub channels: Option<u8>,
    /// Bits a second of media.
    pub bitrate: Option<u64>,
    /// Bits a second as the publisher announced them.
    pub bitrate_target: Option<u64>,
    /// Spread of arrival against the timestamps, in milliseconds. Sound is read with the picture behind it, so that the distance of two pictures is in it.
    pub jitter_ms: u64,
    /// Media time that is missing, in milliseconds, a total.
    pub dropped_ms: u64,
    /// The same in the last ten seconds.
    pub dropped_recently_ms: u64,
}

/// How evenly pictures follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Steadiness {
    /// All distances are alike.
    Steady,
    /// Most are.
    Uneven,
    /// No rate explains them.
    Variable,
}

/// A track that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct RefusedTrack {
    /// `video` or `audio`.
    #[cfg_attr(feature = "server", schema(value_type = String))]
    pub kind: Kind,
    /// Why, in words.
    pub why: String,
}

/// A kind of repair and how often it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Repaired {
    /// As the metric `rillcast_ingest_repairs_total` has it.
    pub kind: &'static str,
    /// How often.
    pub count: u64,
    /// How often in the last ten to twenty seconds.
    pub recently: u64,
    /// What happened and what was done about it.
    pub words: &'static str,
}

/// All in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Nothing to do.
    Good,
    /// Viewers get less than they could.
    Fair,
    /// Viewers notice.
    Poor,
}

/// How much a piece of advice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Viewers notice it.
    Error,
    /// It costs some viewers something.
    Warning,
    /// Good to know.
    Info,
}

/// One thing that the streamer can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct Advice {
    /// Names the finding; does not change from release to release.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What is the matter and what it does to viewers: a sentence.
    pub finding: String,
    /// What to change, by its name in OBS: a sentence.
    pub remedy: String,
}
