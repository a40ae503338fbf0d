//! `[packager]` of the configuration.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::media::Timescale;

/// Segments that a playlist lists at least, however long they are. Spec: Apple authoring rule 8.11.
pub const LEAST_SEGMENTS: u32 = 6;

/// `[packager]`. What each key means stands in `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// PART-TARGET of every rendition, at all times.
    #[serde(with = "humantime_serde")]
    pub part_target: Duration,
    /// A segment ends at the first IDR picture at or after this.
    #[serde(with = "humantime_serde")]
    pub segment_target: Duration,
    /// EXT-X-TARGETDURATION, whole seconds.
    #[serde(with = "humantime_serde")]
    pub target_duration: Duration,
    /// PART-HOLD-BACK; three part targets where absent.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub part_hold_back: Option<Duration>,
    /// How much media a playlist lists.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Payload and headers kept per stream.
    pub max_bytes: ByteSize,
    /// The same of all streams together.
    pub max_total_bytes: ByteSize,
    /// Refuse publishers whose key frames are too far apart for every segment to begin with one.
    pub require_keyframes: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            part_target: Duration::from_millis(215),
            segment_target: Duration::from_secs(2),
            target_duration: Duration::from_secs(4),
            part_hold_back: None,
            window: Duration::from_secs(16),
            max_bytes: ByteSize::mib(64),
            max_total_bytes: ByteSize::gib(2),
            require_keyframes: false,
        }
    }
}

impl Config {
    /// PART-HOLD-BACK: as configured, or three part targets. Spec: RFC 8216bis §4.4.3.8, Apple authoring rule 14.3.
    pub fn part_hold_back(&self) -> Duration {
        self.part_hold_back.unwrap_or(self.part_target * 3)
    }

    /// PART-TARGET in ticks of `scale`, rounded down: no part may be longer, not by a fraction of a tick. Spec: RFC 8216bis §4.4.4.9.
    pub fn part_ticks(&self, scale: Timescale) -> i64 {
        let ticks = self.part_target.as_nanos() * u128::from(scale.hz()) / 1_000_000_000;
        i64::try_from(ticks).unwrap_or(i64::MAX)
    }

    /// HOLD-BACK for players without low latency: three target durations. Spec: RFC 8216bis §4.4.3.8.
    pub fn hold_back(&self) -> Duration {
        self.target_duration * 3
    }

    /// How much media a playlist lists at least: `window`, six segments, three target durations.
    pub fn listed(&self) -> Duration {
        self.window.max(self.segment_target * LEAST_SEGMENTS).max(self.target_duration * 3)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A sentence naming the key and the rule.
    pub fn validate(&self) -> Result<(), String> {
        let whole = self.target_duration.subsec_nanos() == 0 && !self.target_duration.is_zero();
        if !whole {
            return Err(
                "packager.target_duration must be a whole number of seconds, at least 1s (RFC 8216bis 4.4.3.1)".into(),
            );
        }
        if self.part_target < Duration::from_millis(50) || self.part_target > Duration::from_secs(2) {
            return Err("packager.part_target must lie between 50ms and 2s".into());
        }
        if self.segment_target < self.part_target || self.segment_target > self.target_duration {
            return Err("packager.segment_target must lie between part_target and target_duration".into());
        }
        if self.part_hold_back() < self.part_target * 3 {
            return Err(
                "packager.part_hold_back must be at least three times part_target (Apple authoring rule 14.3)".into()
            );
        }
        if self.part_hold_back() > self.hold_back() {
            return Err(
                "packager.part_hold_back must be at most three times target_duration: players without low latency stay no further back".into()
            );
        }
        if self.window > Duration::from_secs(600) {
            return Err("packager.window must be at most 10min; what is longer belongs to DVR".into());
        }
        if self.max_bytes < ByteSize::mib(1) {
            return Err("packager.max_bytes must be at least 1MiB".into());
        }
        if self.max_total_bytes < self.max_bytes {
            return Err("packager.max_total_bytes must be at least packager.max_bytes".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_follow_the_rules() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.part_hold_back(), Duration::from_millis(645));
        assert_eq!(config.listed(), Duration::from_secs(16));
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for (change, key) in [
            (Config { target_duration: Duration::from_millis(2500), ..Config::default() }, "packager.target_duration"),
            (Config { part_target: Duration::ZERO, ..Config::default() }, "packager.part_target"),
            (Config { segment_target: Duration::from_secs(9), ..Config::default() }, "packager.segment_target"),
            (
                Config { part_hold_back: Some(Duration::from_millis(500)), ..Config::default() },
                "packager.part_hold_back",
            ),
            (Config { part_hold_back: Some(Duration::from_secs(13)), ..Config::default() }, "packager.part_hold_back"),
            (Config { window: Duration::from_secs(3600), ..Config::default() }, "packager.window"),
            (Config { max_bytes: ByteSize::b(1), ..Config::default() }, "packager.max_bytes"),
            (Config { max_total_bytes: ByteSize::mib(63), ..Config::default() }, "packager.max_total_bytes"),
        ] {
            assert!(change.validate().is_err_and(|why| why.starts_with(key)), "{key}");
        }
    }
}
