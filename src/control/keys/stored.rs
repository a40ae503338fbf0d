//! What `data_dir/keys.json` holds. Its layout outlives releases.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::control::file::Contents;
use crate::control::pattern::{IpRange, StreamPattern};
use crate::media::{Limits, Takeover, WallTime};

/// Version of the file's layout. What it lacks has its default, so that files of before stay readable.
const VERSION: u32 = 1;
/// Ranges of a new key. With [`MAX_KEYS`], the file stays below what is read.
const MAX_ALLOWED: usize = 32;
/// Keys of a kind. None goes by itself, however old: a stream or an API whose last key went would be open to this machine.
pub(super) const MAX_KEYS: usize = 10_000;
/// Hexadecimal digits of a SHA-256.
const DIGEST_LEN: usize = 64;

/// Under which conditions a stream key is good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    /// When it stops being good, RFC 3339. Who publishes by then goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// What happens when it is used while it is in use.
    pub takeover: Takeover,
    /// From where it can be used; empty: from anywhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<IpRange>,
    /// Streams published with it at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_publishers: Option<u32>,
    /// What each of them may bring; where set, in place of the server's limits.
    #[serde(skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
}

impl Conditions {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks what the types cannot, of a key that is to be made.
    ///
    /// # Errors
    /// The rule that is broken, naming the field.
    pub fn validate(&self) -> Result<(), String> {
        if self.allow.len() > MAX_ALLOWED {
            return Err(format!("allow: {} addresses and ranges, the most is {MAX_ALLOWED}", self.allow.len()));
        }
        self.check()
    }

    /// Whether it is no longer good at `now`.
    pub fn is_over(&self, now: WallTime) -> bool {
        self.expires.as_ref().is_some_and(|date| is_past(date, now))
    }

    /// What [`validate`](Self::validate) checks of a key that exists: what was taken once is not refused later.
    fn check(&self) -> Result<(), String> {
        self.limits.validate().map_err(|limit| format!("{limit} must be at least 1"))?;
        if self.max_publishers == Some(0) {
            return Err("max_publishers must be at least 1".into());
        }
        match &self.expires {
            Some(date) if unix_seconds(date).is_none() => Err("expires: this is no RFC 3339 date".into()),
            _ => Ok(()),
        }
    }
}

/// One stream key, as the file holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What [`KeyStore::revoke`](super::KeyStore::revoke) takes.
    pub id: String,
    /// What can be published with it.
    pub stream: StreamPattern,
    /// SHA-256 of the key, hexadecimal.
    pub sha256: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Under which conditions.
    #[serde(default, skip_serializing_if = "Conditions::is_default")]
    pub conditions: Conditions,
}

/// One API key, as the file holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// What [`KeyStore::revoke`](super::KeyStore::revoke) takes.
    pub id: String,
    /// SHA-256 of the key, hexadecimal.
    pub sha256: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When it stops being good, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// The file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    version: u32,
    pub(super) keys: Vec<Key>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) api_keys: Vec<ApiKey>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { version: VERSION, keys: Vec::new(), api_keys: Vec::new() }
    }
}

impl Contents for Keys {
    fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("its version is {}, this program knows {VERSION}", self.version));
        }
        for key in &self.keys {
            key.conditions.check().map_err(|rule| format!("the key {}: {rule}", key.id))?;
        }
        let digests = self.keys.iter().map(|key| (&key.id, &key.sha256));
        let api = self.api_keys.iter().map(|key| (&key.id, &key.sha256));
        match digests.chain(api).find(|(_, digest)| digest.len() != DIGEST_LEN) {
            Some((id, _)) => Err(format!("the key {id} has no valid digest")),
            None => Ok(()),
        }
    }
}

/// Unix seconds of an RFC 3339 date.
fn unix_seconds(date: &str) -> Option<i64> {
    OffsetDateTime::parse(date, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

/// A date that cannot be read is past: what it was meant to end must not go on.
pub(super) fn is_past(date: &str, now: WallTime) -> bool {
    unix_seconds(date).is_none_or(|end| now.millis().div_euclid(1_000) >= end)
}
