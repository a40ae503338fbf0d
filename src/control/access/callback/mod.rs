//! Asks the operator's own server whether a publisher may come in.
//!
//! `POST` of a JSON object; a status of 2xx is yes, of 4xx no, and everything else, silence included, is no answer: the configuration says what
//! that means. What is asked and answered is described in docs/access.md.

mod answer;
mod breaker;
mod config;

use std::collections::HashMap;
use std::time::Instant;

use parking_lot::Mutex;
use prometheus::{IntCounterVec, Opts};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url, redirect};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

pub(super) use self::answer::{Answer, Terms};
use self::breaker::Breaker;
pub use self::config::{Config, OnFailure};
use super::PublishRequest;

/// Questions at a time; one more waits, within its time.
const MAX_CONCURRENT: usize = 32;
/// Answers that are remembered at a time.
const MAX_CACHED: usize = 10_000;

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

    /// Asks whether the peer may publish. Takes at most `timeout`. Cancel-safe.
    pub(super) async fn ask(&self, request: &PublishRequest<'_>) -> Answer {
        let question = Question {
            action: "publish",
            app: request.stream.app(),
            name: request.stream.name(),
            peer: request.peer.to_string(),
            ip: request.peer.ip().to_canonical().to_string(),
            protocol: request.protocol,
            query: request.query,
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
        answer::read(response).await
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
