//! What tokens are signed with: `data_dir/token-secrets.json`, or what the configuration names in its place.
//!
//! The first secret signs, all of them verify, so that a new one can be put in front before the old one is taken away. A secret is used as the
//! bytes of its text, as JWT libraries do: whoever signs tokens elsewhere pastes the same text there.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::hmac;
use serde::{Deserialize, Deserializer, Serialize};

use crate::control::file::{Contents, Error, JsonFile, random};

/// HMAC-SHA256 gains nothing from more than its block, and is weaker with less than its output (RFC 7518 §3.2).
const SECRET_BYTES: usize = 32;
/// Fewest bytes of a secret that an operator chooses.
const MIN_SECRET_BYTES: usize = 32;
/// Every secret costs each wrong token one HMAC.
const MAX_SECRETS: usize = 8;
/// Kept in the file when another is added; the oldest goes.
const KEPT_SECRETS: usize = 4;
/// How old the view of the file may be: a secret that was taken away is good for no longer.
const RECHECK: Duration = Duration::from_secs(1);
const VERSION: u32 = 1;

/// A secret as text. `Debug` hides it, so that it reaches no log.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl<'de> Deserialize<'de> for Secret {
    /// What is no text is not repeated: it may be the secret all the same.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self).map_err(|_| serde::de::Error::custom("a secret is a text"))
    }
}

impl Secret {
    /// The key that signs and verifies with it.
    pub fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Checks secrets from the configuration.
///
/// # Errors
/// The rule that is broken.
pub(super) fn validate(secrets: &[Secret]) -> Result<(), String> {
    if secrets.len() > MAX_SECRETS {
        return Err(format!("access.token_secrets: at most {MAX_SECRETS}"));
    }
    if secrets.iter().any(|secret| secret.0.len() < MIN_SECRET_BYTES) {
        return Err(format!("access.token_secrets: each must have at least {MIN_SECRET_BYTES} characters"));
    }
    Ok(())
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// Newest first.
    secrets: Vec<Secret>,
}

impl Default for Stored {
    fn default() -> Self {
        Self { version: VERSION, secrets: Vec::new() }
    }
}

impl Contents for Stored {
    fn check(&self) -> Result<(), String> {
        if self.version != VERSION {
            return Err(format!("its version is {}, this program knows {VERSION}", self.version));
        }
        validate(&self.secrets)
    }
}

type Keys = Arc<[hmac::Key]>;

/// The secrets of this node.
#[derive(Debug)]
pub struct Secrets {
    file: JsonFile<Stored>,
    /// Those of the configuration, where there are any.
    configured: Mutex<Option<Keys>>,
    /// What was found at the last look, or why nothing was.
    looked: Mutex<Option<(Instant, Result<Keys, Error>)>>,
}

impl Secrets {
    /// Those in `data_dir`, unless others are [configured](Self::configure). Nothing is read or made yet.
    pub fn new(data_dir: &Path) -> Self {
        let file = JsonFile::new(data_dir.join("token-secrets.json"));
        Self { file, configured: Mutex::new(None), looked: Mutex::new(None) }
    }

    /// Takes `secrets` in place of the file's from now on; where there are none, the file's.
    pub fn configure(&self, secrets: &[Secret]) {
        *self.configured.lock() = (!secrets.is_empty()).then(|| keys(secrets));
    }

    /// The key that signs. Makes a secret where there is none. What it signs is good at once: [`verifying`](Self::verifying) looks again.
    ///
    /// # Errors
    /// [`Error`].
    pub fn signing(&self) -> Result<hmac::Key, Error> {
        if let Some(first) = self.configured.lock().as_ref().and_then(|keys| keys.first()) {
            return Ok(first.clone());
        }
        let known = self.file.read()?.secrets.first().map(Secret::key);
        let signing = match known {
            Some(key) => key,
            None => {
                let fresh = fresh()?;
                self.file.change(|stored| {
                    // Another process may have been quicker.
                    if stored.secrets.is_empty() {
                        stored.secrets.push(fresh.clone());
                    }
                    stored.secrets.first().unwrap_or(&fresh).key()
                })?
            }
        };
        *self.looked.lock() = None;
        Ok(signing)
    }

