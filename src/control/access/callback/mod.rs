//! Asks the operator's own server whether a publisher may come in.
//!
//! `POST` of a JSON object; a status of 2xx is yes, of 4xx no, and everything else, silence included, is no answer: the configuration says what
//! that means. What is asked and answered is described in docs/access.md.

mod breaker;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::{IntCounterVec, Opts};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Response, Url, redirect};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use self::breaker::Breaker;
use super::Attempt;
use crate::media::Limits;
use crate::packager::live::Takeover;

/// Questions at a time; one more waits, within its time.
const MAX_CONCURRENT: usize = 32;
/// Most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Most of an answer's words that a publisher is shown, in characters.
const MAX_WORDS: usize = 200;
/// Longest holder that an answer may name, in bytes.
const MAX_HOLDER_BYTES: usize = 128;
/// Answers that are remembered at a time.
const MAX_CACHED: usize = 10_000;
/// The publisher's connection gives up after ten seconds; ours must be over by then.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(8);
const LONGEST_CACHE: Duration = Duration::from_secs(600);

/// `[access.callback]`. What each key means stands in `config.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whom to ask; nobody where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How long an answer may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long an answer holds for the same question.
    #[serde(with = "humantime_serde")]
    pub cache: Duration,
    /// What no answer means.
    pub on_failure: OnFailure,
}

impl Default for Config {
    fn default() -> Self {
        Self { url: None, timeout: Duration::from_secs(3), cache: Duration::from_secs(10), on_failure: OnFailure::Deny }
    }
}

/// What happens to a publisher when the callback does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is told to try again later.
    Deny,
    /// It is let in.
    Allow,
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A sentence naming the key and the rule.
    pub fn validate(&self) -> Result<(), String> {
        if let Some(url) = &self.url {
            let parsed = Url::parse(url).map_err(|why| format!("access.callback.url: {why}"))?;
            if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
                return Err("access.callback.url must begin with http:// or https:// and name a host".into());
            }
        }
        if !(Duration::from_millis(100)..=LONGEST_TIMEOUT).contains(&self.timeout) {
            return Err("access.callback.timeout must lie between 100ms and 8s".into());
        }
        if self.cache > LONGEST_CACHE {
            return Err("access.callback.cache must be at most 10min".into());
        }
        Ok(())
    }
}

/// What the callback said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Let it in.
    Yes(Terms),
    /// Do not, and tell it so.
    No(String),
    /// Nothing.
    Silence(&'static str),
}

/// What an answer may add to a yes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Terms {
    /// By what the publisher is known again.
    pub(super) holder: Option<String>,
    /// What happens when it is there already.
    pub(super) takeover: Takeover,
    /// What it may bring.
    pub(super) limits: Limits,
}

/// What is asked. Field names are part of the contract with operators' servers.
#[derive(Debug, Serialize)]
struct Question<'a> {
    action: &'static str,
    app: &'a str,
    name: &'a str,
    /// Address and port.
    peer: String,
    ip: String,
    protocol: &'a str,
    /// What the publisher wrote behind the question mark, as it is: keys and tokens too.
    query: &'a str,
}

/// Counts `rillcast_callback_requests_total{outcome}`.
#[derive(Debug, Clone)]
pub struct Metrics(IntCounterVec);

impl Metrics {
    /// Makes and registers it.
    ///
    /// # Errors
    /// When the name is registered already.
    pub fn register(registry: &prometheus::Registry) -> prometheus::Result<Self> {
        let help = "Publishers that the access callback was to decide about, by outcome.";
        let requests = IntCounterVec::new(Opts::new("rillcast_callback_requests_total", help), &["outcome"])?;
        registry.register(Box::new(requests.clone()))?;
        for outcome in ["yes", "no", "failure", "open", "cached"] {
            // Alerts want a zero, not a series that is not there.
            requests.with_label_values(&[outcome]);
        }
        Ok(Self(requests))
    }

    fn count(&self, outcome: &'static str) {
        self.0.with_label_values(&[outcome]).inc();
    }
}

type Cached = HashMap<[u8; 32], (Instant, Answer)>;

/// The operator's server, and what is known of its answers.
#[derive(Debug)]
pub(super) struct Callback {
    url: Url,
    config: Config,
    client: Client,
    slots: Semaphore,
    breaker: Mutex<Breaker>,
    cached: Mutex<Cached>,
    metrics: Metrics,
}

