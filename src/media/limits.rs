//! What a credential lets its publishers do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When a publisher takes a stream over from a running publisher with the same holder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Takeover {
    /// When the running one has brought no media for two seconds: its connection is half dead.
    #[default]
    WhenSilent,
    /// At once.
    Always,
}

/// Limits of what is published with one credential, each on its own stream. What is `None` is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bits a second, audio and video and their headers together, over some seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bitrate: Option<u64>,
    /// Pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_width: Option<u16>,
    /// Pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_height: Option<u16>,
    /// How long one connection may publish.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<Duration>,
}

impl Limits {
    /// Nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// These limits, and where one is not set, that of `defaults`.
    #[must_use]
    pub fn or(self, defaults: Self) -> Self {
        Self {
            max_bitrate: self.max_bitrate.or(defaults.max_bitrate),
            max_width: self.max_width.or(defaults.max_width),
            max_height: self.max_height.or(defaults.max_height),
            max_duration: self.max_duration.or(defaults.max_duration),
        }
    }

    /// Checks that something can be published at all.
    ///
    /// # Errors
    /// The name of the limit that is zero.
    pub fn validate(&self) -> Result<(), &'static str> {
        let zeros = [
            ("max_bitrate", self.max_bitrate == Some(0)),
            ("max_width", self.max_width == Some(0)),
            ("max_height", self.max_height == Some(0)),
            ("max_duration", self.max_duration == Some(Duration::ZERO)),
        ];
        zeros.iter().find(|(_, zero)| *zero).map_or(Ok(()), |(name, _)| Err(*name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_hides_the_default_and_no_more() {
        let defaults = Limits { max_bitrate: Some(1), max_width: Some(2), ..Limits::default() };
        let own = Limits { max_bitrate: Some(9), max_height: Some(3), ..Limits::default() };
        let both = Limits { max_bitrate: Some(9), max_width: Some(2), max_height: Some(3), max_duration: None };
        assert_eq!(own.or(defaults), both);
        assert_eq!(Limits { max_width: Some(0), ..own }.validate(), Err("max_width"));
    }
}
