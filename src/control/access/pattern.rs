//! What keys, tokens and configuration name: one stream or all of an application; one address or a range of them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::media::StreamName;
use crate::media::name::NameError;

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

/// IP addresses: `192.0.2.0/24`, `2001:db8::/32`, or a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IpRange(IpNet);

impl IpRange {
    /// Whether `ip` is one of them. An IPv4 address that came over an IPv6 socket is the IPv4 address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }
}

/// No address range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no IP address and no range such as 192.0.2.0/24")]
pub struct NotARange(String);

impl FromStr for IpRange {
    type Err = NotARange;
    fn from_str(text: &str) -> Result<Self, NotARange> {
        let net = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        net.map(|net| Self(net.trunc())).map_err(|_| NotARange(text.to_owned()))
    }
}

impl TryFrom<String> for IpRange {
    type Error = NotARange;
    fn try_from(text: String) -> Result<Self, NotARange> {
        text.parse()
    }
}

impl From<IpRange> for String {
    fn from(range: IpRange) -> Self {
        range.to_string()
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
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
    fn ranges_hold_addresses_however_they_are_written() {
        let range: IpRange = "192.0.2.7/24".parse().expect("a range");
        assert_eq!(range.to_string(), "192.0.2.0/24");
        for (ip, inside) in [
            ("192.0.2.255", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.3.0", false),
            ("::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(range.contains(ip.parse().expect("an address")), inside, "{ip}");
        }
        let one: IpRange = "2001:db8::1".parse().expect("an address");
        assert_eq!(one.to_string(), "2001:db8::1");
        assert!(!one.contains("2001:db8::2".parse().expect("an address")));
        assert!("192.0.2.0/33".parse::<IpRange>().is_err() && "nonsense".parse::<IpRange>().is_err());
        assert!(allowed(&[], "192.0.2.1".parse().expect("an address")));
    }
}
