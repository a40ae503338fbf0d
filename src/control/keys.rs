//! Stream keys: who may publish what, until a repository holds it.
//!
//! `data_dir/keys.json` holds the SHA-256 of each key, never the key. It is replaced whole by an atomic rename, under a lock file, so that the command
//! line may change it while the server runs; the server notices and reads it again. A file that cannot be understood lets nobody in and is never
//! overwritten.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::media::{StreamName, WallTime};

/// What every key begins with, so that people and scanners recognise one.
const PREFIX: &str = "rk_";
/// 256 random bits: not to be guessed.
const KEY_BYTES: usize = 32;
/// Longest key that is looked at, so that hashing costs the same for all.
const MAX_KEY_LEN: usize = 256;
/// Largest file that is read: some 100,000 keys.
const MAX_FILE_BYTES: u64 = 32 << 20;
/// Version of the file's layout.
const VERSION: u32 = 1;

/// Why the key store cannot be used. Always the operator's to repair.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses to read or write.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is not what we wrote. It is left as it is.
    #[error("{path} cannot be understood and was left as it is: {why}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where it breaks off.
        why: String,
    },
    /// The system has no randomness.
    #[error("no random bits: {0}")]
    Random(getrandom::Error),
}

/// Why a publisher is turned away; the text is shown to it.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// The stream has keys and none was given.
    #[error("{0} needs a key: use NAME?key=rk_… as the stream key")]
    KeyNeeded(StreamName),
    /// The stream has keys and another one was given.
    #[error("the key is not one of {0}")]
    WrongKey(StreamName),
    /// The stream has no key, and the peer is elsewhere.
    #[error("{0} has no key, so it can be published from this machine alone; make one with: rillcast key add {0}")]
    LoopbackOnly(StreamName),
    /// Nobody can be let in. The text is for the log; a peer is told no more than that.
    #[error("the key store cannot be read")]
    Store(#[source] Error),
}

/// One key, as the file holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What [`KeyStore::revoke`] takes.
    pub id: String,
    /// `APP/NAME`.
    pub stream: String,
    /// SHA-256 of the key, hexadecimal.
    pub sha256: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// A key that was just made. This is the only time that it can be seen.
pub struct NewKey {
    /// What [`KeyStore::revoke`] takes.
    pub id: String,
    /// What to paste into the encoder as its stream key: `NAME?key=rk_…`.
    pub paste: String,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    keys: Vec<Key>,
}

/// What tells one version of the file from another. A rename brings a new inode, so even two changes in one tick of the clock differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

/// What was read last, and of which version of the file; of none where there was no file.
type Cached = (Option<Stamp>, Arc<Vec<Key>>);

/// The key store. Cheap to ask: the file is read again only when it has changed. All methods touch the disk; none of them waits for more.
#[derive(Debug)]
pub struct KeyStore {
    path: PathBuf,
    cached: Mutex<Option<Cached>>,
}

