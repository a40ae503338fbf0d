//! Reads the configuration again while the server runs: all of it that can change does, or none of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value;
use tracing::{error, info, warn};

use crate::config::{Config, Source};
use crate::control::access::Access;
use crate::control::api::Reloaded;
use crate::edge::tls::Certificate;
use crate::media::peer::Throttle;

/// Changes what is logged to a filter, or says what is wrong with it and changes nothing.
pub type SetLogFilter = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// What takes effect without a restart, as keys begin.
const AT_RUN_TIME: [&str; 4] = ["access.", "log.filter", "edge.certificate", "edge.private_key"];

/// The configuration in force, and whom to tell when it changes.
pub(super) struct Reloader {
    /// Where the configuration comes from, and what is in force: what has changed in the file but needs a restart is not in there. Locked while a
    /// reload runs, so that there is one at a time.
    current: Mutex<(Source, Config)>,
    access: Arc<Access>,
    certificate: Arc<Certificate>,
    set_log_filter: SetLogFilter,
    /// Programs may ask again and again for what is wrong each time.
    failures: Throttle,
}

impl Reloader {
    /// `config`, which was read from `source`, is in force.
    pub(super) fn new(
        config: Config,
        source: Source,
        access: &Arc<Access>,
        certificate: Arc<Certificate>,
        set_log_filter: SetLogFilter,
    ) -> Self {
        let (current, access) = (Mutex::new((source, config)), Arc::clone(access));
        Self { current, access, certificate, set_log_filter, failures: Throttle::default() }
    }

    /// Reads the file and the environment again. Touches the disk.
    ///
    /// # Errors
    /// What is wrong with it; everything is as before then.
    pub(super) fn reload(&self) -> Result<Reloaded, String> {
        let result = self.try_reload();
        match &result {
            Ok(Reloaded { changed, restart }) => {
                info!(changed = changed.join(", "), "the configuration was read again");
                if !restart.is_empty() {
                    warn!(
                        keys = restart.join(", "),
                        "changed in the configuration, but in force from the next start on only"
                    );
                }
            }
            Err(why) => {
                if let Some(silent) = self.failures.speak(Instant::now()) {
                    error!(silent, "the configuration was read again and is wrong, so nothing changes: {why}");
                }
            }
        }
        result
    }

    fn try_reload(&self) -> Result<Reloaded, String> {
        let mut current = self.current.lock();
        let (source, current) = &mut *current;
        let new = source.load().map_err(|error| format!("{error:#}"))?;
        // All that can fail comes first; the filter last of it, since it takes effect at once.
        let certificate = Certificate::load(&new.edge, &current.data_dir).map_err(|error| error.to_string())?;
        let before = current.access.clone();
        self.access.configure(&new.access)?;
        if new.log.filter != current.log.filter
            && let Err(why) = (self.set_log_filter)(&new.log.filter)
        {
            // What was in force a moment ago can be in force again.
            self.access.configure(&before)?;
            return Err(why);
        }
        let mut changed = BTreeSet::new();
        if self.certificate.replace(&certificate) {
            changed.insert("edge.certificate".to_owned());
        }
        let (at_run_time, restart): (BTreeSet<_>, BTreeSet<_>) = differences(current, &new)
            .into_iter()
            .partition(|key| AT_RUN_TIME.iter().any(|prefix| key.starts_with(prefix)));
        changed.extend(at_run_time);
        // What needs a restart stays as it is, so that the next reload tells of it again.
        current.access = new.access;
        current.log.filter = new.log.filter;
        current.edge.certificate = new.edge.certificate;
        current.edge.private_key = new.edge.private_key;
        Ok(Reloaded { changed: changed.into_iter().collect(), restart: restart.into_iter().collect() })
    }
}

/// The keys whose values differ. Values are not told: some are secret.
fn differences(before: &Config, after: &Config) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    // Configurations are made of tables, lists, texts and numbers.
    let json = |config: &Config| serde_json::to_value(config).unwrap_or_default();
    compare(&json(before), &json(after), "", &mut keys);
    keys
}

fn compare(before: &Value, after: &Value, path: &str, keys: &mut BTreeSet<String>) {
    let null = Value::Null;
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(a.get(key).unwrap_or(&null), b.get(key).unwrap_or(&null), &path, keys);
            }
        }
        _ if before != after => _ = keys.insert(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_by_key() {
        let before = Config::default();
        let mut after = Config::default();
        assert!(differences(&before, &after).is_empty());
        after.access.limits.max_bitrate = Some(1);
        after.edge.max_waiting = 3;
        after.access.publish_from = vec!["::1".parse().expect("an address")];
        let names: Vec<_> = differences(&before, &after).into_iter().collect();
        assert_eq!(names, ["access.limits.max_bitrate", "access.publish_from", "edge.max_waiting"]);
    }
}
