//! Who may publish, who may watch.
//!
//! ```text
//!   publish:  back-off ─► address ranges ─► key (keys.json) or token ─ neither? ─► callback, where there is one
//!                                               └─────────── yes, with limits, and a place among the key's publishers
//!   watch:    the application's rule ─ token? ─► signature, time, stream, address
//! ```
//!
//! Asked by the protocols through what `app` wires; knows none of them. Rules come from the configuration and are swapped whole on a reload.

pub(crate) mod backoff;
pub mod callback;
pub mod config;
pub mod pattern;
mod quota;
pub mod secrets;
pub mod token;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;
use ring::hmac;
use tracing::{error, warn};

use self::backoff::Backoff;
use self::callback::{Answer, Callback, OnFailure};
pub use self::config::Config;
use self::config::Watch;
use self::pattern::allowed;
pub use self::quota::Lease;
use self::quota::Quota;
use self::secrets::Secrets;
use self::token::{Action, Claims, TokenError};
use super::file::hex;
use super::keys::{self, KeyStore};
use crate::media::{Limits, StreamName, WallTime};
use crate::packager::live::Takeover;

/// The holder of streams that need no credential, since they come from this machine.
const THIS_MACHINE: &str = "this machine";

/// A peer wants to publish.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// What.
    pub stream: &'a StreamName,
    /// What it shows.
    pub shown: Shown<'a>,
    /// All that it wrote behind the question mark, for the callback.
    pub query: &'a str,
    /// From where.
    pub peer: SocketAddr,
    /// `rtmp`, `srt`, …
    pub protocol: &'a str,
}

/// What a publisher shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shown<'a> {
    /// Nothing.
    Nothing,
    /// A stream key.
    Key(&'a str),
    /// A signed token.
    Token(&'a str),
}

/// A yes.
#[derive(Debug)]
pub struct Permit {
    /// By what the publisher is known again; no secret.
    pub holder: String,
    /// What happens when it is there already.
    pub takeover: Takeover,
    /// What it may bring.
    pub limits: Limits,
    /// Its place among the key's publishers, to be kept as long as it publishes.
    pub lease: Option<Lease>,
}

/// What kind of no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No credential, or a wrong one.
    Unauthorized,
    /// The credential is good, but not for this.
    Denied,
    /// Nobody can decide now.
    Unavailable,
}

/// A no, with words for the person at the encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct No {
    /// What kind.
    pub why: Why,
    /// One sentence, without secrets.
    pub words: String,
    /// What was shown is not ours, so that the callback may know better; and if it does not, somebody may be guessing.
    foreign: bool,
}

impl No {
    fn new(why: Why, words: impl Into<String>) -> Self {
        Self { why, words: words.into(), foreign: false }
    }

    fn foreign(why: Why, words: impl Into<String>) -> Self {
        Self { foreign: true, ..Self::new(why, words) }
    }
}

/// Why a viewer is turned away; the text is shown to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotForYou {
    /// The application is watched by signed URLs alone.
    #[error("this stream is watched with a signed URL, /t/TOKEN/APP/NAME")]
    TokenNeeded,
    /// The token is not good for this.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The secrets cannot be read; the log says why.
    #[error("tokens cannot be verified now")]
    Unavailable,
}

/// What a reload swaps.
#[derive(Debug)]
struct Rules {
    config: Config,
    callback: Option<Callback>,
}

/// Decides about publishers and viewers. One per process.
#[derive(Debug)]
pub struct Access {
    keys: Arc<KeyStore>,
    secrets: Secrets,
    rules: RwLock<Arc<Rules>>,
    quota: Arc<Quota>,
    backoff: Backoff,
    metrics: callback::Metrics,
}

impl Access {
    /// Access by `config`, with the keys of `keys` and the secrets in `data_dir`.
    ///
    /// # Errors
    /// What of `config` cannot be done.
    pub fn new(
        config: &Config,
        keys: Arc<KeyStore>,
        data_dir: &Path,
        metrics: callback::Metrics,
    ) -> Result<Arc<Self>, String> {
        let rules = Rules { callback: Callback::new(&config.callback, metrics.clone())?, config: config.clone() };
        let secrets = Secrets::new(data_dir);
        secrets.configure(&config.token_secrets);
        let rules = RwLock::new(Arc::new(rules));
        Ok(Arc::new(Self { keys, secrets, rules, quota: Arc::default(), backoff: Backoff::default(), metrics }))
    }

