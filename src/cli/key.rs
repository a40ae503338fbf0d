//! `rillcast key`.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use humantime_serde::re::humantime;

use crate::config::Config;
use crate::control::keys::{Conditions, Key as Stored, KeyStore, Revoked};
use crate::control::pattern::{IpRange, StreamPattern};
use crate::media::wall_clock::now;
use crate::media::{Limits, Takeover, WallTime};

#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make a key for a stream, or for all streams of an application, and print, once, what to paste into OBS.
    Add(Add),
    /// List the keys, without their secrets.
    List,
    /// Take a key back.
    Revoke {
        /// The id that `key list` shows.
        id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Add {
    /// APP/NAME, for example live/studio; or APP/* for every name of an application.
    #[arg(required_unless_present = "api")]
    stream: Option<StreamPattern>,
    /// Make a key for the API instead, which from then on wants one for everything that changes something.
    #[arg(long, conflicts_with_all = ["stream", "takeover", "allow", "max_bitrate", "max_width", "max_height", "max_publishers", "max_duration"])]
    api: bool,
    /// It is good for this long, for example 30days.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    expires: Option<Duration>,
    /// When a publisher with this key takes over from another with the same.
    #[arg(long, default_value = "when-silent")]
    takeover: TakeoverArg,
    /// Address or range that it can be used from; may be given several times.
    #[arg(long, value_name = "RANGE")]
    allow: Vec<IpRange>,
    /// Most bits a second: 8M, 6500k, 8000000.
    #[arg(long, value_parser = parse_bitrate, value_name = "BITS")]
    max_bitrate: Option<u64>,
    /// Most pixels across.
    #[arg(long, value_name = "PIXELS")]
    max_width: Option<u16>,
    /// Most pixels down.
    #[arg(long, value_name = "PIXELS")]
    max_height: Option<u16>,
    /// Most streams published with it at a time.
    #[arg(long, value_name = "COUNT")]
    max_publishers: Option<u32>,
    /// How long one connection may publish, for example 2h.
    #[arg(long, value_parser = humantime::parse_duration, value_name = "DURATION")]
    max_duration: Option<Duration>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TakeoverArg {
    /// When the other has brought no media for two seconds.
    WhenSilent,
    /// At once.
    Always,
}

impl Key {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        let keys = KeyStore::new(&config.data_dir);
        match self {
            Self::Add(add) => add.run(&keys)?,
            Self::List => {
                for key in keys.list()? {
                    println!("{}  {}  {}{}", key.id, key.created, key.stream, conditions(&key));
                }
                for key in keys.list_api()? {
                    let expires = key.expires.map(|date| format!("  until {date}")).unwrap_or_default();
                    println!("{}  {}  API{expires}", key.id, key.created);
                }
            }
            Self::Revoke { id } => {
                match keys.revoke(&id)?.with_context(|| format!("there is no key with the id {id}"))? {
                    Revoked::Stream(key) => println!("{id} can no longer be used to publish {}", key.stream),
                    Revoked::Api(_) => println!("{id} can no longer be used for the API"),
                }
            }
        }
        Ok(())
    }
}

impl Add {
    fn run(self, keys: &KeyStore) -> anyhow::Result<()> {
        let expires = self.expires.map(expiry).transpose()?.map(WallTime::rfc3339);
        let Some(stream) = self.stream else {
            let made = keys.add_api(expires, now())?;
            println!("This is an API key. It is shown only once.\n");
            println!("  Authorization: Bearer {}\n", made.paste);
            println!("Take it back with: rillcast key revoke {}", made.id);
            return Ok(());
        };
        let conditions = Conditions {
            expires,
            takeover: match self.takeover {
                TakeoverArg::WhenSilent => Takeover::WhenSilent,
                TakeoverArg::Always => Takeover::Always,
            },
            allow: self.allow,
            max_publishers: self.max_publishers,
            limits: Limits {
                max_bitrate: self.max_bitrate,
                max_width: self.max_width,
                max_height: self.max_height,
                max_duration: self.max_duration,
            },
        };
        conditions.validate().map_err(anyhow::Error::msg)?;
        let made = keys.add(&stream, conditions, now())?;
        println!("Publish {stream} with this stream key. It is shown only once.\n");
        println!("  OBS, Settings, Stream");
        println!("    Service      Custom...");
        println!("    Server       rtmp://HOST/{}", stream.app());
        println!("    Stream Key   {}\n", made.paste);
        println!("Take it back with: rillcast key revoke {}", made.id);
        Ok(())
    }
}

/// When something is over that is to be good for `lifetime` from now on. What would be over at once is a mistake.
pub(super) fn expiry(lifetime: Duration) -> anyhow::Result<WallTime> {
    anyhow::ensure!(lifetime >= Duration::from_secs(1), "--expires must be at least 1s");
    Ok(now().plus_micros(i64::try_from(lifetime.as_micros()).unwrap_or(i64::MAX)))
}

fn parse_bitrate(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1_000),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    let bits = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bits.ok_or_else(|| String::from("write 8M, 6500k or 8000000"))
}

/// What of a key is not the default, to stand behind its stream.
fn conditions(key: &Stored) -> String {
    let Conditions { expires, takeover, allow, max_publishers, limits } = &key.conditions;
    let mut words = Vec::new();
    words.extend(expires.as_ref().map(|date| format!("until {date}")));
    if *takeover == Takeover::Always {
        words.push("takes over always".into());
    }
    words.extend(allow.iter().map(|range| format!("from {range}")));
    words.extend(max_publishers.map(|count| format!("at most {count} streams")));
    words.extend(limits.max_bitrate.map(|bits| format!("at most {} kbit/s", bits / 1_000)));
    words.extend(limits.max_width.map(|pixels| format!("at most {pixels} wide")));
    words.extend(limits.max_height.map(|pixels| format!("at most {pixels} high")));
    words.extend(limits.max_duration.map(|time| format!("at most {}", humantime::format_duration(time))));
    if words.is_empty() { String::new() } else { format!("  {}", words.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_rates_are_written_as_people_do() {
        for (text, bits) in [("8M", Ok(8_000_000)), ("6500k", Ok(6_500_000)), ("128000", Ok(128_000))] {
            assert_eq!(parse_bitrate(text).map_err(|_| ()), bits);
        }
        for wrong in ["", "M", "8 M", "8Mbit", "-1", "99999999999999M"] {
            assert!(parse_bitrate(wrong).is_err(), "{wrong}");
        }
    }
}
