//! What keys, tokens and configuration name: one stream or all of an application; one address or a range of them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::media::StreamName;
use crate::media::name::NameError;
pub use crate::media::peer::IpRange;

/// `APP/NAME`, or `APP/*` for every name of the application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StreamPattern {
    /// One stream.
    One(StreamName),
    /// Every stream of an application.
    App(String),
}

impl StreamPattern {
    /// Whether it names `stream`.
    pub fn matches(&self, stream: &StreamName) -> bool {
        match self {
            Self::One(name) => name == stream,
            Self::App(app) => app == stream.app(),
        }
    }

    /// The application.
    pub fn app(&self) -> &str {
        match self {
            Self::One(name) => name.app(),
            Self::App(app) => app,
        }
    }

    /// What to write for the stream's name in an example: the name, or `NAME` where any will do.
    pub fn name_or_placeholder(&self) -> &str {
        match self {
            Self::One(name) => name.name(),
            Self::App(_) => "NAME",
        }
    }
}

impl FromStr for StreamPattern {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_suffix("/*") {
            // Any name will do to have the application checked.
            Some(app) => StreamName::new(app, "any").map(|_| Self::App(app.to_owned())),
            None => text.parse().map(Self::One),
        }
    }
}

impl TryFrom<String> for StreamPattern {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<StreamPattern> for String {
    fn from(pattern: StreamPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for StreamPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => name.fmt(f),
            Self::App(app) => write!(f, "{app}/*"),
        }
    }
}

/// Whether `ip` is in one of `ranges`; where there are none, nothing is excluded.
pub(crate) fn allowed(ranges: &[IpRange], ip: IpAddr) -> bool {
    ranges.is_empty() || ranges.iter().any(|range| range.contains(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(text: &str) -> StreamName {
        text.parse().expect("a good name")
    }

    #[test]
    fn a_pattern_names_one_stream_or_an_application() {
        let one: StreamPattern = "live/me".parse().expect("a pattern");
        let all: StreamPattern = "live/*".parse().expect("a pattern");
        for (name, by_one, by_all) in
            [("live/me", true, true), ("live/you", false, true), ("other/me", false, false), ("live2/me", false, false)]
        {
            assert_eq!((one.matches(&stream(name)), all.matches(&stream(name))), (by_one, by_all), "{name}");
        }
        for bad in ["", "live", "*", "*/*", "/*", "live/**", "live/*/x", "api/*", "../*"] {
            assert!(bad.parse::<StreamPattern>().is_err(), "{bad}");
        }
        assert_eq!(all.to_string(), "live/*");
    }

    #[test]
    fn no_range_at_all_excludes_nobody() {
        let (range, inside) = ("192.0.2.0/24".parse().expect("a range"), "192.0.2.1".parse().expect("an address"));
        let outside = "192.0.3.1".parse().expect("an address");
        assert!(allowed(&[], outside) && allowed(&[range], inside) && !allowed(&[range], outside));
    }
}