    /// Puts a new secret in front; tokens of the last few before it stay good.
    ///
    /// # Errors
    /// [`Error`]; the secrets are as before then.
    pub fn rotate(&self) -> Result<(), Error> {
        let fresh = fresh()?;
        self.file.change(|stored| {
            stored.secrets.insert(0, fresh);
            stored.secrets.truncate(KEPT_SECRETS);
        })
    }

    /// The keys that verify. Looks at the file at most once a second, also where it cannot be read.
    ///
    /// # Errors
    /// [`Error`]: no token is good then.
    pub fn verifying(&self, now: Instant) -> Result<Keys, Error> {
        if let Some(keys) = self.configured.lock().as_ref() {
            return Ok(Arc::clone(keys));
        }
        let mut looked = self.looked.lock();
        if let Some((at, found)) = looked.as_ref()
            && now.saturating_duration_since(*at) < RECHECK
        {
            return found.clone();
        }
        let found = self.file.read().map(|stored| keys(&stored.secrets));
        *looked = Some((now, found.clone()));
        found
    }
}

fn keys(secrets: &[Secret]) -> Keys {
    secrets.iter().map(Secret::key).collect()
}

fn fresh() -> Result<Secret, Error> {
    Ok(Secret(URL_SAFE_NO_PAD.encode(random::<SECRET_BYTES>()?)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn signs(key: &hmac::Key, keys: &[hmac::Key]) -> bool {
        let tag = hmac::sign(key, b"x");
        keys.iter().any(|key| hmac::verify(key, b"x", tag.as_ref()).is_ok())
    }

    #[test]
    fn a_secret_is_made_once_and_private() {
        let dir = tempfile::tempdir().expect("a folder");
        let now = Instant::now();
        let (server, command_line) = (Secrets::new(dir.path()), Secrets::new(dir.path()));
        assert!(server.verifying(now).expect("readable").is_empty());
        let key = command_line.signing().expect("made");
        assert!(server.verifying(now).expect("readable").is_empty(), "not looked at again within a second");
        assert!(signs(&key, &server.verifying(now + RECHECK).expect("readable")));
        command_line.rotate().expect("made");
        let signing = server.signing().expect("there");
        assert!(signs(&signing, &command_line.verifying(now).expect("readable")));
        assert!(signs(&signing, &server.verifying(now + RECHECK).expect("readable")), "what it signs is good at once");
        let mode = std::fs::metadata(dir.path().join("token-secrets.json")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_new_secret_leaves_the_last_few_good() {
        let dir = tempfile::tempdir().expect("a folder");
        let secrets = Secrets::new(dir.path());
        let mut now = Instant::now();
        let first = secrets.signing().expect("made");
        for rotation in 1..=KEPT_SECRETS {
            secrets.rotate().expect("made");
            now += RECHECK;
            let keys = secrets.verifying(now).expect("readable");
            assert_eq!(signs(&first, &keys), rotation < KEPT_SECRETS, "after {rotation}");
            assert!(signs(&secrets.signing().expect("there"), &keys));
        }
    }

    #[test]
    fn a_broken_file_is_looked_at_once_a_second_and_told_without_its_content() {
        let dir = tempfile::tempdir().expect("a folder");
        let (secrets, now) = (Secrets::new(dir.path()), Instant::now());
        let path = dir.path().join("token-secrets.json");
        std::fs::write(&path, r#"{"version": 1, "secrets": [4711, "hidden"]}"#).expect("written");
        let error = secrets.verifying(now).expect_err("broken").to_string();
        assert!(
            error.contains("token-secrets.json") && !error.contains("4711") && !error.contains("hidden"),
            "{error}"
        );
        std::fs::remove_file(&path).expect("removed");
        assert!(secrets.verifying(now).is_err(), "not looked at again within a second");
        assert!(secrets.verifying(now + RECHECK).is_ok());
    }

    #[test]
    fn configured_secrets_take_the_place_of_the_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let secrets = Secrets::new(dir.path());
        let of_file = secrets.signing().expect("made");
        let configured = [Secret::from("0123456789abcdef0123456789abcdef")];
        assert!(validate(&configured).is_ok() && validate(&[Secret::from("short")]).is_err());
        secrets.configure(&configured);
        let keys = secrets.verifying(Instant::now()).expect("there");
        assert!(!signs(&of_file, &keys) && signs(&configured[0].key(), &keys));
        secrets.configure(&[]);
        assert!(signs(&of_file, &secrets.verifying(Instant::now()).expect("readable")));
        assert!(!format!("{configured:?}").contains("0123"));
    }
}
