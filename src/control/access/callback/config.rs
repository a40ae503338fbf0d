//! `[access.callback]` of the configuration.

use std::time::Duration;

use reqwest::Url;
use serde::{Deserialize, Serialize};

/// The publisher's connection gives up after ten seconds; ours must be over by then.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(8);
/// An answer that holds longer is a decision that nobody can take back.
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
}
