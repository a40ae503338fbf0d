//! Keys: who may publish what, and who may operate the server over the API, until a repository holds it.
//!
//! `data_dir/keys.json` holds the SHA-256 of each key, never the key. A file that cannot be understood lets nobody in.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::access::pattern::{IpRange, StreamPattern, allowed};
pub use super::file::Error;
use super::file::{Contents, JsonFile, hex, random};
use crate::media::{Limits, StreamName, WallTime};
use crate::packager::live::Takeover;

/// What every stream key begins with, so that people and scanners recognise one.
const PREFIX: &str = "rk_";
/// The same of API keys: one pasted into an encoder by mistake is recognised too.
const API_PREFIX: &str = "ra_";
/// 256 random bits: not to be guessed.
const KEY_BYTES: usize = 32;
/// Longest key that is looked at, so that hashing costs the same for all.
const MAX_KEY_LEN: usize = 256;
/// Version of the file's layout. What it lacks has its default, so that files of before stay readable.
const VERSION: u32 = 1;

/// Why a publisher is turned away; the text is shown to it.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// The stream has keys and none was given.
    #[error("{0} needs a key: use NAME?key=rk_… as the stream key")]
    KeyNeeded(StreamName),
    /// The stream has keys and another one was given.
    #[error("the key is not one of {0}")]
    WrongKey(StreamName),
    /// The key is right, but old.
    #[error("the key of {0} expired at {1}")]
    Expired(StreamName, String),
    /// The key is right, but for other addresses.
    #[error("the key of {0} cannot be used from {1}")]
    NotFromHere(StreamName, IpAddr),
    /// The stream has no key, and the peer is elsewhere.
    #[error("{0} has no key, so it can be published from this machine alone; make one with: rillcast key add {0}")]
    LoopbackOnly(StreamName),
    /// Nobody can be let in. The text is for the log; a peer is told no more than that.
    #[error("the key store cannot be read")]
    Store(#[source] Error),
}

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

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The rule that is broken, naming the field.
    pub fn validate(&self) -> Result<(), String> {
        self.limits.validate().map_err(|limit| format!("{limit} must be at least 1"))?;
        if self.max_publishers == Some(0) {
            return Err("max_publishers must be at least 1".into());
        }
        match &self.expires {
            Some(date) if unix_seconds(date).is_none() => Err(format!("expires: '{date}' is no RFC 3339 date")),
            _ => Ok(()),
        }
    }
}

/// One stream key, as the file holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What [`KeyStore::revoke`] takes.
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
    /// What [`KeyStore::revoke`] takes.
    pub id: String,
    /// SHA-256 of the key, hexadecimal.
    pub sha256: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// When it stops being good, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// What was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// A stream key.
    Stream(Key),
    /// An API key.
    Api(ApiKey),
}

/// A key that was just made. This is the only time that it can be seen.
pub struct NewKey {
    /// What [`KeyStore::revoke`] takes.
    pub id: String,
    /// Of a stream key, what to paste into the encoder as its stream key: `NAME?key=rk_…`. Of an API key, the key.
    pub paste: String,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    version: u32,
    keys: Vec<Key>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    api_keys: Vec<ApiKey>,
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
            key.conditions.validate().map_err(|rule| format!("the key {}: {rule}", key.id))?;
        }
        let digests = self.keys.iter().map(|key| (&key.id, &key.sha256));
        let api = self.api_keys.iter().map(|key| (&key.id, &key.sha256));
        match digests.chain(api).find(|(_, digest)| digest.len() != 64) {
            Some((id, _)) => Err(format!("the key {id} has no valid digest")),
            None => Ok(()),
        }
    }
}

/// The key store. Cheap to ask: the file is read again only when it has changed. All methods touch the disk; none of them waits for more.
#[derive(Debug)]
pub struct KeyStore {
    file: JsonFile<Keys>,
}

impl KeyStore {
    /// The store in `data_dir`. Nothing is read or made yet.
    pub fn new(data_dir: &Path) -> Self {
        Self { file: JsonFile::new(data_dir.join("keys.json")) }
    }

    /// Makes a key for `stream` at `now`. Other keys of it stay valid.
    ///
    /// # Errors
    /// [`Error`]; the file is as before then.
    pub fn add(&self, stream: &StreamPattern, conditions: Conditions, now: WallTime) -> Result<NewKey, Error> {
        let (secret, id, sha256) = make(PREFIX)?;
        let key = Key { id: id.clone(), stream: stream.clone(), sha256, created: now.rfc3339(), conditions };
        self.file.change(|keys| keys.keys.push(key))?;
        Ok(NewKey { id, paste: format!("{}?key={secret}", stream.name_or_placeholder()) })
    }