impl KeyStore {
    /// The store in `data_dir`. Nothing is read or made yet.
    pub fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join("keys.json"), cached: Mutex::new(None) }
    }

    /// Makes a key for `stream` at `now`. Other keys of it stay valid.
    ///
    /// # Errors
    /// [`Error`]; the file is as before then.
    pub fn add(&self, stream: &StreamName, now: WallTime) -> Result<NewKey, Error> {
        let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random::<KEY_BYTES>()?));
        let id = hex(&random::<8>()?);
        let key = Key {
            id: id.clone(),
            stream: stream.to_string(),
            sha256: hex(&Sha256::digest(secret.as_bytes())),
            created: now.rfc3339(),
        };
        self.change(|keys| keys.push(key))?;
        Ok(NewKey { id, paste: format!("{}?key={secret}", stream.name()) })
    }

    /// All keys, oldest first.
    ///
    /// # Errors
    /// [`Error`].
    pub fn list(&self) -> Result<Vec<Key>, Error> {
        self.read().map(|keys| keys.to_vec())
    }

    /// Removes the key called `id`; whoever publishes with it goes on until disconnected. `None` where there is no such key.
    ///
    /// # Errors
    /// [`Error`]; the file is as before then.
    pub fn revoke(&self, id: &str) -> Result<Option<Key>, Error> {
        let mut removed = None;
        self.change(|keys| {
            if let Some(index) = keys.iter().position(|key| key.id == id) {
                removed = Some(keys.remove(index));
            }
        })?;
        Ok(removed)
    }

    /// Whether `peer` may publish `stream` with `key`. A stream that has keys needs one of them, from wherever; one that has none can be published
    /// from this machine alone.
    ///
    /// Gives the id of the key, `None` where no key is needed.
    ///
    /// # Errors
    /// [`Denied`]. How long it takes does not depend on how much of a key is right.
    pub fn authorize(&self, stream: &StreamName, key: Option<&str>, peer: IpAddr) -> Result<Option<String>, Denied> {
        let keys = self.read().map_err(Denied::Store)?;
        let wanted = stream.to_string();
        let mut of_stream = keys.iter().filter(|known| known.stream == wanted).peekable();
        if of_stream.peek().is_none() {
            let here = peer.to_canonical().is_loopback();
            return if here { Ok(None) } else { Err(Denied::LoopbackOnly(stream.clone())) };
        }
        let key = key.ok_or_else(|| Denied::KeyNeeded(stream.clone()))?;
        let given = hex(&Sha256::digest(key.as_bytes().get(..MAX_KEY_LEN).unwrap_or(key.as_bytes())));
        let mut right = None;
        for known in of_stream {
            if bool::from(known.sha256.as_bytes().ct_eq(given.as_bytes())) {
                right = Some(known.id.clone());
            }
        }
        right.map(Some).ok_or_else(|| Denied::WrongKey(stream.clone()))
    }

    /// The keys as the file holds them now. Without a file there are none.
    fn read(&self) -> Result<Arc<Vec<Key>>, Error> {
        let stamp = self.stamp()?;
        let mut cached = self.cached.lock();
        if let Some((known, keys)) = cached.as_ref()
            && *known == stamp
        {
            return Ok(Arc::clone(keys));
        }
        let keys = Arc::new(self.load()?);
        // Where the file changed between the two, the next look finds another stamp and reads again.
        *cached = Some((stamp, Arc::clone(&keys)));
        Ok(keys)
    }

    fn stamp(&self) -> Result<Option<Stamp>, Error> {
        match fs::metadata(&self.path) {
            Ok(found) => {
                Ok(Some(Stamp { inode: found.ino(), len: found.len(), modified: (found.mtime(), found.mtime_nsec()) }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(error)),
        }
    }

    fn load(&self) -> Result<Vec<Key>, Error> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.io(error)),
        };
        let mut text = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(|error| self.io(error))?;
        let corrupt = |why: String| Error::Corrupt { path: self.path.clone(), why };
        let contents: Contents = serde_json::from_slice(&text).map_err(|error| corrupt(error.to_string()))?;
        if contents.version != VERSION {
            return Err(corrupt(format!("its version is {}, this program knows {VERSION}", contents.version)));
        }
        for key in &contents.keys {
            if key.stream.parse::<StreamName>().is_err() || key.sha256.len() != 64 {
                return Err(corrupt(format!("the key {} has no valid stream or digest", key.id)));
            }
        }
        Ok(contents.keys)
    }

    /// Reads, changes and replaces the file, alone among processes.
    fn change(&self, change: impl FnOnce(&mut Vec<Key>)) -> Result<(), Error> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|error| self.io(error))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.path.with_extension("lock"))
            .map_err(|error| self.io(error))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|errno| self.io(errno.into()))?;
        let mut keys = self.load()?;
        let before = keys.clone();
        change(&mut keys);
        if keys == before {
            return Ok(());
        }
        self.replace(folder, &Contents { version: VERSION, keys }).map_err(|error| self.io(error))
    }

    fn replace(&self, folder: &Path, contents: &Contents) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        // Left by a crash; nobody else writes it, since we hold the lock.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(contents)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        // The rename itself is durable only once its folder is.
        File::open(folder)?.sync_all()
    }

    fn io(&self, error: io::Error) -> Error {
        Error::Io { path: self.path.clone(), error }
    }
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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
            assert_eq!(store.authorize(&name("live/me"), None, ip(peer)).is_ok(), open, "{peer}");
            assert_eq!(store.authorize(&name("live/me"), Some("rk_x"), ip(peer)).is_ok(), open, "{peer}");
        }
    }

    #[test]
    fn with_keys_the_streams_own_one_is_needed() {
        let (_dir, store) = store();
        let me = store.add(&name("live/me"), NOW).expect("added");
        let you = store.add(&name("live/you"), NOW).expect("added");
        assert!(me.paste.starts_with("me?key=rk_"));
        assert_eq!(secret(&me).len(), 3 + 43);
        let ask = |stream, key, peer| store.authorize(&name(stream), key, ip(peer));
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
        let new = command_line.add(&name("live/me"), NOW).expect("added");
        assert!(server.authorize(&name("live/me"), Some(secret(&new)), ip("10.0.0.1")).is_ok());
        let second = command_line.add(&name("live/me"), NOW).expect("added");
        assert!(server.authorize(&name("live/me"), Some(secret(&second)), ip("10.0.0.1")).is_ok());
        assert_eq!(command_line.revoke("none").expect("readable"), None);
        assert_eq!(command_line.revoke(&new.id).expect("revoked").map(|key| key.id), Some(new.id.clone()));
        assert!(server.authorize(&name("live/me"), Some(secret(&new)), ip("10.0.0.1")).is_err());
        assert!(server.authorize(&name("live/me"), Some(secret(&second)), ip("10.0.0.1")).is_ok());
        assert_eq!(server.list().expect("readable").len(), 1);
    }

    #[test]
    fn the_file_is_private_and_holds_no_key() {
        let (dir, store) = store();
        let new = store.add(&name("live/me"), NOW).expect("added");
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
            assert!(matches!(store.add(&name("live/me"), NOW), Err(Error::Corrupt { .. })), "{text}");
            assert!(
                matches!(store.authorize(&name("live/me"), None, ip("127.0.0.1")), Err(Denied::Store(_))),
                "{text}"
            );
            assert_eq!(fs::read_to_string(&path).expect("text"), text);
        }
    }

    #[test]
    fn what_a_crash_left_does_not_stand_in_the_way() {
        let (dir, store) = store();
        fs::write(dir.path().join("keys.tmp"), "half").expect("written");
        store.add(&name("live/me"), NOW).expect("added");
        assert_eq!(store.list().expect("readable").len(), 1);
    }
}