    /// Goes by `config` from the next question on. Who publishes or waits now is not asked again.
    ///
    /// # Errors
    /// What of it cannot be done; all is as before then.
    pub fn configure(&self, config: &Config) -> Result<(), String> {
        let before = self.rules();
        if before.config == *config {
            return Ok(());
        }
        let callback = Callback::new(&config.callback, self.metrics.clone())?;
        self.secrets.configure(&config.token_secrets);
        *self.rules.write() = Arc::new(Rules { callback, config: config.clone() });
        Ok(())
    }

    /// What tokens are signed with.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The keys.
    pub fn keys(&self) -> &Arc<KeyStore> {
        &self.keys
    }

    /// Whether a peer may publish. Reads files, and may ask the callback. Cancel-safe.
    ///
    /// # Errors
    /// [`No`].
    pub async fn may_publish(self: &Arc<Self>, attempt: Attempt<'_>, now: WallTime) -> Result<Permit, No> {
        let ip = attempt.peer.ip();
        if let Err(pause) = self.backoff.check(ip, Instant::now()) {
            let words = format!("too many wrong keys came from this address; try again in {} s", pause.as_secs() + 1);
            return Err(No::new(Why::Unavailable, words));
        }
        let rules = self.rules();
        if !allowed(&rules.config.publish_from, ip) {
            let words = format!("publishing from {} is not allowed on this server", ip.to_canonical());
            return Err(No::new(Why::Denied, words));
        }
        let result = match (self.by_credential(attempt, now).await, &rules.callback) {
            (Err(no), Some(callback)) if no.foreign => self.by_callback(callback, attempt).await,
            // Being on this machine is no credential: where there is a callback, it is asked about it.
            (Ok(permit), Some(callback)) if permit.holder == THIS_MACHINE => self.by_callback(callback, attempt).await,
            (decided, _) => decided,
        };
        match &result {
            Ok(_) => self.backoff.success(ip),
            Err(no) if no.foreign && attempt.shown != Shown::Nothing => self.backoff.mistake(ip, Instant::now()),
            Err(_) => {}
        }
        result.map(|permit| Permit { limits: permit.limits.or(rules.config.limits), ..permit })
    }

    /// Whether `peer` may watch `stream`, with the token of a URL below `/t/` or without. Takes no more than microseconds, but for a look at
    /// the file of secrets once a second.
    ///
    /// # Errors
    /// [`NotForYou`].
    pub fn may_watch(
        &self,
        stream: &StreamName,
        token: Option<&str>,
        peer: IpAddr,
        now: WallTime,
    ) -> Result<(), NotForYou> {
        let Some(token) = token else {
            return match self.rules.read().config.watch_of(stream.app()) {
                Watch::Open => Ok(()),
                Watch::Token => Err(NotForYou::TokenNeeded),
            };
        };
        Ok(self.claims(token, now)?.allow(Action::Watch, stream, peer)?)
    }

    /// Whether `token` is one to watch something with.
    ///
    /// # Errors
    /// [`NotForYou`].
    pub fn is_watch_token(&self, token: &str, now: WallTime) -> Result<(), NotForYou> {
        match self.claims(token, now)?.action {
            Action::Watch => Ok(()),
            Action::Publish => Err(TokenError::Other.into()),
        }
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }

    fn claims(&self, token: &str, now: WallTime) -> Result<Claims, NotForYou> {
        let keys = self.secrets.verifying(Instant::now()).map_err(|error| {
            error!(%error, "no token is good: the secrets cannot be read");
            NotForYou::Unavailable
        })?;
        Ok(token::verify(&keys, token, now)?)
    }