    /// Makes an API key at `now`. From then on, the API wants one for everything that changes something.
    ///
    /// # Errors
    /// [`Error`]; the file is as before then.
    pub fn add_api(&self, expires: Option<String>, now: WallTime) -> Result<NewKey, Error> {
        let (secret, id, sha256) = make(API_PREFIX)?;
        let key = ApiKey { id: id.clone(), sha256, created: now.rfc3339(), expires };
        self.file.change(|keys| keys.api_keys.push(key))?;
        Ok(NewKey { id, paste: secret })
    }

    /// All stream keys, oldest first.
    ///
    /// # Errors
    /// [`Error`].
    pub fn list(&self) -> Result<Vec<Key>, Error> {
        self.file.read().map(|keys| keys.keys.clone())
    }

    /// All API keys, oldest first.
    ///
    /// # Errors
    /// [`Error`].
    pub fn list_api(&self) -> Result<Vec<ApiKey>, Error> {
        self.file.read().map(|keys| keys.api_keys.clone())
    }

    /// Removes the key called `id`; whoever publishes with it goes on until disconnected. `None` where there is no such key.
    ///
    /// # Errors
    /// [`Error`]; the file is as before then.
    pub fn revoke(&self, id: &str) -> Result<Option<Revoked>, Error> {
        self.file.change(|keys| {
            if let Some(index) = keys.keys.iter().position(|key| key.id == id) {
                return Some(Revoked::Stream(keys.keys.remove(index)));
            }
            let index = keys.api_keys.iter().position(|key| key.id == id)?;
            Some(Revoked::Api(keys.api_keys.remove(index)))
        })
    }

    /// Whether `peer` may publish `stream` with `key`. A stream that has keys needs one of them, from wherever; one that has none can be published
    /// from this machine alone. Keys of its application count as its own.
    ///
    /// Gives the key, `None` where none is needed.
    ///
    /// # Errors
    /// [`Denied`]. How long it takes does not depend on how much of a key is right.
    pub fn authorize(
        &self,
        stream: &StreamName,
        key: Option<&str>,
        peer: IpAddr,
        now: WallTime,
    ) -> Result<Option<Key>, Denied> {
        let keys = self.file.read().map_err(Denied::Store)?;
        let mut of_stream = keys.keys.iter().filter(|known| known.stream.matches(stream)).peekable();
        if of_stream.peek().is_none() {
            let here = peer.to_canonical().is_loopback();
            return if here { Ok(None) } else { Err(Denied::LoopbackOnly(stream.clone())) };
        }
        let key = key.ok_or_else(|| Denied::KeyNeeded(stream.clone()))?;
        let given = digest(key);
        let mut right = None;
        for known in of_stream {
            if bool::from(known.sha256.as_bytes().ct_eq(given.as_bytes())) {
                right = Some(known);
            }
        }
        let key = right.ok_or_else(|| Denied::WrongKey(stream.clone()))?;
        if let Some(date) = key.conditions.expires.as_ref().filter(|date| is_past(date, now)) {
            return Err(Denied::Expired(stream.clone(), date.clone()));
        }
        if !allowed(&key.conditions.allow, peer) {
            return Err(Denied::NotFromHere(stream.clone(), peer.to_canonical()));
        }
        Ok(Some(key.clone()))
    }

    /// Whether `key` is an API key that is good at `now`. `None` where there is no API key at all, not even an old one.
    ///
    /// # Errors
    /// [`Error`]: nobody may operate the server then. How long it takes does not depend on how much of a key is right.
    pub fn authorize_api(&self, key: Option<&str>, now: WallTime) -> Result<Option<bool>, Error> {
        let keys = self.file.read()?;
        if keys.api_keys.is_empty() {
            return Ok(None);
        }
        let given = digest(key.unwrap_or(""));
        let mut right = false;
        for known in &keys.api_keys {
            let good = !known.expires.as_ref().is_some_and(|date| is_past(date, now));
            right |= bool::from(known.sha256.as_bytes().ct_eq(given.as_bytes())) && good;
        }
        Ok(Some(right))
    }
}

/// A secret, its id and its digest.
fn make(prefix: &str) -> Result<(String, String, String), Error> {
    let secret = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random::<KEY_BYTES>()?));
    let sha256 = digest(&secret);
    Ok((secret, hex(&random::<8>()?), sha256))
}

fn digest(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes().get(..MAX_KEY_LEN).unwrap_or(key.as_bytes())))
}