impl Callback {
    /// The callback that `config` names; `None` where it names none. Nothing is asked yet.
    ///
    /// # Errors
    /// Why no HTTP client can be made.
    pub(super) fn new(config: &Config, metrics: Metrics) -> Result<Option<Self>, String> {
        let Some(url) = &config.url else { return Ok(None) };
        let url = Url::parse(url).map_err(|why| format!("access.callback.url: {why}"))?;
        // Installed once a process; that another part was quicker with the same one is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            // A redirect would carry keys and tokens to whoever the first server names (RELIABILITY row 109).
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(config.timeout)
            .user_agent(concat!("rillcast/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("access.callback: {error}"))?;
        Ok(Some(Self {
            url,
            config: config.clone(),
            client,
            slots: Semaphore::new(MAX_CONCURRENT),
            breaker: Mutex::default(),
            cached: Mutex::default(),
            metrics,
        }))
    }

    /// What a missing answer means.
    pub(super) fn on_failure(&self) -> OnFailure {
        self.config.on_failure
    }

    /// Asks whether `attempt` may publish. Takes at most `timeout`. Cancel-safe.
    pub(super) async fn ask(&self, attempt: &Attempt<'_>) -> Answer {
        let question = Question {
            action: "publish",
            app: attempt.stream.app(),
            name: attempt.stream.name(),
            peer: attempt.peer.to_string(),
            ip: attempt.peer.ip().to_canonical().to_string(),
            protocol: attempt.protocol,
            query: attempt.query,
        };
        let key = cache_key(&question);
        if let Some(answer) = self.remembered(&key) {
            self.metrics.count("cached");
            return answer;
        }
        if !self.breaker.lock().allows(Instant::now()) {
            self.metrics.count("open");
            return Answer::Silence("it has not answered for a while");
        }
        let asked = tokio::time::timeout(self.config.timeout, async {
            let _slot = self.slots.acquire().await;
            self.post(&question).await
        });
        let answer = asked.await.unwrap_or(Answer::Silence("it did not answer in time"));
        match &answer {
            Answer::Silence(why) => {
                self.metrics.count("failure");
                let opened = self.breaker.lock().failed(Instant::now());
                tracing::warn!(
                    host = self.url.host_str(),
                    "access.callback: {why}{}",
                    if opened { "; it is left alone for a while" } else { "" }
                );
            }
            answered => {
                self.metrics.count(if matches!(answered, Answer::Yes(_)) { "yes" } else { "no" });
                self.breaker.lock().answered();
                self.remember(key, answered.clone());
            }
        }
        answer
    }

    async fn post(&self, question: &Question<'_>) -> Answer {
        // Strings alone, which JSON can always write.
        let body = serde_json::to_vec(question).unwrap_or_default();
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_timeout() => return Answer::Silence("it did not answer in time"),
            Err(_) => return Answer::Silence("it cannot be reached"),
        };
        let (status, kind) = (response.status(), kind(&response));
        if status.is_redirection() {
            return Answer::Silence("it answered with a redirect, which is not followed");
        }
        let no = status.is_client_error() && !matches!(status.as_u16(), 408 | 429);
        if !status.is_success() && !no {
            return Answer::Silence("it answered with an error of its own");
        }
        let Some(body) = read(response).await else { return Answer::Silence("its answer breaks off, or is too long") };
        if no {
            return Answer::No(words(kind, &body));
        }
        match kind {
            Kind::Json if !body.is_empty() => match serde_json::from_slice::<Terms>(&body) {
                Ok(terms) if valid(&terms) => Answer::Yes(terms),
                // Terms that cannot be understood may have been limits: without them nobody is let in.
                _ => Answer::Silence("its yes comes with terms that cannot be understood"),
            },
            _ => Answer::Yes(Terms::default()),
        }
    }

    fn remembered(&self, key: &[u8; 32]) -> Option<Answer> {
        let cached = self.cached.lock();
        let (at, answer) = cached.get(key)?;
        (at.elapsed() < self.config.cache).then(|| answer.clone())
    }

    fn remember(&self, key: [u8; 32], answer: Answer) {
        if self.config.cache.is_zero() {
            return;
        }
        let mut cached = self.cached.lock();
        if cached.len() >= MAX_CACHED {
            cached.retain(|_, (at, _)| at.elapsed() < self.config.cache);
        }
        if cached.len() < MAX_CACHED {
            cached.insert(key, (Instant::now(), answer));
        }
    }
}

/// One digest per question, so that no query, which may hold a key, is kept. The port is left out: it changes with every try.
fn cache_key(question: &Question<'_>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in [question.app, question.name, &question.ip, question.protocol, question.query] {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Text,
    Other,
}

fn kind(response: &Response) -> Kind {
    let value = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    match value.split(';').next().map(str::trim) {
        Some("application/json" | "application/problem+json") => Kind::Json,
        Some("text/plain") => Kind::Text,
        _ => Kind::Other,
    }
}

async fn read(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.ok()? {
        body.extend_from_slice(&piece);
        if body.len() > MAX_ANSWER_BYTES {
            return None;
        }
    }
    Some(body)
}

/// What a publisher is told: plain text, or `detail`, `words` or `message` of JSON.
fn words(kind: Kind, body: &[u8]) -> String {
    let json = || serde_json::from_slice::<serde_json::Value>(body).ok();
    let found = match kind {
        Kind::Json => json().and_then(|json| {
            let field = |name| json.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
            field("detail").or_else(|| field("words")).or_else(|| field("message"))
        }),
        Kind::Text => std::str::from_utf8(body).ok().map(str::to_owned),
        Kind::Other => None,
    };
    let found: String = found.unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect();
    if found.trim().is_empty() { "publishing is not allowed here".into() } else { found.trim().into() }
}

fn valid(terms: &Terms) -> bool {
    let plain =
        |holder: &String| (1..=MAX_HOLDER_BYTES).contains(&holder.len()) && !holder.chars().any(char::is_control);
    terms.holder.as_ref().is_none_or(plain) && terms.limits.validate().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_a_rule_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let url = |url: &str| Config { url: Some(url.into()), ..Config::default() };
        assert_eq!(url("https://auth.example/publish?x=1").validate(), Ok(()));
        for (config, key) in [
            (url("ftp://auth.example"), "access.callback.url"),
            (url("auth"), "access.callback.url"),
            (Config { timeout: Duration::from_secs(60), ..Config::default() }, "access.callback.timeout"),
            (Config { cache: Duration::from_secs(3_600), ..Config::default() }, "access.callback.cache"),
        ] {
            assert!(config.validate().is_err_and(|why| why.starts_with(key)), "{key}");
        }
    }

