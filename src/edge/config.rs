//! `[edge]` of the configuration.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::media::peer::IpRange;

/// `[edge]`. What each key means stands in `config.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where HTTP/1.1 and HTTP/2 with prior knowledge are served in the clear. Port 0 means an ephemeral one.
    pub http: SocketAddr,
    /// Where HTTP/1.1 and HTTP/2 are served over TLS.
    pub https: SocketAddr,
    /// Origins to fetch from, as URLs; empty where this node is its own origin.
    pub origins: Vec<String>,
    /// Certificate chain, PEM. Together with `private_key`, or neither: then a self-signed one is made once and kept in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PathBuf>,
    /// Connections at a time on both listeners together; one more is answered 503 (in the clear) or closed (TLS).
    pub max_connections: usize,
    /// The same for one IPv4 address or IPv6 /64; one more is answered 429 (in the clear) or closed (TLS).
    pub max_connections_per_ip: usize,
    /// Addresses that many viewers share: the limits per address do not hold for them.
    pub proxies: Vec<IpRange>,
    /// Requests at a time on one HTTP/2 connection.
    pub max_streams_per_connection: u32,
    /// Requests that may wait for media at a time, in total; one more is answered 503.
    pub max_waiting: usize,
    /// The same for one IPv4 address or IPv6 /64; one more is answered 429.
    pub max_waiting_per_ip: usize,
    /// A request's head must have arrived this long after its first byte, and the first request this long after the connection.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// A TLS handshake must be done in this time.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// A viewer that has been sent something must take at least 1 KiB/s of it, looked at over this time.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// A connection without requests is closed after this time.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// What is being sent when the server stops may take this long to finish.
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            http: SocketAddr::from(([0, 0, 0, 0], 8080)),
            https: SocketAddr::from(([0, 0, 0, 0], 8443)),
            origins: Vec::new(),
            certificate: None,
            private_key: None,
            max_connections: 10_000,
            max_connections_per_ip: 1_000,
            proxies: IpRange::LOOPBACK.to_vec(),
            max_streams_per_connection: 256,
            max_waiting: 20_000,
            max_waiting_per_ip: 512,
            header_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Whether many viewers may share `ip`.
    pub fn is_shared(&self, ip: IpAddr) -> bool {
        self.proxies.iter().any(|range| range.contains(ip))
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A sentence naming the key and the rule.
    pub fn validate(&self) -> Result<(), String> {
        if self.certificate.is_some() != self.private_key.is_some() {
            return Err("edge.certificate and edge.private_key belong together: set both or none".into());
        }
        if let Some(bad) = self.origins.iter().find(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
            return Err(format!("edge.origins must hold http:// or https:// URLs, not '{bad}'"));
        }
        let counts = [
            ("max_connections", self.max_connections),
            ("max_connections_per_ip", self.max_connections_per_ip),
            ("max_streams_per_connection", self.max_streams_per_connection as usize),
            ("max_waiting", self.max_waiting),
            ("max_waiting_per_ip", self.max_waiting_per_ip),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(format!("edge.{key} must be at least 1"));
        }
        let times = [
            ("header_timeout", self.header_timeout),
            ("handshake_timeout", self.handshake_timeout),
            ("write_timeout", self.write_timeout),
            ("idle_timeout", self.idle_timeout),
        ];
        let allowed = Duration::from_millis(100)..=Duration::from_secs(3600);
        if let Some((key, _)) = times.iter().find(|(_, time)| !allowed.contains(time)) {
            return Err(format!("edge.{key} must lie between 100ms and 1h"));
        }
        if self.shutdown_grace > Duration::from_secs(600) {
            return Err("edge.shutdown_grace must be at most 10min".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        for (change, key) in [
            (Config { certificate: Some("a.pem".into()), ..Config::default() }, "edge.certificate"),
            (Config { origins: vec!["ftp://a".into()], ..Config::default() }, "edge.origins"),
            (Config { max_waiting: 0, ..Config::default() }, "edge.max_waiting "),
            (Config { max_connections_per_ip: 0, ..Config::default() }, "edge.max_connections_per_ip "),
            (Config { write_timeout: Duration::ZERO, ..Config::default() }, "edge.write_timeout"),
            (Config { shutdown_grace: Duration::from_secs(3600), ..Config::default() }, "edge.shutdown_grace"),
        ] {
            assert!(change.validate().is_err_and(|why| why.starts_with(key)), "{key}");
        }
    }
}