/// Unix seconds of an RFC 3339 date.
fn unix_seconds(date: &str) -> Option<i64> {
    OffsetDateTime::parse(date, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

/// A date that cannot be read is past: what it was meant to end must not go on.
fn is_past(date: &str, now: WallTime) -> bool {
    unix_seconds(date).is_none_or(|end| now.millis().div_euclid(1_000) >= end)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    const NOW: WallTime = WallTime::from_micros(0);

    fn store() -> (tempfile::TempDir, KeyStore) {
        let dir = tempfile::tempdir().expect("a folder");
        let store = KeyStore::new(dir.path());
        (dir, store)
    }

    fn name(text: &str) -> StreamName {
        text.parse().expect("a good name")
    }

    fn add(store: &KeyStore, stream: &str) -> Result<NewKey, Error> {
        store.add(&stream.parse().expect("a pattern"), Conditions::default(), NOW)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn secret(new: &NewKey) -> &str {
        new.paste.split_once("?key=").expect("a key").1
    }

    #[test]
    fn without_keys_publishing_is_open_to_this_machine_alone() {
        let (_dir, store) = store();
        for (peer, open) in
            [("127.0.0.1", true), ("127.8.8.8", true), ("::1", true), ("::ffff:127.0.0.1", true), ("10.0.0.1", false)]
        {
            assert_eq!(store.authorize(&name("live/me"), None, ip(peer), NOW).is_ok(), open, "{peer}");
            assert_eq!(store.authorize(&name("live/me"), Some("rk_x"), ip(peer), NOW).is_ok(), open, "{peer}");
        }
    }

    #[test]
    fn with_keys_the_streams_own_one_is_needed() {
        let (_dir, store) = store();
        let me = add(&store, "live/me").expect("added");
        let you = add(&store, "live/you").expect("added");
        assert!(me.paste.starts_with("me?key=rk_"));
        assert_eq!(secret(&me).len(), 3 + 43);
        let ask = |stream, key, peer| store.authorize(&name(stream), key, ip(peer), NOW);
        assert!(ask("live/me", Some(secret(&me)), "10.0.0.1").is_ok());
        assert!(matches!(ask("live/me", Some(secret(&you)), "10.0.0.1"), Err(Denied::WrongKey(_))));
        assert!(matches!(ask("live/me", None, "127.0.0.1"), Err(Denied::KeyNeeded(_))));
        assert!(matches!(ask("live/me", Some(""), "127.0.0.1"), Err(Denied::WrongKey(_))));
        assert!(matches!(ask("live/other", Some(secret(&me)), "10.0.0.1"), Err(Denied::LoopbackOnly(_))));
        assert!(ask("live/other", None, "127.0.0.1").is_ok());
        assert!(!format!("{me:?}").contains("rk_"), "secrets stay out of logs");
    }

    #[test]
    fn a_change_by_another_process_is_noticed() {
        let (dir, server) = store();
        let command_line = KeyStore::new(dir.path());
        let new = add(&command_line, "live/me").expect("added");
        assert!(server.authorize(&name("live/me"), Some(secret(&new)), ip("10.0.0.1"), NOW).is_ok());
        let second = add(&command_line, "live/me").expect("added");
        assert!(server.authorize(&name("live/me"), Some(secret(&second)), ip("10.0.0.1"), NOW).is_ok());
        assert_eq!(command_line.revoke("none").expect("readable"), None);
        assert_eq!(
            command_line
                .revoke(&new.id)
                .expect("revoked")
                .map(|revoked| matches!(revoked, Revoked::Stream(key) if key.id == new.id)),
            Some(true)
        );
        assert!(server.authorize(&name("live/me"), Some(secret(&new)), ip("10.0.0.1"), NOW).is_err());
        assert!(server.authorize(&name("live/me"), Some(secret(&second)), ip("10.0.0.1"), NOW).is_ok());
        assert_eq!(server.list().expect("readable").len(), 1);
    }

    #[test]
    fn the_file_is_private_and_holds_no_key() {
        let (dir, store) = store();
        let new = add(&store, "live/me").expect("added");
        let path = dir.path().join("keys.json");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(!fs::read_to_string(&path).expect("text").contains(secret(&new)));
    }

    #[test]
    fn a_corrupt_file_lets_nobody_in_and_is_kept() {
        let (dir, store) = store();
        let path = dir.path().join("keys.json");
        for text in ["", "{", "[]", r#"{"version": 2, "keys": []}"#, r#"{"version": 1, "keys": [], "x": 1}"#] {
            fs::write(&path, text).expect("written");
            assert!(matches!(add(&store, "live/me"), Err(Error::Corrupt { .. })), "{text}");
            assert!(
                matches!(store.authorize(&name("live/me"), None, ip("127.0.0.1"), NOW), Err(Denied::Store(_))),
                "{text}"
            );
            assert_eq!(fs::read_to_string(&path).expect("text"), text);
        }
    }

    #[test]
    fn what_a_crash_left_does_not_stand_in_the_way() {
        let (dir, store) = store();
        fs::write(dir.path().join("keys.tmp"), "half").expect("written");
        add(&store, "live/me").expect("added");
        assert_eq!(store.list().expect("readable").len(), 1);
    }

    #[test]
    fn a_file_of_an_older_version_is_read_and_a_newer_one_is_not_misread() {
        let (dir, store) = store();
        let path = dir.path().join("keys.json");
        let digest = "0".repeat(64);
        let old =
            format!(r#""id": "a", "stream": "live/me", "sha256": "{digest}", "created": "2026-01-01T00:00:00.000Z""#);
        fs::write(&path, format!(r#"{{"version": 1, "keys": [{{{old}}}]}}"#)).expect("written");
        assert_eq!(
            store.list().expect("readable").first().map(|key| key.conditions.clone()),
            Some(Conditions::default())
        );
        for unknown in [r#", "conditions": {"max_viewers": 3}"#, r#", "limit": 1"#] {
            fs::write(&path, format!(r#"{{"version": 1, "keys": [{{{old}{unknown}}}]}}"#)).expect("written");
            assert!(matches!(store.list(), Err(Error::Corrupt { .. })), "a condition that is not known is not ignored");
        }
    }

    #[test]
    fn a_key_of_an_application_is_good_for_each_of_its_streams() {
        let (_dir, store) = store();
        let all = add(&store, "live/*").expect("added");
        assert!(all.paste.starts_with("NAME?key=rk_"));
        let ask = |stream, key| store.authorize(&name(stream), key, ip("127.0.0.1"), NOW);
        assert!(ask("live/me", Some(secret(&all))).is_ok() && ask("live/you", Some(secret(&all))).is_ok());
        assert!(matches!(ask("live/me", None), Err(Denied::KeyNeeded(_))));
        assert!(matches!(ask("other/me", None), Ok(None)));
    }

    #[test]
    fn conditions_are_kept_and_held() {
        let (_dir, store) = store();
        let limits = Limits {
            max_bitrate: Some(8_000_000),
            max_duration: Some(Duration::from_secs(7_200)),
            ..Limits::default()
        };
        let conditions = Conditions {
            expires: Some("1970-01-01T00:01:00Z".into()),
            takeover: Takeover::Always,
            allow: vec!["192.0.2.0/24".parse().expect("a range")],
            max_publishers: Some(2),
            limits,
        };
        let pattern = "live/me".parse().expect("a pattern");
        let new = store.add(&pattern, conditions.clone(), NOW).expect("added");
        let ask = |peer, at| store.authorize(&name("live/me"), Some(secret(&new)), ip(peer), WallTime::from_micros(at));
        let key = ask("192.0.2.9", 59_000_000).expect("good").expect("a key");
        assert_eq!(key.conditions, conditions);
        assert!(matches!(ask("192.0.3.9", 59_000_000), Err(Denied::NotFromHere(..))));
        assert!(matches!(ask("192.0.2.9", 60_000_000), Err(Denied::Expired(..))));
    }

    #[test]
    fn an_api_key_is_no_stream_key_and_the_other_way_round() {
        let (_dir, store) = store();
        assert_eq!(store.authorize_api(Some("ra_x"), NOW).expect("readable"), None, "there is none yet");
        let stream = add(&store, "live/me").expect("added");
        let api = store.add_api(Some("1970-01-01T00:01:00Z".into()), NOW).expect("added");
        let ask = |key| store.authorize_api(key, NOW).expect("readable");
        assert_eq!(ask(Some(&api.paste)), Some(true));
        assert_eq!(ask(Some(secret(&stream))), Some(false));
        assert_eq!(ask(None), Some(false));
        assert_eq!(
            store.authorize_api(Some(&api.paste), WallTime::from_micros(60_000_000)).expect("readable"),
            Some(false)
        );
        assert!(store.authorize(&name("live/me"), Some(&api.paste), ip("127.0.0.1"), NOW).is_err());
        assert!(matches!(store.revoke(&api.id), Ok(Some(Revoked::Api(_)))));
        assert_eq!(ask(Some(&api.paste)), None);
    }
}
