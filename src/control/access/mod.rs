//! Who may publish, who may watch.
//!
//! ```text
//!   publish:  address ranges ─► key (keys.json) or token ─ neither? ─► back-off ─► callback, where there is one
//!                                    └─────────── yes, with limits, and a place among the key's publishers
//!   watch:    the application's rule ─ token? ─► signature, time, stream, address
//! ```
//!
//! Asked by the protocols through what `app` wires; knows none of them. Rules come from the configuration and are swapped whole on a reload.

pub(crate) mod backoff;
pub mod callback;
pub mod config;
mod quota;
mod request;

use std::net::IpAddr;
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
pub use self::quota::Lease;
use self::quota::Quota;
pub use self::request::{Credential, Grant, PublishRequest, Refusal, RefusalKind, WatchRefusal};
use super::file::hex;
use super::keys::{self, KeyStore};
use super::pattern::allowed;
use super::secrets::Secrets;
use super::token::{self, Action, Claims, TokenError};
use crate::media::peer::Throttle;
use crate::media::{StreamName, WallTime};

/// The holder of streams that need no credential, since they come from this machine.
const THIS_MACHINE: &str = "this machine";

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
    /// What tokens are signed with.
    secrets: Secrets,
    /// Taken out before anything is awaited: a question goes by the rules that held when it was asked.
    rules: RwLock<Arc<Rules>>,
    /// Who publishes with keys that limit their publishers.
    quota: Arc<Quota>,
    /// Who showed wrong credentials.
    backoff: Backoff,
    /// Outlives the callback, which a reload replaces.
    metrics: callback::Metrics,
    /// How often the log says that a file cannot be read.
    unreadable: Throttle,
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
        let (quota, backoff, unreadable) = (Arc::default(), Backoff::default(), Throttle::default());
        Ok(Arc::new(Self { keys, secrets, rules, quota, backoff, metrics, unreadable }))
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
    /// A key or token of ours is let in whoever guesses at the same address: nobody guesses 256 bits. Everything else waits while that address is not
    /// listened to, above all questions to the callback, which may know shorter passwords.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn may_publish(self: &Arc<Self>, request: PublishRequest<'_>, now: WallTime) -> Result<Grant, Refusal> {
        let ip = request.peer.ip();
        let rules = self.rules();
        if !allowed(&rules.config.publish_from, ip) {
            let words = format!("publishing from {} is not allowed on this server", ip.to_canonical());
            return Err(Refusal::new(RefusalKind::Denied, words));
        }
        let own = self.by_credential(request, now).await;
        let result = match (own, &rules.callback) {
            (Err(refusal), callback) if refusal.foreign && (refusal.guess || callback.is_some()) => {
                self.listen(ip)?;
                match callback {
                    Some(callback) => self.by_callback(callback, request, refusal.keyed).await,
                    None => Err(refusal),
                }
            }
            // Being on this machine is no credential: where there is a callback, it is asked about it.
            (Ok(grant), Some(callback)) if grant.holder == THIS_MACHINE => {
                self.listen(ip)?;
                self.by_callback(callback, request, false).await
            }
            (decided, _) => decided,
        };
        if result.as_ref().is_err_and(|refusal| refusal.guess) {
            self.backoff.mistake(ip, Instant::now());
        }
        result.map(|grant| Grant { limits: grant.limits.or(rules.config.limits), ..grant })
    }

    /// Whether the address is listened to.
    fn listen(&self, ip: IpAddr) -> Result<(), Refusal> {
        self.backoff.check(ip, Instant::now()).map_err(|pause| {
            let words = format!("too many wrong keys came from this address; try again in {} s", pause.as_secs() + 1);
            Refusal::new(RefusalKind::Unavailable, words)
        })
    }

    /// Whether the streams of `app` are watched by signed URLs alone.
    pub fn is_watched_by_token(&self, app: &str) -> bool {
        self.rules.read().config.watch_of(app) == Watch::Token
    }

    /// Whether `peer` may watch `stream`, with the token of a URL below `/t/` or without. Takes no more than microseconds, but for a look at
    /// the file of secrets once a second. The clock is asked where there is a token.
    ///
    /// # Errors
    /// [`WatchRefusal`].
    pub fn may_watch(
        &self,
        stream: &StreamName,
        token: Option<&str>,
        peer: IpAddr,
        now: impl FnOnce() -> WallTime,
    ) -> Result<(), WatchRefusal> {
        let Some(token) = token else {
            return if self.is_watched_by_token(stream.app()) { Err(WatchRefusal::TokenNeeded) } else { Ok(()) };
        };
        Ok(self.claims(token, now())?.allow(Action::Watch, stream, peer)?)
    }

    /// Whether `token` is one to watch something with.
    ///
    /// # Errors
    /// [`WatchRefusal`].
    pub fn is_watch_token(&self, token: &str, now: WallTime) -> Result<(), WatchRefusal> {
        match self.claims(token, now)?.action {
            Action::Watch => Ok(()),
            Action::Publish => Err(TokenError::Other.into()),
        }
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }

    fn claims(&self, token: &str, now: WallTime) -> Result<Claims, WatchRefusal> {
        let keys = self.secrets.verifying(Instant::now()).map_err(|error| {
            self.log_unreadable(&error, "no token is good: the secrets cannot be read");
            WatchRefusal::Unavailable
        })?;
        Ok(token::verify(&keys, token, now)?)
    }

    /// Anybody can ask as often as they like.
    fn log_unreadable(&self, error: &keys::Error, what: &str) {
        if let Some(silent) = self.unreadable.speak(Instant::now()) {
            error!(%error, silent, "{what}");
        }
    }

    /// Decides by what is ours: keys, tokens, and whether the peer is on this machine.
    async fn by_credential(self: &Arc<Self>, request: PublishRequest<'_>, now: WallTime) -> Result<Grant, Refusal> {
        match request.credential {
            Credential::Token(token) => self.by_token(token, request, now),
            Credential::Key(key) => self.by_key(Some(key.to_owned()), request, now).await,
            Credential::None => self.by_key(None, request, now).await,
        }
    }

    fn by_token(&self, token: &str, request: PublishRequest<'_>, now: WallTime) -> Result<Grant, Refusal> {
        let claims = self.claims(token, now).and_then(|claims| {
            claims.allow(Action::Publish, request.stream, request.peer.ip())?;
            Ok(claims)
        });
        match claims {
            Ok(claims) => Ok(Grant::unlimited(holder_of(&claims, token))),
            Err(why @ WatchRefusal::Unavailable) => Err(Refusal::new(RefusalKind::Unavailable, why.to_string())),
            Err(why @ WatchRefusal::Token(TokenError::Invalid)) => {
                Err(Refusal { guess: true, ..Refusal::foreign(RefusalKind::Unauthorized, why.to_string()) })
            }
            Err(why) => Err(Refusal::new(RefusalKind::Unauthorized, why.to_string())),
        }
    }

    async fn by_key(
        self: &Arc<Self>,
        key: Option<String>,
        request: PublishRequest<'_>,
        now: WallTime,
    ) -> Result<Grant, Refusal> {
        let (keys, stream, ip) = (Arc::clone(&self.keys), request.stream.clone(), request.peer.ip());
        let checked = tokio::task::spawn_blocking(move || keys.authorise(&stream, key.as_deref(), ip, now)).await;
        let checked = checked.map_err(|_| Refusal::new(RefusalKind::Unavailable, "the server is stopping"))?;
        let checked = checked.map_err(|denied| {
            if let keys::Denied::Store(error) = &denied {
                self.log_unreadable(error, "nobody can publish: the key store cannot be read");
            }
            let refusal = refusal_of(&denied);
            Refusal { guess: refusal.foreign && request.credential != Credential::None, ..refusal }
        })?;
        let Some(key) = checked else { return Ok(Grant::unlimited(THIS_MACHINE)) };
        let holder = holder_of_key(&key.id);
        let lease = match key.conditions.max_publishers {
            None => None,
            Some(most) => Some(self.quota.take(&holder, request.stream, most).map_err(|streams| {
                let words =
                    format!("streams that are published with this key: {streams} already, of {most} that may be");
                Refusal::new(RefusalKind::Denied, words)
            })?),
        };
        Ok(Grant { holder, takeover: key.conditions.takeover, limits: key.conditions.limits, lease })
    }

    /// Decides by what the operator's own server says. `keyed` streams have keys of ours, too.
    async fn by_callback(
        &self,
        callback: &Callback,
        request: PublishRequest<'_>,
        keyed: bool,
    ) -> Result<Grant, Refusal> {
        let terms = match callback.ask(&request).await {
            Answer::Yes(terms) => terms,
            // Whatever stands there may be somebody's password.
            Answer::No(words) => {
                let guess = !request.query.is_empty();
                return Err(Refusal { guess, ..Refusal::foreign(RefusalKind::Unauthorized, words) });
            }
            // Who has keys wants nobody else, and who showed a wrong one is not let in for want of an answer.
            Answer::Silence(_) if keyed || request.credential != Credential::None => return Err(nobody_to_ask()),
            Answer::Silence(why) => match callback.on_failure() {
                OnFailure::Deny => {
                    return Err(nobody_to_ask());
                }
                OnFailure::Allow => {
                    warn!(stream = %request.stream, peer = %request.peer, "let in unasked, as access.callback.on_failure says: {why}");
                    callback::Terms::default()
                }
            },
        };
        let holder = match terms.holder {
            Some(holder) => format!("callback holder {holder}"),
            None => self.holder_by_query(&request)?,
        };
        Ok(Grant { holder, takeover: terms.takeover, limits: terms.limits, lease: None })
    }

    /// Who wrote the same query is the same; without one, who comes from the same address. A keyed digest, since what operators put into a query may
    /// be short enough to be guessed from a plain one.
    fn holder_by_query(&self, request: &PublishRequest<'_>) -> Result<String, Refusal> {
        if request.query.is_empty() {
            return Ok(format!("callback address {}", request.peer.ip().to_canonical()));
        }
        let key = self.secrets.signing().map_err(|error| {
            self.log_unreadable(&error, "nobody can publish by callback: the secrets cannot be read");
            Refusal::new(RefusalKind::Unavailable, "the server cannot decide now; its log says why")
        })?;
        let tag = hmac::sign(&key, request.query.as_bytes());
        Ok(format!("callback query {}", hex(tag.as_ref().get(..8).unwrap_or_default())))
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

fn nobody_to_ask() -> Refusal {
    let words = "the server cannot ask whether you may publish; try again in a moment";
    Refusal::new(RefusalKind::Unavailable, words)
}

fn refusal_of(denied: &keys::Denied) -> Refusal {
    let kind = match denied {
        keys::Denied::KeyNeeded(_) | keys::Denied::WrongKey(_) | keys::Denied::Expired(..) => RefusalKind::Unauthorized,
        keys::Denied::LoopbackOnly(_) | keys::Denied::NotFromHere(..) => RefusalKind::Denied,
        keys::Denied::Store(_) => RefusalKind::Unavailable,
    };
    match denied {
        keys::Denied::KeyNeeded(_) | keys::Denied::WrongKey(_) => {
            Refusal { keyed: true, ..Refusal::foreign(kind, denied.to_string()) }
        }
        keys::Denied::LoopbackOnly(_) => Refusal::foreign(kind, denied.to_string()),
        _ => Refusal::new(kind, denied.to_string()),
    }
}

#[cfg(test)]
mod tests;
