//! `[ingest]` of the configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// `[ingest]`. What each key means stands in `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// RTMP in the clear.
    pub rtmp: Rtmp,
    /// RTMP over TLS. Known, not built yet.
    pub rtmps: Rtmps,
    /// SRT over UDP. Known, not built yet.
    pub srt: Srt,
    /// Streams at a time: published, waiting for a publisher, or over and not yet in anybody's way.
    pub max_streams: u32,
    /// How long a stream waits for its publisher to come back.
    #[serde(with = "humantime_serde")]
    pub resume_window: Duration,
    /// Media kept on disk over a restart, of all streams together. Zero: every stream begins anew after a restart.
    pub resume_max_bytes: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rtmp: Rtmp::default(),
            rtmps: Rtmps::default(),
            srt: Srt::default(),
            max_streams: 10_000,
            resume_window: Duration::from_secs(30),
            resume_max_bytes: ByteSize::gib(1),
        }
    }
}

/// `[ingest.rtmp]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtmp {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Connections at a time, publishing or not.
    pub max_connections: u32,
    /// The same from one IP address (one /64 of IPv6).
    pub max_per_ip: u32,
}

impl Default for Rtmp {
    fn default() -> Self {
        Self { listen: anywhere(1935), max_connections: 1_000, max_per_ip: 64 }
    }
}

/// `[ingest.rtmps]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rtmps {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for Rtmps {
    fn default() -> Self {
        Self { listen: anywhere(1936) }
    }
}

/// `[ingest.srt]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Srt {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Default for Srt {
    fn default() -> Self {
        Self { listen: anywhere(8890) }
    }
}

fn anywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A sentence naming the key and the rule.
    pub fn validate(&self) -> Result<(), String> {
        if self.max_streams == 0 {
            return Err("ingest.max_streams must be at least 1".into());
        }
        if self.rtmp.max_connections == 0 {
            return Err("ingest.rtmp.max_connections must be at least 1".into());
        }
        if self.rtmp.max_per_ip == 0 || self.rtmp.max_per_ip > self.rtmp.max_connections {
            return Err("ingest.rtmp.max_per_ip must lie between 1 and ingest.rtmp.max_connections".into());
        }
        if self.resume_window > Duration::from_secs(600) {
            return Err("ingest.resume_window must be at most 10min".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_contract() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        let ports = [config.rtmp.listen, config.rtmps.listen, config.srt.listen].map(|listen| listen.port());
        assert_eq!((ports, config.resume_window), ([1935, 1936, 8890], Duration::from_secs(30)));
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        let none = Config { max_streams: 0, ..Config::default() };
        assert!(none.validate().is_err_and(|why| why.starts_with("ingest.max_streams")));
        let rtmp = Rtmp { max_per_ip: 2_000, ..Rtmp::default() };
        assert!(
            Config { rtmp, ..Config::default() }.validate().is_err_and(|why| why.starts_with("ingest.rtmp.max_per_ip"))
        );
    }
}
