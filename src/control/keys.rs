//! Keys: who may publish what, and who may operate the server over the API, until a repository holds it.
//!
//! `data_dir/keys.json` holds the SHA-256 of each key, never the key. A file that cannot be understood lets nobody in.

mod stored;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use self::stored::Keys;
pub use self::stored::{ApiKey, Conditions, Key};
pub use super::file::Error;
use super::file::{JsonFile, hex, random};
use super::pattern::{StreamPattern, allowed};
use crate::media::{StreamName, WallTime};

/// What every stream key begins with, so that people and scanners recognise one.
const PREFIX: &str = "rk_";
/// The same of API keys: one pasted into an encoder by mistake is recognised too.
const API_PREFIX: &str = "ra_";
/// 256 random bits: not to be guessed.
const KEY_BYTES: usize = 32;
/// An id names a key and opens nothing; it only must not come twice.
const ID_BYTES: usize = 8;
/// Longest key that is looked at, so that hashing costs the same for all.
const MAX_KEY_LEN: usize = 256;

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

/// The verdict on what was shown as an API key, be it nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// It is one.
    Good,
    /// It is none, or an old one.
    Wrong,
    /// There is no API key at all, not even an old one.
    NoKeys,
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
        self.file.change(|keys| push(&mut keys.keys, key))??;
        Ok(NewKey { id, paste: format!("{}?key={secret}", stream.name_or_placeholder()) })
    }

    /// Makes an API key at `now`. From then on, the API wants one for everything that changes something.
    ///
    /// # Errors
    /// [`Error`]; the file is as before then.
    pub fn add_api(&self, expires: Option<String>, now: WallTime) -> Result<NewKey, Error> {
        let (secret, id, sha256) = make(API_PREFIX)?;
        let key = ApiKey { id: id.clone(), sha256, created: now.rfc3339(), expires };
        self.file.change(|keys| push(&mut keys.api_keys, key))??;
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
    pub fn authorise(
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
            if is_same(&known.sha256, &given) {
                right = Some(known);
            }
        }
        let key = right.ok_or_else(|| Denied::WrongKey(stream.clone()))?;
        if let Some(date) = key.conditions.expires.as_ref().filter(|_| key.conditions.is_over(now)) {
            return Err(Denied::Expired(stream.clone(), date.clone()));
        }
        if !allowed(&key.conditions.allow, peer) {
            return Err(Denied::NotFromHere(stream.clone(), peer.to_canonical()));
        }
        Ok(Some(key.clone()))
    }

    /// Whether `key` is an API key that is good at `now`.
    ///
    /// # Errors
    /// [`Error`]: nobody may operate the server then. How long it takes does not depend on how much of a key is right.
    pub fn authorise_api(&self, key: Option<&str>, now: WallTime) -> Result<Shown, Error> {
        let keys = self.file.read()?;
        if keys.api_keys.is_empty() {
            return Ok(Shown::NoKeys);
        }
        let given = digest(key.unwrap_or(""));
        let mut right = false;
        for known in &keys.api_keys {
            let good = !known.expires.as_ref().is_some_and(|date| stored::is_past(date, now));
            right |= is_same(&known.sha256, &given) && good;
        }
        Ok(if right { Shown::Good } else { Shown::Wrong })
    }
}

/// Adds a key, where there is room.
fn push<T>(keys: &mut Vec<T>, key: T) -> Result<(), Error> {
    if keys.len() >= stored::MAX_KEYS {
        let most = stored::MAX_KEYS;
        return Err(Error::Full(format!(
            "there are {most} keys, the most that are kept: revoke some that are no longer used"
        )));
    }
    keys.push(key);
    Ok(())
}

/// Compares digests in a time that does not depend on where they differ.
fn is_same(known: &str, given: &str) -> bool {
    known.as_bytes().ct_eq(given.as_bytes()).into()
}

/// A secret, its id and its digest.
fn make(prefix: &str) -> Result<(String, String, String), Error> {
    let secret = format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random::<KEY_BYTES>()?));
    let sha256 = digest(&secret);
    Ok((secret, hex(&random::<ID_BYTES>()?), sha256))
}

fn digest(key: &str) -> String {
    hex(&Sha256::digest(key.as_bytes().get(..MAX_KEY_LEN).unwrap_or(key.as_bytes())))
}

#[cfg(test)]
mod tests;
