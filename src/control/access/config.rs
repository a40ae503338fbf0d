//! `[access]` of the configuration. All of it can change while the server runs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::callback;
use crate::control::pattern::IpRange;
use crate::control::secrets::{self, Secret};
use crate::media::{Limits, StreamName};

/// `[access]`. What each key means stands in `config.toml`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// From where anybody may publish at all; empty: from anywhere.
    pub publish_from: Vec<IpRange>,
    /// Who may watch, where the application has no rule of its own.
    pub watch: Watch,
    /// What tokens are signed with; empty: the secrets in `data_dir`.
    pub token_secrets: Vec<Secret>,
    /// What any publisher may bring; a key's own limits come first.
    pub limits: Limits,
    /// `[access.callback]`.
    pub callback: callback::Config,
    /// `[access.apps.NAME]`.
    pub apps: BTreeMap<String, App>,
}

/// `[access.apps.NAME]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Who may watch the application's streams.
    pub watch: Watch,
}

/// Who may watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Watch {
    /// Everybody.
    #[default]
    Open,
    /// Who has a signed URL.
    Token,
}

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A sentence naming the key and the rule.
    pub fn validate(&self) -> Result<(), String> {
        self.callback.validate()?;
        self.limits.validate().map_err(|limit| format!("access.limits.{limit} must be at least 1"))?;
        secrets::validate(&self.token_secrets)?;
        for app in self.apps.keys() {
            StreamName::new(app, "any").map_err(|rule| format!("access.apps.{app}: {rule}"))?;
        }
        Ok(())
    }

    /// The rule for an application.
    pub(super) fn watch_of(&self, app: &str) -> Watch {
        self.apps.get(app).map_or(self.watch, |app| app.watch)
    }
}
