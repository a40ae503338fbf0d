//! The whole configuration: one struct a module, composed here. `config.toml` is its manual.

mod wrong;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

use crate::control::access;
use crate::{edge, ingest, packager};

/// The file that is read from the working directory when none is named.
pub const DEFAULT_FILE: &str = "config.toml";
/// Environment overrides start so; `__` separates the levels: `RILLCAST__EDGE__HTTP=127.0.0.1:8081`.
pub const ENVIRONMENT_PREFIX: &str = "RILLCAST__";

/// Everything that can be configured. What each key means stands in `config.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where this node keeps what must survive a restart.
    pub data_dir: PathBuf,
    /// `[log]`.
    pub log: Log,
    /// `[ingest]`.
    pub ingest: ingest::Config,
    /// `[packager]`.
    pub packager: packager::Config,
    /// `[edge]`.
    pub edge: edge::Config,
    /// `[access]`.
    pub access: access::Config,
    /// `[telemetry]`.
    pub telemetry: Telemetry,
    /// `[control]`.
    pub control: Control,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            log: Log::default(),
            ingest: ingest::Config::default(),
            packager: packager::Config::default(),
            edge: edge::Config::default(),
            access: access::Config::default(),
            telemetry: Telemetry::default(),
            control: Control::default(),
        }
    }
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// tracing's filter syntax: `info`, `debug`, `rillcast::ingest=trace,info`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: String::from("info") }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// `[telemetry]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where metrics are served, for machines of the operator alone.
    pub listen: SocketAddr,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9998)) }
    }
}

/// `[control]`. Read and kept; nothing uses it until the VOD path exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Control {
    /// The repository.
    pub database: String,
    /// The job queue.
    pub queue: String,
    /// State that may vanish.
    pub shared: String,
    /// Uploads and segments.
    pub blobs: String,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            database: String::from("sqlite:rillcast.db"),
            queue: String::from("embedded:"),
            shared: String::from("embedded:"),
            blobs: String::from("file:blobs"),
        }
    }
}

/// Where a configuration comes from. Remembers which file was read: one that goes missing later, or is found empty, is a mistake and no wish for the
/// defaults, which let everybody watch.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file; `None` as long as none was named and none was found.
    file: Option<PathBuf>,
    /// There was something in it.
    was_filled: bool,
}

impl Source {
    /// The file that is named; else [`DEFAULT_FILE`], where there is one when it is read.
    pub fn new(named: Option<PathBuf>) -> Self {
        Self { file: named, was_filled: false }
    }

    /// Reads the file over the defaults, and the environment over both. Touches the disk.
    ///
    /// # Errors
    /// A file that is not there though it was named or read before, one that is empty and was not, a key that does not exist, a value of the wrong
    /// kind, or one that breaks a rule: in words that name the key, and hold no secret.
    pub fn load(&mut self) -> anyhow::Result<Config> {
        let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|file| file.is_file());
        let file = self.file.clone().or_else(default);
        let mut figment = Figment::from(Serialized::defaults(Config::default()));
        let mut is_filled = false;
        if let Some(file) = &file {
            let text = read(file)?;
            is_filled = !text.trim().is_empty();
            if self.was_filled && !is_filled {
                bail!(
                    "{} is empty, and was not before: an editor may be about to write it; start again if the defaults are meant",
                    file.display()
                );
            }
            figment = figment.merge(Toml::string(&text));
        }
        let figment = figment.merge(Env::prefixed(ENVIRONMENT_PREFIX).split("__"));
        let config = Config::extract(figment).with_context(|| {
            let file = file.as_ref().map(|file| format!(" of {}", file.display())).unwrap_or_default();
            format!("the configuration{file}{} is wrong", overrides())
        })?;
        (self.file, self.was_filled) = (file, is_filled);
        Ok(config)
    }
}

/// Names the variables of the environment that override the file, for whoever looks for a mistake. Their values may be secret.
fn overrides() -> String {
    let mut names: Vec<_> = std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.get(..ENVIRONMENT_PREFIX.len()).is_some_and(|p| p.eq_ignore_ascii_case(ENVIRONMENT_PREFIX)))
        .collect();
    names.sort();
    if names.is_empty() { String::new() } else { format!(", with {} of the environment,", names.join(", ")) }
}

fn read(file: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("there is no configuration file at {}", file.display())
        }
        read => read.with_context(|| format!("the configuration file {}", file.display())),
    }
}