    async fn by_credential(self: &Arc<Self>, attempt: Attempt<'_>, now: WallTime) -> Result<Permit, No> {
        let ip = attempt.peer.ip();
        if let Shown::Token(token) = attempt.shown {
            let claims = self.claims(token, now).and_then(|claims| {
                claims.allow(Action::Publish, attempt.stream, ip)?;
                Ok(claims)
            });
            return match claims {
                Ok(claims) => Ok(Permit {
                    holder: holder_of(&claims, token),
                    takeover: Takeover::default(),
                    limits: Limits::default(),
                    lease: None,
                }),
                Err(NotForYou::Unavailable) => Err(No::new(Why::Unavailable, NotForYou::Unavailable.to_string())),
                Err(NotForYou::Token(TokenError::Invalid)) => {
                    Err(No::foreign(Why::Unauthorized, TokenError::Invalid.to_string()))
                }
                Err(error) => Err(No::new(Why::Unauthorized, error.to_string())),
            };
        }
        let key = match attempt.shown {
            Shown::Key(key) => Some(key.to_owned()),
            _ => None,
        };
        let (keys, stream) = (Arc::clone(&self.keys), attempt.stream.clone());
        let checked = tokio::task::spawn_blocking(move || keys.authorize(&stream, key.as_deref(), ip, now)).await;
        let key = checked.map_err(|_| No::new(Why::Unavailable, "the server is stopping"))?.map_err(refusal)?;
        let Some(key) = key else {
            let (takeover, limits) = (Takeover::default(), Limits::default());
            return Ok(Permit { holder: THIS_MACHINE.into(), takeover, limits, lease: None });
        };
        let holder = holder_of_key(&key.id);
        let lease = match key.conditions.max_publishers {
            None => None,
            Some(most) => Some(self.quota.take(&holder, attempt.stream, most).map_err(|streams| {
                let words = format!("this key publishes {streams} streams already, of {most} that it may");
                No::new(Why::Denied, words)
            })?),
        };
        Ok(Permit { holder, takeover: key.conditions.takeover, limits: key.conditions.limits, lease })
    }

    async fn by_callback(&self, callback: &Callback, attempt: Attempt<'_>) -> Result<Permit, No> {
        let terms = match callback.ask(&attempt).await {
            Answer::Yes(terms) => terms,
            Answer::No(words) => return Err(No::foreign(Why::Unauthorized, words)),
            Answer::Silence(why) => match callback.on_failure() {
                OnFailure::Deny => {
                    return Err(No::new(
                        Why::Unavailable,
                        "the server cannot ask whether you may publish; try again in a moment",
                    ));
                }
                OnFailure::Allow => {
                    warn!(stream = %attempt.stream, peer = %attempt.peer, "let in unasked, as access.callback.on_failure says: {why}");
                    callback::Terms::default()
                }
            },
        };
        let holder = match terms.holder {
            Some(holder) => format!("callback {holder}"),
            None => self.holder_by_query(&attempt)?,
        };
        Ok(Permit { holder, takeover: terms.takeover, limits: terms.limits, lease: None })
    }

    /// Who wrote the same query is the same; without one, who comes from the same address. A keyed digest, since what operators put into a query may
    /// be short enough to be guessed from a plain one.
    fn holder_by_query(&self, attempt: &Attempt<'_>) -> Result<String, No> {
        if attempt.query.is_empty() {
            return Ok(format!("callback {}", attempt.peer.ip().to_canonical()));
        }
        let key = self.secrets.signing().map_err(|error| {
            error!(%error, "nobody can publish by callback: the secrets cannot be read");
            No::new(Why::Unavailable, "the server cannot decide now; its log says why")
        })?;
        let tag = hmac::sign(&key, attempt.query.as_bytes());
        Ok(format!("callback {}", hex(tag.as_ref().get(..8).unwrap_or_default())))
    }
}

/// By what the publishers of a key are known.
pub fn holder_of_key(id: &str) -> String {
    format!("key {id}")
}

/// Who the token was made for, or the token itself by a digest.
fn holder_of(claims: &Claims, token: &str) -> String {
    use sha2::{Digest, Sha256};
    match &claims.sub {
        Some(subject) => format!("token of {subject}"),
        None => format!("token {}", hex(Sha256::digest(token.as_bytes()).get(..8).unwrap_or_default())),
    }
}

fn refusal(denied: keys::Denied) -> No {
    if let keys::Denied::Store(error) = &denied {
        error!(%error, "nobody can publish: the key store cannot be read");
    }
    let why = match denied {
        keys::Denied::KeyNeeded(_) | keys::Denied::WrongKey(_) | keys::Denied::Expired(..) => Why::Unauthorized,
        keys::Denied::LoopbackOnly(_) | keys::Denied::NotFromHere(..) => Why::Denied,
        keys::Denied::Store(_) => Why::Unavailable,
    };
    match denied {
        keys::Denied::KeyNeeded(_) | keys::Denied::WrongKey(_) | keys::Denied::LoopbackOnly(_) => {
            No::foreign(why, denied.to_string())
        }
        _ => No::new(why, denied.to_string()),
    }
}

#[cfg(test)]
mod tests;