    #[test]
    fn words_of_a_refusal_are_found_and_made_harmless() {
        for (kind, body, wanted) in [
            (Kind::Text, "no money\r\n, no show", "no money, no show"),
            (Kind::Json, r#"{"detail": "banned", "message": "x"}"#, "banned"),
            (Kind::Json, r#"{"message": "gone"}"#, "gone"),
            (Kind::Json, "[", "publishing is not allowed here"),
            (Kind::Other, "<html>", "publishing is not allowed here"),
            (Kind::Text, " ", "publishing is not allowed here"),
        ] {
            assert_eq!(words(kind, body.as_bytes()), wanted);
        }
        assert_eq!(words(Kind::Text, "x".repeat(10_000).as_bytes()).len(), MAX_WORDS);
    }

    #[test]
    fn terms_are_read_and_wrong_ones_are_not_ignored() {
        let read = |text: &str| serde_json::from_str::<Terms>(text).ok().filter(valid);
        let terms = read(r#"{"holder": "anna", "takeover": "always", "limits": {"max_bitrate": 6000000}, "note": 1}"#);
        let limits = Limits { max_bitrate: Some(6_000_000), ..Limits::default() };
        assert_eq!(terms, Some(Terms { holder: Some("anna".into()), takeover: Takeover::Always, limits }));
        for wrong in [
            r#"{"limits": {"max_bitrat": 1}}"#,
            r#"{"limits": {"max_bitrate": "1"}}"#,
            r#"{"limits": {"max_bitrate": 0}}"#,
            r#"{"takeover": "sometimes"}"#,
            r#"{"holder": ""}"#,
            r#"{"holder": "a\nb"}"#,
            "0",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