impl Config {
    fn extract(figment: Figment) -> anyhow::Result<Self> {
        let config: Self = figment.extract().map_err(|error| anyhow::Error::msg(wrong::words(error)))?;
        config.validate().map_err(anyhow::Error::msg)?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), String> {
        self.ingest.validate()?;
        self.packager.validate()?;
        self.access.validate()?;
        self.edge.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANUAL: &str = include_str!("../config.toml");

    fn from_text(text: &str) -> anyhow::Result<Config> {
        Config::extract(Figment::from(Serialized::defaults(Config::default())).merge(Toml::string(text)))
    }

    #[test]
    fn the_manual_holds_every_key_with_its_default() {
        assert_eq!(from_text(MANUAL).unwrap(), Config::default());
        let defaults = figment::value::Value::serialize(Config::default()).unwrap();
        let mut missing = Vec::new();
        check_keys(&defaults, &mut Vec::new(), &mut missing);
        for optional in [
            "# part_hold_back = ",
            "# certificate = ",
            "# private_key = ",
            "# max_bitrate = ",
            "# max_width = ",
            "# max_height = ",
            "# max_duration = ",
            "# url = ",
            "# [access.apps.members]",
        ] {
            assert!(MANUAL.contains(optional), "config.toml does not mention {optional}");
        }
        assert!(missing.is_empty(), "config.toml lacks {missing:?}");
    }

    /// Walks the defaults and looks each leaf up in the manual alone, without the defaults below it.
    fn check_keys(value: &figment::value::Value, path: &mut Vec<String>, missing: &mut Vec<String>) {
        if let Some(table) = value.as_dict() {
            for (key, inner) in table {
                path.push(key.clone());
                check_keys(inner, path, missing);
                path.pop();
            }
            return;
        }
        let manual = Figment::from(Toml::string(MANUAL));
        if manual.find_value(&path.join(".")).is_err() {
            missing.push(path.join("."));
        }
    }

    #[test]
    fn unknown_keys_and_broken_rules_are_errors_that_name_the_key() {
        for (text, key) in [
            ("datadir = \"x\"", "datadir"),
            ("[edge]\nhttps_port = 1", "https_port"),
            ("[packager]\npart_target = \"5s\"", "packager.part_target"),
            ("[packager]\npart_target = 5", "part_target"),
            ("[edge]\nhttp = \"nowhere\"", "http"),
            ("[access]\npublish_from = [\"nowhere\"]", "publish_from"),
            ("[access.limits]\nmax_bitrate = 0", "access.limits.max_bitrate"),
            ("[access.callback]\nurl = \"nowhere\"", "access.callback.url"),
            ("[access.apps.api]\nwatch = \"token\"", "access.apps.api"),
            ("[access.apps.live]\nwatch = \"never\"", "access.apps.live.watch"),
            ("[access]\ntoken_secrets = [\"short\"]", "access.token_secrets"),
        ] {
            let error = format!("{:#}", from_text(text).unwrap_err());
            assert!(error.contains(key), "{text}: {error}");
        }
    }

    #[test]
    #[expect(clippy::result_large_err, reason = "the error type is figment's")]
    fn the_environment_overrides_the_file() {
        figment::Jail::expect_with(|jail| {
            jail.create_file("config.toml", "[edge]\nhttp = \"127.0.0.1:1\"\nhttps = \"127.0.0.1:2\"")?;
            jail.set_env("RILLCAST__EDGE__HTTP", "127.0.0.1:8081");
            jail.set_env("RILLCAST__PACKAGER__PART_TARGET", "300ms");
            jail.set_env("RILLCAST__EDGE__ORIGINS", "[\"http://a\"]");
            let config = Source::new(None).load().map_err(|error| error.to_string())?;
            assert_eq!(config.edge.http, "127.0.0.1:8081".parse().unwrap());
            assert_eq!(config.edge.https, "127.0.0.1:2".parse().unwrap());
            assert_eq!(config.packager.part_target, std::time::Duration::from_millis(300));
            assert_eq!(config.edge.origins, ["http://a"]);
            assert!(Source::new(Some("missing.toml".into())).load().is_err());
            jail.set_env("RILLCAST__EDGE__HTTPS", "hidden");
            let error = Source::new(None).load().map_err(|error| format!("{error:#}")).expect_err("no address");
            assert!(error.contains("config.toml") && error.contains("RILLCAST__EDGE__HTTPS"), "{error}");
            Ok(())
        });
    }

    #[test]
    fn no_error_repeats_a_secret() {
        for (text, key) in [
            ("[access]\ntoken_secrets = \"hidden\"", "access.token_secrets"),
            ("[access]\ntoken_secrets = [4711]", "access.token_secrets"),
            ("[access]\ntoken_secrets = { hidden = 4711 }", "access.token_secrets"),
            ("[access]\ntoken_secrets = [[\"hidden\"]]", "access.token_secrets"),
            ("access = \"hidden\"", "access"),
            ("[access]\nwatch = \"hidden\"", "access.watch"),
            ("[access]\npublish_from = [\"hidden\"]", "access.publish_from"),
            ("[access.callback]\nurl = 4711", "access.callback.url"),
            ("[access.callback]\nurl = \"hidden\"", "access.callback.url"),
            ("[access.callback]\ntimeout = \"hidden\"", "access.callback.timeout"),
            ("[control]\ndatabase = 4711", "control.database"),
            ("[access]\ntoken_secrets = [\"hidden]", "line 2"),
            ("[access]\ntoken_secrets = [hidden]", "line 2"),
            ("[access]\ntoken_secrets = \"a\" hidden", "line 2"),
        ] {
            let error = from_text(text).expect_err(text);
            let told = format!("{error:#} {error:?}");
            assert!(!told.contains("hidden") && !told.contains("4711"), "{text}: {told}");
            assert!(told.contains(key), "{text}: {told}");
        }
    }

    #[test]
    #[expect(clippy::result_large_err, reason = "the error type is figment's")]
    fn a_file_that_goes_missing_or_empty_is_no_wish_for_the_defaults() {
        figment::Jail::expect_with(|jail| {
            let words = |error: anyhow::Error| format!("{error:#}");
            let mut source = Source::new(None);
            assert_eq!(source.load().map_err(words)?.access.watch, access::config::Watch::Open, "there is no file yet");
            jail.create_file(DEFAULT_FILE, "")?;
            source.load().map_err(words)?;
            jail.create_file(DEFAULT_FILE, "[access]\nwatch = \"token\"")?;
            assert_eq!(source.load().map_err(words)?.access.watch, access::config::Watch::Token);
            for empty in ["", " \n\t\n"] {
                jail.create_file(DEFAULT_FILE, empty)?;
                assert!(source.load().map_err(words).is_err_and(|why| why.contains("is empty")), "{empty:?}");
            }
            std::fs::remove_file(DEFAULT_FILE).map_err(|error| error.to_string())?;
            assert!(
                source
                    .load()
                    .map_err(words)
                    .is_err_and(|why| why.contains("there is no configuration file at config.toml"))
            );
            Ok(())
        });
    }
}
